//! From scores to shares of the traffic. Never looks at an endpoint.

/// A score above 0 keeps at least this part of the share that the endpoint's weight alone would give it: enough for
/// a scorer to see an endpoint recover, too little to hurt.
pub const FLOOR: f64 = 0.01;

/// Shares that sum to 1, in proportion to score × weight, each at least [`FLOOR`] of its weight's share of those
/// whose score is above 0, and 0 where the score is 0. None where all scores are 0. Scores are finite and not
/// negative; weights are above 0.
pub(super) fn shares(scores: &[f32], weights: &[u32]) -> Option<Vec<f64>> {
    let pairs = || scores.iter().map(|&s| f64::from(s)).zip(weights.iter().map(|&w| f64::from(w)));
    let total: f64 = pairs().map(|(score, weight)| score * weight).sum();
    let weight: f64 = pairs().filter(|&(score, _)| score > 0.0).map(|(_, weight)| weight).sum();
    if total <= 0.0 {
        return None;
    }
    // Floors take at most FLOOR of the traffic, so the others are left with at least 1 - FLOOR of their share. Who
    // is above its floor even then stays in proportion; one pass finds them all.
    let floored = |score: f64| score / total * (1.0 - FLOOR) < FLOOR / weight;
    let (mut reserved, mut rest) = (0.0, 0.0);
    for (score, w) in pairs().filter(|&(score, _)| score > 0.0) {
        if floored(score) {
            reserved += FLOOR * w / weight;
        } else {
            rest += score * w;
        }
    }
    let share = |(score, w): (f64, f64)| match score {
        0.0 => 0.0,
        _ if floored(score) => FLOOR * w / weight,
        _ => (1.0 - reserved) * score * w / rest,
    };
    Some(pairs().map(share).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded::XorShift;

    #[track_caller]
    fn check(scores: &[f32], weights: &[u32], want: &[f64]) {
        let got = shares(scores, weights).unwrap();
        let close = got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-9);
        assert!(close && got.len() == want.len(), "{scores:?} × {weights:?}: {got:?}, want {want:?}");
    }

    #[test]
    fn shares_follow_score_times_weight() {
        check(&[1.0, 1.0], &[1, 1], &[0.5, 0.5]);
        check(&[3.0, 1.0], &[1, 1], &[0.75, 0.25]);
        check(&[1.0, 1.0], &[3, 1], &[0.75, 0.25]);
        check(&[1.0, 3.0], &[3, 1], &[0.5, 0.5]);
        check(&[0.0, 1.0, 1.0], &[9, 1, 1], &[0.0, 0.5, 0.5]);
        check(&[1e30, 1e30], &[1, 1], &[0.5, 0.5]);
        check(&[1e-30, 1e-30], &[1, 1], &[0.5, 0.5]);
        assert_eq!(shares(&[0.0, 0.0], &[1, 1]), None);
        assert_eq!(shares(&[], &[]), None);
    }

    #[test]
    fn the_floor_holds() {
        check(&[1e-9, 1.0], &[1, 1], &[0.005, 0.995]);
        check(&[1e-9, 1.0], &[9, 1], &[0.009, 0.991]);
        // An endpoint that is out has no part in what is fair.
        check(&[1e-9, 1.0, 0.0], &[1, 1, 8], &[0.005, 0.995, 0.0]);
        check(&[f32::MIN_POSITIVE, f32::MAX], &[1, 1], &[0.005, 0.995]);
    }

    #[test]
    fn shares_of_any_scores_sum_to_one_and_keep_order() {
        let mut random = XorShift::new(5);
        for _ in 0..300 {
            let n = 1 + random.below(40);
            let scores: Vec<f32> = (0..n)
                .map(|_| if random.below(5) == 0 { 0.0 } else { 10f32.powf(random.below(80) as f32 / 8.0 - 5.0) })
                .collect();
            let weights: Vec<u32> = (0..n).map(|_| 1 + random.below(9) as u32).collect();
            let Some(got) = shares(&scores, &weights) else { continue };
            let fair = |i: usize| f64::from(weights[i]) / f64::from(weights.iter().sum::<u32>());
            assert!((got.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{scores:?} × {weights:?}: {got:?}");
            for (i, &share) in got.iter().enumerate() {
                if scores[i] == 0.0 {
                    assert_eq!(share, 0.0, "{i} of {scores:?}");
                } else {
                    assert!(share >= FLOOR * fair(i) - 1e-12, "{i} of {scores:?} × {weights:?}: {share}");
                }
            }
        }
    }
}
