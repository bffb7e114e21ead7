//! Peak-EWMA: who is slow, busy or failing gets little, and is not forgotten.

use std::time::Duration;

use super::*;
use crate::endpoint::Outcome;

/// A closed loop of clients over endpoints that take so many milliseconds, by virtual time. How many requests each gets.
fn served(millis: &[u64], fails: &[bool], clients: usize, seconds: u64) -> Vec<usize> {
    let start = Instant::now();
    let endpoints = cluster(&vec![1; millis.len()]);
    endpoints.iter().for_each(|e| e.measure_cost(true));
    let picker = build(Arc::clone(&endpoints), Algorithm::PeakEwma, None);
    let (cursor, mut random) = (Cursor::default(), XorShift::new(12));
    let mut under_way = std::collections::BTreeMap::new();
    let mut counts = vec![0; millis.len()];
    let mut begin =
        |at: u64, client: usize, under_way: &mut std::collections::BTreeMap<_, _>, counts: &mut Vec<usize>| {
            let now = start + Duration::from_micros(at);
            let picked = picker.pick(&cursor, None, &[], now, &mut || random.bits()).unwrap();
            counts[picked] += 1;
            under_way.insert((at + millis[picked] * 1000, client), (at, picked, endpoints[picked].begin()));
        };
    (0..clients).for_each(|client| begin(client as u64, client, &mut under_way, &mut counts));
    while let Some(((end, client), (began, picked, guard))) = under_way.pop_first() {
        if end > seconds * 1_000_000 {
            break;
        }
        let outcome = if fails[picked] { Outcome::ServerError } else { Outcome::Success };
        let took = Duration::from_micros(end - began);
        endpoints[picked].record(start + Duration::from_micros(end), Some(took), outcome);
        drop(guard);
        begin(end, client, &mut under_way, &mut counts);
    }
    counts
}

#[test]
fn equals_share_evenly() {
    let counts = served(&[5; 4], &[false; 4], 32, 30);
    let total: usize = counts.iter().sum();
    check_shares("four equals", &counts, &[0.25; 4], 0.02);
    assert!(total > 32 * 5_000, "{counts:?}");
}

#[test]
fn the_slow_get_little_and_are_asked_now_and_then() {
    let counts = served(&[5, 5, 5, 50], &[false; 4], 16, 60);
    let total: usize = counts.iter().sum();
    assert!(counts[3] > 1 && counts[3] * 200 < total, "ten times slower: {counts:?}");
}

#[test]
fn quick_errors_attract_no_traffic() {
    let counts = served(&[5, 5, 5, 1], &[false, false, false, true], 16, 60);
    let total: usize = counts.iter().sum();
    assert!(counts[3] > 1 && counts[3] * 500 < total, "one that fails at once: {counts:?}");
}

#[test]
fn a_new_one_is_asked_by_one_request_at_a_time() {
    let endpoints = cluster(&[1; 3]);
    endpoints.iter().for_each(|e| e.measure_cost(true));
    let now = Instant::now();
    for known in &endpoints[..2] {
        known.record(now, Some(Duration::from_millis(1)), Outcome::Success);
    }
    let picker = build(Arc::clone(&endpoints), Algorithm::PeakEwma, None);
    let mut random = XorShift::new(3);
    let mut pick = || picker.pick(&Cursor::default(), None, &[], now, &mut || random.bits()).unwrap();
    let first = (0..1000).position(|_| pick() == 2).expect("the new one costs nothing");
    assert!(first < 20, "after {first} picks");
    let _asked = endpoints[2].begin();
    assert!((0..1000).all(|_| pick() != 2), "while it is being found out it is left alone");
}

#[test]
fn weights_count() {
    let endpoints = cluster(&[4, 1]);
    let now = Instant::now();
    for endpoint in endpoints.iter() {
        endpoint.measure_cost(true);
        endpoint.record(now, Some(Duration::from_millis(10)), Outcome::Success);
    }
    let picker = build(Arc::clone(&endpoints), Algorithm::PeakEwma, None);
    let mut random = XorShift::new(4);
    let guards: Vec<_> = (0..500)
        .map(|_| endpoints[picker.pick(&Cursor::default(), None, &[], now, &mut || random.bits()).unwrap()].begin())
        .collect();
    let counts: Vec<usize> = endpoints.iter().map(|e| e.in_flight() as usize).collect();
    check_shares("in flight at weights 4 and 1", &counts, &[0.8, 0.2], 0.02);
    drop(guards);
}
