//! HTTP/1.1 to an endpoint: one request after the other over one connection, all of it in the task that asks, so that a
//! request costs one write and one read and wakes nobody. It must never decide about a request, and never read past a
//! response.

#[cfg(feature = "internals")]
pub mod alone;
mod decode;
#[cfg(test)]
mod differential;
mod head;
mod send;

use std::{
    future::Future,
    io,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::io::AsyncReadExt;
use witgate_core::{config, endpoint::Endpoint, request::Head};

use super::{
    BodyError, RequestBody, Stream,
    channel::Sent,
    circuit::Place,
    failure::{Error, Failed, Malformed},
};
use crate::tls;
pub use decode::Passing;
use decode::{Decoded, Decoder};
pub(super) use head::{may_begin, may_trail};
use send::{SendError, Sending};

/// How much is read at once, at first and where bodies are large. The large one is what a socket buffer holds.
const READ: usize = 8 << 10;
const READ_MAX: usize = 64 << 10;

/// How many bytes of `bytes` are up to the end of the first empty line: a head's end, where they begin with a head. Lines
/// may end with a lone line feed, as parsers let them (RFC 9112 §2.2).
pub fn end_of_head(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', bytes).find_map(|at| match bytes.get(at + 1..)? {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// A connection to one endpoint, ready to carry requests one after another.
pub struct Connection {
    stream: Stream,
    room: Room,
    endpoint: Arc<Endpoint>,
    limits: config::Pool,
    idle_since: Instant,
    /// By what it is secured; none: it is not.
    tls: Option<Arc<tls::Client>>,
    /// Among those that the cluster may have, where they are limited. On the heap, as few are.
    place: Option<Box<Place>>,
}

/// What a connection needs while it carries a request.
pub struct Room {
    read: BytesMut,
    /// How much is read at once.
    size: usize,
    lines: Vec<u8>,
}

impl Default for Room {
    fn default() -> Self {
        Self { read: BytesMut::new(), size: READ, lines: Vec::new() }
    }
}

impl Connection {
    /// A connection that was just made.
    pub fn new(stream: Stream, endpoint: Arc<Endpoint>, limits: config::Pool, now: Instant) -> Self {
        Self { stream, room: Room::default(), endpoint, limits, idle_since: now, tls: None, place: None }
    }

    /// Notes by what it is secured.
    pub(in super::super) fn secured_by(&mut self, tls: Option<Arc<tls::Client>>) {
        self.tls = tls;
    }

    /// Whether it is secured as this asks: a connection that was made by other settings, or by other certificates, is of no
    /// use any more.
    pub fn suits(&self, tls: Option<&Arc<tls::Client>>) -> bool {
        self.tls.as_ref().map(Arc::as_ptr) == tls.map(Arc::as_ptr)
    }

    /// Its place, where it needs one. The connection is closed.
    pub fn into_place(self) -> Option<Place> {
        self.place.map(|place| *place)
    }

    /// Has it hold a place while it is open.
    pub(in super::super) fn take_place(&mut self, place: Place) {
        self.place = Some(Box::new(place));
    }

    /// Its place, where it needs one.
    pub(in super::super) fn place(&self) -> Option<&Place> {
        self.place.as_deref()
    }

    /// The same, to change it.
    pub(in super::super) fn place_mut(&mut self) -> Option<&mut Place> {
        self.place.as_deref_mut()
    }

    /// Where it leads.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The limits of the pool it belongs to.
    pub fn limits(&self) -> &config::Pool {
        &self.limits
    }

    /// When it last carried a request.
    pub fn idle_since(&self) -> Instant {
        self.idle_since
    }

    /// Whether an idle connection can carry a request: the endpoint has neither closed it nor said what nobody asked
    /// for.
    pub fn is_open(&mut self) -> bool {
        self.stream.is_silent()
    }

    /// Sends a request and waits for the response's head. The body is sent as it comes; where the response is there
    /// before its end, the rest of it goes out while the response is read.
    ///
    /// # Errors
    /// Where no response came; the connection is closed.
    pub async fn exchange(mut self: Box<Self>, sent: &Head, body: RequestBody) -> Sent {
        let no_body = sent.method == Method::HEAD;
        let mut sending = Sending::new(sent, body, std::mem::take(&mut self.room.lines));
        let mut broken = None;
        let mut spent = 0;
        let found = std::future::poll_fn(|cx| {
            if broken.is_none() && !sending.is_done() {
                match sending.poll(&mut self.stream, cx) {
                    Poll::Ready(Err(SendError::Body)) => return Poll::Ready(Err(Error::Body)),
                    // The endpoint may have answered before it closed.
                    Poll::Ready(Err(SendError::Io(error))) => broken = Some(error),
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
            loop {
                match ready!(self.poll_read(cx)) {
                    Ok(0) => return Poll::Ready(Err(broken.take().map_or(Error::Closed, Error::Io))),
                    Ok(_) => {}
                    Err(error) => return Poll::Ready(Err(broken.take().unwrap_or(error).into())),
                }
                if let Some(found) = head::take(&mut self.room.read, &mut spent, no_body, Some(&sent.headers))? {
                    return Poll::Ready(Ok(found));
                }
            }
        })
        .await;
        match found {
            Ok(found) => {
                let keep_alive = found.keep_alive && broken.is_none();
                let sending = if sending.is_done() {
                    self.room.lines = sending.into_lines();
                    None
                } else if found.parts.status == StatusCode::SWITCHING_PROTOCOLS {
                    let error = Malformed::new("a switch of protocols before the request was whole").into();
                    return Err(Failed::of(error));
                } else {
                    broken.is_none().then(|| Box::new(sending))
                };
                let decoder = Decoder::new(found.framing);
                Ok((found.parts, super::Incoming::Http1(Incoming { connection: self, decoder, sending, keep_alive })))
            }
            Err(error) => {
                let ended = matches!(error, Error::Io(_) | Error::Closed);
                Err(Failed { error, unanswered: ended && spent == 0 && self.room.read.is_empty(), refused: false })
            }
        }
    }

    /// Reads once, behind what was read before.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Room { read, size, .. } = &mut self.room;
        if read.capacity() - read.len() < *size / 2 {
            read.reserve(*size);
        }
        let most = read.capacity() - read.len();
        let n = ready!(pin!(self.stream.read_buf(read)).poll(cx))?;
        if n == most {
            *size = (*size * 2).min(READ_MAX);
        }
        Poll::Ready(Ok(n))
    }

    /// What it runs over, for another protocol.
    pub fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Takes the room for a request.
    pub fn move_in(&mut self, room: Room) {
        self.room = room;
    }

    /// Leaves the room for another.
    pub fn move_out(&mut self) -> Room {
        std::mem::take(&mut self.room)
    }
}

/// A response's body, with the connection that it comes over.
pub struct Incoming {
    connection: Box<Connection>,
    decoder: Decoder,
    /// The rest of the request.
    sending: Option<Box<Sending>>,
    keep_alive: bool,
}

impl Incoming {
    /// The connection, where the response was read whole and it can carry another request: not while it still sends
    /// one, since whoever drips that would make the next one wait, and not where more was read than the response.
    pub fn into_idle(self, now: Instant) -> Option<Box<Connection>> {
        let reusable = self.keep_alive && self.decoder.is_done() && self.sending.is_none();
        let mut connection = (reusable && self.connection.room.read.is_empty()).then_some(self.connection)?;
        connection.idle_since = now;
        Some(connection)
    }

    /// The connection behind a switch of protocols, and what was read of it beyond the response's head. It carries no other
    /// request.
    pub fn into_switched(mut self) -> (Box<Connection>, Bytes) {
        let room = self.connection.move_out();
        (self.connection, Bytes::copy_from_slice(&room.read))
    }

    /// The next frame.
    ///
    /// # Errors
    /// The endpoint broke off or broke the protocol, or the request's body broke off.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.decoder.is_done() {
            return Poll::Ready(None);
        }
        if let Some(sending) = &mut self.sending {
            match sending.poll(&mut self.connection.stream, cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.sending = None,
                Poll::Ready(Err(SendError::Body)) => return self.break_off(Error::Body),
                Poll::Ready(Err(SendError::Io(_))) => {
                    self.sending = None;
                    self.keep_alive = false;
                }
            }
        }
        loop {
            match self.decoder.next(&mut self.connection.room.read) {
                Ok(Decoded::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Decoded::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Ok(Decoded::End) => return Poll::Ready(None),
                Ok(Decoded::More) => {}
                Err(malformed) => return self.break_off(malformed.into()),
            }
            match ready!(self.connection.poll_read(cx)) {
                Ok(0) if self.decoder.close() => return Poll::Ready(None),
                Ok(0) => return self.break_off(Error::Closed),
                Ok(_) => {}
                Err(error) => return self.break_off(error.into()),
            }
        }
    }

    fn break_off(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.decoder = Decoder::Done;
        self.keep_alive = false;
        Poll::Ready(Some(Err(BodyError::Upstream(error))))
    }

    /// All of the body, where it was read with the head and has no trailers.
    pub fn read_whole(&mut self) -> Option<Bytes> {
        // Also while the request is still sent: where a response has no body, nothing of it would ever be polled for.
        if self.decoder.is_done() {
            return Some(Bytes::new());
        }
        let here = self.sending.is_none() && self.decoder.left()? <= self.connection.room.read.len() as u64;
        match here.then(|| self.decoder.next(&mut self.connection.room.read))? {
            Ok(Decoded::Data(data)) => Some(data),
            _ => None,
        }
    }

    /// Whether nothing is left to be read.
    pub fn is_end_stream(&self) -> bool {
        self.decoder.is_done()
    }

    /// Bytes that are still to come, where that is known.
    pub fn size_hint(&self) -> SizeHint {
        self.decoder.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
