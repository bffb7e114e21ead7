//! A connection as the HTTP parser sees it: its writes fail once the other side reads nothing any more, and the parser's
//! own error responses get the shape of all others. Decides nothing about requests.

use std::{
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::{
    reply::{ApiError, Body},
    seats::Seat,
    socket::Stream,
};

/// Bytes of a request's head.
pub(super) const HEAD_BYTES: usize = 32 << 10;

/// How long a client may leave an answer unread.
const STALL: Duration = Duration::from_secs(15);

/// A stream whose writes fail once the other side has read nothing for [`STALL`].
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    seat: Rc<Seat>,
    timer: Option<Pin<Box<Sleep>>>,
    /// What goes out in place of the parser's own error response, as far as it has not gone yet.
    replacement: Option<Bytes>,
}

impl Wire {
    pub(super) fn new(stream: Box<dyn Stream>, seat: Rc<Seat>) -> Self {
        Self { stream, seat, timer: None, replacement: None }
    }

    fn watched<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.timer = None;
            return outcome;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.seat.note(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.replacement.is_none() {
            self.replacement = parsers_own(buf).map(in_our_shape);
        }
        let Some(mut left) = self.replacement.take() else {
            let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
            return self.watched(cx, outcome);
        };
        while left.has_remaining() {
            let outcome = Pin::new(&mut self.stream).poll_write(cx, &left);
            match self.watched(cx, outcome) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => left.advance(n),
                other => {
                    self.replacement = Some(left);
                    return other;
                }
            }
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.watched(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The head of an error response that the parser wrote by itself: it has no body, and no content type, which every
/// response of the API has. No part of a body can be taken for one, as JSON and metrics have no bare carriage return.
fn parsers_own(written: &[u8]) -> Option<&str> {
    let head = std::str::from_utf8(written).ok().filter(|head| head.starts_with("HTTP/1.1 4"))?;
    let bare = head.ends_with("\r\n\r\n") && head.contains(NO_BODY) && !head.contains("content-type");
    bare.then_some(head)
}

const NO_BODY: &str = "content-length: 0\r\n";

fn in_our_shape(head: &str) -> Bytes {
    let error = match head.get(9..12) {
        Some("431") => ApiError::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            format!("the request's head is too large: at most {HEAD_BYTES} bytes and 100 headers are read"),
        ),
        Some("414") => ApiError::new(StatusCode::URI_TOO_LONG, "the request's path and query are too long"),
        _ => ApiError::bad_request(
            "this is not HTTP/1.1: expected a line like \"GET /v1/plugins HTTP/1.1\", then headers, each a line \
             \"name: value\", then an empty line",
        ),
    };
    let reply = error.into_reply();
    let mut fields = String::new();
    for (name, value) in reply.headers() {
        fields.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    }
    let Body::Whole(Some(body)) = reply.into_body() else { return Bytes::copy_from_slice(head.as_bytes()) };
    let length = format!("{fields}content-length: {}\r\n", body.len());
    [head.replacen(NO_BODY, &length, 1).as_bytes(), &body].concat().into()
}

/// Whether a request that has a Transfer-Encoding has no Content-Length beside it (RFC 9112 §6.1). The parser drops the
/// length, so that the bytes have to be asked. No, too, where they do not begin with this request's head, as part of it was
/// sent before the answer to the one before: nobody who means well does that with a body.
pub(super) fn has_one_length(noted: &[u8]) -> bool {
    // Of the head that is being looked at: its lines so far, and which of the two they name.
    let (mut lines, mut encoded, mut sized) = (0, false, false);
    let mut first = None;
    for line in noted.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)) {
        if line.is_empty() {
            // The parser skips empty lines in front of a request, too.
            if lines > 0 {
                first.get_or_insert(encoded);
            }
            (lines, encoded, sized) = (0, false, false);
            continue;
        }
        let name = line.split(|b| *b == b':').next().unwrap_or_default();
        if lines == 0 && first.is_none() && !name.contains(&b' ') {
            // A request line has a space, and a header's name has none: this is the rest of a head.
            return false;
        }
        lines += 1;
        encoded |= name.eq_ignore_ascii_case(b"transfer-encoding");
        sized |= name.eq_ignore_ascii_case(b"content-length");
        if encoded && sized {
            return false;
        }
    }
    first == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beside_an_encoding_is_found() {
        let check = |noted: &str, want: bool| assert_eq!(has_one_length(noted.as_bytes()), want, "{noted:?}");
        check("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", true);
        check("\r\n\r\nPUT / HTTP/1.1\ntransfer-encoding:chunked\n\n", true);
        check("PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\ncontent-length: 3\r\n", true);
        check("PUT / HTTP/1.1\r\nx-content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", true);
        check("PUT / HTTP/1.1\r\nContent-Length: 3\r\ntransfer-encoding: chunked\r\n\r\n", false);
        check("PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\nhost: x\ncontent-length:3\r\n\r\n", false);
        check("GET / HTTP/1.1\r\n\r\nPUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", false);
        check("transfer-encoding: chunked\r\n\r\n", false);
        check("x: y\r\ntransfer-encoding: chunked\r\n\r\n", false);
        check("", false);
    }
}
