//! The way down: one token that everybody watches, and the count of what is still in flight.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;

/// How far a shutdown has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Serve,
    /// No new connections; what is in flight finishes.
    Drain,
    /// Whatever is left is cut.
    Stop,
}

/// The token. Clones share it.
#[derive(Debug, Clone)]
pub struct Drain(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    phase: watch::Sender<Phase>,
    /// Whether it is no longer [`Phase::Serve`]: every request asks, and the channel takes a lock to tell.
    begun: AtomicBool,
}

impl Default for Drain {
    fn default() -> Self {
        Self(Arc::new(Shared { phase: watch::channel(Phase::Serve).0, begun: AtomicBool::new(false) }))
    }
}

impl Drain {
    /// Where the shutdown stands.
    pub fn phase(&self) -> Phase {
        if self.0.begun.load(Ordering::Acquire) { *self.0.phase.borrow() } else { Phase::Serve }
    }

    /// Moves on to a later phase; an earlier one changes nothing.
    pub fn advance(&self, phase: Phase) {
        self.0.phase.send_if_modified(|now| {
            let later = phase > *now;
            if later {
                *now = phase;
                self.0.begun.store(true, Ordering::Release);
            }
            later
        });
    }

    /// Resolves once `phase` was reached.
    pub async fn reached(&self, phase: Phase) {
        let mut watcher = self.0.phase.subscribe();
        // The sender lives in `self`, so that the channel cannot close while this waits.
        let _ = watcher.wait_for(|now| *now >= phase).await;
    }

    /// A watcher of its own, for a task that waits in a `select!`.
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.0.phase.subscribe()
    }
}
