//! Connections of the admin API, of which there is room for so many. One that comes when all seats are taken gets that of
//! the connection that has been idle for longest, so that nobody keeps the probes out; a request that is being worked on is
//! never cut. All on the control thread.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use slab::Slab;
use tokio::sync::Notify;

use super::{reply::Body, wire::HEAD_BYTES};

/// All seats.
pub(super) struct Seats {
    room: usize,
    taken: RefCell<Slab<Rc<State>>>,
    /// Turns so far: what a connection was idle since is one of them.
    turn: Cell<u64>,
    /// A seat is free, or a connection is idle now.
    changed: Notify,
}

/// A connection's seat, until it is dropped.
pub(super) struct Seat {
    seats: Rc<Seats>,
    key: usize,
    state: Rc<State>,
}

#[derive(Default)]
struct State {
    /// Requests that are being worked on, and answers that are not handed on yet.
    busy: Cell<u32>,
    idle_since: Cell<u64>,
    evicted: Cell<bool>,
    leave: Notify,
    /// What was read since the connection was last busy.
    noted: RefCell<Vec<u8>>,
}

/// A connection that is busy, until this is dropped.
pub(super) struct Busy(Rc<Seat>);

/// An answer's body, with which its connection is busy.
pub(super) struct Answer {
    body: Body,
    _busy: Busy,
}

impl Seats {
    pub(super) fn new(room: usize) -> Rc<Self> {
        Rc::new(Self { room, taken: RefCell::default(), turn: Cell::new(0), changed: Notify::new() })
    }

    /// A seat, once there is one. Waits where all others are busy.
    pub(super) async fn take(self: &Rc<Self>) -> Rc<Seat> {
        while self.taken.borrow().len() >= self.room {
            self.evict();
            self.changed.notified().await;
        }
        let state = Rc::<State>::default();
        state.idle_since.set(self.next_turn());
        let key = self.taken.borrow_mut().insert(Rc::clone(&state));
        Rc::new(Seat { seats: Rc::clone(self), key, state })
    }

    /// Asks the connection to leave that has been idle for longest. One at a time: it may not have left yet.
    pub(super) fn evict(&self) {
        let taken = self.taken.borrow();
        let idle = taken.iter().map(|(_, state)| state).filter(|state| state.busy.get() == 0);
        if let Some(longest) = idle.min_by_key(|state| (!state.evicted.get(), state.idle_since.get())) {
            longest.evicted.set(true);
            longest.leave.notify_one();
        }
    }

    fn next_turn(&self) -> u64 {
        self.turn.set(self.turn.get() + 1);
        self.turn.get()
    }
}

impl Seat {
    /// Resolves when another connection needs the seat, and this one is still idle.
    pub(super) async fn lost(&self) {
        self.state.leave.notified().await;
        while self.state.busy.get() > 0 {
            self.state.evicted.set(false);
            self.seats.changed.notify_one();
            self.state.leave.notified().await;
        }
    }

    /// Notes what was read, where it may be of a head: of that the parser buffers no more than so much.
    pub(super) fn note(&self, read: &[u8]) {
        if self.state.busy.get() == 0 {
            let mut noted = self.state.noted.borrow_mut();
            let room = (2 * HEAD_BYTES).saturating_sub(noted.len());
            noted.extend_from_slice(&read[..read.len().min(room)]);
        }
    }

    /// Lets go of what was noted. It begins with the head of the request that came just now, unless that was sent before
    /// the answer to the one before.
    pub(super) fn noted(&self) -> Vec<u8> {
        self.state.noted.take()
    }

    /// Begins to work on a request.
    pub(super) fn busy(self: &Rc<Self>) -> Busy {
        self.state.busy.set(self.state.busy.get() + 1);
        Busy(Rc::clone(self))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken.borrow_mut().try_remove(self.key);
        self.seats.changed.notify_one();
    }
}

impl Busy {
    /// An answer that keeps the connection busy until it is handed on.
    pub(super) fn with(self, body: Body) -> Answer {
        Answer { body, _busy: self }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Seat { seats, state, .. } = &*self.0;
        state.idle_since.set(seats.next_turn());
        state.busy.set(state.busy.get() - 1);
        seats.changed.notify_one();
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
