use super::*;
use crate::endpoint::{Cause, Health, State};

fn endpoints(weights: &[u32], now: Instant) -> Vec<Arc<Endpoint>> {
    let new = |(n, weight): (usize, &u32)| {
        let config = config::Endpoint { address: format!("10.0.0.{n}:80"), weight: *weight, zone: None, priority: 0 };
        Arc::new(Endpoint::new(&config, now))
    };
    weights.iter().enumerate().map(new).collect()
}

#[track_caller]
fn check(what: &str, all: &[Arc<Endpoint>], rules: &Rules, now: Instant, want: &[(usize, f64)]) {
    let Eligible { candidates, unit, .. } = eligible(all, rules, now);
    let got: Vec<_> = candidates.iter().map(|c| (c.index, f64::from(c.effective) / f64::from(unit))).collect();
    let near = |((i, a), (j, b)): (&(usize, f64), &(usize, f64))| i == j && (a - b).abs() <= 0.002 * b.max(1.0);
    assert!(got.len() == want.len() && got.iter().zip(want).all(near), "{what}: {got:?}, want {want:?}");
}

#[test]
fn draining_and_weightless_endpoints_are_out() {
    let (now, rules) = (Instant::now(), Rules::default());
    let all = endpoints(&[1, 0, 2, 3], now);
    all[3].set_state(State::Draining, now);
    check("one drains", &all, &rules, now, &[(0, 1.0), (2, 2.0)]);
    all[3].set_state(State::Active, now);
    all[0].set_weight(0);
    check("one has no weight", &all, &rules, now, &[(2, 2.0), (3, 3.0)]);
    all[2].set_leaving(true, now);
    check("one says that it leaves", &all, &rules, now, &[(3, 3.0)]);
    all[3].set_health(Health::Unhealthy, now);
    check("not even a panic calls it back", &all, &rules, now, &[(3, 3.0)]);
    assert!(eligible(&all, &rules, now).panic);
}

#[test]
fn unhealthy_and_ejected_endpoints_are_out_until_too_few_are_left() {
    let (now, rules) = (Instant::now(), Rules::default());
    let all = endpoints(&[1; 5], now);
    all[0].set_health(Health::Unhealthy, now);
    all[1].eject(Cause::Consecutive5xx, now + Duration::from_secs(30));
    check("two of five", &all, &rules, now, &[(2, 1.0), (3, 1.0), (4, 1.0)]);
    assert!(!eligible(&all, &rules, now).panic);
    all[2].set_health(Health::Waiting, now);
    let panicking = eligible(&all, &rules, now);
    assert_eq!((panicking.candidates.len(), panicking.panic), (5, true), "three of five");
    let calm = Rules { panic_percent: 0, ..rules.clone() };
    check("three of five, without panic", &all, &calm, now, &[(3, 1.0), (4, 1.0)]);
    all[0].set_state(State::Draining, now);
    check("who drains does not count", &all, &rules, now, &[(3, 1.0), (4, 1.0)]);
    (3..5).for_each(|i| _ = all[i].set_health(Health::Unhealthy, now));
    check("not even in a panic", &all, &rules, now, &[(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0)]);
    assert_eq!(eligible(&all, &calm, now).candidates, []);
}

#[test]
fn who_comes_later_warms_up() {
    let start = Instant::now();
    let at = |s| start + Duration::from_secs(s);
    let slow = SlowStart { window: Duration::from_secs(30), aggression: 1.0, min_weight_percent: 10 };
    let rules = Rules { slow_start: Some(slow), ..Rules::default() };
    let all = endpoints(&[2, 4, 1], start);
    check("all were there from the start", &all, &rules, start, &[(0, 2.0), (1, 4.0), (2, 1.0)]);
    assert_eq!(step(&all, &rules, start), None);
    all[1].join(at(10), false);
    for (second, weight) in [(10, 0.4), (13, 0.4), (16, 0.8), (25, 2.0), (39, 3.867), (40, 4.0)] {
        let what = format!("after {second} s");
        check(&what, &all, &rules, at(second), &[(0, 2.0), (1, weight), (2, 1.0)]);
    }
    assert_eq!(step(&all, &rules, at(39)), Some(Duration::from_millis(120)));
    assert_eq!(step(&all, &rules, at(40)), None);
    let eager = Rules { slow_start: Some(SlowStart { aggression: 2.0, ..slow }), ..rules.clone() };
    check("a root", &all, &eager, at(10 + 15), &[(0, 2.0), (1, 4.0 * 0.5f64.sqrt()), (2, 1.0)]);
    check("off", &all, &Rules::default(), at(11), &[(0, 2.0), (1, 4.0), (2, 1.0)]);
}

