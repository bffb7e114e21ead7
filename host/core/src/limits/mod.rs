//! How much may be going on at once, and how often. Counts and permits; never waits.

mod rate;
mod retry;

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};

pub use rate::RateLimiter;
pub use retry::{Retries, Traffic, back_off};

/// How many of a thing are going on in a cluster, over all workers: on cache lines of its own, as all of them write it, and
/// in one order for all, so that who counts and then looks elsewhere is seen by who does the reverse.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Count(AtomicU32);

/// One of them, counted until this is dropped.
#[derive(Debug)]
#[must_use = "it counts only while this lives"]
pub struct Counted(Arc<Count>);

impl Count {
    /// One more, where there are fewer than `most`.
    pub fn begin(self: &Arc<Self>, most: u32) -> Option<Counted> {
        let room = |now: u32| (now < most).then_some(now + 1);
        self.0.fetch_update(SeqCst, SeqCst, room).is_ok().then(|| Counted(Arc::clone(self)))
    }

    /// How many there are.
    pub fn now(&self) -> u32 {
        self.0.load(SeqCst)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, SeqCst);
    }
}
