//! What may be going on in a cluster at once, over all workers: Envoy's circuit breakers. Counts, and has requests wait for
//! a connection in turn; never says which request, and is not there for a cluster that has no limits.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use witgate_core::{
    config,
    limits::{Count, Counted},
};

/// Times in a row that a connection goes from one request to the next of its worker and endpoint while others wait as well.
/// Then it is closed, and its place goes to whoever has waited longest: a sixteenth of the requests that pay for a new
/// connection is little, and no worker keeps the others waiting.
const IN_A_ROW: u8 = 16;

/// A limit is reached: nothing was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The circuit of one cluster. Carried across generations while its limits stay.
#[derive(Debug)]
pub struct Circuit {
    limits: config::Circuit,
    requests: Arc<Count>,
    pending: Arc<Count>,
    /// Places for connections that are free. Whoever waits for one gets it in turn.
    free: Arc<Semaphore>,
    /// Connections that are kept without a use, in any worker.
    idle: AtomicU32,
}

/// One connection's place among those that the cluster may have. Free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    circuit: Arc<Circuit>,
    _permit: OwnedSemaphorePermit,
    idle: bool,
    in_a_row: u8,
}

impl Circuit {
    /// For a cluster with these limits; none where nothing is limited that this counts.
    pub fn new(limits: config::Circuit) -> Option<Arc<Self>> {
        limits.max_connections.or(limits.max_requests)?;
        let places = limits.max_connections.map_or(Semaphore::MAX_PERMITS, |most| most as usize);
        Some(Arc::new(Self {
            limits,
            requests: Arc::default(),
            pending: Arc::default(),
            free: Arc::new(Semaphore::new(places)),
            idle: AtomicU32::new(0),
        }))
    }

    /// Its limits.
    pub fn limits(&self) -> config::Circuit {
        self.limits
    }

    /// Counts a request in flight.
    ///
    /// # Errors
    /// There are as many as may be.
    pub fn admit(&self) -> Result<Option<Counted>, Full> {
        self.limits.max_requests.map(|most| self.requests.begin(most).ok_or(Full)).transpose()
    }

    /// Requests in flight; 0 where they are not limited.
    pub fn requests(&self) -> u32 {
        self.requests.now()
    }

    /// Requests that wait for a connection.
    pub fn pending(&self) -> u32 {
        self.pending.now()
    }

    /// Connections that are open or being made; none where they are not limited.
    pub fn connections(&self) -> Option<u32> {
        let free = u32::try_from(self.free.available_permits()).unwrap_or(u32::MAX);
        self.limits.max_connections.map(|most| most.saturating_sub(free))
    }

    /// Whether connections are limited.
    pub fn limits_connections(&self) -> bool {
        self.limits.max_connections.is_some()
    }

    /// A place at once: not where one is free for somebody who has waited.
    pub(super) fn try_place(self: &Arc<Self>) -> Option<Place> {
        Arc::clone(&self.free).try_acquire_owned().ok().map(|permit| self.place(permit))
    }

    /// A place when it is one's turn.
    pub(super) async fn next_place(self: &Arc<Self>) -> Result<Place, Full> {
        Arc::clone(&self.free).acquire_owned().await.map(|permit| self.place(permit)).map_err(|_| Full)
    }

    fn place(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Place {
        Place { circuit: Arc::clone(self), _permit: permit, idle: false, in_a_row: 0 }
    }

    /// Counts a request that waits, and tells whether a connection is idle anywhere that could make room for it. Counting
    /// comes first: who keeps a connection idle meanwhile sees that somebody waits.
    pub(super) fn wait(&self) -> Result<(Counted, bool), Full> {
        let waiting = self.pending.begin(self.limits.max_pending).ok_or(Full)?;
        Ok((waiting, self.idle.load(SeqCst) > 0))
    }

    /// Whether somebody waits for whom there is no place.
    pub(super) fn is_short(&self) -> bool {
        self.pending.now() > 0 && self.free.available_permits() == 0
    }
}

impl Place {
    /// Whose place it is.
    pub(super) fn circuit(&self) -> &Arc<Circuit> {
        &self.circuit
    }

    /// The connection is kept without a use; whether it may be: not where somebody waits.
    pub(super) fn rest(&mut self) -> bool {
        self.circuit.idle.fetch_add(1, SeqCst);
        self.idle = true;
        if self.circuit.pending.now() > 0 {
            self.wake();
            return false;
        }
        self.in_a_row = 0;
        true
    }

    /// The connection is of use again.
    pub(super) fn wake(&mut self) {
        if std::mem::take(&mut self.idle) {
            self.circuit.idle.fetch_sub(1, SeqCst);
        }
    }

    /// Whether the connection may go to the next request that waits for this endpoint in this worker.
    pub(super) fn goes_on(&mut self) -> bool {
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.in_a_row <= IN_A_ROW
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn circuit(max_connections: Option<u32>, max_pending: u32, max_requests: Option<u32>) -> Option<Arc<Circuit>> {
        Circuit::new(config::Circuit { max_connections, max_pending, max_requests, max_retries: None })
    }

    #[test]
    fn a_cluster_without_limits_has_none() {
        assert!(circuit(None, 5, None).is_none());
        let requests = circuit(None, 5, Some(2)).unwrap();
        assert_eq!(requests.connections(), None);
        let (first, _second) = (requests.admit().unwrap(), requests.admit().unwrap());
        assert!(requests.admit().is_err());
        assert_eq!(requests.requests(), 2);
        drop(first);
        assert!(requests.admit().is_ok());
    }

    #[test]
    fn places_go_to_who_waits_in_turn() {
        let circuit = circuit(Some(1), 2, None).unwrap();
        assert!(circuit.admit().unwrap().is_none(), "requests are not limited");
        let held = circuit.try_place().unwrap();
        assert_eq!((circuit.connections(), circuit.is_short()), (Some(1), false));
        let waiting = [circuit.wait().unwrap(), circuit.wait().unwrap()];
        assert!(circuit.wait().is_err(), "two may wait");
        assert!(circuit.is_short());
        let mut cx = Context::from_waker(Waker::noop());
        let (mut first, mut second) = (pin!(circuit.next_place()), pin!(circuit.next_place()));
        assert!(first.as_mut().poll(&mut cx).is_pending() && second.as_mut().poll(&mut cx).is_pending());
        drop(held);
        assert!(circuit.try_place().is_none(), "it is for the first in the queue");
        assert!(second.as_mut().poll(&mut cx).is_pending());
        let Poll::Ready(Ok(held)) = first.as_mut().poll(&mut cx) else { panic!("its turn") };
        drop((held, waiting));
        assert!(second.as_mut().poll(&mut cx).is_ready());
        assert_eq!(circuit.pending(), 0);
    }

    #[test]
    fn a_connection_is_not_kept_idle_while_somebody_waits() {
        let circuit = circuit(Some(1), 1, None).unwrap();
        let mut place = circuit.try_place().unwrap();
        assert!(place.rest());
        let (waiting, idle) = circuit.wait().unwrap();
        assert!(idle, "it could make room");
        place.wake();
        assert!(!place.rest());
        assert_eq!((0..20).filter(|_| place.goes_on()).count(), usize::from(IN_A_ROW));
        drop(waiting);
        assert!(place.rest());
        drop(place);
        assert!(!circuit.wait().unwrap().1);
    }
}
