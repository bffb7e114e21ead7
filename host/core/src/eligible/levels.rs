//! How much of the traffic each level of a cluster takes: the first as long as it can carry it, then the next. Knows no
//! endpoint.

/// What is taken for no share at all.
const NOTHING: f64 = 1e-9;

/// Endpoints that are as good as each other: of one priority, and of one place in the order of zones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Level {
    /// Sum of the weights of its members.
    pub(super) all: u64,
    /// Of those that are available.
    pub(super) available: u64,
}

/// The share of each level, and whether they can carry all of the traffic together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shares {
    /// Sum 1, or all 0 where nothing is available.
    pub(super) shares: Vec<f64>,
    /// Whether the levels together are as good as one that is whole.
    pub(super) enough: bool,
}

/// A level can carry `overprovisioning` × the available part of its weight, and no more than all. The first level takes what
/// it can, the next what is left of the traffic, and so on; where all of them together cannot carry it, each takes its part
/// of that (Envoy's priority levels, with weights in place of host counts).
pub(super) fn shares(levels: &[Level], overprovisioning: f64) -> Shares {
    let mut left = 1.0;
    let mut shares: Vec<f64> = levels
        .iter()
        .map(|level| {
            let able = (overprovisioning * level.available as f64 / level.all.max(1) as f64).min(1.0);
            let takes = able.min(left);
            left -= takes;
            // What rounding leaves over is no traffic.
            left = if left < NOTHING { 0.0 } else { left };
            takes
        })
        .collect();
    let taken: f64 = shares.iter().sum();
    if taken > 0.0 {
        shares.iter_mut().for_each(|share| *share /= taken);
    }
    Shares { shares, enough: taken > 1.0 - NOTHING }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(levels: &[(u64, u64)], want: &[f64], enough: bool) {
        let levels: Vec<_> = levels.iter().map(|&(available, all)| Level { all, available }).collect();
        let got = shares(&levels, 1.4);
        let close = got.shares.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-9);
        assert!(close && got.enough == enough && got.shares.len() == want.len(), "{levels:?}: {got:?}, want {want:?}");
    }

    #[test]
    fn the_next_level_takes_what_the_first_cannot_carry() {
        // Envoy's table: 100 %, 72 %, 71 %, 50 %, 25 % and none of the first level are available.
        check(&[(100, 100), (100, 100)], &[1.0, 0.0], true);
        check(&[(72, 100), (72, 100)], &[1.0, 0.0], true);
        check(&[(71, 100), (71, 100)], &[0.994, 0.006], true);
        check(&[(50, 100), (60, 100)], &[0.7, 0.3], true);
        check(&[(25, 100), (100, 100)], &[0.35, 0.65], true);
        check(&[(0, 100), (25, 100)], &[0.0, 1.0], false);
        check(&[(25, 100), (25, 100)], &[0.5, 0.5], false);
        check(&[(20, 100), (20, 100), (100, 100)], &[0.28, 0.28, 0.44], true);
        check(&[(0, 100)], &[0.0], false);
        check(&[(0, 0), (1, 1)], &[0.0, 1.0], true);
        check(&[], &[], false);
    }
}
