//! Endpoints that say in a check that they leave: what they have finishes, nothing new comes, and who may take them back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering::SeqCst},
    },
    thread,
};

use serde_json::{Value, json};
use witgate_tests::{
    origin::{Origin, respond},
    proxy::{Running, start_before},
    wait_for,
};

/// Checks a hundred times a second that no machine is too slow for.
const CHECKED: &str =
    "health = { http = { path = \"/health\", drain = [\"503\"] }, interval = \"10ms\", timeout = \"1m\" }\n";

/// An origin whose answer to checks can be changed, and that holds `/held` until it is released.
struct Worker {
    origin: Origin,
    health: Arc<AtomicU16>,
    release: Arc<AtomicBool>,
}

impl Worker {
    fn named(name: &'static str) -> Self {
        let (health, release) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicBool::new(false)));
        let (status, go) = (Arc::clone(&health), Arc::clone(&release));
        let origin = Origin::scripted(move |seen, stream| {
            if seen.line.starts_with("GET /health ") {
                return respond(stream, status.load(SeqCst), &[], b"");
            }
            while seen.line.starts_with("GET /held ") && !go.load(SeqCst) {
                thread::yield_now();
            }
            respond(stream, 200, &[], name.as_bytes())
        });
        Self { origin, health, release }
    }

    fn seen(&self, path: &str) -> usize {
        let line = format!("GET {path} HTTP/1.1");
        self.origin.seen().iter().filter(|seen| seen.line == line).count()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.release.store(true, SeqCst);
    }
}

/// Waits until the second endpoint is drained by these, and new requests follow it; how it is shown then.
#[track_caller]
fn check(running: &Running, drained_by: &Value, eligible: u64) -> Value {
    wait_for(&format!("drained by {drained_by}, {eligible} eligible"), || {
        let cluster = running.call("GET", "/v1/clusters/c", b"").json();
        let shown = &cluster["endpoints"][1];
        let state = if drained_by == &json!([]) { "active" } else { "draining" };
        let reached = (&shown["drained_by"], &cluster["eligible"]) == (drained_by, &eligible.into());
        (reached && shown["state"] == state && cluster["panic"] == false).then(|| shown.clone())
    })
}

fn patch(running: &Running, worker: &Worker, state: &str) {
    let path = format!("/v1/clusters/c/endpoints/{}", worker.origin.address);
    let answer = running.call("PATCH", &path, json!({ "state": state }).to_string().as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn who_says_that_it_leaves_gets_nothing_new_until_it_says_otherwise() {
    let (stays, leaves) = (Worker::named("stays"), Worker::named("leaves"));
    stays.release.store(true, SeqCst);
    let keys = format!("{CHECKED}slow_start = {{ window = \"1h\" }}\n");
    let running = start_before(&[&stays.origin, &leaves.origin], "", &keys);
    wait_for("a first check", || (check(&running, &json!([]), 2)["health"] == "healthy").then_some(()));
    let mut held: Vec<_> = (0..2).map(|_| running.client()).collect();
    held.iter_mut().for_each(|client| client.send("GET /held HTTP/1.1\r\nhost: a\r\n\r\n").unwrap());
    wait_for("a request in flight", || (leaves.seen("/held") == 1).then_some(()));

    leaves.health.store(503, SeqCst);
    let shown = check(&running, &json!(["endpoint"]), 1);
    assert_eq!(shown["complaint"], "status 503: it takes no new requests");
    assert_eq!((&shown["health"], &shown["in_flight"]), (&"healthy".into(), &1.into()), "{shown}");
    let endpoint = format!("cluster=\"c\",endpoint=\"{}\"", leaves.origin.address);
    assert!(running.has_metric(&format!("witgate_endpoint_draining{{{endpoint}}} 1")));
    assert!(running.has_metric(&format!("witgate_endpoint_check_failures_total{{{endpoint}}} 0")));
    let mut client = running.client();
    for _ in 0..30 {
        assert_eq!(client.get("/", "").body, "stays");
    }
    leaves.release.store(true, SeqCst);
    let mut bodies: Vec<String> = held.iter_mut().map(|client| client.response(false).unwrap().body).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, ["leaves", "stays"], "what was in flight finished");

    patch(&running, &leaves, "drain");
    check(&running, &json!(["operator", "endpoint"]), 1);
    patch(&running, &leaves, "active");
    check(&running, &json!(["endpoint"]), 1);
    patch(&running, &leaves, "drain");
    leaves.health.store(200, SeqCst);
    check(&running, &json!(["operator"]), 1);
    patch(&running, &leaves, "active");
    let shown = check(&running, &json!([]), 2);
    assert!(shown["effective_weight"].as_f64() < Some(0.2), "it warms up: {shown}");
    wait_for("a request", || {
        client.get("/", "");
        (leaves.seen("/") > 0).then_some(())
    });
}

#[test]
fn not_even_a_panic_picks_who_leaves_and_failing_is_no_way_back() {
    let (ill, leaves) = (Worker::named("ill"), Worker::named("leaves"));
    let running = start_before(&[&ill.origin, &leaves.origin], "", CHECKED);
    leaves.health.store(503, SeqCst);
    check(&running, &json!(["endpoint"]), 1);
    leaves.health.store(500, SeqCst);
    ill.health.store(500, SeqCst);
    wait_for("both to be unhealthy, and a panic", || {
        let cluster = running.call("GET", "/v1/clusters/c", b"").json();
        let unhealthy = |n: usize| cluster["endpoints"][n]["health"] == "unhealthy";
        (unhealthy(0) && unhealthy(1) && cluster["panic"] == true).then_some(())
    });
    for _ in 0..20 {
        assert_eq!(running.client().get("/", "").body, "ill");
    }
    leaves.health.store(200, SeqCst);
    check(&running, &json!([]), 1);
    assert_eq!(running.client().get("/", "").body, "leaves");
}

#[test]
fn sticky_clients_move() {
    let (stays, leaves) = (Worker::named("stays"), Worker::named("leaves"));
    let route = "affinity = { cookie = { name = \"wg\" } }";
    let running = start_before(&[&stays.origin, &leaves.origin], route, CHECKED);
    let mut client = running.client();
    let cookie = wait_for("a cookie of the one that leaves", || {
        let answer = client.get("/", "");
        let cookie = answer.header("set-cookie")?.split(';').next()?.to_owned();
        (answer.body == "leaves").then(|| format!("cookie: {cookie}\r\n"))
    });
    assert_eq!(client.get("/", &cookie).body, "leaves");
    leaves.health.store(503, SeqCst);
    check(&running, &json!(["endpoint"]), 1);
    let moved = client.get("/", &cookie);
    assert_eq!((moved.body.as_str(), moved.header("set-cookie").is_some()), ("stays", true), "{moved:?}");
}
