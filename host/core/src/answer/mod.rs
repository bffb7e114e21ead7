//! What a plugin may answer, as plain types, and the one place that accepts or rejects an answer.
//!
//! A plugin's answer has an effect only through the `accept_*` functions here. What they return names indices or
//! values that the host already knows, never an address.

mod accept;

use http::{HeaderName, HeaderValue, StatusCode};

pub use accept::{accept_route, accept_scores, accept_split, accept_stick};

/// A router's answer as it came, unchecked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawRoute {
    /// What to do.
    pub action: RawAction,
    /// Request headers to set.
    pub set_headers: Vec<(String, String)>,
    /// Request headers to remove.
    pub remove_headers: Vec<String>,
}

/// A router's action as it came, unchecked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RawAction {
    /// No opinion.
    #[default]
    Pass,
    /// A cluster by name.
    Cluster(String),
    /// An immediate response.
    Respond {
        /// HTTP status.
        status: u16,
        /// Response headers.
        headers: Vec<(String, String)>,
        /// Response body.
        body: String,
    },
    /// An immediate redirect.
    Redirect {
        /// HTTP status.
        status: u16,
        /// `Location`.
        location: String,
    },
}

/// An affinity plugin's answer as it came, unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawStick {
    /// The hash key.
    pub key: String,
    /// A cookie for the response.
    pub set_cookie: Option<RawCookie>,
}

/// A cookie as a plugin gave it, unchecked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawCookie {
    /// Cookie name.
    pub name: String,
    /// Cookie value.
    pub value: String,
    /// `Max-Age` in seconds.
    pub max_age: Option<u64>,
    /// `Path`; none is `/`.
    pub path: Option<String>,
    /// `Secure`.
    pub secure: bool,
    /// `HttpOnly`.
    pub http_only: bool,
    /// `SameSite`.
    pub same_site: Option<SameSite>,
}

/// `SameSite` of a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// `Strict`.
    Strict,
    /// `Lax`.
    Lax,
    /// `None`.
    None,
}

/// A router's answer that may take effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What to do.
    pub action: RouteAction,
    /// Removed first.
    pub remove_headers: Vec<HeaderName>,
    /// Set then.
    pub set_headers: Vec<(HeaderName, HeaderValue)>,
}

/// A router's action that may take effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteAction {
    /// The route's own action stands.
    Pass,
    /// Index of a configured cluster.
    Cluster(usize),
    /// Answer at once. A redirect is a response with a `Location`.
    Respond {
        /// 200 to 599.
        status: StatusCode,
        /// Checked headers.
        headers: Vec<(HeaderName, HeaderValue)>,
        /// At most [`MAX_BODY`] bytes.
        body: String,
    },
}

/// An affinity answer that may take effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stick {
    /// Hash of the key: the one that native affinity would use for the same text.
    pub hash: u64,
    /// A whole `Set-Cookie` value.
    pub set_cookie: Option<HeaderValue>,
}

/// Why an answer was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed answer: {0}")]
pub struct Malformed(pub String);

/// Bytes of an immediate response's body, at most.
pub const MAX_BODY: usize = 64 << 10;
/// Headers set, and headers removed, at most.
pub const MAX_HEADERS: usize = 32;
/// Bytes of an affinity key, at most.
pub const MAX_KEY: usize = 1024;
/// Bytes of a cookie's value, at most.
pub const MAX_COOKIE: usize = 4096;
/// Headers of an immediate response, at most.
pub const MAX_RESPONSE_HEADERS: usize = 100;
/// Bytes of a redirect's `Location`, and of a cookie's path, at most.
pub const MAX_LOCATION: usize = 8 << 10;
/// Bytes of a cookie's name, at most.
pub const MAX_COOKIE_NAME: usize = 256;
