//! `session`, an affinity: keeps a session on one endpoint by a key from the request, and starts one with a cookie where
//! there is none. The cookie names no endpoint and proves nothing: it is only a key, and not a credential.
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `by` | `[]` | fields that carry a session already, the first present one counts: `[{ header = "x-session" }]` |
//! | `cookie` | `{}` | the cookie that is read after those, and issued where none of them is present |
//! | `issue` | `true` | `false`: never set the cookie; a request without any key gets no opinion |
//!
//! | key of `cookie` | default | meaning |
//! |---|---|---|
//! | `name` | `"wg-session"` | its name |
//! | `ttl` | none | how long browsers keep it, such as `"1h"`, at least `"1s"`; none: until they close. Not renewed |
//! | `path` | `"/"` | where it is sent |
//! | `secure` | `false` | sent over https only |
//! | `same_site` | `"lax"` | `"strict"`, `"lax"` or `"none"`, which needs `secure` |
//!
//! The cookie is always `HttpOnly`. Its value is 128 random bits in hexadecimal, and is the key itself, so that any
//! proxy with the same endpoints sends the client to the same one without sharing anything.
//!
//! A key that is empty or longer than 1024 bytes does not count as present.

use core::time::Duration;

use witgate_sdk::MAX_KEY;
use witgate_sdk::prelude::*;

/// The plugin.
pub struct Session {
    /// Where a key may be, in order; the cookie is the last.
    by: Vec<Handle>,
    cookie: CookieConfig,
    issue: bool,
}

/// Its configuration; the module says what each key means.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    by: Vec<Field>,
    cookie: CookieConfig,
    issue: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CookieConfig {
    name: String,
    #[serde(deserialize_with = "some_duration")]
    ttl: Option<Duration>,
    path: String,
    secure: bool,
    same_site: SameSite,
}

impl Default for Config {
    fn default() -> Self {
        Config { by: Vec::new(), cookie: CookieConfig::default(), issue: true }
    }
}

impl Default for CookieConfig {
    fn default() -> Self {
        CookieConfig {
            name: "wg-session".to_owned(),
            ttl: None,
            path: "/".to_owned(),
            secure: false,
            same_site: SameSite::Lax,
        }
    }
}

impl Plugin for Session {
    type Config = Config;

    fn configure(Config { mut by, cookie, issue }: Config, fields: &mut Fields) -> Result<Self, String> {
        cookie.check().map_err(|error| format!("cookie.{error}"))?;
        by.push(Field::Cookie(cookie.name.clone()));
        Ok(Session { by: fields.handles(&by), cookie, issue })
    }
}

impl Affinity for Session {
    fn stick(&mut self, request: &Request<'_>) -> Option<Sticky> {
        let mut keys = self.by.iter().filter_map(|field| request.get(*field));
        if let Some(key) = keys.find(|key| (1..=MAX_KEY).contains(&key.len())) {
            return Some(Sticky::by(key));
        }
        self.issue.then(|| {
            let key = format!("{:016x}{:016x}", witgate_sdk::random(), witgate_sdk::random());
            Sticky::by(&*key).set_cookie(self.cookie.carrying(key))
        })
    }
}

impl CookieConfig {
    fn check(&self) -> Result<(), &'static str> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        // RFC 6265 §4.1.1 path-value: any character but controls and the semicolon.
        let path = |byte: u8| matches!(byte, b' '..=b'~') && byte != b';';
        if self.name.is_empty() || !self.name.bytes().all(token) {
            return Err("name: is not a cookie name (letters, digits and !#$%&'*+-.^_`|~)");
        }
        if !self.path.starts_with('/') || !self.path.bytes().all(path) {
            return Err("path: must begin with / and hold neither controls nor a semicolon");
        }
        if self.ttl.is_some_and(|ttl| ttl < Duration::from_secs(1)) {
            return Err("ttl: must be at least \"1s\"");
        }
        // Browsers drop such a cookie (RFC 6265bis), and every request would start a session.
        if self.same_site == SameSite::None && !self.secure {
            return Err("same_site: \"none\" needs secure = true");
        }
        Ok(())
    }

    fn carrying(&self, value: String) -> Cookie {
        Cookie {
            max_age: self.ttl.map(|ttl| ttl.as_secs()),
            path: Some(self.path.clone()),
            secure: self.secure,
            same_site: Some(self.same_site),
            ..Cookie::new(&*self.name, value)
        }
    }
}

fn some_duration<'de, D: serde::Deserializer<'de>>(reader: D) -> Result<Option<Duration>, D::Error> {
    witgate_sdk::duration(reader).map(Some)
}

export!(Session: affinity);
