//! Endpoints that fall ill: who is checked, who is ejected, who gets requests, and how they come back.

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::Value;
use witgate_tests::{
    client::Client,
    origin::{Origin, respond},
    proxy::{self, Running, start_before},
    wait_for,
};

/// An origin whose status can be changed: of its health, at `/health`, and of all else.
struct Patient {
    origin: Origin,
    health: Arc<AtomicU16>,
    answer: Arc<AtomicU16>,
}

fn patient(name: &'static str) -> Patient {
    let (health, answer) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicU16::new(200)));
    let statuses = (Arc::clone(&health), Arc::clone(&answer));
    let origin = Origin::scripted(move |seen, stream| {
        let status = if seen.line.starts_with("GET /health ") { &statuses.0 } else { &statuses.1 };
        respond(stream, status.load(SeqCst), &[], name.as_bytes())
    });
    Patient { origin, health, answer }
}

impl Patient {
    /// Requests that were not checks.
    fn requests(&self) -> usize {
        self.origin.seen().iter().filter(|seen| !seen.line.starts_with("GET /health ")).count()
    }
}

/// Checks a hundred times a second that no machine is too slow for.
const CHECKED: &str = "health = { http = { path = \"/health\" }, interval = \"10ms\", timeout = \"1m\" }\n";

fn cluster(running: &Running) -> Value {
    running.call("GET", "/v1/clusters/c", b"").json()
}

fn wait_for_endpoint(running: &Running, nth: usize, what: &str, mut is: impl FnMut(&Value) -> bool) -> Value {
    wait_for(what, || Some(cluster(running)["endpoints"][nth].clone()).filter(&mut is))
}

fn wait_for_eligible(running: &Running, count: u64) {
    wait_for(&format!("{count} eligible endpoints"), || (cluster(running)["eligible"] == count).then_some(()));
}

#[test]
fn who_fails_its_checks_gets_no_requests_until_it_passes_them_again() {
    let (well, ill) = (patient("well"), patient("ill"));
    let running = start_before(&[&well.origin, &ill.origin], "", CHECKED);
    wait_for_endpoint(&running, 1, "a first check", |e| e["health"] == "healthy");
    ill.health.store(503, SeqCst);
    let shown = wait_for_endpoint(&running, 1, "a failed check", |e| e["health"] == "unhealthy");
    assert_eq!(shown["complaint"], "status 503, not 200-299");
    wait_for_eligible(&running, 1);
    let before = ill.requests();
    let mut client = running.client();
    for n in 0..50 {
        assert_eq!(client.get(&format!("/{n}"), "").body, "well");
    }
    assert_eq!(ill.requests(), before);
    let endpoint = format!("cluster=\"c\",endpoint=\"{}\"", ill.origin.address);
    assert!(running.has_metric(&format!("witgate_endpoint_healthy{{{endpoint}}} 0")));
    assert!(!running.has_metric(&format!("witgate_endpoint_check_failures_total{{{endpoint}}} 0")));
    ill.health.store(200, SeqCst);
    let shown = wait_for_endpoint(&running, 1, "a check that it passes", |e| e["health"] == "healthy");
    assert_eq!(shown["complaint"], Value::Null);
    wait_for("a request", || {
        client.get("/", "");
        (ill.requests() > before).then_some(())
    });
}

#[test]
fn checks_are_requests_of_their_own() {
    let patient = patient("p");
    let keys = "health = { http = { path = \"/health\", host = \"checks.internal\" }, interval = \"10ms\", timeout = \"1m\" }\n";
    let running = start_before(&[&patient.origin], "", keys);
    let seen = wait_for("two checks", || Some(patient.origin.seen()).filter(|seen| seen.len() >= 2));
    assert_eq!((seen[0].line.as_str(), seen[0].header("host")), ("GET /health HTTP/1.1", Some("checks.internal")));
    assert!(seen[0].header("user-agent").is_some_and(|agent| agent.starts_with("witgate-health/")), "{seen:?}");
    assert_eq!(cluster(&running)["endpoints"][0]["requests"], 0, "they are nobody's requests");
}

