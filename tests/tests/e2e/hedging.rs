//! Tries beside each other: which of two answers is the request's, and what becomes of the other.

use std::{
    io::Read,
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex},
};

use witgate_tests::{
    origin::{Origin, Seen, respond},
    proxy::{Running, start_before},
    wait_for,
};

/// What the nth try of all, from 0, does at whichever endpoint it arrives.
type Script = dyn Fn(usize, &Arrived, &mut TcpStream) -> bool + Send + Sync;

/// Every try so far, in the order they came.
#[derive(Default)]
struct Arrived(Mutex<Vec<Seen>>);

impl Arrived {
    fn push(&self, seen: &Seen) -> usize {
        let mut all = self.0.lock().expect("no panic");
        all.push(seen.clone());
        all.len() - 1
    }

    fn all(&self) -> Vec<Seen> {
        self.0.lock().expect("no panic").clone()
    }

    /// Waits until so many have come.
    fn wait(&self, count: usize) {
        wait_for("another try", || (self.all().len() >= count).then_some(()));
    }
}

/// So many endpoints behind a route that hedges, with more keys of its `retry` and of the cluster.
struct Scene {
    running: Running,
    arrived: Arc<Arrived>,
    origins: Vec<Origin>,
}

impl Scene {
    fn new(endpoints: usize, retry: &str, cluster: &str, script: Arc<Script>) -> Self {
        let arrived = Arc::new(Arrived::default());
        let origins: Vec<Origin> = (0..endpoints)
            .map(|_| {
                let (arrived, script) = (Arc::clone(&arrived), Arc::clone(&script));
                Origin::scripted(move |seen, stream| script(arrived.push(seen), &arrived, stream))
            })
            .collect();
        let route = format!("retry = {{ hedge = true, per_try_timeout = \"30ms\"{retry} }}\ntimeout = \"5m\"");
        let running = start_before(&origins.iter().collect::<Vec<_>>(), &route, cluster);
        Self { running, arrived, origins }
    }

    /// Asks once; who answered, and how many tries there were.
    #[track_caller]
    fn check(&self, request: &str, answer: (u16, &str), tries: usize) {
        let response = self.running.client().ask(request);
        assert_eq!((response.status, &*response.body), answer, "{response:?}");
        self.arrived.wait(tries);
        assert_eq!(self.arrived.all().len(), tries, "{:?}", self.arrived.all());
        // Whatever lost is let go of.
        for origin in &self.origins {
            let labels = format!("{{cluster=\"c\",endpoint=\"{}\"}}", origin.address);
            let in_flight = format!("witgate_endpoint_in_flight{labels} 0");
            wait_for(&in_flight, || self.running.has_metric(&in_flight).then_some(()));
        }
    }

    /// Tries that were recorded as failures, over all endpoints.
    fn failures(&self) -> u64 {
        let cluster = self.running.call("GET", "/v1/clusters/c", b"").json();
        let endpoints = cluster["endpoints"].as_array().expect("a list");
        endpoints.iter().map(|endpoint| endpoint["failures"].as_u64().expect("a count")).sum()
    }
}

const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

/// Waits until the proxy hangs up.
fn hang(stream: &mut TcpStream) -> bool {
    let _ = stream.read(&mut [0; 16]);
    false
}

fn reset(stream: &TcpStream) -> bool {
    let _ = stream.shutdown(Shutdown::Both);
    false
}

#[test]
fn a_try_that_hangs_is_joined_by_another_which_wins() {
    let scene = Scene::new(
        2,
        "",
        "",
        Arc::new(|n, _, stream| if n == 0 { hang(stream) } else { respond(stream, 200, &[], b"second") }),
    );
    scene.check(GET, (200, "second"), 2);
    assert_eq!(scene.failures(), 0, "it was slower, no more");
    assert!(scene.running.has_metric("witgate_upstream_hedges_total 1"));
}

#[test]
fn the_first_try_may_still_win() {
    let script = |n, arrived: &Arrived, stream: &mut TcpStream| {
        if n > 0 {
            return hang(stream);
        }
        arrived.wait(2);
        respond(stream, 200, &[], b"first")
    };
    Scene::new(2, "", "", Arc::new(script)).check(GET, (200, "first"), 2);
}

#[test]
fn a_failure_does_not_win_while_another_try_goes_on() {
    for failed in [0, 503] {
        for loser in [0, 1] {
            let script = move |n, arrived: &Arrived, stream: &mut TcpStream| {
                arrived.wait(2);
                match (n == loser, failed) {
                    (true, 0) => reset(stream),
                    (true, status) => respond(stream, status, &[], b"bad"),
                    (false, _) => respond(stream, 200, &[], b"good"),
                }
            };
            let scene = Scene::new(2, ", on = [\"reset\", \"5xx\"]", "", Arc::new(script));
            scene.check(GET, (200, "good"), 2);
        }
    }
}

#[test]
fn the_last_failure_stands_where_all_fail() {
    let script = |_, arrived: &Arrived, stream: &mut TcpStream| {
        arrived.wait(2);
        reset(stream)
    };
    let scene = Scene::new(3, "", "", Arc::new(script));
    scene.check(GET, (502, "502 Bad Gateway: upstream-reset\n"), 2);
    assert_eq!(scene.failures(), 2);
}

#[test]
fn several_tries_may_go_on() {
    let script = |n, _: &Arrived, stream: &mut TcpStream| match n {
        0 | 1 => hang(stream),
        _ => respond(stream, 200, &[], b"third"),
    };
    Scene::new(4, ", attempts = 2", "", Arc::new(script)).check(GET, (200, "third"), 3);
}

#[test]
fn a_little_body_goes_to_both() {
    let script = |n, _: &Arrived, stream: &mut TcpStream| match n {
        0 => hang(stream),
        _ => respond(stream, 200, &[], b"second"),
    };
    let scene = Scene::new(2, "", "", Arc::new(script));
    scene.check("PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello", (200, "second"), 2);
    assert!(scene.arrived.all().iter().all(|seen| seen.body == b"hello"));
}

#[test]
fn what_may_not_be_repeated_has_one_try_and_its_time() {
    let scene = Scene::new(2, "", "", Arc::new(|_, _, stream| hang(stream)));
    let post = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    scene.check(post, (504, "504 Gateway Timeout: timeout\n"), 1);
    assert_eq!(scene.failures(), 1);
}

#[test]
fn without_budget_or_another_endpoint_the_one_try_goes_on() {
    let refused = "witgate_upstream_retries_refused_total";
    for (endpoints, cluster) in [(2, "retry_budget = { percent = 0, min = 0 }"), (1, "")] {
        let (open, opened) = std::sync::mpsc::channel::<()>();
        let opened = Mutex::new(opened);
        let script = move |_, _: &Arrived, stream: &mut TcpStream| {
            let _ = opened.lock().unwrap().recv();
            respond(stream, 200, &[], b"late")
        };
        let scene = Scene::new(endpoints, ", attempts = 5", cluster, Arc::new(script));
        let mut client = scene.running.client();
        client.send(GET).unwrap();
        scene.arrived.wait(1);
        if endpoints == 2 {
            wait_for(refused, || (!scene.running.has_metric(&format!("{refused} 0"))).then_some(()));
        }
        open.send(()).unwrap();
        let response = client.response(false).unwrap();
        assert_eq!((response.status, &*response.body), (200, "late"));
        assert_eq!(scene.arrived.all().len(), 1);
    }
}
