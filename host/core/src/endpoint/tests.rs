//! Endpoints by what is observed and judged of them.

use super::*;

fn endpoint(now: Instant) -> Arc<Endpoint> {
    let config = config::Endpoint { address: "10.0.0.1:80".into(), weight: 3, zone: Some("a".into()), priority: 0 };
    Arc::new(Endpoint::new(&config, now))
}

#[track_caller]
fn check(what: &str, got: f32, want: f32) {
    assert!((got - want).abs() <= 0.01 * want.abs().max(0.1), "{what}: {got}, want {want}");
}

#[test]
fn averages_decay_by_time() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let e = endpoint(start);
    check("unmeasured latency", e.latency_ms(), 0.0);
    check("unmeasured success", e.success_rate(), 1.0);
    e.record(at(5), Some(Duration::from_millis(100)), Outcome::Success);
    check("the first sample", e.latency_ms(), 100.0);
    e.record(at(10_005), Some(Duration::from_millis(200)), Outcome::ServerError);
    let keep = (-1.0f32).exp();
    check("one decay later", e.latency_ms(), 100.0 * keep + 200.0 * (1.0 - keep));
    check("one decay later", e.success_rate(), keep);
    e.record(at(10_005), None, Outcome::Success);
    check("no head, no latency", e.latency_ms(), 100.0 * keep + 200.0 * (1.0 - keep));
    for second in 11..100 {
        e.record(at(second * 1000), Some(Duration::from_millis(20)), Outcome::Success);
    }
    check("after nine decays", e.latency_ms(), 20.0);
    check("after nine decays", e.success_rate(), 1.0);
    assert_eq!((e.requests(), e.failures()), (92, 1));
}

#[test]
fn a_try_that_was_given_up_makes_an_endpoint_slower_and_never_faster() {
    let start = Instant::now();
    let e = endpoint(start);
    e.record(start, Some(Duration::from_millis(100)), Outcome::Success);
    let later = start + Duration::from_secs(10);
    e.given_up(later, Duration::from_millis(50));
    check("no less than that says nothing", e.latency_ms(), 100.0);
    e.given_up(later, Duration::from_millis(200));
    let keep = (-1.0f32).exp();
    check("more than that does", e.latency_ms(), 100.0 * keep + 200.0 * (1.0 - keep));
    assert_eq!((e.requests(), e.failures()), (1, 0));
}

#[test]
fn many_samples_within_a_millisecond_still_count() {
    let start = Instant::now();
    let e = endpoint(start);
    e.record(start, Some(Duration::from_millis(10)), Outcome::Success);
    for _ in 0..10_000 {
        e.record(start, Some(Duration::from_millis(20)), Outcome::Success);
    }
    let keep = (-1.0f32).exp();
    check("10,000 samples are one decay", e.latency_ms(), 10.0 * keep + 20.0 * (1.0 - keep));
}

#[test]
fn late_samples_do_not_turn_time_back() {
    let start = Instant::now();
    let e = endpoint(start);
    e.record(start + Duration::from_secs(20), Some(Duration::from_millis(10)), Outcome::Success);
    e.record(start + Duration::from_secs(19), Some(Duration::from_millis(1000)), Outcome::Success);
    check("a late sample counts as one at once", e.latency_ms(), 10.1);
}

#[test]
fn latencies_are_counted_where_somebody_wants_them() {
    let start = Instant::now();
    let e = endpoint(start);
    e.record(start, Some(Duration::from_millis(1)), Outcome::Success);
    assert_eq!(e.latencies(), None);
    e.count_latencies();
    e.record(start, Some(Duration::from_millis(1)), Outcome::ServerError);
    e.record(start, None, Outcome::Local);
    e.count_latencies();
    assert_eq!(e.latencies(), Some(Latencies::of([Duration::from_millis(1)])), "those with a head, since then");
}

#[test]
fn in_flight_counts_guards() {
    let e = endpoint(Instant::now());
    let (a, b) = (e.begin(), e.begin());
    assert_eq!(e.in_flight(), 2);
    drop(a);
    assert_eq!((e.in_flight(), b.endpoint().address()), (1, "10.0.0.1:80"));
    drop(b);
    assert_eq!(e.in_flight(), 0);
}

