//! How often, and when, what failed is tried again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{Count, Counted};
use crate::{
    config::{Retry, RetryBudget},
    hash::fraction,
};

/// For how long it counts what was in flight. An endpoint that hangs has many requests in flight; when they run into their
/// time, one after the other, they are no more, and the last of them would find no room in a part of what is left.
const REMEMBERED: Duration = Duration::from_secs(1);

/// The retries that are under way in a cluster.
#[derive(Debug)]
pub struct Retries {
    under_way: Arc<Count>,
    since: Instant,
    /// The most requests that a retry found in flight of late (the lower half), and when, in milliseconds from `since`. Zero at first.
    busiest: AtomicU64,
}

impl Retries {
    /// None so far.
    pub fn new(now: Instant) -> Self {
        Self { under_way: Arc::default(), since: now, busiest: AtomicU64::new(0) }
    }

    /// How many there are.
    pub fn now(&self) -> u32 {
        self.under_way.now()
    }

    /// One more where the budget has room, and never more than `most` at once. `in_flight` is asked for only where more than
    /// the budget's minimum are under way; what a retry found within a second before counts where that is more.
    pub fn begin(
        &self,
        budget: RetryBudget,
        most: Option<u32>,
        now: Instant,
        in_flight: impl FnOnce() -> u64,
    ) -> Option<Counted> {
        let mut allowed = budget.min;
        if self.now() >= allowed {
            let share = u64::from(self.busiest(now, in_flight())) * u64::from(budget.percent) / 100;
            allowed = allowed.max(u32::try_from(share).unwrap_or(u32::MAX));
        }
        self.under_way.begin(most.map_or(allowed, |most| allowed.min(most)))
    }

    /// The most that was in flight of late, where that is `in_flight` now. Who is between reading and writing while another
    /// is may forget what that one saw: it is seen again with the next retry.
    fn busiest(&self, now: Instant, in_flight: u64) -> u32 {
        let in_flight = u32::try_from(in_flight).unwrap_or(u32::MAX);
        let millis = now.saturating_duration_since(self.since).as_millis() as u32;
        let known = self.busiest.load(Relaxed);
        let (then, most) = ((known >> 32) as u32, known as u32);
        // They wrap after seven weeks, and so does their difference. Another worker's reading may be a little ahead.
        let window = REMEMBERED.as_millis() as u32;
        if most > in_flight && millis.wrapping_sub(then).wrapping_add(window) <= 2 * window {
            return most;
        }
        self.busiest.store(u64::from(millis) << 32 | u64::from(in_flight), Relaxed);
        in_flight
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
        let (retries, now) = (Retries::new(Instant::now()), Instant::now());
        let budget = RetryBudget { percent: 20, min: 3 };
        let begin = |in_flight| retries.begin(budget, None, now, || in_flight);
        let mut held: Vec<_> = (0..3).map(|_| begin(0).expect("the minimum")).collect();
        assert!(begin(19).is_none(), "a fifth of 19 is 3");
        held.push(begin(20).expect("a fifth of 20 is 4"));
        assert!(begin(20).is_none());
        assert_eq!(retries.now(), 4);
        assert!(retries.begin(budget, Some(4), now, || 1_000).is_none(), "four is the most, whatever the budget says");
        held.pop();
        held.push(begin(20).expect("one has ended"));
        held.clear();
        assert_eq!(retries.now(), 0);
        let none = RetryBudget { percent: 0, min: 0 };
        assert!(retries.begin(none, Some(9), now, || 1_000_000).is_none());
    }

    #[test]
    fn what_was_in_flight_counts_for_a_while() {
        let start = Instant::now();
        let retries = Retries::new(start);
        let budget = RetryBudget { percent: 20, min: 1 };
        let begin =
            |millis, in_flight| retries.begin(budget, None, start + Duration::from_millis(millis), || in_flight);
        let mut held = vec![begin(0, 0).expect("the minimum")];
        held.push(begin(5_000, 15).expect("a fifth of 15 is 3"));
        held.push(begin(5_500, 5).expect("there were 15 half a second ago"));
        assert!(begin(5_900, 19).is_none(), "a fifth of 19 is 3");
        held.pop();
        held.push(begin(6_899, 0).expect("there were 19 a second ago"));
        held.pop();
        assert!(begin(6_901, 9).is_none(), "that is too long ago");
        drop(held);
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
