//! What an operator relies on: exact shares, users that never move, and a configuration that is checked.

use std::collections::HashMap;

use canary::Canary;
use witgate_sdk::testing::{Harness, Request, Value, json};

const USERS: usize = 20_000;
const OFFER: [(&str, u32); 2] = [("stable", 95), ("canary", 5)];

fn canary(config: Value) -> Harness<Canary> {
    Harness::new(config.clone()).unwrap_or_else(|error| panic!("{config} was refused: {error}"))
}

fn user(n: usize) -> Request {
    Request::get("/").cookie("uid", &format!("user-{n}"))
}

/// The users that a configuration puts into the canary.
fn chosen(config: Value) -> Vec<usize> {
    let mut plugin = canary(config);
    (0..USERS).filter(|&n| plugin.split(&user(n), &OFFER) == Some("canary")).collect()
}

#[test]
fn the_share_of_users_is_what_was_asked_for() {
    for percent in [0.0, 0.5, 1.0, 5.0, 10.0, 33.3, 50.0, 99.0, 100.0] {
        let share = chosen(json!({ "percent": percent })).len() as f64 * 100.0 / USERS as f64;
        let exact = percent == 0.0 || percent == 100.0;
        let tolerance = if exact { 0.0 } else { 1.0 };
        assert!((share - percent).abs() <= tolerance, "percent = {percent} gave {share} %");
    }
}

#[test]
fn raising_the_percentage_never_moves_a_user_out() {
    let mut before = chosen(json!({ "percent": 0.0 }));
    for percent in [1, 2, 5, 10, 25, 50, 75, 100] {
        let after = chosen(json!({ "percent": percent }));
        let lost = before.iter().find(|user| after.binary_search(user).is_err());
        assert!(lost.is_none(), "user {lost:?} left the canary at {percent} %");
        before = after;
    }
}

#[test]
fn a_user_stays_whatever_instance_answers_and_whatever_the_weights_are() {
    let (mut one, mut other) = (canary(json!({ "percent": 20 })), canary(json!({ "percent": 20 })));
    for n in 0..1_000 {
        let first = one.split(&user(n), &OFFER);
        let second = other.split(&user(n), &[("stable", 1), ("canary", 1)]);
        assert_eq!(first, second, "user {n}");
    }
}

#[test]
fn salts_make_canaries_independent() {
    let one = chosen(json!({ "percent": 10, "salt": "one" }));
    let both = chosen(json!({ "percent": 10, "salt": "two" })).iter().filter(|n| one.contains(n)).count();
    let share = both as f64 * 100.0 / USERS as f64;
    assert!((share - 1.0).abs() < 0.3, "{share} % are in both of two 10 % canaries, 1 % expected");
}

#[test]
fn the_rest_is_shared_by_weight() {
    let offer = [("blue", 30), ("canary", 0), ("green", 10), ("off", 0)];
    let mut plugin = canary(json!({ "cluster": "canary", "percent": 20 }));
    let mut counts = HashMap::new();
    (0..USERS).for_each(|n| *counts.entry(plugin.split(&user(n), &offer).unwrap()).or_insert(0) += 1);
    for (cluster, expected) in [("blue", 60.0), ("canary", 20.0), ("green", 20.0), ("off", 0.0)] {
        let share = f64::from(*counts.get(cluster).unwrap_or(&0)) * 100.0 / USERS as f64;
        assert!((share - expected).abs() < 1.0, "{cluster} got {share} %, {expected} % expected: {counts:?}");
    }
}

#[test]
fn requests() {
    let forced = || json!({ "percent": 0, "force": { "header": "x-canary", "cookie": "canary" } });
    let all = || json!({ "percent": 100, "force": { "header": "x-canary" } });
    let anyone = Request::get("/");
    let known = user(1);
    check(forced(), &known, Some("stable"));
    check(forced(), &known.clone().header("X-Canary", "1"), Some("canary"));
    check(forced(), &anyone.clone().header("x-canary", "true"), Some("canary"));
    check(forced(), &anyone.clone().cookie("canary", "true"), Some("canary"));
    check(forced(), &anyone.clone().cookie("canary", "0"), Some("stable"));
    check(forced(), &known.clone().header("x-canary", "0").cookie("canary", "1"), Some("stable"));
    check(forced(), &known.clone().header("x-canary", "maybe").cookie("canary", "1"), Some("canary"));
    check(all(), &known, Some("canary"));
    check(all(), &known.clone().header("x-canary", "false"), Some("stable"));
    check(all(), &anyone, None);
    check(all(), &Request::get("/").cookie("uid", ""), None);
    check(json!({ "percent": 100, "by": [{ "header": "x-user" }, "client-address"] }), &anyone, Some("canary"));
    check(json!({ "percent": 100, "cluster": "stable" }), &known, Some("stable"));
    check(json!({ "percent": 100, "cluster": "elsewhere" }), &known, None);
}

fn check(config: Value, request: &Request, expected: Option<&str>) {
    let mut plugin = canary(config.clone());
    let chosen = plugin.split(request, &OFFER);
    assert_eq!(chosen, expected, "{config} asked about {request:?}");
    assert!(plugin.host_calls() <= 1, "{config} reads fields that it does not declare");
}

#[test]
fn only_the_canary_is_left() {
    assert_eq!(canary(json!({ "percent": 0 })).split(&user(1), &[("canary", 1)]), None);
    assert_eq!(canary(json!({ "percent": 100 })).split(&user(1), &[("canary", 1)]), Some("canary"));
}

#[test]
fn mistakes_are_named() {
    for (config, expected) in [
        (json!({ "percent": 101 }), "percent: 101 is not between 0 and 100"),
        (json!({ "percent": "5" }), "percent: invalid type: string \"5\", expected f64"),
        (json!({ "percnt": 5 }), "percnt: unknown field `percnt`, expected one of `cluster`, `percent`, `by`"),
        (json!({ "by": [] }), "by: name at least one field"),
        (json!({ "by": [{ "cooky": "uid" }] }), "by[0]: unknown variant `cooky`, expected one of"),
        (json!({ "force": { "header": 1 } }), "force.header: invalid type: integer `1`, expected a string"),
    ] {
        let error = Harness::<Canary>::new(config.clone()).err().unwrap_or_default();
        assert!(error.starts_with(expected), "{config} gave {error:?}, expected {expected:?}");
    }
}
