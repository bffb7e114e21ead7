//! The way down: one token that everybody watches, and the count of what is still in flight.

use std::sync::{
    Arc, OnceLock,
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
    /// Sockets, by their index, that another process serves in this one's place.
    handed_over: OnceLock<Vec<usize>>,
}

impl Default for Drain {
    fn default() -> Self {
        let phase = watch::channel(Phase::Serve).0;
        Self(Arc::new(Shared { phase, begun: AtomicBool::new(false), handed_over: OnceLock::new() }))
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

    /// Begins the drain of a process whose place another has taken, which serves these sockets now.
    pub fn hand_over(&self, sockets: Vec<usize>) {
        // It is handed over once.
        let _ = self.0.handed_over.set(sockets);
        self.advance(Phase::Drain);
    }

    /// Whether another process has taken the place of this one.
    pub fn is_handed_over(&self) -> bool {
        self.0.handed_over.get().is_some()
    }

    /// Whether another process serves this socket, with all that waits at it.
    pub fn is_served_elsewhere(&self, socket: usize) -> bool {
        self.0.handed_over.get().is_some_and(|sockets| sockets.contains(&socket))
    }

    /// Resolves once another process has taken the place of this one.
    pub async fn handed_over(&self) {
        self.reached(Phase::Drain).await;
        if !self.is_handed_over() {
            std::future::pending().await
        }
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
