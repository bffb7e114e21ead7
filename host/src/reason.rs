//! Why the proxy answers a request by itself: one reason, one word, one status.

use http::StatusCode;

/// Why the proxy answered by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Reason {
    /// The request breaks the protocol.
    BadRequest,
    /// The request's target is too long.
    UriTooLong,
    /// The request's head is over a limit of the listener.
    HeaderTooLarge,
    /// The request's body is over the limit of the listener.
    BodyTooLarge,
    /// No route matched.
    NoRoute,
    /// The cluster has no endpoint that may be picked.
    NoHealthyEndpoint,
    /// A limit of the cluster is reached.
    CircuitOpen,
    /// No connection to an endpoint could be made.
    ConnectFailure,
    /// The endpoint closed or reset the connection before its response was whole.
    UpstreamReset,
    /// The endpoint's response breaks the protocol.
    UpstreamMalformed,
    /// The route's timeout passed.
    Timeout,
    /// A plugin with `on_error = "reject"` failed.
    PluginFailure,
    /// A method that this proxy does not serve (`CONNECT`).
    MethodNotAllowed,
    /// The client went away or broke off its body.
    ClientAborted,
    /// The route's `rate_limit` has no room.
    RateLimited,
    /// The request's body comes more slowly than the listener lets it.
    BodyTooSlow,
    /// The worker is behind with its work.
    Overloaded,
    /// The request expects of the server what this proxy does not know.
    ExpectationFailed,
}

impl Reason {
    /// Every reason, in the order of its counter.
    pub const ALL: [Self; 18] = [
        Self::BadRequest,
        Self::UriTooLong,
        Self::HeaderTooLarge,
        Self::BodyTooLarge,
        Self::NoRoute,
        Self::NoHealthyEndpoint,
        Self::CircuitOpen,
        Self::ConnectFailure,
        Self::UpstreamReset,
        Self::UpstreamMalformed,
        Self::Timeout,
        Self::PluginFailure,
        Self::MethodNotAllowed,
        Self::ClientAborted,
        Self::RateLimited,
        Self::BodyTooSlow,
        Self::Overloaded,
        Self::ExpectationFailed,
    ];

    /// The word in `x-witgate-error`, in the log and in the metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::UriTooLong => "uri-too-long",
            Self::HeaderTooLarge => "header-too-large",
            Self::BodyTooLarge => "body-too-large",
            Self::NoRoute => "no-route",
            Self::NoHealthyEndpoint => "no-healthy-endpoint",
            Self::CircuitOpen => "circuit-open",
            Self::ConnectFailure => "connect-failure",
            Self::UpstreamReset => "upstream-reset",
            Self::UpstreamMalformed => "upstream-malformed",
            Self::Timeout => "timeout",
            Self::PluginFailure => "plugin-failure",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::ClientAborted => "client-aborted",
            Self::RateLimited => "rate-limited",
            Self::BodyTooSlow => "body-too-slow",
            Self::Overloaded => "overloaded",
            Self::ExpectationFailed => "expectation-failed",
        }
    }

    /// The status that goes with it.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest | Self::ClientAborted => StatusCode::BAD_REQUEST,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::NoHealthyEndpoint | Self::CircuitOpen | Self::PluginFailure | Self::Overloaded => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::ConnectFailure | Self::UpstreamReset | Self::UpstreamMalformed => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
        }
    }

    /// Whether the downstream connection can carry another request after this: not where the request's end is unknown.
    pub fn closes(self) -> bool {
        matches!(
            self,
            Self::BadRequest
                | Self::UriTooLong
                | Self::HeaderTooLarge
                | Self::BodyTooLarge
                | Self::BodyTooSlow
                | Self::ClientAborted
                // Whether a body comes is the client's to decide.
                | Self::ExpectationFailed
                // What comes behind it need not be HTTP.
                | Self::MethodNotAllowed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_word_and_its_place() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place, "{reason:?} stands in the wrong place of ALL");
            assert!(reason.status().as_u16() >= 400, "{reason:?}");
            assert_eq!(Reason::ALL.iter().filter(|r| r.word() == reason.word()).count(), 1, "{reason:?}");
        }
    }
}
