//! How much may be going on at once, and how often. Counts and permits; never waits.

mod rate;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::{
    config::{Retry, RetryBudget},
    hash::fraction,
};

pub use rate::RateLimiter;

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

/// One more retry where the budget has room, and never more than `most` at once. `in_flight` is asked for only where more
/// than the budget's minimum are under way.
pub fn begin_retry(
    retries: &Arc<Count>,
    budget: RetryBudget,
    most: Option<u32>,
    in_flight: impl FnOnce() -> u64,
) -> Option<Counted> {
    let mut allowed = budget.min;
    if retries.now() >= allowed {
        let share = in_flight() * u64::from(budget.percent) / 100;
        allowed = allowed.max(u32::try_from(share).unwrap_or(u32::MAX));
    }
    retries.begin(most.map_or(allowed, |most| allowed.min(most)))
}

/// How long to wait before the `nth` retry, from 0: any time up to `backoff` × 2^n, ten times `backoff` at the most ("full
/// jitter", Brooker 2015: tries that failed together do not come back together). `random` is any 64 bits.
pub fn back_off(retry: &Retry, nth: u32, random: u64) -> Duration {
    let longest = retry.backoff.saturating_mul((1 << nth.min(4)).min(10));
    longest.mul_f64(fraction(random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_has_room_for_a_part_of_what_is_in_flight_and_for_its_minimum() {
        let retries = Arc::new(Count::default());
        let budget = RetryBudget { percent: 20, min: 3 };
        let begin = |in_flight| begin_retry(&retries, budget, None, || in_flight);
        let mut held: Vec<_> = (0..3).map(|_| begin(0).expect("the minimum")).collect();
        assert!(begin(19).is_none(), "a fifth of 19 is 3");
        held.push(begin(20).expect("a fifth of 20 is 4"));
        assert!(begin(20).is_none());
        assert_eq!(retries.now(), 4);
        assert!(
            begin_retry(&retries, budget, Some(4), || 1_000).is_none(),
            "four is the most, whatever the budget says"
        );
        held.pop();
        held.push(begin(20).expect("one has ended"));
        held.clear();
        assert_eq!(retries.now(), 0);
        let none = RetryBudget { percent: 0, min: 0 };
        assert!(begin_retry(&retries, none, Some(9), || 1_000_000).is_none());
    }

    #[test]
    fn waits_grow_and_differ() {
        let retry = Retry { backoff: Duration::from_millis(100), ..Retry::default() };
        let wait = |nth, random| back_off(&retry, nth, random).as_secs_f64();
        assert_eq!(wait(5, 0), 0.0);
        for (nth, longest) in [(0, 0.1), (1, 0.2), (2, 0.4), (3, 0.8), (4, 1.0), (9, 1.0)] {
            assert!((wait(nth, u64::MAX) - longest).abs() < 1e-6, "{nth}");
            assert!((wait(nth, 1 << 63) - longest / 2.0).abs() < 1e-6, "{nth}");
        }
    }
}
