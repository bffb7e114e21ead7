//! What an operator relies on: the better endpoint gets more, none is starved, and the shares come to rest.

use core::time::Duration;
use std::collections::HashMap;

use latency::{Config, Latency};
use serde::Deserialize;
use witgate_sdk::testing::{Harness, Request, Value, advance, json};
use witgate_sdk::{Endpoint, Endpoints, Fields, Plugin, Scorer};

fn latency(config: Value) -> Harness<Latency> {
    Harness::new(config.clone()).unwrap_or_else(|error| panic!("{config} was refused: {error}"))
}

/// Endpoints with ids from 1, each given as (latency, in flight, success rate).
fn endpoints(rows: &[(f32, u32, f32)]) -> Endpoints {
    let rows = rows.iter().zip(1..);
    rows.map(|(&(latency_ms, in_flight, success_rate), id)| Endpoint {
        id,
        latency_ms,
        in_flight,
        success_rate,
        ..Endpoint::default()
    })
    .collect()
}

/// Ratio of the second endpoint's score to the first's.
#[track_caller]
fn check(config: Value, first: (f32, u32, f32), second: (f32, u32, f32), expected: f32) {
    let scores = latency(config.clone()).weigh(&endpoints(&[first, second]));
    let ratio = scores[1] / scores[0];
    let close = (ratio / expected - 1.0).abs() < 0.02;
    assert!(close, "{config}: {second:?} beside {first:?} got {ratio} of it, {expected} expected");
}

#[test]
fn scores_follow_the_formula() {
    let base = (10.0, 0, 1.0);
    check(json!({}), base, base, 1.0);
    check(json!({}), base, (20.0, 0, 1.0), 0.5);
    check(json!({}), base, (5.0, 0, 1.0), 2.0);
    check(json!({}), base, (10.0, 3, 1.0), 0.25);
    check(json!({}), base, (10.0, 0, 0.8), 0.512);
    check(json!({}), base, (20.0, 1, 1.0), 0.25);
    check(json!({}), base, (0.0, 0, 1.0), 1.0);
    check(json!({}), (0.0, 0, 1.0), (0.0, 0, 1.0), 1.0);
    check(json!({ "speed": 0 }), base, (500.0, 0, 1.0), 1.0);
    check(json!({ "speed": 2 }), base, (20.0, 0, 1.0), 0.25);
    check(json!({ "load": 0 }), base, (10.0, 9, 1.0), 1.0);
    check(json!({ "success": 0 }), base, (10.0, 0, 0.5), 1.0);
}

/// What the plugin's documentation says, endpoint by endpoint.
#[derive(Default)]
struct Formula {
    known: HashMap<u64, (f32, Duration)>,
}

impl Formula {
    fn weigh(&mut self, [speed, load, success, smooth, floor]: [f32; 5], now: Duration, rows: &[Endpoint]) -> Vec<f32> {
        let mut measured: Vec<f32> = rows.iter().map(|row| row.latency_ms).filter(|latency| *latency > 0.0).collect();
        measured.sort_by(f32::total_cmp);
        let median = measured.get(measured.len() / 2).copied().unwrap_or(1.0);
        let busy = |row: &Endpoint| row.in_flight as f32 / row.weight.max(1) as f32;
        let mean = rows.iter().map(busy).sum::<f32>() / rows.len() as f32;
        let mut follow = |row: &Endpoint| {
            let latency = if row.latency_ms > 0.0 { row.latency_ms } else { median };
            let raw = (median / latency).powf(speed) * ((1.0 + mean) / (1.0 + busy(row))).powf(load);
            let raw = (raw * row.success_rate.powf(success)).clamp(floor, 1.0 / floor);
            let (last, at) = self.known.get(&row.id).copied().unwrap_or((raw, now));
            let passed = now.saturating_sub(at).as_secs_f32();
            let left = if smooth == 0.0 { 0.0 } else { (-passed / smooth).exp() };
            self.known.insert(row.id, (raw + (last - raw) * left, now));
            raw + (last - raw) * left
        };
        let scores: Vec<f32> = rows.iter().map(&mut follow).collect();
        let best = scores.iter().copied().fold(0.0, f32::max);
        scores.into_iter().map(|score| score.max(floor * best)).collect()
    }
}

