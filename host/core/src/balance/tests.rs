mod bounded;
mod levels;
mod peak;
mod simulation;

use std::time::Instant;

use super::*;
use crate::{affinity::hash_key, config, endpoint::State, hash::mix, seeded::XorShift};

const ALL: [Algorithm; 6] = [
    Algorithm::RoundRobin,
    Algorithm::LeastRequest,
    Algorithm::PeakEwma,
    Algorithm::Random,
    Algorithm::RingHash,
    Algorithm::Maglev,
];
const HASHING: [Algorithm; 2] = [Algorithm::RingHash, Algorithm::Maglev];

fn named(names: impl IntoIterator<Item = usize>, weight: impl Fn(usize) -> u32) -> Arc<[Arc<Endpoint>]> {
    let now = Instant::now();
    let new = |i: usize| {
        let address = format!("10.0.{}.{}:8080", i / 256, i % 256);
        Arc::new(Endpoint::new(&config::Endpoint { address, weight: weight(i), zone: None, priority: 0 }, now))
    };
    names.into_iter().map(new).collect()
}

fn build(endpoints: Arc<[Arc<Endpoint>]>, algorithm: Algorithm, scores: Option<&[f32]>) -> Picker {
    let picker = Picker::new(endpoints, algorithm, Rules::default(), Instant::now());
    picker.rescore(scores.map(Arc::from).as_ref())
}

fn cluster(weights: &[u32]) -> Arc<[Arc<Endpoint>]> {
    named(0..weights.len(), |i| weights[i])
}

/// Picks `n` times and counts by index.
fn counts(picker: &Picker, n: usize, hash: impl Fn(usize) -> Option<u64>) -> Vec<usize> {
    let (cursor, mut random) = (Cursor::default(), XorShift::new(1));
    let mut counts = vec![0; picker.endpoints().len()];
    for i in 0..n {
        counts[picker.pick(&cursor, hash(i), &[], Instant::now(), &mut || random.bits()).unwrap()] += 1;
    }
    counts
}

#[track_caller]
fn check_shares(what: &str, counts: &[usize], shares: &[f64], tolerance: f64) {
    let total: f64 = counts.iter().map(|&c| c as f64).sum();
    for (i, (&count, share)) in counts.iter().zip(shares).enumerate() {
        let got = count as f64 / total;
        let ok = if *share == 0.0 { count == 0 } else { (got - share).abs() <= tolerance };
        assert!(ok, "{what}: endpoint {i} has {got:.4}, want {share:.4}; {counts:?}");
    }
}

#[test]
fn weights_are_shares_for_every_algorithm() {
    for algorithm in ALL {
        for weights in [&[1, 1, 1][..], &[5, 1, 1], &[10, 3], &[1, 2, 3, 4]] {
            let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
            let shares: Vec<f64> = weights.iter().map(|&w| f64::from(w) / total).collect();
            let picker = build(cluster(weights), algorithm, None);
            let idle = counts(&picker, 100_000, |_| None);
            // Power of two choices evens out only what is in flight; with nothing in flight it is the draw by weight.
            check_shares(&format!("{algorithm:?} {weights:?} without a hash"), &idle, &shares, 0.01);
            let hashed = counts(&picker, 100_000, |i| Some(hash_key(&i.to_le_bytes())));
            check_shares(&format!("{algorithm:?} {weights:?} by hash"), &hashed, &shares, 0.01);
        }
    }
}

#[test]
fn who_is_out_is_never_picked() {
    let mut random = XorShift::new(2);
    for round in 0..25 {
        let n = 1 + random.below(12);
        let weights: Vec<u32> = (0..n).map(|_| random.below(4) as u32).collect();
        let endpoints = cluster(&weights);
        for endpoint in endpoints.iter() {
            if random.below(4) == 0 {
                endpoint.set_state(State::Draining, Instant::now());
            }
        }
        let scores: Vec<f32> = (0..n).map(|_| random.below(3) as f32 * 0.7).collect();
        for algorithm in ALL {
            for scores in [None, Some(&scores[..])] {
                let picker = build(Arc::clone(&endpoints), algorithm, scores);
                check_never_out(&picker, scores, &mut random, &format!("round {round}, {algorithm:?}, {scores:?}"));
            }
        }
    }
}

