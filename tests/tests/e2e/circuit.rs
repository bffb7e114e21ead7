//! What is refused, and what waits, where a cluster has limits: seen from the clients and from the endpoints.

use std::{
    net::Shutdown,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use witgate_tests::{
    client::{Client, Response},
    origin::{Origin, respond},
    proxy::{Running, start_before},
    wait_for,
};

/// Holds requests back until it is opened.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn open(&self) {
        *self.0.lock().expect("no panic") = true;
        self.1.notify_all();
    }

    fn pass(&self) {
        drop(self.1.wait_while(self.0.lock().expect("no panic"), |open| !*open));
    }
}

/// Answers once the gate is open.
fn held() -> (Origin, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let origin = Origin::scripted(move |_, stream| {
        held.pass();
        respond(stream, 200, &[], b"ok")
    });
    (origin, gate)
}

/// Sends a request and does not wait for the answer.
fn ask(running: &Running) -> Client {
    let mut client = running.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").expect("the proxy reads");
    client
}

#[track_caller]
fn check(response: &Response, status: u16, error: Option<&str>) {
    assert_eq!((response.status, response.header("x-witgate-error")), (status, error), "{response:?}");
}

fn wait_for_metric(running: &Running, line: &str) {
    wait_for(line, || running.has_metric(line).then_some(()));
}

const OPEN: Option<&str> = Some("circuit-open");

#[test]
fn one_request_more_than_may_be_in_flight_is_refused() {
    let (origin, gate) = held();
    let running = start_before(&[&origin], "", "pool = { max_requests = 2 }");
    let mut waiting = [ask(&running), ask(&running)];
    wait_for("both at the origin", || (origin.seen().len() == 2).then_some(()));
    check(&running.client().get("/", ""), 503, OPEN);
    let cluster = running.call("GET", "/v1/clusters/c", b"").json();
    assert_eq!(cluster["circuit"]["requests"], serde_json::json!({ "now": 2, "max": 2 }), "{cluster}");
    assert_eq!(cluster["circuit"]["connections"], serde_json::Value::Null, "{cluster}");
    gate.open();
    for client in &mut waiting {
        check(&client.response(false).unwrap(), 200, None);
    }
    // The last byte may be at the client before the request's accounts are settled.
    wait_for("room", || (running.client().get("/", "").status == 200).then_some(()));
    assert!(!running.has_metric("witgate_errors_total{reason=\"circuit-open\"} 0"));
    let endpoint = format!("{{cluster=\"c\",endpoint=\"{}\"}}", origin.address);
    assert!(running.has_metric(&format!("witgate_endpoint_failures_total{endpoint} 0")), "not the endpoint's fault");
}

#[test]
fn a_request_waits_for_a_connection_and_those_over_the_limit_are_refused() {
    let (origin, gate) = held();
    let running = start_before(&[&origin], "", "pool = { max_connections = 1, max_pending = 1 }");
    let mut first = ask(&running);
    wait_for("the first at the origin", || (origin.seen().len() == 1).then_some(()));
    let mut second = ask(&running);
    wait_for_metric(&running, "witgate_cluster_pending{cluster=\"c\"} 1");
    check(&running.client().get("/", ""), 503, OPEN);
    assert!(running.has_metric("witgate_cluster_connections{cluster=\"c\"} 1"));
    gate.open();
    check(&first.response(false).unwrap(), 200, None);
    check(&second.response(false).unwrap(), 200, None);
    wait_for_metric(&running, "witgate_cluster_pending{cluster=\"c\"} 0");
    assert_eq!(origin.seen().len(), 2);
}

#[test]
fn who_goes_away_while_waiting_leaves_the_place_to_another() {
    let (origin, gate) = held();
    let running = start_before(&[&origin], "", "pool = { max_connections = 1, max_pending = 1 }");
    let mut first = ask(&running);
    wait_for("the first at the origin", || (origin.seen().len() == 1).then_some(()));
    for _ in 0..5 {
        let gone = ask(&running);
        wait_for_metric(&running, "witgate_cluster_pending{cluster=\"c\"} 1");
        drop(gone);
        wait_for_metric(&running, "witgate_cluster_pending{cluster=\"c\"} 0");
    }
    let mut last = ask(&running);
    wait_for_metric(&running, "witgate_cluster_pending{cluster=\"c\"} 1");
    gate.open();
    check(&first.response(false).unwrap(), 200, None);
    check(&last.response(false).unwrap(), 200, None);
}

#[test]
fn nobody_waits_longer_than_it_may_take_to_connect() {
    let (origin, gate) = held();
    let limits = "pool = { max_connections = 1 }\nconnect_timeout = \"50ms\"";
    let running = start_before(&[&origin], "retry = { attempts = 3, on = [\"connect-failure\"] }", limits);
    let mut first = ask(&running);
    wait_for("the first at the origin", || (origin.seen().len() == 1).then_some(()));
    check(&running.client().get("/", ""), 503, OPEN);
    gate.open();
    check(&first.response(false).unwrap(), 200, None);
}

#[test]
fn an_idle_connection_makes_room_in_whichever_worker_it_is() {
    let (one, other) = (Origin::named("one"), Origin::named("other"));
    let running = start_before(&[&one, &other], "", "pool = { max_connections = 1 }");
    // Each on a connection of its own, so that both workers get some.
    for n in 0..60 {
        check(&running.client().get(&format!("/{n}"), ""), 200, None);
    }
    assert_eq!((one.seen().len(), other.seen().len()), (30, 30));
}

#[test]
fn a_place_is_free_again_when_its_connection_breaks() {
    let origin = Origin::scripted(|_, stream| {
        let _ = stream.shutdown(Shutdown::Both);
        false
    });
    let running = start_before(&[&origin], "", "pool = { max_connections = 1, max_pending = 0, max_requests = 1 }");
    for _ in 0..20 {
        let response = running.client().ask("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n");
        check(&response, 502, Some("upstream-reset"));
    }
    wait_for_metric(&running, "witgate_cluster_connections{cluster=\"c\"} 0");
}

#[test]
fn a_crowd_is_served_over_few_connections() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let origin = |name: &'static str| {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        Origin::scripted(move |_, stream| {
            most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            thread::yield_now();
            now.fetch_sub(1, SeqCst);
            respond(stream, 200, &[], name.as_bytes())
        })
    };
    let (one, other) = (origin("one"), origin("other"));
    let running = start_before(&[&one, &other], "", "pool = { max_connections = 3 }");
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let mut client = running.client();
                for n in 0..40 {
                    check(&client.get(&format!("/{n}"), ""), 200, None);
                }
            });
        }
    });
    assert!(most.load(SeqCst) <= 3, "{most:?} at once");
    let opened = one.connections() + other.connections();
    assert!(opened < 480, "{opened} connections for 480 requests");
    wait_for_metric(&running, "witgate_cluster_pending{cluster=\"c\"} 0");
}

#[test]
fn retries_are_limited_whatever_the_budget_allows() {
    let bad = Origin::scripted(|_, stream| respond(stream, 503, &[], b"bad"));
    let running = start_before(&[&bad], "retry = { on = [\"5xx\"], backoff = \"0s\" }", "pool = { max_retries = 0 }");
    check(&running.client().get("/", ""), 503, None);
    assert_eq!(bad.seen().len(), 1);
    assert!(running.has_metric("witgate_upstream_retries_refused_total 1"));
}