#[test]
fn who_comes_back_is_new_again() {
    let start = Instant::now();
    let at = |s| start + Duration::from_secs(s);
    let e = endpoint(start);
    assert_eq!((e.health(), e.is_available(), e.warming_since()), (Health::Unchecked, true, None));
    assert!(e.set_health(Health::Healthy, at(1)), "asked for the first time");
    assert!(!e.set_health(Health::Healthy, at(2)), "nothing new");
    assert_eq!((e.available_since(), e.warming_since()), (start, None), "it was taken for healthy all along");
    assert!(e.set_health(Health::Unhealthy, at(3)));
    assert!(!e.is_available());
    e.set_health(Health::Healthy, at(4));
    assert_eq!((e.is_available(), e.available_since(), e.warming_since()), (true, at(4), Some((at(4), false))));
    e.eject(Cause::Consecutive5xx, at(50));
    assert_eq!((e.is_available(), e.ejected_until()), (false, Some(at(50))));
    e.readmit(at(51));
    e.readmit(at(52));
    assert_eq!((e.is_available(), e.warming_since()), (true, Some((at(51), true))), "readmitted once");
    e.eject(Cause::SuccessRate, at(60));
    assert_eq!((e.severity(), e.ejections()), (2, 2));
    (0..3).for_each(|_| e.forgive());
    assert_eq!((e.severity(), e.ejections()), (0, 2));
    let new = endpoint(start);
    new.join(at(7), true);
    assert_eq!((new.health(), new.is_available(), new.available_since()), (Health::Waiting, false, at(7)));
}

#[test]
fn an_accusation_is_heard_once() {
    let e = endpoint(Instant::now());
    assert_eq!(e.take_accusation(), None);
    assert_eq!([e.accuse(Cause::Consecutive5xx), e.accuse(Cause::ConsecutiveLocal)], [true, false]);
    assert_eq!([e.take_accusation(), e.take_accusation()], [Some(Cause::ConsecutiveLocal), None]);
}

#[test]
fn checks_are_counted_and_the_last_is_remembered() {
    let e = endpoint(Instant::now());
    e.checked(Checked::Ill, Some("status 503".to_owned()));
    assert_eq!((e.checks(), e.complaint()), ((1, 1), Some("status 503".to_owned())));
    e.checked(Checked::Leaving, Some("status 429".to_owned()));
    assert_eq!((e.checks(), e.complaint()), ((2, 1), Some("status 429".to_owned())));
    e.checked(Checked::Well, None);
    assert_eq!((e.checks(), e.complaint()), ((3, 1), None));
}

#[test]
fn becoming_active_again_restarts_availability() {
    let start = Instant::now();
    let e = endpoint(start);
    let later = start + Duration::from_secs(5);
    e.set_state(State::Active, later);
    assert_eq!(e.available_since(), start, "it was active all along");
    e.set_state(State::Draining, later);
    assert_eq!((e.state(), e.available_since()), (State::Draining, start));
    e.set_state(State::Active, later);
    assert_eq!((e.state(), e.available_since()), (State::Active, later));
}

#[test]
fn two_who_drain_it_must_both_let_go() {
    let start = Instant::now();
    let at = |s| start + Duration::from_secs(s);
    let e = endpoint(start);
    e.set_state(State::Draining, at(1));
    assert_eq!([e.set_leaving(true, at(2)), e.set_leaving(true, at(3))], [true, false]);
    e.set_state(State::Active, at(4));
    assert_eq!((e.state(), e.is_member(), e.available_since()), (State::Draining, false, start));
    assert_eq!(e.drained_by().collect::<Vec<_>>(), [Drainer::Endpoint]);
    e.set_state(State::Draining, at(5));
    assert!(e.set_leaving(false, at(6)));
    assert_eq!((e.state(), e.available_since()), (State::Draining, start));
    e.set_state(State::Active, at(7));
    assert_eq!((e.state(), e.warming_since()), (State::Active, Some((at(7), false))));
}