/// Whatever the hash and the tried: nobody who is out, somebody where there is one, and nobody tried twice.
fn check_never_out(picker: &Picker, scores: Option<&[f32]>, random: &mut XorShift, what: &str) {
    let endpoints = picker.endpoints();
    let able = |i: usize| endpoints[i].weight() > 0 && endpoints[i].state() == State::Active;
    let scores = scores.filter(|s| (0..s.len()).any(|i| able(i) && s[i] > 0.0));
    let live = |i: usize| able(i) && scores.is_none_or(|s| s[i] > 0.0);
    let count = (0..endpoints.len()).filter(|&i| live(i)).count();
    assert_eq!(picker.eligible_count(), count, "{what}");
    let cursor = Cursor::default();
    for i in 0..40u32 {
        let hash = (i % 2 == 0).then(|| random.bits());
        let mut tried: Vec<u32> = Vec::new();
        for attempt in 0..count + 2 {
            let picked = picker.pick(&cursor, hash, &tried, Instant::now(), &mut || random.bits());
            let Some(picked) = picked else {
                assert_eq!(count, 0, "{what}: none was picked");
                break;
            };
            assert!(live(picked), "{what}: {picked} was picked although it is out");
            let again = tried.contains(&(picked as u32));
            assert_eq!(again, attempt >= count, "{what}: {picked} after {tried:?} of {count}");
            tried.push(picked as u32);
        }
        let drawn = picker.draw(1 + random.below(9), &mut || random.bits());
        assert!(drawn.iter().all(|&d| live(d as usize)), "{what}: drew {drawn:?}");
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        assert_eq!(picker.by_id(endpoint.id()), live(i).then_some(i), "{what}: endpoint {i} by its id");
        assert_eq!(picker.effective_weight(i) > 0.0, live(i), "{what}: effective weight of {i}");
    }
}

#[test]
fn nothing_eligible_is_none() {
    for algorithm in ALL {
        for weights in [&[][..], &[0, 0]] {
            let picker = build(cluster(weights), algorithm, None);
            picker.prepare_affinity();
            for hash in [None, Some(1)] {
                assert_eq!(
                    picker.pick(&Cursor::default(), hash, &[], Instant::now(), &mut || 5),
                    None,
                    "{algorithm:?} {weights:?}"
                );
            }
            assert!(picker.draw(2, &mut || 5).is_empty());
        }
    }
}

#[test]
fn what_is_tried_again_does_not_move_the_sequence() {
    let endpoints = cluster(&[1, 1]);
    let picker = build(Arc::clone(&endpoints), Algorithm::RoundRobin, None);
    let (cursor, mut random) = (Cursor::default(), XorShift::new(3));
    let mut firsts = [0; 2];
    for _ in 0..100 {
        let mut pick =
            |tried: &[u32]| picker.pick(&cursor, None, tried, Instant::now(), &mut || random.bits()).unwrap();
        let first = pick(&[]);
        firsts[first] += 1;
        if first == 0 {
            assert_eq!(pick(&[0]), 1);
        }
    }
    assert_eq!(firsts, [50, 50]);
}

#[test]
fn round_robin_goes_on_across_rebuilds() {
    let endpoints = cluster(&[1; 4]);
    let (cursor, mut picked) = (Cursor::default(), Vec::new());
    for _ in 0..6 {
        let picker = build(Arc::clone(&endpoints), Algorithm::RoundRobin, None);
        picked.push(picker.pick(&cursor, None, &[], Instant::now(), &mut || 0).unwrap());
    }
    assert_eq!(picked, [0, 1, 2, 3, 0, 1]);
}

#[test]
fn least_request_prefers_the_less_loaded() {
    let endpoints = cluster(&[1, 1]);
    let picker = build(Arc::clone(&endpoints), Algorithm::LeastRequest, None);
    let _one = endpoints[0].begin();
    check_shares("one in flight at the first", &counts(&picker, 2_000, |_| None), &[0.0, 1.0], 0.0);

    // Weighted: four requests at weight 8 are less than two at weight 1.
    let endpoints = cluster(&[8, 1]);
    let picker = build(Arc::clone(&endpoints), Algorithm::LeastRequest, None);
    let _four: Vec<_> = (0..4).map(|_| endpoints[0].begin()).collect();
    let _two: Vec<_> = (0..2).map(|_| endpoints[1].begin()).collect();
    check_shares("weights 8 and 1", &counts(&picker, 2_000, |_| None), &[1.0, 0.0], 0.0);
}

#[test]
fn a_busy_cluster_has_requests_in_flight_by_weight() {
    for weights in [&[1, 1, 1, 1][..], &[4, 2, 1, 1], &[9, 1]] {
        let endpoints = cluster(weights);
        let picker = build(Arc::clone(&endpoints), Algorithm::LeastRequest, None);
        let (cursor, mut random) = (Cursor::default(), XorShift::new(4));
        let guards: Vec<_> = (0..400)
            .map(|_| endpoints[picker.pick(&cursor, None, &[], Instant::now(), &mut || random.bits()).unwrap()].begin())
            .collect();
        let total: u32 = weights.iter().sum();
        for (i, endpoint) in endpoints.iter().enumerate() {
            let want = 400.0 * f64::from(weights[i]) / f64::from(total);
            let got = f64::from(endpoint.in_flight());
            assert!((got - want).abs() <= 4.0 + 0.05 * want, "{i} of {weights:?}: {got} in flight, want {want}");
        }
        drop(guards);
    }
}

