//! A request on its way to the wire: the head, then the body as it comes, framed by its length or in chunks (RFC 9112
//! §6 and §7). At most one piece of a body is held; none is copied.

use std::{
    io::{self, IoSlice, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, Method, header};
use http_body::Body as _;
use tokio::io::AsyncWrite;
use witgate_core::request::Head;

use super::{
    super::{RequestBody, Stream},
    head::may_trail,
};

/// How a request's body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// There is none.
    Empty,
    /// So many bytes are left.
    Length(u64),
    Chunked,
}

const CHUNK_END: &[u8] = b"\r\n";

/// Why sending ended before the request did.
#[derive(Debug)]
pub(super) enum SendError {
    /// The connection.
    Io(io::Error),
    /// The body broke off, or was not as long as it said.
    Body,
}

/// A request that is being sent.
pub(super) struct Sending {
    /// Heads and chunk sizes that are to be written before `piece`.
    lines: Vec<u8>,
    written: usize,
    piece: Bytes,
    /// Bytes of [`CHUNK_END`] that are to be written behind `piece`.
    tail: usize,
    /// None once it was read to its end.
    body: Option<RequestBody>,
    framing: Framing,
    /// Nothing that was written is held back on its way.
    flushed: bool,
}

impl Sending {
    /// A request that begins with `lines`' room.
    pub(super) fn new(head: &Head, body: RequestBody, mut lines: Vec<u8>) -> Self {
        let framing = framing(&body);
        lines.clear();
        encode(head, framing, &mut lines);
        let body = (framing != Framing::Empty).then_some(body);
        Self { lines, written: 0, piece: Bytes::new(), tail: 0, body, framing, flushed: true }
    }

    /// Whether all of it was written.
    pub(super) fn is_done(&self) -> bool {
        self.body.is_none() && self.is_written() && self.flushed
    }

    /// The room for the next request's head.
    pub(super) fn into_lines(self) -> Vec<u8> {
        self.lines
    }

    /// Writes what can be written. Ready when all was.
    pub(super) fn poll(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        loop {
            // A first piece goes out with the head: nothing is written before it is known that none is there yet.
            let waits = self.body.is_some() && self.has_room() && self.poll_body(cx)?.is_pending();
            if !self.is_written() {
                let n = ready!(self.poll_write(stream, cx)).map_err(SendError::Io)?;
                if n == 0 {
                    return Poll::Ready(Err(SendError::Io(io::ErrorKind::WriteZero.into())));
                }
                self.wrote(n);
                self.flushed = false;
            } else if waits || self.body.is_none() {
                // A socket holds nothing back; TLS may.
                self.flushed = self.flushed || Pin::new(&mut *stream).poll_flush(cx).map_err(SendError::Io)?.is_ready();
                return if waits || !self.flushed { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
        }
    }

    fn poll_write(&self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let lines = &self.lines[self.written..];
        if self.has_room() {
            return Pin::new(stream).poll_write(cx, lines);
        }
        let tail = &CHUNK_END[CHUNK_END.len() - self.tail..];
        Pin::new(stream).poll_write_vectored(cx, &[lines, &self.piece[..], tail].map(IoSlice::new))
    }

    /// Whether a piece of the body can be taken.
    fn has_room(&self) -> bool {
        self.piece.is_empty() && self.tail == 0
    }

    fn is_written(&self) -> bool {
        self.written == self.lines.len() && self.has_room()
    }

    fn wrote(&mut self, n: usize) {
        let lines = n.min(self.lines.len() - self.written);
        let piece = (n - lines).min(self.piece.len());
        self.written += lines;
        self.piece.advance(piece);
        self.tail -= n - lines - piece;
        if self.written == self.lines.len() {
            self.lines.clear();
            self.written = 0;
        }
    }

    /// Takes the next piece of the body, behind lines that are not written yet.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
        match ready!(Pin::new(body).poll_frame(cx)) {
            None => self.end(None),
            Some(Err(_)) => Poll::Ready(Err(SendError::Body)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => self.data(data),
                Err(frame) => self.end(frame.into_trailers().ok().as_ref()),
            },
        }
    }

    fn data(&mut self, data: Bytes) -> Poll<Result<(), SendError>> {
        match &mut self.framing {
            Framing::Empty => {}
            Framing::Length(left) => match left.checked_sub(data.len() as u64) {
                Some(rest) => *left = rest,
                None => return Poll::Ready(Err(SendError::Body)),
            },
            // A chunk of size 0 would be the last one.
            Framing::Chunked if data.is_empty() => {}
            Framing::Chunked => {
                line(&mut self.lines, format_args!("{:x}\r\n", data.len()));
                self.tail = CHUNK_END.len();
            }
        }
        self.piece = data;
        Poll::Ready(Ok(()))
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) -> Poll<Result<(), SendError>> {
        self.body = None;
        match self.framing {
            Framing::Empty | Framing::Length(0) => {}
            Framing::Length(_) => return Poll::Ready(Err(SendError::Body)),
            Framing::Chunked => {
                self.lines.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten().filter(|(name, _)| may_trail(name)) {
                    field(&mut self.lines, name, value.as_bytes());
                }
                self.lines.extend_from_slice(b"\r\n");
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn framing(body: &RequestBody) -> Framing {
    match body.size_hint().exact() {
        _ if body.is_end_stream() => Framing::Empty,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    }
}

/// The head in origin form. What `head` says of framing is not taken over, as it was said of another connection; and
/// `Expect` was answered by the server's side of the proxy.
fn encode(head: &Head, framing: Framing, lines: &mut Vec<u8>) {
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    lines.extend_from_slice(head.method.as_str().as_bytes());
    lines.push(b' ');
    // `http://host?query` has no path (RFC 9112 §3.2.1).
    if !target.starts_with(['/', '*']) {
        lines.push(b'/');
    }
    lines.extend_from_slice(target.as_bytes());
    lines.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in &head.headers {
        if !matches!(*name, header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::EXPECT) {
            field(lines, name, value.as_bytes());
        }
    }
    match framing {
        // Methods whose requests mostly have a body say that there is none (RFC 9110 §8.6).
        Framing::Empty if [Method::POST, Method::PUT, Method::PATCH].contains(&head.method) => {
            lines.extend_from_slice(b"content-length: 0\r\n");
        }
        Framing::Empty => {}
        Framing::Length(length) => line(lines, format_args!("content-length: {length}\r\n")),
        Framing::Chunked => lines.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    lines.extend_from_slice(b"\r\n");
}

fn field(lines: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    lines.extend_from_slice(name.as_str().as_bytes());
    lines.extend_from_slice(b": ");
    lines.extend_from_slice(value);
    lines.extend_from_slice(b"\r\n");
}

fn line(lines: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = lines.write_fmt(text); // Writing to a vector does not fail.
}
