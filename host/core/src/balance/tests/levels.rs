//! Several levels in one cluster: their shares hold under every algorithm, whatever is in flight and however scores are.

use super::*;
use crate::endpoint::Health;

/// Two of the first priority, of which one is down, and three of the second: 70 % and 30 %.
fn leveled() -> Arc<[Arc<Endpoint>]> {
    let now = Instant::now();
    let new = |n: usize| {
        let priority = u32::from(n > 1);
        let endpoint = config::Endpoint { address: format!("10.0.0.{n}:80"), weight: 1, zone: None, priority };
        Arc::new(Endpoint::new(&endpoint, now))
    };
    let endpoints: Arc<[Arc<Endpoint>]> = (0..5).map(new).collect();
    endpoints[1].set_health(Health::Unhealthy, now);
    endpoints
}

#[test]
fn shares_of_levels_hold_for_every_algorithm() {
    for algorithm in ALL {
        let picker = build(leveled(), algorithm, None);
        let shares = [0.7, 0.0, 0.1, 0.1, 0.1];
        check_shares(&format!("{algorithm:?}"), &counts(&picker, 100_000, |_| None), &shares, 0.01);
        let hashed = counts(&picker, 100_000, |i| Some(hash_key(&i.to_le_bytes())));
        check_shares(&format!("{algorithm:?} by hash"), &hashed, &shares, 0.015);
    }
}

#[test]
fn a_busy_level_does_not_spill_into_the_next() {
    for algorithm in [Algorithm::LeastRequest, Algorithm::PeakEwma] {
        let endpoints = leveled();
        let _busy: Vec<_> = (0..50).map(|_| endpoints[0].begin()).chain((0..9).map(|_| endpoints[3].begin())).collect();
        let picker = build(Arc::clone(&endpoints), algorithm, None);
        let counts = counts(&picker, 100_000, |_| None);
        let second: usize = counts[2..].iter().sum();
        check_shares(&format!("{algorithm:?}"), &[counts[0], second], &[0.7, 0.3], 0.01);
        // Of two of three it is among the drawn, and never the better one.
        assert!(counts[3] == 0, "the busy one of the second: {counts:?}");
    }
}

#[test]
fn scores_move_nothing_from_level_to_level() {
    for (scores, shares) in [
        ([1.0, 1.0, 1.0, 1.0, 1.0], [0.7, 0.0, 0.1, 0.1, 0.1]),
        ([0.1, 9.0, 9.0, 0.0, 9.0], [0.7, 0.0, 0.15, 0.0, 0.15]),
        ([1.0, 0.0, 1e-9, 3.0, 1.0], [0.7, 0.0, 0.001, 0.3 * 0.7475, 0.3 * 0.2492]),
        ([0.0, 1.0, 1.0, 1.0, 2.0], [0.0, 0.0, 0.25, 0.25, 0.5]),
        ([1.0, 1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]),
    ] {
        let picker = build(leveled(), Algorithm::LeastRequest, Some(&scores));
        check_shares(&format!("{scores:?}"), &counts(&picker, 100_000, |_| None), &shares, 0.01);
    }
}

#[test]
fn candidates_for_a_scorer_are_of_one_level() {
    let picker = build(leveled(), Algorithm::LeastRequest, None);
    let (mut random, mut first) = (XorShift::new(5), 0);
    for _ in 0..20_000 {
        let drawn = picker.draw(3, &mut || random.bits());
        assert!(drawn.as_slice() == [0] || (drawn.len() == 3 && !drawn.contains(&0)), "{drawn:?}");
        first += usize::from(drawn.contains(&0));
    }
    check_shares("levels drawn", &[first, 20_000 - first], &[0.7, 0.3], 0.01);
}
