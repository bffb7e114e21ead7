//! What an endpoint costs a request, as peak-EWMA has it: how long it takes, how much it has to do, and how often it fails.
//! Measures and weighs; never picks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::{
    Counts, Outcome,
    average::{Average, after, keep, mixed},
};

/// What a request at an endpoint that nothing was measured of is taken to cost while it is under way, in milliseconds: so
/// much that one at a time finds out, and not so much that it would never be asked again.
const UNMEASURED_MS: f64 = 1000.0;

/// Failures in a row beyond which the cost does not double any more: 2^8 takes a minute to be forgotten.
const MOST_DOUBLINGS: u16 = 8;

/// The least part of requests that is taken to succeed.
const LEAST_SUCCESS: f64 = 0.05;

/// The peak of an endpoint's latencies, decaying: `f32` milliseconds in the high half, and in the low half the
/// milliseconds of the last sample, which wrap after 49 days. Not a number: unmeasured.
#[derive(Debug)]
pub(super) struct Peak {
    /// Whether anybody wants to know. Whoever does not pays for a look.
    wanted: AtomicBool,
    word: AtomicU64,
}

impl Peak {
    pub(super) fn unmeasured() -> Self {
        Self { wanted: AtomicBool::new(false), word: AtomicU64::new(Average::pack(f32::NAN, 0)) }
    }

    pub(super) fn want(&self, wanted: bool) {
        self.wanted.store(wanted, Relaxed);
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Relaxed)
    }

    /// A latency above the peak is the new peak at once, one below it moves it as an average ([Finagle's peak-EWMA]). One of
    /// a failure says nothing good: an error is quickly made.
    ///
    /// [Finagle's peak-EWMA]: https://twitter.github.io/finagle/guide/Clients.html#power-of-two-choices-p2c-least-loaded
    pub(super) fn record(&self, now_ms: u64, latency_ms: Option<f32>, outcome: Outcome) {
        let now = now_ms as u32; // The low half wraps by design.
        // The closure always gives a word, so this never fails.
        let _ = self.word.fetch_update(Relaxed, Relaxed, |word| {
            let (peak, last) = Average::unpack(word);
            let (gap, last) = after(if peak.is_nan() { now } else { last }, now);
            let next = match latency_ms.filter(|_| outcome.is_success()) {
                Some(sample) if peak.is_nan() || sample > peak => sample,
                Some(sample) => mixed(peak, sample, gap),
                None if peak.is_nan() => UNMEASURED_MS as f32,
                None => peak,
            };
            Some(Average::pack(next, last))
        });
    }

    /// The peak as it is now, in milliseconds; 0 where there is none.
    pub(super) fn value(&self, now_ms: u64) -> f64 {
        let (peak, last) = Average::unpack(self.word.load(Relaxed));
        if peak.is_nan() { 0.0 } else { f64::from(peak) * left(now_ms, last) }
    }

    /// What one request more costs where `in_flight` are under way, in milliseconds.
    ///
    /// `peak × (in_flight + 1) × penalty`, where the peak decays while there is no sample, so that nobody is shunned for
    /// ever, and the penalty is `(1 + (2^row - 1)·w) / (1 - failing·w)²`: `row` are the failures in a row, `failing` is the
    /// part of the requests that failed of late, and `w` is what is left of them since the last sample. So an endpoint that
    /// answers with errors, be they ever so quick, has lost its traffic after a few of them, and a single failure among
    /// many successes hardly counts.
    pub(super) fn cost(&self, now_ms: u64, in_flight: u32, success_rate: f32, row: Counts) -> f64 {
        let (peak, last) = Average::unpack(self.word.load(Relaxed));
        let in_flight = f64::from(in_flight);
        if peak.is_nan() {
            return UNMEASURED_MS * in_flight;
        }
        let left = left(now_ms, last);
        let doublings = row.server_errors.max(row.local).min(MOST_DOUBLINGS);
        let in_a_row = 1.0 + (f64::from(1u32 << doublings) - 1.0) * left;
        let success = (1.0 - (1.0 - f64::from(success_rate)) * left).max(LEAST_SUCCESS);
        f64::from(peak) * left * (in_flight + 1.0) * in_a_row / (success * success)
    }
}

/// What is left of what was seen at `last`.
fn left(now_ms: u64, last: u32) -> f64 {
    let gap = (now_ms as u32).wrapping_sub(last);
    if gap == 0 || gap > u32::MAX / 2 { 1.0 } else { keep(gap) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Counts = Counts { server_errors: 0, gateway_errors: 0, local: 0 };

    #[track_caller]
    fn check(what: &str, got: f64, want: f64) {
        assert!((got - want).abs() <= 0.01 * want, "{what}: {got}, want {want}");
    }

    #[test]
    fn a_peak_comes_at_once_and_goes_slowly() {
        let peak = Peak::unmeasured();
        check("nothing is known, and nothing is under way", peak.cost(0, 0, 1.0, NONE), 0.0);
        check("somebody finds out", peak.cost(0, 1, 1.0, NONE), UNMEASURED_MS);
        peak.record(0, Some(10.0), Outcome::Success);
        check("the first", peak.cost(0, 0, 1.0, NONE), 10.0);
        check("with three under way", peak.cost(0, 3, 1.0, NONE), 40.0);
        peak.record(1, Some(100.0), Outcome::Success);
        check("a peak", peak.cost(1, 0, 1.0, NONE), 100.0);
        let keep = (-1.0f64).exp();
        check("a decay later, without a sample", peak.cost(10_001, 0, 1.0, NONE), 100.0 * keep);
        peak.record(10_001, Some(20.0), Outcome::Success);
        check("with one", peak.cost(10_001, 0, 1.0, NONE), 100.0 * keep + 20.0 * (1.0 - keep));
        peak.record(9_000, Some(500.0), Outcome::Success);
        check("a late sample is a peak too", peak.cost(10_001, 0, 1.0, NONE), 500.0);
    }

    #[test]
    fn quick_errors_are_dear_and_forgotten_in_time() {
        let peak = Peak::unmeasured();
        peak.record(0, Some(10.0), Outcome::Success);
        peak.record(1, Some(0.1), Outcome::ServerError);
        check("an error makes it no quicker", peak.cost(1, 0, 1.0, NONE), 10.0);
        let row = Counts { server_errors: 5, ..NONE };
        check("five in a row", peak.cost(1, 0, 1.0, row), 10.0 * 32.0);
        check("and no success of late", peak.cost(1, 0, 0.5, row), 10.0 * 32.0 * 4.0);
        let many = Counts { local: 5_000, ..NONE };
        check("thousands", peak.cost(1, 0, 0.0, many), 10.0 * 256.0 * 400.0);
        assert!(peak.cost(120_000, 0, 0.0, many) < 0.01, "after two minutes: {}", peak.cost(120_000, 0, 0.0, many));
        let new = Peak::unmeasured();
        new.record(0, None, Outcome::Local);
        check("who has only failed", new.cost(0, 0, 0.0, Counts { local: 1, ..NONE }), UNMEASURED_MS * 2.0 * 400.0);
    }
}