#[test]
fn two_choices_keep_the_greatest_load_low_at_ten_thousand() {
    let endpoints = cluster(&[1; 10_000]);
    let max = |algorithm| {
        let picker = build(Arc::clone(&endpoints), algorithm, None);
        let (cursor, mut random) = (Cursor::default(), XorShift::new(6));
        let guards: Vec<_> = (0..10_000)
            .map(|_| endpoints[picker.pick(&cursor, None, &[], Instant::now(), &mut || random.bits()).unwrap()].begin())
            .collect();
        let max = endpoints.iter().map(|e| e.in_flight()).max().unwrap();
        drop(guards);
        max
    };
    let (two, one) = (max(Algorithm::LeastRequest), max(Algorithm::Random));
    assert!(two <= 4 && one >= 6, "greatest load with two choices {two}, with one {one}");
}

#[test]
fn scores_are_shares_whatever_the_algorithm() {
    let cases: [(&[u32], &[f32], &[f64]); 5] = [
        (&[1, 1, 1], &[1.0, 1.0, 1.0], &[1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]),
        (&[1, 1, 1], &[2.0, 1.0, 1.0], &[0.5, 0.25, 0.25]),
        (&[1, 3, 1], &[3.0, 1.0, 0.0], &[0.5, 0.5, 0.0]),
        (&[1, 1], &[1e-6, 1.0], &[0.005, 0.995]),
        (&[0, 1, 1], &[9.0, 1.0, 1.0], &[0.0, 0.5, 0.5]),
    ];
    for algorithm in ALL {
        for (weights, scores, shares) in cases {
            let picker = build(cluster(weights), algorithm, Some(scores));
            let what = format!("{algorithm:?} {weights:?} × {scores:?}");
            check_shares(&what, &counts(&picker, 60_000, |_| None), shares, 0.01);
            let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
            for (i, share) in shares.iter().enumerate() {
                let effective = f64::from(picker.effective_weight(i));
                assert!((effective - share * total).abs() < 1e-4, "{what}: effective weight of {i} is {effective}");
            }
        }
    }
}

#[test]
fn scores_that_leave_nobody_count_as_none() {
    let endpoints = cluster(&[1, 1, 1]);
    endpoints[2].set_state(State::Draining, Instant::now());
    let wrong: [&[f32]; 2] = [&[0.0, 0.0, 1.0], &[1.0]];
    for scores in wrong {
        let picker = build(Arc::clone(&endpoints), Algorithm::Random, Some(scores));
        check_shares(&format!("{scores:?}"), &counts(&picker, 10_000, |_| None), &[0.5, 0.5, 0.0], 0.02);
    }
}

#[test]
fn scores_do_not_move_clients() {
    let endpoints = cluster(&[1; 5]);
    for algorithm in ALL {
        let plain = build(Arc::clone(&endpoints), algorithm, None);
        let scored = plain.rescore(Some(&[0.1, 5.0, 1.0, 0.0, 1.0].into()));
        for i in 0..2_000usize {
            let hash = Some(hash_key(&i.to_le_bytes()));
            let pick = |p: &Picker| p.pick(&Cursor::default(), hash, &[], Instant::now(), &mut || 0).unwrap();
            let (before, after) = (pick(&plain), pick(&scored));
            assert_eq!(before == after, before != 3, "{algorithm:?}: key {i} went from {before} to {after}");
        }
    }
}

/// Where each of `keys` goes, by endpoint id.
fn placed(endpoints: Arc<[Arc<Endpoint>]>, algorithm: Algorithm, keys: usize) -> Vec<u64> {
    let picker = build(endpoints, algorithm, None);
    (0..keys)
        .map(|i| {
            let picked = picker
                .pick(&Cursor::default(), Some(hash_key(&i.to_le_bytes())), &[], Instant::now(), &mut || 0)
                .unwrap();
            picker.endpoints()[picked].id()
        })
        .collect()
}

