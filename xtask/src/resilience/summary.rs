//! From single requests to the figures of a table. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::load::{End, Sample};
use crate::lab::stats::percentile;

/// When what happened, since the load began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Marks {
    /// What comes before is warm-up and not looked at.
    pub(super) warm: Duration,
    pub(super) fault: Duration,
    pub(super) mended: Duration,
}

/// Latency in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

/// What clients saw of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) requests: usize,
    /// Those that did not end with 200, by what they ended with.
    pub(super) failures: BTreeMap<End, usize>,
    /// Of those that ended before the fault.
    pub(super) before: Latency,
    /// Of those that were due while it lasted, or in flight when it came.
    pub(super) during: Latency,
    /// The percentage of these that was answered with 200.
    pub(super) carried: f64,
    /// p99 of how much later than due a request was sent, in milliseconds.
    pub(super) late: f64,
}

impl Seen {
    pub(super) fn of(samples: &[Sample], marks: Marks) -> Seen {
        let counted: Vec<Sample> = samples.iter().filter(|sample| sample.due >= marks.warm).copied().collect();
        let mut failures = BTreeMap::new();
        for sample in counted.iter().filter(|sample| !sample.end.is_well()) {
            *failures.entry(sample.end).or_insert(0) += 1;
        }
        let before: Vec<Sample> = counted.iter().filter(|sample| ended(sample) < marks.fault).copied().collect();
        let touched = |sample: &&Sample| ended(sample) >= marks.fault && sample.due < marks.mended;
        let during: Vec<Sample> = counted.iter().filter(touched).copied().collect();
        let well = during.iter().filter(|sample| sample.end.is_well()).count();
        Seen {
            requests: counted.len(),
            failures,
            before: latency(&before),
            during: latency(&during),
            carried: if during.is_empty() { 0.0 } else { well as f64 * 100.0 / during.len() as f64 },
            late: percentile(counted.iter().map(|sample| millis(sample.late)), 0.99),
        }
    }

    pub(super) fn failed(&self) -> usize {
        self.failures.values().sum()
    }
}

fn ended(sample: &Sample) -> Duration {
    sample.due + sample.took
}

fn latency(samples: &[Sample]) -> Latency {
    let all = |share| percentile(samples.iter().map(|sample| millis(sample.took)), share);
    Latency { p50: all(0.5), p99: all(0.99), max: all(1.0) }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// How many requests were due in that time.
pub(super) fn due_between(samples: &[Sample], from: Duration, to: Duration) -> usize {
    samples.iter().filter(|sample| (from..to).contains(&sample.due)).count()
}

/// An endpoint that gets nothing for as long as this is out.
const SILENCE: Duration = Duration::from_millis(500);

/// When the first silence began at an origin that was sent requests at these times (in order), since `fault`; none where
/// there was none until `end`.
pub(super) fn out_after(arrivals: &[Duration], fault: Duration, end: Duration) -> Option<Duration> {
    let later = arrivals.iter().copied().filter(|arrival| (fault..end).contains(arrival));
    let mut last = fault;
    for arrival in later.chain([end]) {
        if arrival.saturating_sub(last) >= SILENCE {
            return Some(last - fault);
        }
        last = arrival;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn sample(due: u64, took: u64, end: End) -> Sample {
        Sample { due: ms(due), took: ms(took), late: ms(1), end }
    }

    #[test]
    fn windows_are_apart() {
        let marks = Marks { warm: ms(100), fault: ms(200), mended: ms(300) };
        let well = End::Answered(200);
        let samples = [
            sample(99, 5000, End::Reset), // warm-up
            sample(100, 2, well),
            sample(195, 4, well),
            sample(199, 30, well), // in flight when the fault comes
            sample(200, 50, well),
            sample(250, 10, End::Answered(502)),
            sample(299, 30, well),
            sample(300, 900, End::Answered(502)),
        ];
        let seen = Seen::of(&samples, marks);
        assert_eq!((seen.requests, seen.failed()), (7, 2));
        assert_eq!(seen.failures, BTreeMap::from([(End::Answered(502), 2)]));
        assert_eq!(seen.before, Latency { p50: 2.0, p99: 4.0, max: 4.0 });
        assert_eq!(seen.during, Latency { p50: 30.0, p99: 50.0, max: 50.0 });
        assert!((seen.carried - 75.0).abs() < 0.1, "{}", seen.carried);
        assert_eq!(seen.late, 1.0);
        assert_eq!(due_between(&samples, marks.fault, marks.mended), 3);
        assert_eq!(Seen::of(&[], marks), Seen::default());
    }

    #[test]
    fn silence() {
        let check = |arrivals: &[u64], expected: Option<u64>| {
            let arrivals: Vec<Duration> = arrivals.iter().copied().map(ms).collect();
            assert_eq!(out_after(&arrivals, ms(1000), ms(3000)), expected.map(ms), "{arrivals:?}");
        };
        check(&[900, 1010, 1020, 1600], Some(20));
        check(&[900, 1400, 1800, 2200, 2600, 2999], None);
        check(&[900, 1400, 1800, 2200], Some(1200));
        check(&[], Some(0));
    }
}
