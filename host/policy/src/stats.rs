//! What a plugin did and what it cost, counted without a line of cache that two workers write. It must never lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::{Failure, Question};

/// Shards of the counters. Workers beyond that share, which costs time and loses nothing.
const SHARDS: usize = 16;
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
    /// Made when a worker first asks, so that an idle plugin takes no room.
    shards: [OnceLock<Box<Shard>>; SHARDS],
}

/// Two lines of cache, as neighbouring lines are fetched in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
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
        for shard in self.shards.iter().filter_map(OnceLock::get) {
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
        self.shards.iter().filter_map(OnceLock::get).map(|s| s.memory.load(Relaxed)).max().unwrap_or(0)
    }

    /// A call was made and took this long.
    pub(crate) fn called(&self, shard: usize, question: Question, took: Duration, memory: usize) {
        let shard = self.shard(shard);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let counters = &shard.questions[question as usize];
        counters.latency[bucket(nanos)].fetch_add(1, Relaxed);
        counters.nanos.fetch_add(nanos, Relaxed);
        let memory = u64::try_from(memory).unwrap_or(u64::MAX);
        if shard.memory.load(Relaxed) < memory {
            shard.memory.store(memory, Relaxed);
        }
    }

    /// A question got no answer.
    pub(crate) fn failed(&self, shard: usize, question: Question, failure: &Failure) {
        self.shard(shard).questions[question as usize].failures[failure.kind()].fetch_add(1, Relaxed);
    }

    fn shard(&self, index: usize) -> &Shard {
        self.shards[index % SHARDS].get_or_init(Box::default)
    }
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
        for i in 1..=100 {
            stats.called(i, Question::Router, Duration::from_micros(i as u64), 65536);
        }
        stats.failed(3, Question::Router, &Failure::Overrun);
        let router = stats.question(Question::Router);
        assert_eq!((router.calls, router.all_fallbacks(), stats.memory()), (100, 1, 65536));
        let p50 = router.quantile(0.5).as_nanos();
        assert!((50_000..57_000).contains(&p50), "{p50}");
        assert_eq!(router.within(Duration::from_secs(1)), 100);
        assert_eq!(stats.question(Question::Pick).quantile(0.99), Duration::ZERO);
    }
}
