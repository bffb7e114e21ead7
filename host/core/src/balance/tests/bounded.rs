//! Keys with bounded loads: never above the factor, and where there is room a key keeps its endpoint.

use super::*;
use crate::endpoint::ClusterLoad;

fn bounded(weights: &[u32], algorithm: Algorithm, factor: u32) -> (Arc<[Arc<Endpoint>]>, Picker) {
    let endpoints = cluster(weights);
    let load = Arc::new(ClusterLoad::default());
    endpoints.iter().for_each(|e| e.count_in(&load));
    let rules = Rules { hash_balance_factor: Some(factor), ..Rules::default() };
    let picker = Picker::new(Arc::clone(&endpoints), algorithm, rules, Instant::now());
    (endpoints, picker)
}

#[test]
fn no_load_is_above_its_factor() {
    for algorithm in HASHING {
        for (weights, factor) in [(&[1; 10][..], 125), (&[1; 3], 101), (&[5, 1, 1, 3], 150), (&[1; 100], 110)] {
            let (endpoints, picker) = bounded(weights, algorithm, factor);
            let (mut random, mut held) = (XorShift::new(9), Vec::new());
            let total: u32 = weights.iter().sum();
            let now = Instant::now();
            for step in 0..5_000u32 {
                // A few keys are hot.
                let key = if random.below(2) == 0 { random.below(3) as u64 } else { random.bits() };
                let hash = Some(hash_key(&key.to_le_bytes()));
                let picked = picker.pick(&Cursor::default(), hash, &[], now, &mut || random.bits()).unwrap();
                held.push(endpoints[picked].begin());
                let all = held.len() as f64;
                let most = (f64::from(factor) / 100.0 * all * f64::from(weights[picked]) / f64::from(total)).ceil();
                let got = f64::from(endpoints[picked].in_flight());
                assert!(got <= most, "{algorithm:?} {weights:?} step {step}: {got} of {all} at {picked}, most {most}");
                while held.len() > 400 || (held.len() > 10 && random.below(3) == 0) {
                    drop(held.swap_remove(random.below(held.len())));
                }
            }
        }
    }
}

#[test]
fn a_key_keeps_its_endpoint_while_there_is_room() {
    for algorithm in HASHING {
        let (_, picker) = bounded(&[1; 7], algorithm, 150);
        let free = build(cluster(&[1; 7]), algorithm, None);
        for key in 0..1_000u64 {
            let pick = |p: &Picker| {
                p.pick(&Cursor::default(), Some(hash_key(&key.to_le_bytes())), &[], Instant::now(), &mut || 0).unwrap()
            };
            assert_eq!(pick(&picker), pick(&free), "{algorithm:?}: an idle cluster bounds nothing");
        }
    }
}

#[test]
fn what_counts_in_the_cluster_is_what_began_there() {
    let endpoints = cluster(&[1, 1]);
    let before = endpoints[0].begin();
    let load = Arc::new(ClusterLoad::default());
    endpoints.iter().for_each(|e| e.count_in(&load));
    let (a, b) = (endpoints[0].begin(), endpoints[1].begin());
    assert_eq!((load.in_flight(), endpoints[0].cluster_in_flight()), (2, Some(2)));
    drop(before);
    assert_eq!(load.in_flight(), 2, "it began before anybody counted");
    drop((a, b));
    assert_eq!(load.in_flight(), 0);
}
