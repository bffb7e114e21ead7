//! What a worker knows of one downstream connection while it lives. Belongs to one worker; nothing here is shared.

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use http::HeaderValue;
use slab::Slab;
use tokio::sync::Notify;
use witgate_core::request::Scheme;

use super::{requests::Requests, takeover::Takeover};

/// Where a connection stands between two requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is in flight and no byte of a next request was read.
    Idle,
    /// Part of a request's head was read.
    Head,
    /// At least one request is in flight.
    Active,
}

/// What the worker wants of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Nothing.
    None,
    /// Finish what is in flight, then close.
    Finish,
    /// Close now.
    Kill,
}

/// Whose a connection is.
#[derive(Debug)]
struct Peer {
    address: SocketAddr,
    /// Its IP address as a header value, made once.
    value: HeaderValue,
    /// Whether it may speak for others in `X-Forwarded-*`.
    trusted: bool,
}

impl Peer {
    fn new(address: SocketAddr, trusted: bool) -> Self {
        // An IPv4 address that came over an IPv6 socket counts as IPv4.
        let ip = address.ip().to_canonical();
        let value = HeaderValue::try_from(ip.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Self { address: SocketAddr::new(ip, address.port()), value, trusted }
    }
}

/// One downstream connection.
#[derive(Debug)]
pub struct Conn {
    /// Index in the generation's sockets of the one that it came by.
    pub socket: usize,
    /// The other end of the socket.
    peer: Peer,
    /// Whom that speaks for, where it says so before anything else.
    named: OnceCell<Peer>,
    /// None while nothing is spoken below HTTP.
    secured: OnceCell<Option<HeaderValue>>,
    phase: Cell<Phase>,
    /// When the phase was first looked at: who changes it does not read the clock for that.
    since: Cell<Option<Instant>>,
    in_flight: Cell<u32>,
    requests: Cell<u64>,
    /// Requests in flight that should have been over a while ago.
    stuck: Cell<u32>,
    /// Whether all that the requests so far were answered with was written.
    flushed: Cell<bool>,
    signal: Cell<Signal>,
    /// Whether its end must not look like a right one.
    cut: Cell<bool>,
    /// Whether the worker wants an idle connection to let go of what it needs for a request only.
    resting: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// What was read of HTTP/1: what the framing check looks at.
    requests_read: RefCell<Requests>,
    /// Who goes on with it once its last request was answered.
    successor: RefCell<Option<Box<dyn Takeover>>>,
}

/// How much hyper reads ahead of what it has parsed. Bodies go through the same buffer as heads: a smaller one costs
/// system calls.
pub fn http1_buffer(header_bytes: usize) -> usize {
    header_bytes.max(64 << 10)
}

impl Conn {
    /// A connection that was just accepted, with heads of at most `header_bytes`.
    pub fn new(socket: usize, peer: SocketAddr, trusted: bool, header_bytes: usize) -> Rc<Self> {
        Rc::new(Self {
            socket,
            peer: Peer::new(peer, trusted),
            named: OnceCell::new(),
            secured: OnceCell::new(),
            phase: Cell::new(Phase::Idle),
            since: Cell::new(None),
            in_flight: Cell::new(0),
            requests: Cell::new(0),
            stuck: Cell::new(0),
            flushed: Cell::new(false),
            signal: Cell::new(Signal::None),
            cut: Cell::new(false),
            resting: Cell::new(false),
            waker: RefCell::new(None),
            requests_read: RefCell::new(Requests::new(header_bytes.saturating_add(http1_buffer(header_bytes)))),
            successor: RefCell::new(None),
        })
    }

    /// Notes whom the other end speaks for, and whether that may speak for others.
    pub fn name(&self, client: SocketAddr, trusted: bool) {
        // A connection has one header.
        let _ = self.named.set(Peer::new(client, trusted));
    }

    fn client(&self) -> &Peer {
        self.named.get().unwrap_or(&self.peer)
    }

    /// The other end, or whom that speaks for.
    pub fn peer(&self) -> SocketAddr {
        self.client().address
    }

