//! Rules of a route that few routes have: how many requests it takes, and what is changed on their way.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::Key;

/// `rate_limit`: a token bucket for each key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests in each `per`, on average. At most a million in a second.
    pub rate: u32,
    /// Default 1 s.
    pub per: Duration,
    /// Requests at once; default `rate`. An empty bucket is full again within a year.
    pub burst: u32,
    /// The first one present counts; none present, or none named: one bucket for all such requests.
    pub by: Vec<Key>,
}

/// `rewrite`: at least one of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// In place of what the route's `path_prefix` or `path` matched, one of which is there.
    pub path_prefix: Option<String>,
    /// The `Host` header towards the endpoint.
    pub host: Option<HeaderValue>,
}

/// `request_headers` and `response_headers`: what is removed, then set, then added. None of them concerns the connection
/// or how the message is framed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderRules {
    /// All of a name.
    pub remove: Vec<HeaderName>,
    /// In place of all of the name.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Beside those of the name.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderRules {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}
