//! How often, and when, what failed is tried again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{Count, Counted};
use crate::{
    config::{Retry, RetryBudget},
    hash::fraction,
};

/// Retries that a cluster may save up: enough for the moment between the first failures of an endpoint and its ejection, and
/// little beside an outage.
const SAVED: u64 = 100;

/// The retries of a cluster: how many are under way, and how many it has earned.
///
/// Part of what is in flight is not enough of a budget. Where answers are fast there is little in flight, a fifth of which is
/// none; and where an endpoint hangs, what waits for it runs into its time one after the other, so that the last of it finds
/// no room in a part of what is left.
#[derive(Debug, Default)]
pub struct Retries {
    under_way: Arc<Count>,
    /// All there were.
    made: AtomicU64,
    /// Hundredths of a retry that are saved up.
    saved: AtomicU64,
    /// Requests, retries not counted, that have earned their part of one.
    seen: AtomicU64,
}

/// What a retry's budget is a part of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    /// Requests in flight in the cluster.
    pub in_flight: u64,
    /// Tries that ended there since it is there.
    pub tries: u64,
}

impl Retries {
    /// How many there are under way.
    pub fn now(&self) -> u32 {
        self.under_way.now()
    }

    /// One more where the budget has room, and never more than `most` at once. `traffic` is asked for only where the budget's
    /// minimum is under way: then there must be room in its part of what is in flight, or a retry that was saved up.
    pub fn begin(&self, budget: RetryBudget, most: Option<u32>, traffic: impl FnOnce() -> Traffic) -> Option<Counted> {
        let most = most.unwrap_or(u32::MAX);
        let counted = self.under_way.begin(budget.min.min(most)).or_else(|| {
            let Traffic { in_flight, tries } = traffic();
            self.earn(budget, tries);
            let share = u32::try_from(in_flight * u64::from(budget.percent) / 100).unwrap_or(u32::MAX);
            let is_earned = budget.percent > 0 && self.saved.load(Relaxed) >= 100;
            let allowed = if is_earned { u32::MAX } else { share };
            self.under_way.begin(allowed.min(most))
        })?;
        self.made.fetch_add(1, Relaxed);
        // Those that had room anyhow take from it as well: it is for those beyond.
        let _ = self.saved.fetch_update(Relaxed, Relaxed, |saved| Some(saved.saturating_sub(100)));
        Some(counted)
    }

    /// Counts a retry that needs no budget.
    pub fn note_free(&self) {
        self.made.fetch_add(1, Relaxed);
    }

    /// Saves up what the requests since the last time have earned. Two at once save no request up twice.
    fn earn(&self, budget: RetryBudget, tries: u64) {
        let requests = tries.saturating_sub(self.made.load(Relaxed));
        let new = requests.saturating_sub(self.seen.swap(requests, Relaxed));
        let earned = new.saturating_mul(u64::from(budget.percent)).min(SAVED * 100);
        let _ = self.saved.fetch_update(Relaxed, Relaxed, |saved| Some((saved + earned).min(SAVED * 100)));
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

    const BUDGET: RetryBudget = RetryBudget { percent: 20, min: 3 };

    #[test]
    fn a_budget_has_room_for_a_part_of_what_is_in_flight_and_for_its_minimum() {
        let retries = Retries::default();
        let begin = |in_flight| retries.begin(BUDGET, None, || Traffic { in_flight, tries: 0 });
        let mut held: Vec<_> = (0..3).map(|_| begin(0).expect("the minimum")).collect();
        assert!(begin(19).is_none(), "a fifth of 19 is 3");
        held.push(begin(20).expect("a fifth of 20 is 4"));
        assert!(begin(20).is_none());
        assert_eq!(retries.now(), 4);
        let many = || Traffic { in_flight: 1_000, tries: 1_000_000 };
        assert!(retries.begin(BUDGET, Some(4), many).is_none(), "four is the most, whatever the budget says");
        held.clear();
        assert_eq!(retries.now(), 0);
        let none = RetryBudget { percent: 0, min: 0 };
        assert!(retries.begin(none, Some(9), many).is_none());
    }

    #[test]
    fn what_requests_have_earned_is_for_those_beyond() {
        let retries = Retries::default();
        let begin = |tries| retries.begin(BUDGET, None, || Traffic { in_flight: 0, tries });
        let mut held: Vec<_> = (0..3).map(|_| begin(0).expect("the minimum")).collect();
        assert!(begin(4).is_none(), "three of these were tried again, and one request earns a fifth");
        held.push(begin(8).expect("five requests earn one"));
        assert!(begin(8).is_none());
        // As many tries as there may ever be earn no more than can be saved up.
        held.extend(std::iter::from_fn(|| begin(1_000_000)));
        assert_eq!(retries.now(), 4 + SAVED as u32);
        // A cluster that lost endpoints knows of fewer; what comes from then on counts.
        assert!(begin(500).is_none());
        assert!(begin(504).is_none());
        held.push(begin(505).expect("five more"));
    }

    #[test]
    fn an_outage_is_not_multiplied() {
        let (retries, mut tries, mut made) = (Retries::default(), 0, 0);
        // Three hang.
        let _hanging: Vec<_> = (0..3).map(|_| retries.begin(BUDGET, None, Traffic::default)).collect();
        for _ in 0..100_000 {
            tries += 1;
            // It fails, and so does each of up to ten retries, at once; and another that needs no budget.
            for _ in 0..10 {
                if retries.begin(BUDGET, None, || Traffic { in_flight: 4, tries }).is_none() {
                    break;
                }
                tries += 1;
                made += 1;
            }
            retries.note_free();
            tries += 1;
        }
        assert!((19_990..=20_000).contains(&made), "{made}");
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
