//! Averages that forget. Never reads a clock.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Time after which an observation has lost 1 - 1/e of its weight: that of peak-EWMA in linkerd and Envoy.
pub const DECAY: Duration = Duration::from_secs(10);

/// What is left of an observation's weight after so many milliseconds.
pub(super) fn keep(gap: u32) -> f64 {
    // `exp(-1 / 10,000)`, which is what a busy endpoint needs for every request.
    const AFTER_ONE: f64 = 0.999_900_004_999_833_4;
    if gap == 1 { AFTER_ONE } else { (-f64::from(gap) / (DECAY.as_secs_f64() * 1e3)).exp() }
}

/// Milliseconds from the last sample to one at `now`, and which of them is the last then. Workers read the clock before they
/// get here, so that a sample may be a little older than the last one.
pub(super) fn after(last: u32, now: u32) -> (u32, u32) {
    let gap = now.wrapping_sub(last);
    if gap > u32::MAX / 2 { (1, last) } else { (gap.max(1), now) }
}

/// An average of `value` and a sample that comes `gap` milliseconds later.
pub(super) fn mixed(value: f32, sample: f32, gap: u32) -> f32 {
    let keep = keep(gap);
    (f64::from(value) * keep + f64::from(sample) * (1.0 - keep)) as f32
}

/// A time-decayed average in one word, so that a sample is one compare-and-swap: the value as `f32` in the high half,
/// and in the low half the milliseconds of the last sample, which wrap after 49 days (then a sample weighs too little
/// once). Not a number: unmeasured.
#[derive(Debug)]
pub(super) struct Average(AtomicU64);

impl Average {
    pub(super) fn unmeasured() -> Self {
        Self(AtomicU64::new(Self::pack(f32::NAN, 0)))
    }

    pub(super) fn value(&self) -> Option<f32> {
        let (value, _) = Self::unpack(self.0.load(Relaxed));
        (!value.is_nan()).then_some(value)
    }

    pub(super) fn add(&self, now_ms: u64, sample: f32) {
        let now = now_ms as u32; // The low half wraps by design.
        // The closure always gives a word, so this never fails.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |word| {
            let (value, last) = Self::unpack(word);
            if value.is_nan() {
                return Some(Self::pack(sample, now));
            }
            let (gap, last) = after(last, now);
            Some(Self::pack(mixed(value, sample, gap), last))
        });
    }

    pub(super) fn pack(value: f32, last: u32) -> u64 {
        u64::from(value.to_bits()) << 32 | u64::from(last)
    }

    pub(super) fn unpack(word: u64) -> (f32, u32) {
        let (high, low) = ((word >> 32) as u32, word as u32);
        (f32::from_bits(high), low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decay_of_a_millisecond_is_its_formula() {
        assert!((keep(1) - (-1.0f64 / 10_000.0).exp()).abs() < 1e-15, "{}", keep(1));
        assert!((keep(2) - keep(1) * keep(1)).abs() < 1e-15);
    }
}
