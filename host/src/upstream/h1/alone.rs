//! Heads on the wire, without a connection: for benchmarks alone.

use bytes::BytesMut;
use http::response;
use witgate_core::request;

use super::{super::RequestBody, head, send::Sending};

/// Takes a response's head off `read`. None where it is not whole, or not right.
pub fn take_head(read: &mut BytesMut) -> Option<response::Parts> {
    Some(head::take(read, &mut 0, false, None).ok()??.parts)
}

/// Begins to send a request without a body, in the room of `lines`; what is to be written.
pub fn begin(head: &request::Head, lines: Vec<u8>) -> Vec<u8> {
    Sending::new(head, RequestBody::default(), lines).into_lines()
}
