//! One connection that carries streams beside each other, and the task that drives it.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use ::h2::{
    Ping,
    client::{Builder, Connection, SendRequest},
};
use bytes::Bytes;
use tokio::sync::Notify;
use witgate_core::{config, endpoint::Endpoint};

use super::super::{ConnectError, Stream, circuit::Place, connect::Target};
use crate::tls;

/// Streams that one session carries at once, where the endpoint takes as many: the least that RFC 9113 §6.5.2 recommends to
/// offer, and what nginx, Envoy and Go's clients assume of a server that has not said otherwise yet.
pub(super) const STREAMS: usize = 100;

/// What [`SendRequest::current_max_send_streams`] says until the endpoint has said something, which no endpoint says.
const UNSETTLED: usize = (1 << 20) + 1;

/// Bytes of a response that are on their way in one stream at once.
const STREAM_WINDOW: u32 = 128 << 10;

/// The same of a whole session: as many as its streams may hold, or one client that does not read would stop the others.
const SESSION_WINDOW: u32 = STREAM_WINDOW * STREAMS as u32;

/// Streams that were given up and are remembered, for a second.
const RESET_STREAMS: usize = 4096;

/// Bytes of a response's header fields, and of its trailers; the same as of HTTP/1.1.
const LONGEST_HEAD: u32 = 64 << 10;

/// Bytes of requests' bodies that a stream holds while the socket takes none.
const SEND_BUFFER: usize = 64 << 10;

/// A connection.
pub(in super::super) struct Session {
    sender: RefCell<SendRequest<Bytes>>,
    endpoint: Arc<Endpoint>,
    limits: config::Pool,
    /// By what it is secured; none: it is not.
    tls: Option<Arc<tls::Client>>,
    /// Among those that the cluster may have, where they are limited.
    place: RefCell<Option<Place>>,
    streams: Cell<usize>,
    idle_since: Cell<Instant>,
    /// Takes no more streams.
    shunned: Cell<bool>,
    pulse: Rc<Pulse>,
    /// How long an endpoint may take that is asked whether it is still there.
    patience: Duration,
    /// Told when a stream has ended, or others may begin.
    freed: Rc<Notify>,
}

/// What a session and its task say to each other.
struct Pulse {
    /// When anything came last.
    heard_at: Cell<Instant>,
    /// The endpoint may be gone: it is to be asked.
    doubted: Notify,
    /// The connection is to be closed.
    over: Notify,
}

/// Begins to speak HTTP/2 over a connection.
///
/// # Errors
/// It is broken.
pub(in super::super) async fn handshake(
    stream: Stream,
    target: &Target<'_>,
    place: Option<Place>,
    freed: &Rc<Notify>,
) -> Result<Rc<Session>, ConnectError> {
    let mut client = Builder::new();
    client
        .enable_push(false)
        .initial_max_send_streams(UNSETTLED)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(SESSION_WINDOW)
        .max_header_list_size(LONGEST_HEAD)
        .max_send_buffer_size(SEND_BUFFER)
        // What is still on its way of streams that clients have given up must not count as a breach: the others would pay.
        .max_concurrent_reset_streams(RESET_STREAMS)
        .max_local_error_reset_streams(None)
        // Small frames that a client does not read are bounded by the windows.
        .data_frame_budget(SESSION_WINDOW as usize * 256);
    let (sender, connection) = client.handshake(stream).await.map_err(|error| match error.into_io() {
        Some(error) => ConnectError::Io(error),
        None => ConnectError::Io(io::ErrorKind::BrokenPipe.into()),
    })?;
    let heard_at = Cell::new(Instant::now());
    let pulse = Rc::new(Pulse { heard_at, doubted: Notify::new(), over: Notify::new() });
    tokio::task::spawn_local(drive(connection, Rc::clone(&pulse), target.patience, Rc::clone(freed)));
    Ok(Rc::new(Session {
        sender: RefCell::new(sender),
        endpoint: Arc::clone(target.endpoint),
        limits: target.pool.clone(),
        tls: target.tls.cloned(),
        place: RefCell::new(place),
        streams: Cell::new(0),
        idle_since: Cell::new(Instant::now()),
        shunned: Cell::new(false),
        pulse,
        patience: target.patience,
        freed: Rc::clone(freed),
    }))
}