#[test]
fn if_everyone_is_new_no_one_is_slow() {
    let start = Instant::now();
    let at = |s| start + Duration::from_secs(s);
    let slow = SlowStart { window: Duration::from_secs(30), aggression: 1.0, min_weight_percent: 10 };
    let rules = Rules { slow_start: Some(slow), ..Rules::default() };
    let all = endpoints(&[1, 1, 1], start);
    all.iter().for_each(|e| e.join(start, false));
    check("all at once", &all, &rules, at(1), &[(0, 1.0), (1, 1.0), (2, 1.0)]);
    all[2].join(at(9), false);
    check("the last", &all, &rules, at(15), &[(0, 1.0), (1, 1.0), (2, 0.4)]);
}

#[test]
fn who_was_ejected_does_not_return_at_full_weight() {
    let start = Instant::now();
    let at = |s| start + Duration::from_secs(s);
    let all = endpoints(&[1, 1], start);
    all[0].set_health(Health::Unhealthy, start);
    all[0].set_health(Health::Healthy, at(1));
    check("a check is a proof", &all, &Rules::default(), at(1), &[(0, 1.0), (1, 1.0)]);
    all[1].eject(Cause::Consecutive5xx, at(20));
    all[1].readmit(at(20));
    check("at first", &all, &Rules::default(), at(20), &[(0, 1.0), (1, 0.1)]);
    check("after five seconds", &all, &Rules::default(), at(25), &[(0, 1.0), (1, 0.5)]);
    check("after ten", &all, &Rules::default(), at(30), &[(0, 1.0), (1, 1.0)]);
}

/// Endpoints by priority, zone and whether they are healthy.
fn placed(all: &[(u32, &str, bool)], now: Instant) -> Vec<Arc<Endpoint>> {
    let new = |(n, (priority, zone, healthy)): (usize, &(u32, &str, bool))| {
        let address = format!("10.0.0.{n}:80");
        let zone = (!zone.is_empty()).then(|| (*zone).to_owned());
        let endpoint = Endpoint::new(&config::Endpoint { address, weight: 1, zone, priority: *priority }, now);
        endpoint.set_health(if *healthy { Health::Healthy } else { Health::Unhealthy }, now);
        Arc::new(endpoint)
    };
    all.iter().enumerate().map(new).collect()
}

#[track_caller]
fn check_shares(what: &str, all: &[(u32, &str, bool)], rules: &Rules, want: &[(usize, f64)]) {
    let now = Instant::now();
    let Eligible { candidates, shares, .. } = eligible(&placed(all, now), rules, now);
    let total: f64 = candidates.iter().map(|c| f64::from(c.effective)).sum();
    let got: Vec<_> = candidates.iter().map(|c| (c.index, f64::from(c.effective) / total)).collect();
    let near = |((i, a), (j, b)): (&(usize, f64), &(usize, f64))| i == j && (a - b).abs() <= 1e-4;
    assert!(got.len() == want.len() && got.iter().zip(want).all(near), "{what}: {got:?}, want {want:?}");
    for (level, share) in shares.iter().enumerate() {
        let of_level = candidates.iter().filter(|c| usize::from(c.level) == level);
        let got: f64 = of_level.map(|c| f64::from(c.effective) / total).sum();
        assert!((got - share).abs() < 1e-4, "{what}: level {level} has {got}, want {share}");
    }
    let lasting: f64 = candidates.iter().map(|c| f64::from(c.lasting)).sum();
    let same = |c: &Candidate| (f64::from(c.lasting) / lasting - f64::from(c.effective) / total).abs() < 1e-4;
    assert!(candidates.iter().all(same), "{what}: keys are spread as the rest is: {candidates:?}");
}

