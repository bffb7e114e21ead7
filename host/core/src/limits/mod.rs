//! How much may be going on at once, and how often. Counts and permits; never waits.

mod rate;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{
    config::{Retry, RetryBudget},
    hash::fraction,
};

pub use rate::RateLimiter;

/// The retries of a cluster that are under way, over all workers. Carried across generations.
#[derive(Debug, Default)]
pub struct Retries(AtomicU32);

/// A retry under way, counted until this is dropped.
#[derive(Debug)]
#[must_use = "the retry counts only while this lives"]
pub struct Retrying(Arc<Retries>);

impl Retries {
    /// Begins one where the budget has room. `in_flight` is asked for only where more than the minimum are under way.
    pub fn begin(self: &Arc<Self>, budget: RetryBudget, in_flight: impl FnOnce() -> u64) -> Option<Retrying> {
        let mut most = u64::from(budget.min);
        if u64::from(self.0.load(Relaxed)) >= most {
            most = most.max(in_flight() * u64::from(budget.percent) / 100);
        }
        let room = |under_way: u32| (u64::from(under_way) < most).then_some(under_way + 1);
        self.0.fetch_update(Relaxed, Relaxed, room).is_ok().then(|| Retrying(Arc::clone(self)))
    }

    /// How many are under way.
    pub fn under_way(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

impl Drop for Retrying {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
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
        let retries = Arc::new(Retries::default());
        let budget = RetryBudget { percent: 20, min: 3 };
        let begin = |in_flight| retries.begin(budget, || in_flight);
        let mut held: Vec<_> = (0..3).map(|_| begin(0).expect("the minimum")).collect();
        assert!(begin(19).is_none(), "a fifth of 19 is 3");
        held.push(begin(20).expect("a fifth of 20 is 4"));
        assert!(begin(20).is_none());
        assert_eq!(retries.under_way(), 4);
        held.pop();
        held.push(begin(20).expect("one has ended"));
        held.clear();
        assert_eq!(retries.under_way(), 0);
        let none = RetryBudget { percent: 0, min: 0 };
        assert!(retries.begin(none, || 1_000_000).is_none());
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
