//! Smooth weighted round-robin as a table of turns. Never looks at an endpoint.

use std::{cmp::Reverse, collections::BinaryHeap};

/// Turns that are laid out in a table; 512 KiB and some milliseconds to make. Above it turns are computed.
const MAX_TURNS: u64 = 1 << 17;

/// Whose turn it is. Smooth: after any number of turns, each position has had its exact share of them to within one,
/// so within two over any window. The smooth weighted round-robin of nginx has the same aim and keeps a sum for each
/// peer, which a pick updates for all of them; here workers share nothing but a counter, and a pick is O(1).
#[derive(Debug)]
pub(super) enum Schedule {
    /// All weights are equal.
    Even(usize),
    /// One turn after the other, as long as the sum of the weights in lowest terms.
    Turns(Box<[u32]>),
    /// Sums of the weights up to and with each position, for weights that no table holds. The n-th turn is at
    /// n × the golden ratio, modulo 1, of their sum: the sequence that fills an interval most evenly (Knuth, TAOCP 3,
    /// section 6.4), so that shares are exact to within a few turns, found by a binary search.
    Golden(Box<[u64]>),
}

impl Schedule {
    /// Weights are above 0.
    pub(super) fn new(weights: &[u32]) -> Self {
        let divisor = weights.iter().fold(0, |d, &w| gcd(d, w)).max(1);
        let weights: Vec<u64> = weights.iter().map(|&w| u64::from(w / divisor)).collect();
        let total: u64 = weights.iter().sum();
        if weights.iter().all(|&w| w == 1) {
            Self::Even(weights.len())
        } else if total <= MAX_TURNS {
            Self::Turns(turns(&weights, total))
        } else {
            Self::golden(weights)
        }
    }

    /// The same for weights that hold for a moment only, as those of endpoints that warm up: quickly made, and a little less
    /// smooth.
    pub(super) fn for_now(weights: &[u32]) -> Self {
        Self::golden(weights.iter().map(|&w| u64::from(w)))
    }

    fn golden(weights: impl IntoIterator<Item = u64>) -> Self {
        let sums = weights.into_iter().scan(0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self::Golden(sums.collect())
    }

    /// The position whose turn the `n`-th is, where there is one.
    pub(super) fn at(&self, n: u64) -> usize {
        match self {
            Self::Even(count) => (n % *count as u64) as usize,
            Self::Turns(turns) => turns[(n % turns.len() as u64) as usize] as usize,
            Self::Golden(sums) => {
                let total = sums.last().copied().unwrap_or(0);
                // 2^64 / the golden ratio, odd; the product wraps, which is the modulo 1.
                let fraction = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let point = ((u128::from(fraction) * u128::from(total)) >> 64) as u64;
                sums.partition_point(|&sum| sum <= point)
            }
        }
    }
}

/// Lays the turns out. The j-th turn of weight w must lie within `[⌊j·total/w⌋, ⌈(j+1)·total/w⌉)`, which keeps
/// every count within one of its exact share; taking the earliest deadline among the turns that may start finds such
/// an order whenever there is one, and there is always one (Baruah et al. 1996, "Proportionate progress").
fn turns(weights: &[u64], total: u64) -> Box<[u32]> {
    let start = |i: usize, j: u64| j * total / weights[i];
    let deadline = |i: usize, j: u64| ((j + 1) * total).div_ceil(weights[i]);
    let mut ready: BinaryHeap<_> = (0..weights.len()).map(|i| Reverse((deadline(i, 0), i, 0))).collect();
    let mut waiting = BinaryHeap::new();
    (0..total)
        .map_while(|turn| {
            while let Some(&Reverse((at, i, j))) = waiting.peek()
                && at <= turn
            {
                waiting.pop();
                ready.push(Reverse((deadline(i, j), i, j)));
            }
            let Reverse((_, i, j)) = ready.pop()?;
            if j + 1 < weights[i] {
                waiting.push(Reverse((start(i, j + 1), i, j + 1)));
            }
            Some(i as u32)
        })
        .collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded::XorShift;

    /// Every count is within `bound` of its share after every turn, so within twice that over any window.
    #[track_caller]
    fn check(weights: &[u32], turns: u64, bound: f64) {
        let schedule = Schedule::new(weights);
        let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        let mut counts = vec![0u64; weights.len()];
        let compare = |turn: u64, i: usize, counts: &[u64]| {
            let want = (turn + 1) as f64 * f64::from(weights[i]) / total;
            let head = &weights[..weights.len().min(10)];
            assert!(
                (counts[i] as f64 - want).abs() <= bound,
                "{i} of {head:?}…: {} turns after {turn}, want {want}",
                counts[i]
            );
        };
        for turn in 0..turns {
            let i = schedule.at(turn);
            counts[i] += 1;
            compare(turn, i, &counts);
            if turn % 1009 == 0 || weights.len() < 20 {
                (0..weights.len()).for_each(|i| compare(turn, i, &counts));
            }
        }
    }

    #[test]
    fn turns_are_smooth_and_exact() {
        check(&[5, 1, 1], 70, 1.0);
        check(&[1], 5, 1.0);
        check(&[1, 1], 10, 1.0);
        check(&[100, 50, 50], 40, 1.0);
        check(&[1000, 1, 999, 3], 5000, 1.0);
        check(&[65_535, 1], 70_000, 1.0);
        let mut random = XorShift::new(11);
        for _ in 0..30 {
            let weights: Vec<u32> = (0..1 + random.below(12)).map(|_| 1 + random.below(40) as u32).collect();
            check(&weights, 3 * weights.iter().map(|&w| u64::from(w)).sum::<u64>(), 1.0);
        }
    }

    #[test]
    fn ten_thousand_endpoints_are_smooth() {
        check(&[7; 10_000], 30_000, 1.0);
        let mut weights: Vec<u32> = (0..10_000).map(|i| 1 + i % 10).collect();
        check(&weights, 60_000, 1.0);
        weights[0] = 10_000;
        check(&weights, 60_000, 1.0);
    }

    #[test]
    fn weights_beyond_the_table_are_nearly_smooth() {
        assert!(matches!(Schedule::new(&[65_535, 65_534, 65_533]), Schedule::Golden(_)));
        check(&[65_535, 65_534, 65_533], 100_000, 4.0);
        check(&[65_535, 65_534, 1], 400_000, 4.0);
        let weights: Vec<u32> = (0..10_000).map(|i| 1 + (i * 7919) % 65_521).collect();
        check(&weights, 100_000, 4.0);
    }

    #[test]
    fn the_heavy_is_spread_out() {
        let schedule = Schedule::new(&[5, 1, 1]);
        let turns: Vec<usize> = (0..14).map(|n| schedule.at(n)).collect();
        let longest = turns.split(|&i| i != 0).map(<[usize]>::len).max().unwrap();
        assert!(longest <= 3, "weights 5, 1, 1: {longest} turns on end in {turns:?}");
    }
}
