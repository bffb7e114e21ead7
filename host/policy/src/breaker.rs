//! The quarantine circuit as workers share it: closed, it costs one load; open, one load and a comparison. It must
//! never hold its lock across a call.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use witgate_core::config::Quarantine;
use witgate_core::rollout::{Admission, Circuit, CircuitState};

const CLOSED: u64 = 0;

#[derive(Debug)]
pub(crate) struct Breaker {
    start: Instant,
    /// [`CLOSED`], or the nanosecond since `start` until which nobody needs to ask the circuit.
    refuse_until: AtomicU64,
    circuit: Mutex<Circuit>,
}

impl Breaker {
    pub(crate) fn new(limits: Quarantine, now: Instant) -> Self {
        Self { start: now, refuse_until: AtomicU64::new(CLOSED), circuit: Mutex::new(Circuit::new(limits)) }
    }

    /// Whether a call made now would be refused; changes nothing.
    pub(crate) fn refuses(&self, now: Instant) -> bool {
        let until = self.refuse_until.load(Ordering::Relaxed);
        until != CLOSED && self.nanos(now) < until
    }

    /// Asks to make a call now.
    pub(crate) fn admit(&self, now: Instant) -> Admission {
        if self.refuse_until.load(Ordering::Relaxed) == CLOSED {
            return Admission::Call;
        }
        if self.refuses(now) {
            return Admission::Refuse;
        }
        self.lock().admit(now)
    }

    /// A call that was admitted failed. Returns whether the circuit is open after it.
    pub(crate) fn failed(&self, now: Instant) -> bool {
        let mut circuit = self.lock();
        circuit.failed(now);
        self.publish(&circuit)
    }

    /// The trial succeeded.
    pub(crate) fn succeeded(&self, now: Instant) {
        let mut circuit = self.lock();
        circuit.succeeded(now);
        self.publish(&circuit);
    }

    pub(crate) fn state(&self) -> CircuitState {
        self.lock().state()
    }

    fn publish(&self, circuit: &Circuit) -> bool {
        let until = match circuit.state() {
            CircuitState::Closed => CLOSED,
            CircuitState::Open { until } => self.nanos(until),
            CircuitState::Probation => 1, // In the past: the circuit itself must be asked.
        };
        self.refuse_until.store(until, Ordering::Relaxed);
        matches!(circuit.state(), CircuitState::Open { .. })
    }

    fn nanos(&self, at: Instant) -> u64 {
        let since: Duration = at.saturating_duration_since(self.start);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    fn lock(&self) -> MutexGuard<'_, Circuit> {
        // Circuit's methods do not panic, so a poisoned lock still guards a sound value.
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