/// Clusters that share an instance and no endpoint, while endpoints come, go and change places, latencies are missing, and
/// time stands still or goes backwards.
#[test]
fn scores_are_those_of_the_formula_whatever_happens() {
    let mut random = 1u64;
    let mut next = |below: u32| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as u32 % below
    };
    for (speed, load, success, smooth, floor) in [
        (1.0, 1.0, 3.0, 2.0, 0.05),
        (0.0, 2.0, 3.0, 1.0, 0.01),
        (1.5, 1.0, 0.5, 0.0, 0.05),
        (4.0, 0.5, 10.0, 60.0, 0.2),
    ] {
        let config = json!({
            "speed": speed, "load": load, "success": success, "smooth": format!("{smooth}s"), "floor": floor
        });
        let config = Config::deserialize(config).unwrap();
        let mut plugin = Latency::configure(config, &mut Fields::default()).unwrap();
        let mut formula = Formula::default();
        let mut now = Duration::from_secs(5);
        let mut clusters = [2, 16, 64, 300].map(|count| (0..count).collect::<Vec<u64>>());
        for step in 0..400 {
            now = match next(20) {
                0 => now - Duration::from_millis(30),
                1 => now,
                _ => now + Duration::from_millis(next(500).into()),
            };
            let which = (step % 4) as usize;
            let cluster = &mut clusters[which];
            let (one, other) = (next(cluster.len() as u32) as usize, next(cluster.len() as u32) as usize);
            match next(10) {
                0 if cluster.len() > 1 => _ = cluster.remove(one),
                1 => cluster.insert(one, 1_000 + u64::from(next(20))),
                2 => cluster.swap(one, other),
                _ => {}
            }
            cluster.dedup();
            let rows: Vec<Endpoint> = cluster
                .iter()
                .map(|id| Endpoint {
                    id: which as u64 * 10_000 + id,
                    in_flight: next(20),
                    latency_ms: if next(9) == 0 { 0.0 } else { 1.0 + next(3_000) as f32 / 100.0 },
                    success_rate: next(101) as f32 / 100.0,
                    weight: next(4),
                    ..Endpoint::default()
                })
                .collect();
            let scores = plugin.weigh(now, &rows.iter().copied().collect());
            let expected = formula.weigh([speed, load, success, smooth, floor], now, &rows);
            // The median of many is up to 1/64 less than theirs.
            let least = if rows.len() > 16 { (63.0_f32 / 64.0).powf(speed) } else { 1.0 };
            for ((row, score), expected) in rows.iter().zip(&scores).zip(&expected) {
                let close = *score > expected * least * 0.9999 && *score < expected * 1.0001;
                assert!(close, "step {step}: {score}, and {expected} by the formula, for {row:?} in {rows:?}");
            }
            assert_eq!(scores.len(), rows.len());
        }
    }
}

#[test]
fn a_new_endpoint_counts_as_the_median_one() {
    let scores = latency(json!({})).weigh(&endpoints(&[(5.0, 0, 1.0), (10.0, 0, 1.0), (40.0, 0, 1.0), (0.0, 0, 1.0)]));
    assert_eq!(scores[3], scores[1], "{scores:?}");
}

#[test]
fn load_is_seen_beside_the_weight() {
    let row = |id, weight, in_flight| Endpoint { id, weight, in_flight, latency_ms: 10.0, ..Endpoint::default() };
    let scores = latency(json!({})).weigh(&[row(1, 1, 2), row(2, 4, 8)].into_iter().collect());
    assert_eq!(scores[0], scores[1], "as busy for their weight: {scores:?}");
}