#[test]
fn a_check_may_look_at_the_body_or_only_connect() {
    let body = patient("all is well");
    let keys = |text: &str| {
        format!(
            "health = {{ http = {{ path = \"/health\", expect_body = \"{text}\" }}, interval = \"10ms\", timeout = \"1m\" }}\n"
        )
    };
    let running = start_before(&[&body.origin], "", &keys("is well"));
    wait_for_endpoint(&running, 0, "the text", |e| e["health"] == "healthy");
    let running = start_before(&[&body.origin], "", &keys("is ill"));
    let shown = wait_for_endpoint(&running, 0, "another text", |e| e["health"] == "unhealthy");
    assert_eq!(shown["complaint"], "no \"is ill\" in its answer");

    let redis = Origin::raw(|stream| {
        let mut asked = [0; 6];
        if stream.read_exact(&mut asked).is_ok() && &asked == b"PING\r\n" {
            let _ = stream.write_all(b"+PONG\r\n");
        }
    });
    let keys = |tcp: &str| format!("health = {{ tcp = {tcp}, interval = \"10ms\", timeout = \"1m\" }}\n");
    for (tcp, health) in [
        ("{}", "healthy"),
        ("{ send = \"PING\\r\\n\", expect = \"+PONG\" }", "healthy"),
        ("{ send = \"PANG\\r\\n\", expect = \"+PONG\" }", "unhealthy"),
    ] {
        let running = start_before(&[&redis], "", &keys(tcp));
        wait_for_endpoint(&running, 0, &format!("{tcp} is {health}"), |e| e["health"] == health);
    }
    let gone = redis.address;
    drop(redis);
    let running = proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n[[route]]\nname = \"all\"\ncluster = \"c\"\n\
         [[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{gone}\" }}]\n{}",
        keys("{}")
    ));
    wait_for_endpoint(&running, 0, "nobody there", |e| e["health"] == "unhealthy" && e["complaint"] != Value::Null);
}

#[test]
fn where_too_few_are_healthy_all_get_requests_unless_that_is_not_wanted() {
    let (a, b) = (patient("a"), patient("b"));
    [&a, &b].iter().for_each(|patient| patient.health.store(500, SeqCst));
    let running = start_before(&[&a.origin, &b.origin], "", CHECKED);
    wait_for("a panic", || (cluster(&running)["panic"] == true).then_some(()));
    wait_for_endpoint(&running, 0, "shown as it is", |e| e["health"] == "unhealthy");
    wait_for_endpoint(&running, 1, "shown as it is", |e| e["health"] == "unhealthy");
    for n in 0..10 {
        assert_eq!(running.client().get(&format!("/{n}"), "").status, 200);
    }
    assert!(running.has_metric("witgate_cluster_panic{cluster=\"c\"} 1"));

    let running = start_before(&[&a.origin, &b.origin], "", &format!("{CHECKED}panic_percent = 0\n"));
    wait_for_eligible(&running, 0);
    let refused = running.client().get("/", "");
    assert_eq!((refused.status, refused.header("x-witgate-error")), (503, Some("no-healthy-endpoint")));
    a.health.store(200, SeqCst);
    wait_for_eligible(&running, 1);
    assert_eq!(running.client().get("/", "").body, "a");
}

#[test]
fn failures_in_a_row_eject_and_no_more_than_the_percentage() {
    let (well, ill) = (patient("well"), patient("ill"));
    let keys =
        "outlier = { consecutive_5xx = 3, base_ejection = \"1h\", max_ejection = \"1h\", max_ejection_percent = 50 }\n";
    let running = start_before(&[&well.origin, &ill.origin], "", keys);
    ill.answer.store(503, SeqCst);
    let mut client = running.client();
    wait_for("an ejection", || {
        client.get("/", "");
        (cluster(&running)["endpoints"][1]["ejected"] != Value::Null).then_some(())
    });
    wait_for_eligible(&running, 1);
    assert!(ill.requests() >= 3, "{}", ill.requests());
    let shown = cluster(&running)["endpoints"][1].clone();
    assert_eq!((&shown["ejected"]["cause"], &shown["ejections"]), (&"consecutive_5xx".into(), &1.into()));
    let before = ill.requests();
    for n in 0..50 {
        assert_eq!(client.get(&format!("/{n}"), "").body, "well");
    }
    assert_eq!(ill.requests(), before);
    let endpoint = format!("cluster=\"c\",endpoint=\"{}\"", ill.origin.address);
    assert!(running.has_metric(&format!("witgate_endpoint_ejected{{{endpoint}}} 1")));
    // The other may not be ejected as well: half of two is one.
    well.answer.store(500, SeqCst);
    for _ in 0..20 {
        assert_eq!(client.get("/", "").status, 500);
    }
    assert_eq!(cluster(&running)["endpoints"][0]["ejected"], Value::Null);
}

