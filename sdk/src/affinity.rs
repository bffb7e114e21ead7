//! What keeps a client on one endpoint: a key, and perhaps a cookie that carries it. Plain data.

use serde::Deserialize;

/// The longest key that the host accepts, in bytes.
pub const MAX_KEY: usize = 1024;

/// Requests with the same key go to the same endpoint for as long as it is eligible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// 1 to [`MAX_KEY`] bytes.
    pub key: String,
    /// A cookie to set on the response, typically one that carries the key of a new client.
    pub set_cookie: Option<Box<Cookie>>,
}

impl Sticky {
    /// Sticks by this key. Since keys often come from clients, one that is longer than [`MAX_KEY`] bytes is cut there
    /// and an empty one becomes no opinion, so that no client can make a plugin give a malformed answer.
    pub fn by(key: impl Into<String>) -> Self {
        Sticky { key: key.into(), set_cookie: None }
    }

    /// Sets this cookie on the response.
    #[must_use]
    pub fn set_cookie(mut self, cookie: Cookie) -> Self {
        self.set_cookie = Some(Box::new(cookie));
        self
    }

    pub(crate) fn bounded(mut self) -> Option<Self> {
        let end = self.key.floor_char_boundary(MAX_KEY);
        self.key.truncate(end);
        (!self.key.is_empty()).then_some(self)
    }
}

/// A cookie that the proxy adds to the response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    /// An RFC 6265 token.
    pub name: String,
    /// RFC 6265 cookie octets, at most 4096.
    pub value: String,
    /// Seconds; `None` makes a session cookie.
    pub max_age: Option<u64>,
    /// `None` is `/`.
    pub path: Option<String>,
    /// Sent over https only.
    pub secure: bool,
    /// Out of reach of scripts.
    pub http_only: bool,
    /// Whether it goes along with requests from other sites.
    pub same_site: Option<SameSite>,
}

impl Cookie {
    /// A session cookie for the whole site, out of reach of scripts (`Path=/; HttpOnly; SameSite=Lax`).
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Cookie {
            name: name.into(),
            value: value.into(),
            max_age: None,
            path: None,
            secure: false,
            http_only: true,
            same_site: Some(SameSite::Lax),
        }
    }
}

/// RFC 6265bis `SameSite`; in a configuration `"strict"`, `"lax"` or `"none"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SameSite {
    /// Only with requests from the same site.
    Strict,
    /// Also with top-level navigation from elsewhere.
    Lax,
    /// Always; browsers ask for `Secure` then.
    None,
}