#[test]
fn the_worst_keeps_the_floor() {
    for floor in [0.01, 0.05, 0.5, 1.0] {
        let scores = latency(json!({ "floor": floor })).weigh(&endpoints(&[(1.0, 0, 1.0), (90_000.0, 500, 0.0)]));
        let share = scores[1] / scores[0];
        assert!(share >= floor * 0.999, "floor = {floor}: {scores:?}");
    }
}

#[test]
fn extremes_stay_acceptable() {
    let mut plugin = latency(json!({ "speed": 4, "load": 4, "success": 10, "floor": 0.001 }));
    let wild = endpoints(&[(1e-30, u32::MAX, 0.0), (f32::MAX, u32::MAX, 0.0), (f32::MAX, 0, 1.0), (0.0, 0, 0.0)]);
    plugin.weigh(&wild);
    (0..1_000).for_each(|_| _ = plugin.pick(&Request::get("/"), &wild));
    plugin.weigh(&endpoints(&[]));
}

#[test]
fn a_change_is_followed_smoothly() {
    let mut plugin = latency(json!({ "smooth": "2s" }));
    let share = |plugin: &mut Harness<Latency>, slow| {
        let scores = plugin.weigh(&endpoints(&[(10.0, 0, 1.0), (slow, 0, 1.0), (10.0, 0, 1.0)]));
        scores[1] / scores[0]
    };
    assert_eq!(share(&mut plugin, 10.0), 1.0);
    let mut last = 1.0;
    for step in 1..=100 {
        advance(Duration::from_millis(100));
        let now = share(&mut plugin, 40.0);
        let expected = 0.25 + 0.75 * (-0.05 * step as f32).exp();
        assert!(now < last && (now - expected).abs() < 0.01, "{step}: {last} to {now}, {expected} expected");
        last = now;
    }
}

#[test]
fn clusters_weighed_in_turn_do_not_forget_each_other() {
    let (a, b) =
        (endpoints(&[(10.0, 0, 1.0), (40.0, 0, 1.0), (10.0, 0, 1.0)]), Endpoint { id: 99, ..Endpoint::default() });
    let (mut alone, mut shared) = (latency(json!({})), latency(json!({})));
    for _ in 0..50 {
        advance(Duration::from_millis(100));
        shared.weigh(&[b].into_iter().collect());
        assert_eq!(alone.weigh(&a), shared.weigh(&a));
    }
}

/// Three servers, each an M/M/1 queue (latency = 1 ÷ (capacity − rate)), one of a quarter of the others' capacity; the
/// latency that is reported lags by a moving average of 10 s, as the host's does.
#[test]
fn a_score_goes_with_its_endpoint_whatever_the_order() {
    let (mut ordered, mut shuffled) = (latency(json!({})), latency(json!({})));
    // Endpoints leave, come back within the minute that scores are kept, and after it.
    for (step, (count, wait)) in
        [(5, 1), (3_000, 1), (7, 10), (3_000, 1), (9, 70), (9, 1), (3_000, 1)].iter().enumerate()
    {
        advance(Duration::from_secs(*wait));
        let row = |id: u64| Endpoint { id, latency_ms: 1.0 + ((id + step as u64) % 9) as f32, ..Endpoint::default() };
        let scores = ordered.weigh(&(0..*count).map(row).collect());
        // A stride that shares no factor with any of the counts visits each endpoint once.
        let place = |n: u64| (n * 11 + 4) % count;
        let others = shuffled.weigh(&(0..*count).map(|n| row(place(n))).collect());
        for (n, other) in (0..*count).zip(others) {
            let score = scores[place(n) as usize];
            let close = (score - other).abs() < 1e-4 * score;
            assert!(close, "step {step}, endpoint {}: {score} in order, {other} shuffled", place(n));
        }
    }
}

