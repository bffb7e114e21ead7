//! Rules of a route that few routes have: how many requests it takes.

use std::time::Duration;

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
