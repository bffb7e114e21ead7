//! What the `h2` crate's errors mean for a request.

use std::io;

use ::h2::Reason;

use super::{
    super::failure::{Error, Failed, Malformed},
    Slot,
};

/// What broke an exchange off.
pub(super) fn of(error: ::h2::Error) -> Error {
    // What this side says of a peer is that it breaks the protocol.
    if error.is_library() {
        return Malformed::new("a breach of HTTP/2").into();
    }
    match error.reason() {
        Some(reason) => Error::Reset(reason),
        None => error.into_io().map_or(Error::Closed, |error| match error.kind() {
            // As `h2` tells of a connection that ended below its streams.
            io::ErrorKind::BrokenPipe => Error::Closed,
            _ => Error::Io(error),
        }),
    }
}

/// The same, before a response came. The endpoint has not touched a stream that it refuses, nor one above those that it still
/// finishes when it says goodbye (RFC 9113 §6.8, §8.7).
pub(super) fn failed(error: ::h2::Error, slot: &Slot) -> Failed {
    let by_endpoint = error.is_remote();
    let refused = by_endpoint && error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    let left_out = by_endpoint && error.is_go_away();
    let ended = error.is_io();
    if left_out || ended {
        slot.shun();
    }
    Failed { refused: refused || left_out, unanswered: ended || left_out, error: of(error) }
}