#[test]
fn shares_come_to_rest_and_overload_nobody() {
    const STEP: f32 = 0.1;
    let capacity = [100.0_f32, 100.0, 25.0];
    let mut plugin = latency(json!({}));
    let (mut reported, mut in_flight) = ([0.0_f32; 3], [0_u32; 3]);
    let mut history = Vec::new();
    for _ in 0..3_000 {
        advance(Duration::from_secs_f32(STEP));
        let rows: Vec<_> = (0..3).map(|i| (reported[i], in_flight[i], 1.0)).collect();
        let scores = plugin.weigh(&endpoints(&rows));
        let total: f32 = scores.iter().sum();
        let rates: Vec<f32> = scores.iter().map(|score| 150.0 * score / total).collect();
        for i in 0..3 {
            let seconds = 1.0 / (capacity[i] - rates[i]).max(1.0);
            let blend = if reported[i] == 0.0 { 1.0 } else { STEP / 10.0 };
            reported[i] += blend * (seconds * 1_000.0 - reported[i]);
            in_flight[i] = (rates[i] * seconds) as u32;
        }
        history.push(rates);
    }
    let rest = &history[2_500..];
    for i in 0..3 {
        let (low, high) =
            rest.iter().fold((f32::MAX, 0.0_f32), |(low, high), rates| (low.min(rates[i]), high.max(rates[i])));
        assert!(high < capacity[i], "server {i} is overloaded: up to {high} of {}", capacity[i]);
        assert!((high - low) / capacity[i] < 0.05, "server {i} still swings between {low} and {high}");
    }
    assert!(rest[0][2] > 5.0 && rest[0][2] < 0.3 * rest[0][0], "the small server gets {:?}", rest[0]);
}

/// How often each endpoint has the best score in 20,000 picks.
fn picks(config: Value, rows: &[(f32, u32, f32)]) -> Vec<usize> {
    let (mut plugin, candidates) = (latency(config), endpoints(rows));
    let mut wins = vec![0; rows.len()];
    for _ in 0..20_000 {
        let scores = plugin.pick(&Request::get("/"), &candidates);
        let best = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).expect("candidates");
        wins[best] += 1;
    }
    wins
}

#[test]
fn picks_prefer_the_best_and_try_the_rest() {
    for (rows, best) in [
        ([(10.0, 1, 1.0), (30.0, 1, 1.0)], 0),
        ([(10.0, 9, 1.0), (30.0, 1, 1.0)], 1),
        ([(10.0, 1, 0.5), (30.0, 1, 1.0)], 1),
    ] {
        let wins = picks(json!({ "floor": 0.1 }), &rows);
        assert!(wins[best] > 17_500, "of {rows:?} endpoint {best} won {wins:?}");
    }
    let wins = picks(json!({ "floor": 0.1 }), &[(1.0, 1, 1.0), (90_000.0, 1, 1.0)]);
    assert!((900..1_100).contains(&wins[1]), "half of a tenth is left to chance: {wins:?}");
}

#[test]
fn ten_thousand_endpoints_are_weighed() {
    let rows: Vec<_> = (0..10_000).map(|n| (1.0 + (n % 100) as f32, n % 7, 1.0)).collect();
    assert_eq!(latency(json!({})).weigh(&endpoints(&rows)).len(), 10_000);
}

#[test]
fn mistakes_are_named() {
    for (config, expected) in [
        (json!({ "speed": -1 }), "speed: -1 is not between 0 and 4"),
        (json!({ "load": 5 }), "load: 5 is not between 0 and 4"),
        (json!({ "success": 11 }), "success: 11 is not between 0 and 10"),
        (json!({ "floor": 0 }), "floor: 0 is not between 0.001 and 1"),
        (json!({ "smooth": 2 }), "smooth: invalid type: integer `2`, expected a string"),
        (json!({ "smooth": "2" }), "smooth: \"2\" is not a duration such as"),
        (json!({ "sped": 1 }), "sped: unknown field `sped`, expected one of"),
    ] {
        let error = Harness::<Latency>::new(config.clone()).err().unwrap_or_default();
        assert!(error.starts_with(expected), "{config} gave {error:?}, expected {expected:?}");
    }
}
