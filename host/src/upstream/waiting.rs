//! Requests that wait for a connection where a cluster may have no more of them. What a request's end leaves goes to the
//! next of the same worker and endpoint; else it is closed, to make room. Never touches another worker's connections.

use std::{cell::RefCell, collections::VecDeque, sync::Arc, time::Duration};

use rustc_hash::FxHashMap;
use tokio::sync::oneshot;
use witgate_core::endpoint::Endpoint;

use super::{
    ConnectError, Connection, Pool, Upstreams,
    circuit::{Circuit, Full, Place},
    identity,
};

/// What a request may go on with.
pub enum Granted {
    /// Another request has done with it.
    Connection(Box<Connection>),
    /// It may make one.
    Place(Place),
}

type Sender = oneshot::Sender<Box<Connection>>;

/// A worker's requests that wait, by the endpoint's identity, the longest first. As many as `max_pending` at the most.
#[derive(Default)]
pub(super) struct Waiting(RefCell<FxHashMap<usize, VecDeque<Sender>>>);

/// A request's place in that queue. Given up when this is dropped.
struct Queued<'w> {
    waiting: &'w Waiting,
    identity: usize,
    handed: oneshot::Receiver<Box<Connection>>,
}

impl Waiting {
    fn queue(&self, endpoint: &Arc<Endpoint>) -> Queued<'_> {
        let (sender, handed) = oneshot::channel();
        let identity = identity(endpoint);
        self.0.borrow_mut().entry(identity).or_default().push_back(sender);
        Queued { waiting: self, identity, handed }
    }

    /// Hands a connection to the first in the queue for its endpoint. Gives it back where nobody is.
    fn hand(&self, connection: Box<Connection>) -> Option<Box<Connection>> {
        let mut waiting = self.0.borrow_mut();
        match waiting.get_mut(&identity(connection.endpoint())).and_then(VecDeque::pop_front) {
            Some(next) => next.send(connection).err(),
            None => Some(connection),
        }
    }
}

impl Pool {
    /// Closes the connection that is idle for longest, where it holds a place that `of` is about.
    fn close_one(&mut self, of: impl Fn(&Place) -> bool) -> bool {
        if self.idle.first().is_some_and(|c| c.place().is_some_and(&of)) {
            self.idle.remove(0);
            return true;
        }
        let idle = self.sessions.open.iter().position(|session| session.idles(&of));
        idle.map(|at| self.sessions.open.remove(at)).is_some()
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.handed.close();
        let mut waiting = self.waiting.0.borrow_mut();
        if let Some(queue) = waiting.get_mut(&self.identity) {
            queue.retain(|sender| !sender.is_closed());
            if queue.is_empty() {
                waiting.remove(&self.identity);
            }
        }
    }
}

impl Upstreams {
    /// Waits for a connection to `endpoint`, or for the right to make one, no longer than `timeout`. `ask` is called where
    /// a connection that is idle in another worker could make room.
    ///
    /// # Errors
    /// As many requests wait as may, or the time is over.
    pub async fn grant(
        &self,
        circuit: &Arc<Circuit>,
        endpoint: &Arc<Endpoint>,
        timeout: Duration,
        ask: impl FnOnce(),
    ) -> Result<Granted, ConnectError> {
        if let Some(place) = self.place_at_once(circuit) {
            return Ok(Granted::Place(place));
        }
        let (_counted, idle) = circuit.wait()?;
        let mut queued = self.waiting.queue(endpoint);
        if idle {
            ask();
        }
        let turn = async {
            tokio::select! {
                biased;
                handed = &mut queued.handed => handed.map(Granted::Connection).map_err(|_| Full),
                place = circuit.next_place() => place.map(Granted::Place),
            }
        };
        Ok(tokio::time::timeout(timeout, turn).await.map_err(|_| Full)??)
    }

    /// The right to make a connection, where one is free or an idle connection can make room.
    pub(super) fn place_at_once(&self, circuit: &Arc<Circuit>) -> Option<Place> {
        circuit.try_place().or_else(|| self.close_idle(circuit).then(|| circuit.try_place()).flatten())
    }

    /// Closes an idle connection of this circuit, if there is one.
    fn close_idle(&self, circuit: &Arc<Circuit>) -> bool {
        let of_circuit = |place: &Place| Arc::ptr_eq(place.circuit(), circuit);
        self.pools.borrow_mut().values_mut().any(|pool| pool.close_one(of_circuit))
    }

    /// Closes idle connections, the oldest of an endpoint first, while somebody waits for their places in any worker.
    pub fn make_room(&self) {
        for pool in self.pools.borrow_mut().values_mut() {
            while pool.close_one(|place| place.circuit().is_short()) {}
        }
    }

    /// A connection with a place that a request has done with: it comes back where nobody waits and it may be kept.
    pub(super) fn hand_on(&self, mut connection: Box<Connection>) -> Option<Box<Connection>> {
        let Some(place) = connection.place_mut() else { return Some(connection) };
        if place.rest() {
            return Some(connection);
        }
        if place.goes_on() {
            // Where nobody waits for it here, it is closed: somebody waits elsewhere.
            self.waiting.hand(connection);
        }
        None
    }
}
