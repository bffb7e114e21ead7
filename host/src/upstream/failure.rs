//! Why a request got no response, or not all of it.

use std::io;

/// An endpoint's answer that breaks the protocol, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(&'static str);

impl Malformed {
    /// Broken in this way.
    pub(super) const fn new(how: &'static str) -> Self {
        Self(how)
    }
}

/// Why an exchange ended before its response did.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The endpoint closed before its response was whole.
    #[error("closed before the response was whole")]
    Closed,
    /// The endpoint ended the stream.
    #[error("the stream was reset: {0}")]
    Reset(::h2::Reason),
    /// The endpoint's response breaks the protocol.
    #[error("malformed: {0}")]
    Malformed(#[from] Malformed),
    /// The request's own body broke off.
    #[error("the request's body broke off")]
    Body,
    /// The request cannot be said in the protocol that the endpoint speaks.
    #[error("the request's host is none for HTTP/2")]
    Unsendable,
}

/// A request that got no response.
pub struct Failed {
    /// Why.
    pub error: Error,
    /// Whether the connection ended and nothing of a response had come: the endpoint may have closed it before it saw
    /// the request.
    pub unanswered: bool,
    /// Whether the endpoint says that it has done nothing with the request.
    pub refused: bool,
}

impl Failed {
    /// A failure behind which nothing can be known of what the endpoint has done.
    pub fn of(error: Error) -> Self {
        Self { error, unanswered: false, refused: false }
    }
}