    /// Its IP address as a header value.
    pub fn peer_value(&self) -> &HeaderValue {
        &self.client().value
    }

    /// Whether it may speak for others in `X-Forwarded-*`.
    pub fn trusted(&self) -> bool {
        self.client().trusted
    }

    /// Notes that TLS is spoken, and which certificate the client has shown.
    pub fn secure(&self, client_certificate: Option<HeaderValue>) {
        // A connection has one handshake.
        let _ = self.secured.set(client_certificate);
    }

    /// What the client is asked in.
    pub fn scheme(&self) -> Scheme {
        if self.secured.get().is_some() { Scheme::Https } else { Scheme::Http }
    }

    /// Which certificate the client has shown, as a header's value.
    pub fn client_certificate(&self) -> Option<&HeaderValue> {
        self.secured.get()?.as_ref()
    }

    /// Notes bytes that were read off the socket.
    pub fn note_read(&self, bytes: &[u8]) {
        if self.requests_read.borrow_mut().read(bytes) && self.phase.get() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// Calls `look` with the head that the parser has read, or has refused; none where it is not known. Of HTTP/2 nothing is.
    pub fn with_head<R>(&self, look: impl FnOnce(Option<&[u8]>) -> R) -> R {
        look(self.requests_read.borrow().head())
    }

    /// Lets go of that head. Its body has `length` bytes, or comes in chunks: what follows is the next one.
    pub fn head_accepted(&self, length: Option<u64>, chunked: bool) {
        self.requests_read.borrow_mut().accept(length.unwrap_or(0), chunked);
    }

    /// Notes that a request's head is complete. Returns how many requests this connection has carried, this one
    /// included.
    pub fn begin(&self) -> u64 {
        self.in_flight.set(self.in_flight.get() + 1);
        self.enter(Phase::Active);
        self.requests.set(self.requests.get() + 1);
        self.flushed.set(false);
        self.resting.set(false);
        self.requests.get()
    }

    /// Notes that a request has ended, answered or not.
    pub fn end(&self) {
        let left = self.in_flight.get().saturating_sub(1);
        self.in_flight.set(left);
        if left == 0 {
            self.enter(Phase::Idle);
        } else if self.stuck.get() >= left {
            self.ask(Signal::Kill);
        }
    }

    /// Notes that nothing is left to be written.
    pub fn flushed(&self) {
        self.flushed.set(self.in_flight.get() == 0);
    }

    /// Notes that a request in flight should have been over a while ago: its client has stopped reading, so that nothing
    /// asks for the rest of the body any more, where the timeout would be noticed. One stream of HTTP/2 must not take the
    /// others with it at once: they may finish, and no new ones should begin.
    pub fn stuck(&self) {
        self.stuck.set(self.stuck.get() + 1);
        self.ask(if self.stuck.get() >= self.in_flight.get() { Signal::Kill } else { Signal::Finish });
    }

    /// Notes that a request ended that was stuck.
    pub fn unstuck(&self) {
        self.stuck.set(self.stuck.get().saturating_sub(1));
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(None);
    }

    /// Where the connection stands, and for how long it has been seen there by those who look now and then.
    pub fn phase(&self, now: Instant) -> (Phase, Duration) {
        let since = self.since.get().unwrap_or(now);
        self.since.set(Some(since));
        (self.phase.get(), now.saturating_duration_since(since))
    }

    /// Whether no request came yet.
    pub fn fresh(&self) -> bool {
        self.requests.get() == 0
    }

    /// Whether a head was begun that the parser has not accepted yet.
    pub fn reading_head(&self) -> bool {
        self.phase.get() == Phase::Head
    }

    /// Whether a request is in flight.
    pub fn is_answering(&self) -> bool {
        self.in_flight.get() > 0
    }

    /// Whether every request so far was answered whole: what is written now is no part of an answer to one.
    pub fn settled(&self) -> bool {
        self.reading_head() || (self.flushed.get() && self.in_flight.get() == 0)
    }

    /// Whether the last request is over, and what it was answered with is not all written.
    pub fn owes_answer(&self) -> bool {
        self.in_flight.get() == 0 && !self.fresh() && !self.flushed.get()
    }

    /// Has another go on with the connection behind the answer to the request in flight, which stays in flight.
    pub fn hand_over(&self, to: Box<dyn Takeover>) {
        self.successor.replace(Some(to));
    }

    /// Who goes on with it, if anybody does. No head will be read any more.
    pub fn take_over(&self) -> Option<Box<dyn Takeover>> {
        let successor = self.successor.take()?;
        self.requests_read.borrow_mut().rest();
        Some(successor)
    }

    /// Notes that an answer was cut short whose end is the connection's.
    pub fn cut(&self) {
        self.cut.set(true);
    }

    /// Whether one was.
    pub fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// Asks for something; a stronger wish replaces a weaker one.
    pub fn ask(&self, signal: Signal) {
        if signal > self.signal.get() {
            self.signal.set(signal);
            self.since.set(None);
            self.wake();
        }
    }

    /// Asks an idle connection to let go of what it needs for a request only, until there is one.
    pub fn ask_to_rest(&self) {
        if !self.resting.replace(true) {
            self.wake();
        }
    }

    /// Notes that it rests, where nothing `is_left` that was read but is no request yet: that is part of a head, behind
    /// the request before.
    pub fn rested(&self, is_left: bool) {
        if is_left {
            self.enter(Phase::Head);
        } else {
            self.requests_read.borrow_mut().rest();
        }
    }

    /// Whether it was asked to rest, and nothing has come or is left to be written since.
    pub fn should_rest(&self) -> bool {
        self.resting.get() && self.phase.get() == Phase::Idle && self.flushed.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// What was asked for.
    pub fn signal(&self) -> Signal {
        self.signal.get()
    }

    /// What was asked for, registering to be woken when more is.
    pub fn poll_signal(&self, cx: &Context<'_>) -> Signal {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.signal.get()
    }
}

/// A worker's downstream connections.
#[derive(Debug, Default)]
pub struct Registry {
    conns: RefCell<Slab<Rc<Conn>>>,
    /// The most there were at once.
    most: Cell<usize>,
    emptied: Notify,
}

/// Takes a connection out of its registry when its task ends, however it ends.
pub struct Registered {
    registry: Rc<Registry>,
    key: usize,
}

impl Registry {
    /// Adds a connection for as long as the guard lives.
    pub fn add(self: &Rc<Self>, conn: Rc<Conn>) -> Registered {
        let mut conns = self.conns.borrow_mut();
        let key = conns.insert(conn);
        self.most.set(self.most.get().max(conns.len()));
        Registered { registry: Rc::clone(self), key }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.conns.borrow().len()
    }

    /// How many fewer there are than there were, since that was last forgotten.
    pub fn gone(&self) -> usize {
        self.most.get() - self.len()
    }

    /// Counts what goes from now on.
    pub fn forget_gone(&self) {
        self.most.set(self.len());
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Resolves once there are none.
    pub async fn emptied(&self) {
        while !self.is_empty() {
            self.emptied.notified().await;
        }
    }

    /// Calls `visit` with each.
    pub fn each(&self, mut visit: impl FnMut(&Rc<Conn>)) {
        for (_, conn) in self.conns.borrow().iter() {
            visit(conn);
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut conns = self.registry.conns.borrow_mut();
        conns.try_remove(self.key);
        if conns.is_empty() {
            self.registry.emptied.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_gone_is_counted_from_the_most_there_were() {
        let registry = Rc::new(Registry::default());
        let add = || registry.add(Conn::new(0, "192.0.2.1:1".parse().unwrap(), false, 0));
        let (first, second) = (add(), add());
        assert_eq!(registry.gone(), 0);
        drop(first);
        // One that comes in the place of one that went.
        let third = add();
        assert_eq!(registry.gone(), 0);
        drop((second, third));
        assert_eq!(registry.gone(), 2);
        registry.forget_gone();
        let _fourth = add();
        assert_eq!(registry.gone(), 0);
    }
}
