//! How long responses' heads took, counted by size. Counts; never judges, and keeps no samples.

use std::{
    array,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

/// Buckets of equal width from each power of two to the next, as in HDR histograms: a quantile is read with an error of at
/// most half a bucket's width, which is a sixteenth of it.
const STEPS: usize = 1 << STEP_BITS;
const STEP_BITS: u32 = 3;
/// Below 2^6 µs everything is alike; 2^26 µs are 67 s.
const FIRST: u32 = 6;
const LAST: u32 = 26;
/// The octaves, and what is below and above them.
const BUCKETS: usize = (LAST - FIRST) as usize * STEPS + 2;

/// Counts since they were made. Several may count at once; a read while they do is a moment's, bucket by bucket.
#[derive(Debug)]
pub(super) struct Histogram([AtomicU32; BUCKETS]);

impl Histogram {
    pub(super) fn new() -> Self {
        Self(array::from_fn(|_| AtomicU32::new(0)))
    }

    pub(super) fn add(&self, latency: Duration) {
        self.0[bucket(latency)].fetch_add(1, Relaxed);
    }

    pub(super) fn counts(&self) -> Latencies {
        Latencies(array::from_fn(|n| self.0[n].load(Relaxed)))
    }
}

/// How many latencies fell into each bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latencies([u32; BUCKETS]);

impl Default for Latencies {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Latencies {
    /// What has come since an earlier reading of the same endpoint. Counts that have wrapped since, after four billion, are
    /// right as well.
    pub fn since(&self, earlier: &Self) -> Self {
        Self(array::from_fn(|n| self.0[n].wrapping_sub(earlier.0[n])))
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.iter().copied().map(u64::from).sum()
    }

    /// The latency that this part of them (0 to 1) does not exceed, with an error of at most a sixteenth of it from 64 µs to
    /// 67 s; none where nothing was counted. The nearest rank: of 100, the 0.99-quantile is the 99th.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let count = self.count();
        let rank = ((count as f64 * part).ceil() as u64).clamp(1, count.max(1));
        let mut below = 0;
        let found = self.0.iter().position(|&here| {
            below += u64::from(here);
            below >= rank
        });
        found.map(middle)
    }

    /// As if these had been counted. For tests.
    #[cfg(test)]
    pub(crate) fn of(latencies: impl IntoIterator<Item = Duration>) -> Self {
        let histogram = Histogram::new();
        latencies.into_iter().for_each(|latency| histogram.add(latency));
        histogram.counts()
    }
}

fn bucket(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    let Some(octave) = micros.checked_ilog2().filter(|octave| *octave >= FIRST) else { return 0 };
    if octave >= LAST {
        return BUCKETS - 1;
    }
    // The bits behind the first one say how far into its octave it is.
    let step = (micros >> (octave - STEP_BITS)) as usize & (STEPS - 1);
    1 + (octave - FIRST) as usize * STEPS + step
}

/// The middle of a bucket; the bound of the first and the last.
fn middle(bucket: usize) -> Duration {
    let Some(position) = bucket.checked_sub(1) else { return Duration::from_micros(1 << FIRST) };
    if bucket == BUCKETS - 1 {
        return Duration::from_micros(1 << LAST);
    }
    let (octave, step) = (position / STEPS, (position % STEPS) as f64);
    let begin = f64::from(1_u32 << FIRST) * 2_f64.powi(octave as i32);
    Duration::from_secs_f64(begin * (1.0 + (step + 0.5) / STEPS as f64) / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nearest rank in a sorted list is what the buckets are asked for.
    #[track_caller]
    fn check(micros: &[u64], part: f64) {
        let mut sorted = micros.to_vec();
        sorted.sort_unstable();
        let rank = ((sorted.len() as f64 * part).ceil() as usize).max(1);
        let want = sorted[rank - 1] as f64;
        let latencies = Latencies::of(micros.iter().copied().map(Duration::from_micros));
        let got = latencies.quantile(part).unwrap().as_secs_f64() * 1e6;
        assert!((got - want).abs() <= want / 16.0, "{part} of {} values: {got} µs, want {want} µs", sorted.len());
    }

    #[test]
    fn a_quantile_is_a_sixteenth_off_at_the_most() {
        let mut micros = 64_u64;
        while micros < 67_000_000 {
            for near in [micros - 1, micros, micros + 1, micros * 17 / 16, micros * 9 / 8 - 1, micros * 3 / 2] {
                check(&[near.clamp(64, (1 << 26) - 1)], 0.99);
            }
            micros = micros * 5 / 4 + 1;
        }
        let spread: Vec<u64> = (0..10_000).map(|n| 100 + n * n % 9_999_991).collect();
        for part in [0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
            check(&spread, part);
        }
    }

    #[test]
    fn what_is_out_of_range_counts_as_its_bound() {
        let of = |latency| Latencies::of([latency]).quantile(0.99);
        assert_eq!(of(Duration::ZERO), Some(Duration::from_micros(64)));
        assert_eq!(of(Duration::from_micros(63)), Some(Duration::from_micros(64)));
        for long in [Duration::from_micros(1 << 26), Duration::from_secs(3600), Duration::MAX] {
            assert_eq!(of(long), Some(Duration::from_micros(1 << 26)), "{long:?}");
        }
        assert_eq!((Latencies::default().quantile(0.99), Latencies::default().count()), (None, 0));
    }

    #[test]
    fn a_reading_is_what_came_since_the_last() {
        let histogram = Histogram::new();
        (0..1000).for_each(|_| histogram.add(Duration::from_secs(1)));
        let before = histogram.counts();
        assert_eq!(histogram.counts().since(&before).count(), 0);
        (0..100).for_each(|n| histogram.add(Duration::from_millis(if n < 99 { 1 } else { 100 })));
        let since = histogram.counts().since(&before);
        assert_eq!((since.count(), histogram.counts().count()), (100, 1100));
        assert!(since.quantile(0.99) < Some(Duration::from_millis(2)), "{:?}", since.quantile(0.99));
        assert!(since.quantile(0.999) > Some(Duration::from_millis(90)), "{:?}", since.quantile(0.999));
        histogram.0[0].store(u32::MAX, Relaxed);
        let before = histogram.counts();
        (0..3).for_each(|_| histogram.add(Duration::ZERO));
        assert_eq!(histogram.counts().since(&before).count(), 3, "it has wrapped");
    }
}