#[test]
fn who_answers_far_more_slowly_than_the_others_is_ejected() {
    const SLOW: Duration = Duration::from_millis(400);
    let quick = [Origin::named("a"), Origin::named("b")];
    let slow = Origin::scripted(|_, stream| {
        std::thread::sleep(SLOW);
        respond(stream, 200, &[], b"slow")
    });
    let keys = "outlier = { latency = { p99 = \"200ms\", min_hosts = 3, min_requests = 3 }, interval = \"1s\", \
                base_ejection = \"1h\", max_ejection = \"1h\", max_ejection_percent = 34 }\n";
    let running = start_before(&[&quick[0], &quick[1], &slow], "", keys);
    let (web, done) = (running.web(), AtomicBool::new(false));
    let shown = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::connect(web);
                while !done.load(SeqCst) {
                    assert_eq!(client.get("/", "").status, 200);
                }
            });
        }
        let shown = wait_for_endpoint(&running, 2, "an ejection", |e| e["ejected"] != Value::Null);
        done.store(true, SeqCst);
        shown
    });
    assert_eq!(shown["ejected"]["cause"], "latency", "{shown}");
    wait_for_eligible(&running, 2);
}

#[test]
fn who_was_ejected_returns_and_is_ejected_again_where_it_has_not_changed() {
    let (well, ill) = (patient("well"), patient("ill"));
    let keys = "outlier = { consecutive_5xx = 2, base_ejection = \"20ms\", max_ejection = \"40ms\", max_ejection_percent = 50 }\n";
    let running = start_before(&[&well.origin, &ill.origin], "", keys);
    ill.answer.store(500, SeqCst);
    let mut client = running.client();
    wait_for("two ejections", || {
        client.get("/", "");
        (cluster(&running)["endpoints"][1]["ejections"].as_u64() >= Some(2)).then_some(())
    });
    ill.answer.store(200, SeqCst);
    wait_for_endpoint(&running, 1, "its return", |e| e["ejected"] == Value::Null);
    let shown = wait_for_endpoint(&running, 1, "a part of its weight", |e| e["effective_weight"].as_f64() > Some(0.0));
    assert!(shown["effective_weight"].as_f64() < Some(1.0), "not at full weight: {shown}");
}

#[test]
fn who_cannot_be_connected_to_is_ejected_and_no_request_fails() {
    let (well, gone) = (patient("well"), Origin::named("gone"));
    let keys = "outlier = { consecutive_local = 2, base_ejection = \"1h\", max_ejection = \"1h\", max_ejection_percent = 50 }\n";
    let running = start_before(&[&well.origin, &gone], "", keys);
    drop(gone);
    wait_for("an ejection", || {
        assert_eq!(Client::connect(running.web()).get("/", "").status, 200);
        (cluster(&running)["endpoints"][1]["ejected"]["cause"] == "consecutive_local").then_some(())
    });
    wait_for_eligible(&running, 1);
}