#[test]
fn a_lower_priority_takes_what_the_first_cannot_carry() {
    let rules = Rules::default();
    let (up, down) = (true, false);
    let second = [(1, "", up), (1, "", up)];
    let with = |first: &[bool]| [&first.iter().map(|up| (0, "", *up)).collect::<Vec<_>>()[..], &second].concat();
    check_shares("all are up", &with(&[up, up, up, up]), &rules, &[(0, 0.25), (1, 0.25), (2, 0.25), (3, 0.25)]);
    check_shares("three of four", &with(&[up, up, up, down]), &rules, &[(0, 1. / 3.), (1, 1. / 3.), (2, 1. / 3.)]);
    let half = [(0, 0.35), (1, 0.35), (4, 0.15), (5, 0.15)];
    check_shares("half of them", &with(&[up, up, down, down]), &rules, &half);
    check_shares("none", &with(&[down, down, down, down]), &rules, &[(4, 0.5), (5, 0.5)]);
    let eager = Rules { overprovisioning: 1.0, ..rules.clone() };
    let eager_half = [(0, 0.25), (1, 0.25), (4, 0.25), (5, 0.25)];
    check_shares("half of them, and no more than that", &with(&[up, up, down, down]), &eager, &eager_half);
    let sick = [(0, "", up), (0, "", down), (0, "", down), (1, "", down), (1, "", down)];
    check_shares("too few in all", &sick, &rules, &[(0, 0.2), (1, 0.2), (2, 0.2), (3, 0.2), (4, 0.2)]);
    let calm = Rules { panic_percent: 0, ..rules.clone() };
    check_shares("too few in all, and no panic", &sick, &calm, &[(0, 1.0)]);
}

#[test]
fn the_own_zone_comes_first_and_the_others_in_their_order() {
    let zones = |named: &[&str]| Rules { zones: named.iter().map(|z| (*z).to_owned()).collect(), ..Rules::default() };
    let (up, down) = (true, false);
    let all = |a: [bool; 2], b: bool, c: bool| [(0, "a", a[0]), (0, "a", a[1]), (0, "b", b), (0, "c", c), (0, "", up)];
    let own = [(0, 0.5), (1, 0.5)];
    check_shares("the own one", &all([up, up], up, up), &zones(&["a"]), &own);
    check_shares("no zone of its own", &all([up, up], up, up), &zones(&[]), &[0, 1, 2, 3, 4].map(|i| (i, 0.2)));
    let spilt = [(0, 0.7), (2, 0.1), (3, 0.1), (4, 0.1)];
    check_shares("half of it is down", &all([up, down], up, up), &zones(&["a"]), &spilt);
    check_shares("the next is named", &all([up, down], up, up), &zones(&["a", "c"]), &[(0, 0.7), (3, 0.3)]);
    check_shares("two are down", &all([down, down], up, up), &zones(&["a", "c"]), &[(3, 1.0)]);
    check_shares("a zone that nobody is in", &all([up, up], up, up), &zones(&["x", "b"]), &[(2, 1.0)]);
    let backup = [(0, "b", up), (1, "a", up)];
    check_shares("a priority goes before a zone", &backup, &zones(&["a"]), &[(0, 1.0)]);
}

#[test]
fn who_warms_up_is_slow_within_its_level() {
    let start = Instant::now();
    let at = |s| start + Duration::from_secs(s);
    let slow = SlowStart { window: Duration::from_secs(10), aggression: 1.0, min_weight_percent: 10 };
    let rules = Rules { slow_start: Some(slow), ..Rules::default() };
    let all = placed(&[(0, "", true), (0, "", false), (1, "", true), (1, "", true)], start);
    all[2].join(start, false);
    let Eligible { candidates, shares, .. } = eligible(&all, &rules, at(5));
    let total: f64 = candidates.iter().map(|c| f64::from(c.effective)).sum();
    let part = |at: usize| f64::from(candidates[at].effective) / total;
    assert!((part(1) / part(2) - 0.5).abs() < 1e-3, "{candidates:?}");
    assert_eq!(shares.len(), 2);
    assert_eq!(candidates[1].lasting, candidates[2].lasting, "keys do not follow warmth");
}
