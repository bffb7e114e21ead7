//! What is tried again, where, and how often: seen from the client and from the endpoints.

use std::{
    net::{Shutdown, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use witgate_tests::{
    origin::{Origin, respond},
    proxy::{start, start_before},
};

/// Answers with this status always.
fn says(status: u16) -> Origin {
    Origin::scripted(move |_, stream| respond(stream, status, &[], status.to_string().as_bytes()))
}

/// Reads a request and hangs up.
fn resets() -> Origin {
    Origin::scripted(|_, stream| {
        let _ = stream.shutdown(Shutdown::Both);
        false
    })
}

#[test]
fn a_reset_is_tried_again_elsewhere_where_that_is_safe() {
    let (good, bad) = (says(200), resets());
    let running = start_before(&[&good, &bad], "", "");
    for n in 0..20 {
        assert_eq!(running.client().get(&format!("/{n}"), "").status, 200);
    }
    let failures = format!("witgate_endpoint_failures_total{{cluster=\"c\",endpoint=\"{}\"}}", bad.address);
    assert!(running.has_metric(&format!("{failures} {}", bad.seen().len())), "each is told of the endpoint");
    let before = bad.seen().len();
    assert!((1..=20).contains(&before), "each of them was at the bad one at most once: {before}");
    // Not where it might be done twice.
    let mut statuses = Vec::new();
    for n in 0..20 {
        let post = format!("POST /{n} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{}", n % 2, &"x"[..n % 2]);
        statuses.push(running.client().ask(post).status);
    }
    assert!(statuses.contains(&200) && statuses.contains(&502), "{statuses:?}");
    assert_eq!(good.seen().len() + bad.seen().len() - before, 20 + 20, "each was sent once");
}

#[test]
fn a_body_is_sent_again_while_it_is_little() {
    let (good, bad) = (says(200), resets());
    let running = start_before(&[&good, &bad], "", "");
    let ask = |n: usize, framed: &str| running.client().ask(format!("PUT /{n} HTTP/1.1\r\nhost: x\r\n{framed}")).status;
    for n in 0..20 {
        let framed = if n % 4 < 2 {
            "content-length: 11\r\n\r\nhello world"
        } else {
            "transfer-encoding: chunked\r\n\r\n6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n"
        };
        assert_eq!(ask(n, framed), 200, "{framed}");
    }
    assert!(!bad.seen().is_empty());
    let seen = good.seen();
    assert_eq!(seen.len(), 20);
    for (n, seen) in seen.iter().enumerate() {
        assert_eq!((&*seen.body, seen.line.as_str()), (&b"hello world"[..], &*format!("PUT /{n} HTTP/1.1")));
        assert_eq!(seen.header("content-length"), (n % 4 < 2).then_some("11"), "framed as it came: {seen:?}");
    }
    // Not one of which more was sent than is kept.
    let large = "0123456789abcdef".repeat(16 << 10);
    let framed = format!("content-length: {}\r\n\r\n{large}", large.len());
    let statuses: Vec<u16> = (0..10).map(|n| ask(n, &framed)).collect();
    assert!(statuses.contains(&200) && statuses.contains(&502), "{statuses:?}");
    assert!(good.seen()[20..].iter().all(|seen| seen.body == large.as_bytes()));
}

#[test]
fn trailers_are_sent_again_as_well() {
    let (sender, got) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let good = Origin::raw(move |stream| {
        let mut seen = Vec::new();
        let mut chunk = [0; 1024];
        while !seen.ends_with(b"x-sum: 1\r\n\r\n") {
            match std::io::Read::read(stream, &mut chunk) {
                Ok(n) if n > 0 => seen.extend_from_slice(&chunk[..n]),
                _ => return,
            }
        }
        respond(stream, 200, &[], b"ok");
        let _ = sender.lock().unwrap().send(String::from_utf8_lossy(&seen).into_owned());
    });
    let bad = resets();
    let running = start_before(&[&bad, &good], "", "");
    for _ in 0..4 {
        let put = "PUT / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 1\r\n\r\n";
        assert_eq!(running.client().ask(put).status, 200);
        let seen = got.recv().unwrap();
        assert!(seen.ends_with("\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 1\r\n\r\n"), "{seen}");
    }
    assert!(!bad.seen().is_empty());
}

#[test]
fn who_cannot_be_connected_to_costs_no_body() {
    let good = says(200);
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let running = start(&format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n[[route]]\nname = \"all\"\ncluster = \"c\"\n\
         [[cluster]]\nname = \"c\"\nbalance = \"round-robin\"\n\
         endpoints = [{{ address = \"{dead}\" }}, {{ address = \"{}\" }}]\n",
        good.address
    ));
    for n in 0..10 {
        let post = format!("POST /{n} HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello");
        assert_eq!(running.client().ask(post).status, 200);
    }
    assert!(good.seen().iter().all(|seen| seen.body == b"hello"));
    assert!(!running.has_metric("witgate_upstream_connect_failures_total 0"));
}

#[test]
fn a_kept_connection_that_was_closed_is_replaced_body_and_all() {
    let known = std::sync::Mutex::new(std::collections::HashSet::new());
    // Hangs up on the second request of each connection.
    let origin = Origin::scripted(move |_, stream| {
        known.lock().unwrap().insert(stream.peer_addr().unwrap()) && respond(stream, 200, &[], b"ok")
    });
    let running = start_before(&[&origin], "retry = { attempts = 0 }", "");
    let mut client = running.client();
    for n in 0..6 {
        let put = format!("PUT /{n} HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello");
        assert_eq!(client.ask(put).status, 200, "{n}");
    }
    assert!(origin.seen().iter().all(|seen| seen.body == b"hello"));
    assert_eq!(origin.connections(), 6);
}

#[test]
fn a_bad_status_is_tried_again_only_where_the_route_says_so() {
    let (good, bad) = (says(200), says(503));
    let running = start_before(&[&good, &bad], "", "");
    let statuses: Vec<u16> = (0..10).map(|n| running.client().get(&format!("/{n}"), "").status).collect();
    assert!(statuses.contains(&503), "{statuses:?}");
    for on in ["5xx", "gateway-error"] {
        let running = start_before(&[&good, &bad], &format!("retry = {{ on = [\"{on}\"], backoff = \"0s\" }}"), "");
        for n in 0..20 {
            assert_eq!(running.client().get(&format!("/{n}"), "").status, 200, "{on}");
        }
        assert!(!running.has_metric("witgate_upstream_retries_total 0"));
    }
    let bad = says(500);
    let running = start_before(&[&bad], "retry = { on = [\"gateway-error\"] }", "");
    assert_eq!(running.client().get("/", "").status, 500);
    assert_eq!(bad.seen().len(), 1, "500 is no error of a gateway");
}

#[test]
fn there_are_as_many_tries_as_configured_and_the_last_answer_stands() {
    let bad = says(503);
    for attempts in [0, 1, 4] {
        let before = bad.seen().len();
        let retry = format!("retry = {{ attempts = {attempts}, on = [\"5xx\"], backoff = \"1ms\" }}");
        let running = start_before(&[&bad], &retry, "");
        let response = running.client().get("/", "");
        assert_eq!((response.status, response.header("x-witgate-error"), &*response.body), (503, None, "503"));
        assert_eq!(bad.seen().len() - before, attempts + 1);
    }
}

#[test]
fn no_try_goes_to_an_endpoint_again_while_another_is_eligible() {
    let origins: Vec<Origin> = (0..4).map(|_| says(503)).collect();
    let all: Vec<&Origin> = origins.iter().collect();
    let running = start_before(&all, "retry = { attempts = 3, on = [\"5xx\"], backoff = \"0s\" }", "");
    for round in 1..=10 {
        assert_eq!(running.client().get("/", "").status, 503);
        let seen: Vec<usize> = origins.iter().map(|origin| origin.seen().len()).collect();
        assert_eq!(seen, [round; 4], "each was asked once");
    }
}

#[test]
fn a_try_has_a_time_of_its_own() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let stopped = std::sync::Mutex::new(stopped);
    // Silent on the first request, until the test ends; quick on the next.
    let origin = Origin::scripted(move |_, stream| {
        if count.fetch_add(1, SeqCst) == 0 {
            let _ = stopped.lock().map(|stopped| stopped.recv());
            return false;
        }
        respond(stream, 200, &[], b"ok")
    });
    let running =
        start_before(&[&origin], "retry = { on = [\"reset\"], per_try_timeout = \"200ms\" }\ntimeout = \"5m\"", "");
    let response = running.client().get("/", "");
    assert_eq!((response.status, asked.load(SeqCst)), (200, 2));
    drop(stop);

    let silent = Origin::raw(|stream| {
        let _ = std::io::copy(stream, &mut std::io::sink());
    });
    let running =
        start_before(&[&silent], "retry = { attempts = 0, per_try_timeout = \"50ms\" }\ntimeout = \"5m\"", "");
    let response = running.client().get("/", "");
    assert_eq!((response.status, response.header("x-witgate-error")), (504, Some("timeout")));
}

#[test]
fn an_outage_is_not_multiplied() {
    let bad = says(503);
    let retry = "retry = { attempts = 10, on = [\"5xx\"], backoff = \"0s\" }";
    let running = start_before(&[&bad], retry, "retry_budget = { percent = 0, min = 0 }");
    for n in 0..20 {
        assert_eq!(running.client().get(&format!("/{n}"), "").status, 503);
    }
    assert_eq!(bad.seen().len(), 20, "no budget, no retries");
    assert!(running.has_metric("witgate_upstream_retries_refused_total 20"));
    assert!(running.has_metric("witgate_upstream_retries_total 0"));
}

#[test]
fn the_whole_timeout_holds_over_all_tries() {
    let bad = says(503);
    let retry = "retry = { attempts = 10, on = [\"5xx\"], backoff = \"1h\" }\ntimeout = \"200ms\"";
    let running = start_before(&[&bad], retry, "");
    let response = running.client().get("/", "");
    assert_eq!((response.status, response.header("x-witgate-error")), (504, Some("timeout")));
}