#[test]
fn few_keys_move_when_an_endpoint_goes() {
    const KEYS: usize = 20_000;
    for (algorithm, n, stray) in [
        // Keys that move although their endpoint stays: none on a ring, few in a Maglev table (the paper's figure 11).
        (Algorithm::RingHash, 3, 0.0),
        (Algorithm::RingHash, 20, 0.0),
        (Algorithm::Random, 7, 0.0),
        (Algorithm::Maglev, 3, 0.05),
        (Algorithm::Maglev, 20, 0.05),
    ] {
        let before = placed(named(0..n, |_| 1), algorithm, KEYS);
        let gone = named([1], |_| 1)[0].id();
        let after = placed(named((0..n).filter(|&i| i != 1), |_| 1), algorithm, KEYS);
        let owned = before.iter().filter(|&&id| id == gone).count();
        let moved = before.iter().zip(&after).filter(|(b, a)| **b != gone && b != a).count();
        let what = format!("{algorithm:?} of {n}: {owned} keys of the one that went, {moved} others moved");
        assert!(moved as f64 <= stray * KEYS as f64, "{what}");
        assert!((owned as f64 * n as f64 / KEYS as f64 - 1.0).abs() < 0.2, "{what}");
        assert!(!after.contains(&gone), "{what}");
        // What it had is spread over all others, not heaped on one.
        let heir = |id: u64| before.iter().zip(&after).filter(|(b, a)| **b == gone && **a == id).count();
        let most = named((0..n).filter(|&i| i != 1), |_| 1).iter().map(|e| heir(e.id())).max().unwrap();
        assert!(most * (n - 1) < 3 * owned, "{what}: one inherits {most}");
    }
}

#[test]
fn a_maglev_table_is_even_and_steady() {
    let slots = |names: &mut dyn Iterator<Item = usize>| {
        let picker = build(named(names, |_| 1), Algorithm::Maglev, None);
        let ids: Vec<u64> = picker.endpoints().iter().map(|e| e.id()).collect();
        let step = u64::MAX / 65_537 + 1;
        let hashes = (0..65_537u64).map(|slot| slot.wrapping_mul(step));
        let now = Instant::now();
        hashes
            .map(|hash| ids[picker.pick(&Cursor::default(), Some(hash), &[], now, &mut || 0).unwrap()])
            .collect::<Vec<u64>>()
    };
    let before = slots(&mut (0..100));
    let mut counts = std::collections::HashMap::<u64, usize>::new();
    before.iter().for_each(|id| *counts.entry(*id).or_default() += 1);
    let most = *counts.values().max().unwrap() as f64 / (65_537.0 / 100.0);
    assert!(counts.len() == 100 && most <= 1.03, "the fullest of 100 has {most} of the mean");
    for gone in [0, 17, 99] {
        let id = named([gone], |_| 1)[0].id();
        let after = slots(&mut (0..100).filter(|&i| i != gone));
        let others = before.iter().filter(|b| **b != id).count();
        let moved = before.iter().zip(&after).filter(|(b, a)| **b != id && b != a).count();
        let part = moved as f64 / others as f64;
        assert!(part <= 0.02, "{part} of the keys of others moved when {gone} went");
    }
}

#[test]
fn hashing_does_not_depend_on_the_order_in_the_file() {
    for algorithm in HASHING {
        let forward = placed(named(0..9, |i| 1 + i as u32 % 3), algorithm, 3_000);
        let backward = placed(named((0..9).rev(), |i| 1 + i as u32 % 3), algorithm, 3_000);
        assert_eq!(forward, backward, "{algorithm:?}");
    }
}

#[test]
fn hashing_is_fairly_even_at_ten_thousand() {
    for (algorithm, factor) in [(Algorithm::RingHash, 4.0), (Algorithm::Maglev, 3.0)] {
        let picker = build(cluster(&[1; 10_000]), algorithm, None);
        let counts = counts(&picker, 400_000, |i| Some(mix(i as u64)));
        let (min, max) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(*min > 2 && (*max as f64) < 40.0 * factor, "{algorithm:?}: {min} to {max} of 40 each");
    }
}

#[test]
fn drawn_candidates_are_distinct_and_fair() {
    let mut random = XorShift::new(8);
    let picker = build(cluster(&[9, 1, 1, 0, 1]), Algorithm::LeastRequest, None);
    let mut counts = [0usize; 5];
    for _ in 0..20_000 {
        let drawn = picker.draw(2, &mut || random.bits());
        assert!(drawn.len() == 2 && drawn[0] != drawn[1], "{drawn:?}");
        counts[drawn[0] as usize] += 1;
    }
    check_shares("first drawn", &counts, &[0.25, 0.25, 0.25, 0.0, 0.25], 0.02);
    // Ends and is distinct even where the random bits are all the same.
    let all = picker.draw(8, &mut || 0);
    assert_eq!(all.as_slice(), [0, 1, 2, 4]);
}

#[test]
fn the_best_is_by_score_times_weight() {
    let picker = build(cluster(&[1, 3, 1, 0]), Algorithm::Random, None);
    for (candidates, scores, want) in [
        (&[0u32, 1][..], &[2.0f32, 1.0][..], Some(1)),
        (&[0, 1], &[4.0, 1.0], Some(0)),
        (&[2, 0], &[1.0, 1.0], Some(2)),
        (&[0, 2], &[0.0, 0.1], Some(2)),
        (&[0, 2], &[0.0, 0.0], None),
        (&[3], &[1.0], None),
    ] {
        assert_eq!(picker.best(candidates, scores), want, "{candidates:?} scored {scores:?}");
    }
}
