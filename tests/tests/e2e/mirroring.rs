//! Copies of requests: what arrives at the mirror, and that nothing of it is seen by the client.

use std::{io::Read, net::Shutdown};

use witgate_tests::{
    origin::{Origin, respond},
    proxy::{self, Running},
    wait_for,
};

/// A route to `origin` with a mirror, and more keys of the mirror's table, of the route and of the mirror's cluster.
fn start(origin: &Origin, mirror: &Origin, table: &str, route: &str, cluster: &str) -> Running {
    proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"all\"\ncluster = \"c\"\nmirror = {{ cluster = \"shadow\"{table} }}\n{route}\n\
         [[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{}\" }}]\n\
         [[cluster]]\nname = \"shadow\"\nendpoints = [{{ address = \"{}\" }}]\n{cluster}\n",
        origin.address, mirror.address
    ))
}

/// Waits until so many copies came to this end.
#[track_caller]
fn check(running: &Running, outcome: &str, count: usize) {
    let line = format!("witgate_mirror_requests_total{{outcome=\"{outcome}\"}} {count}");
    wait_for(&line, || running.has_metric(&line).then_some(()));
}

const ALL: &str = ", percent = 100";
const POST: &str = "POST /a?b HTTP/1.1\r\nhost: x.example\r\nx-one: 1\r\ncontent-length: 5\r\n\r\nhello";

#[test]
fn a_copy_is_the_request_with_a_mark() {
    let (origin, mirror) = (Origin::named("o"), Origin::scripted(|_, stream| respond(stream, 500, &[], b"m")));
    let running = start(&origin, &mirror, ALL, "", "");
    let chunked = "PUT /c HTTP/1.1\r\nhost: x.example\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    for (n, request) in [POST, chunked, "GET / HTTP/1.1\r\nhost: x.example\r\n\r\n"].into_iter().enumerate() {
        let response = running.client().ask(request);
        assert_eq!((response.status, response.body.as_str()), (200, "o"), "{response:?}");
        check(&running, "sent", n + 1);
        let (seen, mut copy) = (origin.seen().remove(n), mirror.seen().remove(n));
        assert_eq!(seen.header("x-witgate-mirror"), None);
        assert_eq!(copy.all("x-witgate-mirror"), ["1"]);
        copy.headers.retain(|(name, _)| name != "x-witgate-mirror");
        let sorted = |seen: &witgate_tests::origin::Seen| {
            let mut headers = seen.headers.clone();
            headers.sort();
            (seen.line.clone(), headers, seen.body.clone())
        };
        assert_eq!(sorted(&copy), sorted(&seen));
    }
}

#[test]
fn a_share_of_the_requests_is_copied() {
    let (origin, mirror) = (Origin::named("o"), Origin::named("m"));
    for (table, least, most) in [(", percent = 0", 0, 0), ("", 0, 20), (", percent = 50", 60, 140)] {
        let running = start(&origin, &mirror, table, "", "");
        let before = mirror.seen().len();
        let mut client = running.client();
        for _ in 0..200 {
            assert_eq!(client.get("/", "").status, 200);
        }
        let copied = wait_for("enough copies", || Some(mirror.seen().len() - before).filter(|copied| *copied >= least));
        assert!((least..=most).contains(&copied), "{table}: {copied}");
    }
}

#[test]
fn a_mirror_that_hangs_is_not_waited_for_and_holds_little() {
    let origin = Origin::named("o");
    let mirror = Origin::raw(|stream| {
        let _ = std::io::copy(stream, &mut std::io::sink());
    });
    let running = start(&origin, &mirror, ALL, "timeout = \"5m\"", "");
    let mut client = running.client();
    for n in 0..100 {
        assert_eq!(client.get(&format!("/{n}"), "").status, 200);
    }
    // One connection is one worker's.
    check(&running, "dropped", 100 - 64);
    check(&running, "sent", 0);
}

#[test]
fn a_mirror_that_is_slow_is_over_with_the_routes_time() {
    let origin = Origin::named("o");
    let mirror = Origin::raw(|stream| {
        let _ = stream.read(&mut [0; 1 << 10]);
        let _ = std::io::copy(stream, &mut std::io::sink());
    });
    let running = start(&origin, &mirror, ALL, "timeout = \"500ms\"", "");
    assert_eq!(running.client().get("/", "").status, 200);
    check(&running, "failed", 1);
}

#[test]
fn what_a_mirror_does_wrong_is_its_own_affair() {
    let origin = Origin::named("o");
    let resets = Origin::scripted(|_, stream| stream.shutdown(Shutdown::Both).is_err());
    let outlier = "outlier = { consecutive_local = 3, max_ejection_percent = 100 }";
    let running = start(&origin, &resets, ALL, "", outlier);
    for n in 1..=3 {
        assert_eq!(running.client().ask(POST).status, 200);
        check(&running, "failed", n);
    }
    let ejected = format!("witgate_endpoint_ejected{{cluster=\"shadow\",endpoint=\"{}\"}} 1", resets.address);
    wait_for(&ejected, || running.has_metric(&ejected).then_some(()));
    assert_eq!(origin.seen().len(), 3);

    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cluster = format!("endpoints = [{{ address = \"{gone}\" }}]");
    let running = proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"all\"\ncluster = \"c\"\nmirror = {{ cluster = \"shadow\"{ALL} }}\n\
         [[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{}\" }}]\n[[cluster]]\nname = \"shadow\"\n{cluster}\n",
        origin.address
    ));
    assert_eq!(running.client().ask(POST).status, 200);
    check(&running, "failed", 1);
}

#[test]
fn a_body_does_not_wait_for_its_copy() {
    let origin = Origin::named("o");
    // Takes the head and no more, so that its socket is full after a while.
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let stopped = std::sync::Mutex::new(stopped);
    let mirror = Origin::raw(move |stream| {
        let _ = stream.read(&mut [0; 64]);
        let _ = stopped.lock().unwrap().recv();
    });
    let running = start(&origin, &mirror, ALL, "timeout = \"5m\"", "");
    let body = "0123456789abcdef".repeat(1 << 20);
    let put = format!("PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    assert_eq!(running.client().ask(put).status, 200);
    assert_eq!(origin.seen()[0].body.len(), body.len());
    check(&running, "dropped", 1);
    drop(stop);
}

#[test]
fn a_mirror_has_the_limits_of_its_cluster() {
    let origin = Origin::named("o");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let stopped = std::sync::Mutex::new(stopped);
    let mirror = Origin::raw(move |_| {
        let _ = stopped.lock().unwrap().recv();
    });
    let running = start(&origin, &mirror, ALL, "timeout = \"5m\"", "pool = { max_requests = 1 }");
    for _ in 0..4 {
        assert_eq!(running.client().get("/", "").status, 200);
    }
    check(&running, "dropped", 3);
    assert!(running.has_metric("witgate_errors_total{reason=\"circuit-open\"} 0"));
    drop(stop);
}

#[test]
fn a_drain_does_not_wait_for_copies() {
    let origin = Origin::named("o");
    let mirror = Origin::raw(|stream| {
        let _ = std::io::copy(stream, &mut std::io::sink());
    });
    let mut running = start(&origin, &mirror, ALL, "timeout = \"5m\"", "");
    assert_eq!(running.client().get("/", "").status, 200);
    wait_for("the copy", || (mirror.connections() == 1).then_some(()));
    let began = std::time::Instant::now();
    running.drain();
    running.wait();
    assert!(
        began.elapsed() < std::time::Duration::from_secs(20),
        "well within the drain's time: {:?}",
        began.elapsed()
    );
}