#[test]
fn a_drained_endpoint_gets_nothing_new_and_finishes_what_it_has() {
    let (stays, drains) = (patient("stays"), patient("drains"));
    let running = start_before(&[&stays.origin, &drains.origin], "", "");
    let path = format!("/v1/clusters/c/endpoints/{}", drains.origin.address);
    let answer = running.call("PATCH", &path, br#"{"state": "drain"}"#);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!((&answer.json()["eligible"], &answer.json()["endpoints"][1]["state"]), (&1.into(), &"draining".into()));
    let mut client = running.client();
    for _ in 0..30 {
        assert_eq!(client.get("/", "").body, "stays");
    }
    assert_eq!(drains.requests(), 0);
    assert_eq!(running.call("PATCH", &path, br#"{"state": "active", "weight": 3}"#).status, 200);
    let shown = cluster(&running)["endpoints"][1].clone();
    assert_eq!((&shown["state"], &shown["weight"]), (&"active".into(), &3.into()));
    for _ in 0..40 {
        client.get("/", "");
    }
    assert_eq!(drains.requests(), 30, "three of four");
}

#[test]
fn a_set_of_endpoints_is_replaced_in_one_step() {
    let (old, new) = (patient("old"), patient("new"));
    let running = start_before(&[&old.origin], "", "");
    let mut client = running.client();
    assert_eq!(client.get("/", "").body, "old");
    let set = |addresses: &[String]| {
        let endpoints: Vec<String> = addresses.iter().map(|a| format!(r#"{{"address": "{a}"}}"#)).collect();
        format!(r#"{{"endpoints": [{}]}}"#, endpoints.join(", "))
    };
    let (old_address, new_address) = (old.origin.address.to_string(), new.origin.address.to_string());
    let put = |body: &str| running.call("PUT", "/v1/clusters/c/endpoints", body.as_bytes());
    let answer = put(&set(&[new_address.clone(), old_address.clone()]));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["endpoints"][1]["requests"], 1, "who stays is who it was");
    assert_eq!(put(&set(std::slice::from_ref(&new_address))).status, 200);
    for _ in 0..10 {
        assert_eq!(client.get("/", "").body, "new");
    }
    assert_eq!(put(&set(&[])).status, 200);
    assert_eq!(client.get("/", "").status, 503);
    for (body, status, part) in [
        ("{}", 400, "missing field `endpoints`"),
        (r#"{"endpoints": [{"address": "a"}]}"#, 422, "endpoints[0].address: \"a\" has no port"),
        (r#"{"endpoints": [{"address": "a:1", "wieght": 1}]}"#, 400, "unknown field `wieght`"),
    ] {
        let refused = put(body);
        let error = refused.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(refused.status == status && error.contains(part), "{body}: {refused:?}");
    }
    assert_eq!(cluster(&running)["endpoints"].as_array().map(Vec::len), Some(0), "nothing changed");
    for (path, body, status, part) in [
        ("/v1/clusters/none/endpoints/a:1", "{}", 404, "there is no cluster"),
        ("/v1/clusters/c/endpoints/a:1", r#"{"weight": 1}"#, 404, "has no endpoint"),
        ("/v1/clusters/c/endpoints/a:1", "{}", 400, "nothing is to be changed"),
        ("/v1/clusters/c/endpoints/a:1", r#"{"weight": 70000}"#, 422, "out of range"),
        ("/v1/clusters/c/endpoints/a:1", r#"{"state": "down"}"#, 400, "unknown variant `down`"),
    ] {
        let refused = running.call("PATCH", path, body.as_bytes());
        let error = refused.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(refused.status == status && error.contains(part), "{path} {body}: {refused:?}");
    }
}

#[test]
fn who_comes_to_a_cluster_with_checks_waits_for_its_first() {
    let (old, new) = (patient("old"), patient("new"));
    new.health.store(503, SeqCst);
    let running = start_before(&[&old.origin], "", CHECKED);
    wait_for_endpoint(&running, 0, "a first check", |e| e["health"] == "healthy");
    let body = format!(
        r#"{{"endpoints": [{{"address": "{}"}}, {{"address": "{}"}}]}}"#,
        old.origin.address, new.origin.address
    );
    assert_eq!(running.call("PUT", "/v1/clusters/c/endpoints", body.as_bytes()).status, 200);
    let mut client = running.client();
    wait_for_endpoint(&running, 1, "a check that fails", |e| {
        assert_eq!(client.get("/", "").body, "old");
        e["health"] == "unhealthy"
    });
    new.health.store(200, SeqCst);
    wait_for_eligible(&running, 2);
    assert_eq!(new.requests(), 0);
}
