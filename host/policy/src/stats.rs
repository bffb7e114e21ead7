//! What a plugin did and what it cost: each worker counts in cells of its own, which are added up when somebody asks.
//! Counting must never lock, nor lock a line of cache.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use Ordering::Relaxed;

use crate::{Failure, Question};

/// Buckets to each doubling: an error of at most 12.5 % of a value.
const STEPS: usize = 8;
/// Doublings, from 1 ns: up to 2^34 ns = 17 s.
const DOUBLINGS: usize = 34;
const BUCKETS: usize = STEPS * DOUBLINGS;
const QUESTIONS: usize = Question::ALL.len();
const KINDS: usize = Failure::KINDS.len();

/// Counters of one plugin version.
#[derive(Debug, Default)]
pub struct Stats {
    shards: Mutex<Vec<Arc<Shard>>>,
}

/// What one worker counts: it alone writes here. Two lines of cache, as neighbouring lines are fetched in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Shard {
    questions: [Counters; QUESTIONS],
    memory: AtomicU64,
}

#[derive(Debug)]
struct Counters {
    failures: [AtomicU64; KINDS],
    nanos: AtomicU64,
    latency: [AtomicU64; BUCKETS],
}

impl Default for Shard {
    fn default() -> Self {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        let counters = |_| Counters {
            failures: std::array::from_fn(|_| AtomicU64::new(0)),
            nanos: AtomicU64::new(0),
            latency: zeros(),
        };
        Self { questions: std::array::from_fn(counters), memory: AtomicU64::new(0) }
    }
}

/// Fallbacks by the reason, in the order of [`Failure::KINDS`].
pub type Fallbacks = [u64; KINDS];

/// One question's counters, summed over the workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionStats {
    /// Calls that were made, whether they succeeded or not. Those that were quarantined or found no instance were not.
    pub calls: u64,
    /// Questions without an answer, by the reason.
    pub fallbacks: Fallbacks,
    /// Time of all calls together.
    pub total: Duration,
    latency: Box<[u64]>,
}

impl QuestionStats {
    /// The time within which this share of the calls ended, at most 12.5 % too high; zero where there were none.
    pub fn quantile(&self, share: f64) -> Duration {
        let count: u64 = self.latency.iter().sum();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank"
        )]
        let rank = ((count as f64 * share).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        let bucket = self.latency.iter().position(|&n| {
            seen += n;
            seen >= rank
        });
        bucket.map_or(Duration::ZERO, |b| Duration::from_nanos(upper_bound(b)))
    }

    /// How many calls ended within `time`, to the bucket's precision: for cumulative histograms.
    pub fn within(&self, time: Duration) -> u64 {
        let limit = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.latency.iter().enumerate().take_while(|&(b, _)| upper_bound(b) <= limit).map(|(_, n)| n).sum()
    }

    /// All fallbacks.
    pub fn all_fallbacks(&self) -> u64 {
        self.fallbacks.iter().sum()
    }
}