/// Drives a connection to its end: that is when both sides have said goodbye and the last stream has ended, when it breaks, or
/// when its endpoint does not answer a ping within `patience`. A ping is sent where an endpoint is doubted, and never without
/// need: servers of gRPC close connections over those.
async fn drive(connection: Connection<Stream, Bytes>, pulse: Rc<Pulse>, patience: Duration, freed: Rc<Notify>) {
    let mut connection = pin!(connection);
    let Some(mut ping) = connection.ping_pong() else { return };
    let mut settled = false;
    let mut connection = pin!(poll_fn(|cx| {
        let ended = connection.as_mut().poll(cx);
        if !settled && connection.max_concurrent_send_streams() != UNSETTLED {
            settled = true;
            freed.notify_waiters();
        }
        ended
    }));
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut connection => break ended.map_err(|error| error.to_string()),
            () = pulse.over.notified() => break Ok(()),
            () = pulse.doubted.notified() => {}
        }
        let answer = async { tokio::time::timeout(patience, ping.ping(Ping::opaque())).await };
        tokio::select! {
            biased;
            ended = &mut connection => break ended.map_err(|error| error.to_string()),
            () = pulse.over.notified() => break Ok(()),
            answer = answer => match answer {
                Ok(Ok(_)) => pulse.heard_at.set(Instant::now()),
                Ok(Err(error)) => break Err(error.to_string()),
                Err(_) => break Err(format!("no answer to a ping within {patience:?}")),
            }
        }
    };
    tracing::debug!(?ended, "a connection of HTTP/2 to an endpoint has ended");
    freed.notify_waiters();
}

impl Session {
    /// Whether it can carry another stream, now or later.
    pub(in super::super) fn is_open(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        !self.shunned.get() && !matches!(self.sender.borrow_mut().poll_ready(&mut context), Poll::Ready(Err(_)))
    }

    /// Whether it is secured as this asks.
    pub(super) fn suits(&self, tls: Option<&Arc<tls::Client>>) -> bool {
        self.tls.as_ref().map(Arc::as_ptr) == tls.map(Arc::as_ptr)
    }

    /// Streams that it carries.
    pub(super) fn streams(&self) -> usize {
        self.streams.get()
    }

    /// Whether it can carry another stream at once: the endpoint takes as many. Until it has said how many, that is one.
    pub(super) fn has_room(&self) -> bool {
        self.streams.get() < if self.is_settled() { self.most().min(STREAMS) } else { 1 }
    }

    /// Whether the endpoint has said how many streams it takes.
    pub(super) fn is_settled(&self) -> bool {
        self.most() != UNSETTLED
    }

    fn most(&self) -> usize {
        self.sender.borrow().current_max_send_streams()
    }

    /// Whether it carries none since `idle_timeout`.
    pub(in super::super) fn is_stale(&self, now: Instant) -> bool {
        self.streams.get() == 0 && now.saturating_duration_since(self.idle_since.get()) >= self.limits.idle_timeout
    }

    /// Whether it carries none and holds a place that `of` is about.
    pub(in super::super) fn idles(&self, of: impl Fn(&Place) -> bool) -> bool {
        self.streams.get() == 0 && self.place.borrow().as_ref().is_some_and(of)
    }

    /// Begins a stream.
    pub(super) fn begin(self: &Rc<Self>) -> Slot {
        self.streams.set(self.streams.get() + 1);
        if let Some(place) = &mut *self.place.borrow_mut() {
            place.wake();
        }
        Slot { session: Rc::clone(self), answered: false }
    }

    /// Closes it at once: no stream is left.
    fn close(&self) {
        self.shunned.set(true);
        self.place.take();
        self.pulse.over.notify_one();
    }
}

/// One stream's part of a session.
pub struct Slot {
    session: Rc<Session>,
    answered: bool,
}

impl Slot {
    /// For one request.
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.session.sender.borrow().clone()
    }

    /// What the endpoint is called.
    pub(super) fn authority(&self) -> &str {
        self.session.endpoint.authority()
    }

    /// Whether TLS is spoken.
    pub(super) fn is_secure(&self) -> bool {
        self.session.tls.is_some()
    }

    /// Something came.
    pub(super) fn heard(&self) {
        self.session.pulse.heard_at.set(Instant::now());
    }

    /// The response's head came.
    pub(super) fn answered(&mut self) {
        self.answered = true;
        self.heard();
    }

    /// No other stream is to begin here.
    pub(super) fn shun(&self) {
        self.session.shunned.set(true);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let session = &self.session;
        let left = session.streams.get().saturating_sub(1);
        session.streams.set(left);
        // Who waited in vain may be one of many to come, where nothing at all was heard for long.
        if !self.answered && session.pulse.heard_at.get().elapsed() >= session.patience {
            session.pulse.doubted.notify_one();
        }
        if left == 0 {
            session.idle_since.set(Instant::now());
            let rests = session.place.borrow_mut().as_mut().is_none_or(Place::rest);
            if !rests || session.limits.idle == 0 || session.shunned.get() {
                session.close();
            }
        }
        session.freed.notify_one();
    }
}
