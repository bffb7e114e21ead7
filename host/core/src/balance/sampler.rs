//! Draws a position in proportion to weights, in constant time. Never looks at an endpoint.

use crate::hash::scale;

/// Draws before the neighbour is taken in place of another candidate.
const REDRAWS: usize = 4;

/// A weighted draw: the alias method of Walker (1977) in Vose's form (1991). Without a table where all are equal.
#[derive(Debug)]
pub(super) struct Sampler {
    count: usize,
    /// For each slot: how much of it is its own, of 2^32, and whose the rest is.
    slots: Option<Box<[(u32, u32)]>>,
}

impl Sampler {
    pub(super) fn by_weight(weights: &[u32]) -> Self {
        Self::by_share(&weights.iter().map(|&w| f64::from(w)).collect::<Vec<_>>())
    }

    /// Shares are above 0 and of any sum.
    pub(super) fn by_share(shares: &[f64]) -> Self {
        let even = shares.windows(2).all(|pair| pair[0] == pair[1]);
        Self { count: shares.len(), slots: (!even).then(|| alias(shares)) }
    }

    /// Whether all are equal.
    pub(super) fn is_even(&self) -> bool {
        self.slots.is_none()
    }

    /// A position, where there is one. The high bits choose the slot and the low ones its part.
    pub(super) fn draw(&self, bits: u64) -> usize {
        match &self.slots {
            None => scale(bits, self.count),
            Some(slots) => {
                let slot = scale(bits & !0xffff_ffff, self.count);
                let (own, other) = slots[slot];
                if (bits as u32) < own { slot } else { other as usize }
            }
        }
    }

    /// A position that is not `first`, unless there is no other.
    pub(super) fn draw_other(&self, first: usize, random: &mut dyn FnMut() -> u64) -> usize {
        if self.count < 2 {
            return first;
        }
        if self.is_even() {
            return (first + 1 + scale(random(), self.count - 1)) % self.count;
        }
        (0..REDRAWS).map(|_| self.draw(random())).find(|&p| p != first).unwrap_or((first + 1) % self.count)
    }
}

fn alias(shares: &[f64]) -> Box<[(u32, u32)]> {
    let unit = shares.len() as f64 / shares.iter().sum::<f64>();
    let mut left: Vec<f64> = shares.iter().map(|share| share * unit).collect();
    // What rounding leaves over at the end is a whole slot.
    let mut slots: Box<[(u32, u32)]> = (0..shares.len()).map(|slot| (u32::MAX, slot as u32)).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..shares.len()).partition(|&slot| left[slot] < 1.0);
    while let (Some(less), Some(&more)) = (small.pop(), large.last()) {
        slots[less] = ((left[less] * 4_294_967_296.0) as u32, more as u32);
        left[more] -= 1.0 - left[less];
        if left[more] < 1.0 {
            large.pop();
            small.push(more);
        }
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded::XorShift;

    #[track_caller]
    fn check(weights: &[u32]) {
        const DRAWS: u32 = 400_000;
        let sampler = Sampler::by_weight(weights);
        let mut random = XorShift::new(7);
        let mut counts = vec![0u32; weights.len()];
        for _ in 0..DRAWS {
            counts[sampler.draw(random.bits())] += 1;
        }
        let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        for (i, (&count, &weight)) in counts.iter().zip(weights).enumerate() {
            let share = f64::from(weight) / total;
            let want = share * f64::from(DRAWS);
            let sigma = (want * (1.0 - share)).sqrt();
            assert!((f64::from(count) - want).abs() <= 4.5 * sigma + 1.0, "{i} of {weights:?}: {count}, want {want}");
        }
    }

    #[test]
    fn draws_follow_the_weights() {
        check(&[1]);
        check(&[1, 1, 1]);
        check(&[5, 1, 1]);
        check(&[65_535, 1]);
        check(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        check(&(1..=500).collect::<Vec<_>>());
    }

    #[test]
    fn the_other_is_another() {
        let mut random = XorShift::new(3);
        for weights in [&[1, 1][..], &[65_535, 1], &[3, 1, 1], &[1; 9]] {
            let sampler = Sampler::by_weight(weights);
            for first in 0..weights.len() {
                for _ in 0..200 {
                    let other = sampler.draw_other(first, &mut || random.bits());
                    assert!(other != first && other < weights.len(), "{other} beside {first} of {weights:?}");
                }
            }
        }
        assert_eq!(Sampler::by_weight(&[4]).draw_other(0, &mut || 1), 0);
    }
}