impl Stats {
    /// One question's counters.
    pub fn question(&self, question: Question) -> QuestionStats {
        let mut sum = QuestionStats {
            calls: 0,
            fallbacks: [0; KINDS],
            total: Duration::ZERO,
            latency: vec![0; BUCKETS].into_boxed_slice(),
        };
        for shard in self.all() {
            let counters = &shard.questions[question as usize];
            sum.total += Duration::from_nanos(counters.nanos.load(Relaxed));
            let each = |to: &mut [u64], from: &[AtomicU64]| {
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from.load(Relaxed));
            };
            each(&mut sum.fallbacks, &counters.failures);
            each(&mut sum.latency, &counters.latency);
        }
        sum.calls = sum.latency.iter().sum();
        sum
    }

    /// Linear memory of the largest instance that is or was in use, in bytes.
    pub fn memory(&self) -> u64 {
        self.all().iter().map(|shard| shard.memory.load(Relaxed)).max().unwrap_or(0)
    }

    /// Counters for one more worker, which writes them while it keeps them: those of one that is gone, or new ones.
    pub(crate) fn shard(&self) -> Arc<Shard> {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let free = shards.iter().find(|shard| Arc::strong_count(shard) == 1).map(Arc::clone);
        free.inspect(|_| fence(Ordering::Acquire)) // After the last writes of whoever let go of it.
            .unwrap_or_else(|| {
                let new = Arc::new(Shard::default());
                shards.push(Arc::clone(&new));
                new
            })
    }

    fn all(&self) -> Vec<Arc<Shard>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shard {
    /// A call was made and took this long.
    pub(crate) fn called(&self, question: Question, took: Duration, memory: usize) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let counters = &self.questions[question as usize];
        add(&counters.latency[bucket(nanos)], 1);
        add(&counters.nanos, nanos);
        let memory = u64::try_from(memory).unwrap_or(u64::MAX);
        if self.memory.load(Relaxed) < memory {
            self.memory.store(memory, Relaxed);
        }
    }

    /// A question got no answer.
    pub(crate) fn failed(&self, question: Question, failure: &Failure) {
        add(&self.questions[question as usize].failures[failure.kind()], 1);
    }
}

/// Adds to a cell that only one thread writes: a plain load and store.
fn add(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
}

/// Log-linear, as HdrHistogram: exact to [`STEPS`], then [`STEPS`] buckets to each doubling.
fn bucket(nanos: u64) -> usize {
    let value = nanos.max(1);
    let power = value.ilog2() as usize;
    let base = STEPS.ilog2() as usize;
    if power < base {
        return nanos as usize;
    }
    let step = (value >> (power - base)) as usize - STEPS;
    ((power - base + 1) * STEPS + step).min(BUCKETS - 1)
}

/// The largest value that falls into the bucket, and one more.
fn upper_bound(bucket: usize) -> u64 {
    let (doubling, step) = (bucket / STEPS, bucket % STEPS);
    if doubling == 0 { step as u64 + 1 } else { ((STEPS + step + 1) as u64) << (doubling - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_hold_what_they_say() {
        for nanos in (0..5000).chain([1 << 20, (1 << 30) + 12345]) {
            let b = bucket(nanos);
            assert!(nanos < upper_bound(b), "{nanos} in {b}");
            assert!(b == 0 || nanos >= upper_bound(b - 1), "{nanos} in {b}");
            assert!(upper_bound(b) as f64 <= (nanos.max(1) as f64) * 1.125 + 1.0, "{nanos} in {b}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_and_sums_are_over_all_shards() {
        let stats = Stats::default();
        let shards: [_; 3] = std::array::from_fn(|_| stats.shard());
        for i in 1..=100 {
            shards[i % 3].called(Question::Router, Duration::from_micros(i as u64), 65536);
        }
        shards[0].failed(Question::Router, &Failure::Overrun);
        let router = stats.question(Question::Router);
        assert_eq!((router.calls, router.all_fallbacks(), stats.memory()), (100, 1, 65536));
        let p50 = router.quantile(0.5).as_nanos();
        assert!((50_000..57_000).contains(&p50), "{p50}");
        assert_eq!(router.within(Duration::from_secs(1)), 100);
        assert_eq!(stats.question(Question::Pick).quantile(0.99), Duration::ZERO);
    }

    #[test]
    fn who_comes_after_one_that_is_gone_counts_on() {
        let stats = Stats::default();
        let (first, second) = (stats.shard(), stats.shard());
        first.called(Question::Router, Duration::ZERO, 0);
        assert!(!Arc::ptr_eq(&first, &second));
        drop(first);
        let third = stats.shard();
        assert!(!Arc::ptr_eq(&second, &third));
        third.called(Question::Router, Duration::ZERO, 0);
        assert_eq!((stats.question(Question::Router).calls, stats.all().len()), (2, 2));
    }
}
