//! One request through a real proxy: what arrives at the origin, and what comes back.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use witgate_tests::{
    client::Client,
    h2,
    origin::{Origin, respond},
    proxy::{self, Running},
    wait_for,
};

fn start(origin: &Origin, listener: &str, route: &str) -> Running {
    proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n{listener}\n\
         [[route]]\nname = \"all\"\ncluster = \"c\"\n{route}\n\
         [[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{}\" }}]\nconnect_timeout = \"500ms\"\n",
        origin.address
    ))
}

#[test]
fn a_request_arrives_as_it_was_sent_with_what_a_proxy_adds() {
    let origin = Origin::named("o");
    let running = start(&origin, "", "");
    let response = running.client().ask(
        "POST /a%20b/../c?x=%2F HTTP/1.1\r\nHost: Example.com:81\r\nX-One: 1\r\nX-Two: 2\r\nX-One: 3\r\n\
         content-length: 5\r\n\r\nhello",
    );
    assert_eq!((response.status, response.body.as_str()), (200, "o"), "{response:?}");
    let seen = origin.seen().remove(0);
    assert_eq!(seen.line, "POST /a%20b/../c?x=%2F HTTP/1.1");
    assert_eq!(seen.body, b"hello");
    assert_eq!(seen.all("host"), ["Example.com:81"]);
    assert_eq!(seen.all("x-one"), ["1", "3"]);
    assert_eq!(seen.all("content-length"), ["5"]);
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.all("x-forwarded-host"), ["Example.com:81"]);
    assert_eq!(seen.header("x-request-id").map(str::len), Some(32), "{seen:?}");
}

#[test]
fn hop_by_hop_headers_stop_here_both_ways() {
    let origin = Origin::scripted(|_, stream| {
        let headers = [("connection", "x-gone"), ("x-gone", "1"), ("keep-alive", "timeout=5"), ("x-stays", "1")];
        respond(stream, 200, &headers, b"ok")
    });
    let running = start(&origin, "", "");
    let response = running.client().get(
        "/",
        "connection: keep-alive, x-private, content-length, host\r\nx-private: 1\r\nkeep-alive: 5\r\nproxy-connection: x\r\n\
         te: gzip, trailers\r\nupgrade: h2c\r\nx-public: 1\r\n",
    );
    assert_eq!(response.status, 200, "{response:?}");
    for gone in ["x-gone", "keep-alive", "connection"] {
        assert_eq!(response.header(gone), None, "{response:?}");
    }
    assert_eq!(response.header("x-stays"), Some("1"));
    let seen = origin.seen().remove(0);
    for gone in ["x-private", "keep-alive", "proxy-connection", "upgrade"] {
        assert!(seen.all(gone).is_empty(), "{gone} went on: {seen:?}");
    }
    assert_eq!(seen.all("te"), ["trailers"]);
    assert_eq!(seen.all("x-public"), ["1"]);
    assert_eq!(seen.all("host"), ["test"]);
}

#[test]
fn what_a_client_says_of_others_counts_only_from_a_trusted_proxy() {
    let said = "x-forwarded-for: 203.0.113.9, 10.1.1.1\r\nx-forwarded-proto: https\r\nx-request-id: mine\r\n";
    let origin = Origin::named("o");
    let untrusting = start(&origin, "", "");
    untrusting.client().get("/", said);
    let seen = origin.seen().remove(0);
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
    assert_ne!(seen.header("x-request-id"), Some("mine"));

    let origin = Origin::named("o");
    let trusting = start(&origin, "trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]", "");
    trusting.client().get("/", said);
    let seen = origin.seen().remove(0);
    assert_eq!(seen.all("x-forwarded-for").join(", "), "203.0.113.9, 10.1.1.1, 127.0.0.1");
    assert_eq!(seen.all("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.header("x-request-id"), Some("mine"));
}

#[test]
fn connections_are_kept_on_both_sides() {
    let origin = Origin::named("o");
    let running = start(&origin, "", "");
    let mut client = running.client();
    for n in 0..20 {
        assert_eq!(client.get(&format!("/{n}"), "").status, 200);
    }
    assert_eq!(origin.seen().len(), 20);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_connection_that_the_origin_will_close_is_not_kept() {
    let origin = Origin::scripted(|_, stream| {
        respond(stream, 200, &[("connection", "close")], b"once");
        false
    });
    let running = start(&origin, "", "");
    let mut client = running.client();
    for n in 0..20 {
        let response = client.get(&format!("/{n}"), "");
        assert_eq!((response.status, response.body.as_str()), (200, "once"), "{response:?}");
    }
    assert_eq!(origin.connections(), 20);
}

#[test]
fn bodies_stream_both_ways_without_waiting_for_their_end() {
    let origin = Origin::scripted(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").is_ok() && {
            // The rest only once the client has seen the first part: it asks on another connection.
            while !RELEASED.load(std::sync::atomic::Ordering::SeqCst) {
                std::thread::yield_now();
            }
            stream.write_all(b"6\r\nsecond\r\n0\r\n\r\n").is_ok()
        }
    });
    static RELEASED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    let running = start(&origin, "", "");
    let mut socket = std::net::TcpStream::connect(running.web()).unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut got = Vec::new();
    wait_for("the first part of the body", || {
        let mut chunk = [0; 1024];
        let n = std::io::Read::read(&mut socket, &mut chunk).unwrap();
        got.extend_from_slice(&chunk[..n]);
        got.windows(5).any(|w| w == b"first").then_some(())
    });
    RELEASED.store(true, std::sync::atomic::Ordering::SeqCst);
    wait_for("the rest of the body", || {
        let mut chunk = [0; 1024];
        let n = std::io::Read::read(&mut socket, &mut chunk).unwrap();
        got.extend_from_slice(&chunk[..n]);
        got.ends_with(b"0\r\n\r\n").then_some(())
    });
}

#[test]
fn bodies_of_every_framing_pass_through() {
    let big = "z".repeat(300_000);
    let echo = Origin::scripted(|seen, stream| match seen.line.split(' ').nth(1) {
        Some("/chunked") => {
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            let chunk = format!("{:x}\r\n", seen.body.len());
            stream.write_all(head).is_ok()
                && stream.write_all(chunk.as_bytes()).is_ok()
                && stream.write_all(&seen.body).is_ok()
                && stream.write_all(b"\r\n0\r\n\r\n").is_ok()
        }
        Some("/close") => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(&seen.body);
            false
        }
        Some("/none") => respond(stream, 204, &[], b""),
        _ => respond(stream, 200, &[], &seen.body),
    });
    let running = start(&echo, "", "");
    for path in ["/length", "/chunked", "/close"] {
        let mut client = running.client();
        for _ in 0..2 {
            let response =
                client.ask(format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{big}", big.len()));
            assert_eq!(response.status, 200, "{path}");
            assert_eq!(response.body.len(), big.len(), "{path}");
        }
    }
    let mut client = running.client();
    assert_eq!(client.get("/none", "").status, 204);
    assert_eq!(client.get("/length", "").status, 200, "the connection is still in step after a 204");
    let response = client.ask("HEAD /length HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!((response.status, response.body.as_str()), (200, ""));
    assert_eq!(client.get("/length", "").status, 200, "the connection is still in step after a HEAD");
}

#[test]
fn expect_continue_is_answered_and_http_1_0_is_served() {
    let origin = Origin::named("o");
    let running = start(&origin, "", "");
    let mut client = running.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n").unwrap();
    client.send("hi").unwrap();
    assert_eq!(client.response(false).unwrap().status, 200);
    let mut old = running.client();
    let response = old.ask("GET / HTTP/1.0\r\n\r\n");
    assert_eq!((response.status, response.body.as_str()), (200, "o"), "{response:?}");
    assert!(old.closed(), "HTTP/1.0 without keep-alive ends with the response");
}

#[test]
fn failures_of_the_origin_have_a_status_and_a_reason_of_their_own() {
    let cases: [(&str, u16, &str, &'static [u8]); 6] = [
        ("closes at once", 502, "upstream-reset", b""),
        ("closes in the head", 502, "upstream-reset", b"HTTP/1.1 200 OK\r\nx: "),
        ("talks nonsense", 502, "upstream-malformed", b"SMTP ready\r\n\r\n"),
        (
            "has a length beside its encoding",
            502,
            "upstream-malformed",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        ("switches protocols unasked", 502, "upstream-malformed", b"HTTP/1.1 101 Now\r\n\r\n"),
        ("sends a bad length", 502, "upstream-malformed", b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"),
    ];
    for (what, status, reason, raw) in cases {
        let origin = Origin::scripted(move |_, stream| {
            let _ = stream.write_all(raw);
            false
        });
        let running = start(&origin, "", "");
        let response = running.client().get("/", "");
        assert_eq!(
            (response.status, response.header("x-witgate-error")),
            (status, Some(reason)),
            "{what}: {response:?}"
        );
    }
    let origin = Origin::named("gone");
    let running = start(&origin, "", "");
    drop(origin);
    // A connection that the origin has accepted at its end is closed without a word.
    wait_for("the origin's port to be closed", || {
        let response = running.client().get("/", "");
        let failed = (response.status, response.header("x-witgate-error")) == (502, Some("connect-failure"));
        failed.then_some(())
    });
}

#[test]
fn a_kept_connection_that_the_origin_closes_costs_no_idempotent_request() {
    // Each connection is good for one response, whatever it says.
    let origin = Origin::scripted(|_, stream| {
        respond(stream, 200, &[], b"ok");
        let _ = stream.shutdown(std::net::Shutdown::Both);
        false
    });
    let running = start(&origin, "", "");
    let mut client = running.client();
    for n in 0..200 {
        let response = client.get(&format!("/{n}"), "");
        assert_eq!((response.status, response.body.as_str()), (200, "ok"), "{response:?}");
    }
    assert_eq!(origin.seen().len(), 200);
}

#[test]
fn a_request_that_the_origin_has_read_is_sent_again_only_where_that_is_harmless() {
    // The second request of a connection is read and not answered.
    let first = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&first);
    let origin = Origin::scripted(move |_, stream| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        n != 1 && respond(stream, 200, &[], b"ok")
    });
    let running = start(&origin, "", "");
    let mut client = running.client();
    assert_eq!(client.get("/", "").status, 200);
    assert_eq!(client.get("/", "").status, 200, "a GET is sent again over another connection");
    assert_eq!((origin.seen().len(), origin.connections()), (3, 2));

    first.store(0, std::sync::atomic::Ordering::SeqCst);
    let origin = &origin;
    let running = start(origin, "", "");
    let mut client = running.client();
    let post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi";
    assert_eq!(client.ask(post).status, 200);
    let response = client.ask(post);
    assert_eq!((response.status, response.header("x-witgate-error")), (502, Some("upstream-reset")), "{response:?}");
    assert_eq!(origin.seen().len(), 5, "a POST is not sent again");
}

#[test]
fn every_request_reaches_the_origin_with_a_host_and_a_path_and_one_length() {
    let origin = Origin::named("o");
    let running = start(&origin, "", "");
    let own = origin.address.to_string();
    let check = |what: &str, line: &str, host: &str, lengths: &[&str]| {
        let seen = wait_for("the origin to be asked", || origin.seen().pop());
        let got = (seen.line.as_str(), seen.all("host"), seen.all("content-length"));
        assert_eq!(got, (line, vec![host], lengths.to_vec()), "{what}: {seen:?}");
    };
    assert_eq!(running.client().ask("GET /old HTTP/1.0\r\n\r\n").status, 200);
    check("HTTP/1.0 without a host", "GET /old HTTP/1.1", &own, &[]);
    assert_eq!(running.client().ask("GET http://x?q=1 HTTP/1.1\r\nhost: y\r\n\r\n").status, 200);
    check("no path", "GET /?q=1 HTTP/1.1", "x", &[]);
    let twice = "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nhi";
    assert_eq!(running.client().ask(twice).status, 200);
    check("the same length twice", "PUT / HTTP/1.1", "a", &["2"]);

    let origin = Origin::named("o");
    let running = start(&origin, "", "");
    let mut client = running.client();
    client.send(h2::hello()).unwrap();
    let put =
        [(":method", "PUT"), (":scheme", "http"), (":path", "/2"), ("content-length", "2"), ("content-length", "2")];
    client.send(h2::headers(1, &put, false)).unwrap();
    client.send(h2::frame(0, 1, 1, b"hi")).unwrap();
    let seen = wait_for("the origin to be asked", || origin.seen().pop());
    assert_eq!(seen.all("host"), [origin.address.to_string()], "{seen:?}");
    assert_eq!((seen.all("content-length"), seen.body.as_slice()), (vec!["2"], &b"hi"[..]), "{seen:?}");
}

#[test]
fn interim_responses_without_end_are_an_error() {
    let origin = Origin::raw(|stream| {
        let _ = stream.read(&mut [0; 1024]);
        while stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").is_ok() {}
    });
    let running = start(&origin, "", "");
    let response = running.client().get("/", "");
    assert_eq!(
        (response.status, response.header("x-witgate-error")),
        (502, Some("upstream-malformed")),
        "{response:?}"
    );
}

#[test]
fn a_response_that_comes_before_the_request_was_sent_is_passed_on() {
    let origin = Origin::raw(|stream| {
        let mut head = [0; 1024];
        let _ = stream.read(&mut head);
        let _ = stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno\n");
        // Not a byte of the body is read.
    });
    let running = start(&origin, "", "");
    let mut client = running.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n").unwrap();
    let sender = std::thread::spawn({
        let mut client = client.clone();
        move || while client.send([b'x'; 1 << 16]).is_ok() {}
    });
    let response = client.response(false).unwrap();
    assert_eq!((response.status, response.body.as_str()), (413, "no\n"), "{response:?}");
    drop(client);
    sender.join().unwrap();
}

#[test]
fn a_response_without_a_body_ends_at_its_head_while_the_request_is_still_sent() {
    let origin = Origin::raw(|stream| {
        let _ = stream.read(&mut [0; 1024]);
        // The length is that of the body it would have had (RFC 9110 §8.6).
        let _ = stream.write_all(b"HTTP/1.1 304 Not Modified\r\netag: \"e\"\r\ncontent-length: 5\r\n\r\n");
        // Not a byte of the body is read, and the connection stays.
        let _ = stream.read_exact(&mut vec![0; 64 << 20]);
    });
    let running = start(&origin, "", "");
    let mut client = running.client();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\nbegun").unwrap();
    let response = client.response(false).unwrap();
    assert_eq!((response.status, response.header("etag")), (304, Some("\"e\"")), "{response:?}");
    wait_for("the request to be settled", || {
        let metrics = witgate_tests::client::get(running.admin(), "/metrics", "").body;
        metrics.lines().any(|l| l.starts_with("witgate_endpoint_in_flight{") && l.ends_with(" 0")).then_some(())
    });
}

#[test]
fn a_body_that_is_longer_than_its_response_says_poisons_nothing() {
    let origin = Origin::scripted(|_, stream| {
        // Content-Length: 2, and a whole response of another's making behind it.
        stream
            .write_all(
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
            )
            .is_ok()
    });
    let running = start(&origin, "", "");
    let mut client = running.client();
    for _ in 0..20 {
        let response = client.get("/", "");
        assert_eq!((response.status, response.body.as_str()), (200, "ok"), "{response:?}");
    }
}

#[test]
fn a_request_over_its_time_is_answered_504() {
    let origin = Origin::scripted(|_, stream| {
        // Says nothing until the proxy gives up and closes.
        let _ = std::io::Read::read(stream, &mut [0; 16]);
        false
    });
    let running = start(&origin, "", "timeout = \"200ms\"");
    let mut client = running.client();
    let response = client.get("/", "");
    assert_eq!((response.status, response.header("x-witgate-error")), (504, Some("timeout")), "{response:?}");
    assert_eq!(client.get("/", "").status, 504, "the connection goes on");
}

#[test]
fn a_client_that_stops_reading_is_cut_off_after_the_timeout() {
    let origin = Origin::scripted(|_, stream| {
        // More than the sockets' buffers hold.
        let piece = vec![b'z'; 1 << 16];
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", piece.len() * 1024);
        stream.write_all(head.as_bytes()).and_then(|()| (0..1024).try_for_each(|_| stream.write_all(&piece))).is_ok()
    });
    let running = start(&origin, "", "timeout = \"300ms\"");
    // On a busy machine the head may be late, which is another matter.
    let stuck = wait_for("a response to begin in time", || {
        let mut stuck = TcpStream::connect(running.web()).unwrap();
        stuck.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        let mut status = [0; 12];
        stuck.read_exact(&mut status).unwrap();
        (&status[9..] == b"200").then_some(stuck)
    });
    wait_for("the connection to be gone from the proxy", || {
        let metrics = witgate_tests::client::get(running.admin(), "/metrics", "").body;
        metrics.lines().any(|l| l == "witgate_downstream_connections_active 0").then_some(())
    });
    drop(stuck);
}

#[test]
fn streams_that_their_client_does_not_read_are_cut_off_after_the_timeout() {
    let origin = Origin::scripted(|seen, stream| {
        // A stream may well take a first piece of a body without having sent any.
        let body = vec![b'z'; if seen.line.contains("/stuck") { 1 << 20 } else { 0 }];
        respond(stream, 200, &[], &body)
    });
    let running = start(&origin, "", "timeout = \"200ms\"");
    let mut client = running.client();
    client.send(h2::hello()).unwrap();
    // INITIAL_WINDOW_SIZE 0: no byte of a body may be sent.
    client.send(h2::frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])).unwrap();
    for (stream, path) in [(1, "/stuck"), (3, "/"), (5, "/stuck")] {
        client.send(h2::headers(stream, &[(":method", "GET"), (":scheme", "http"), (":path", path)], true)).unwrap();
    }
    wait_for("the origin to be asked", || (origin.seen().len() == 3).then_some(()));
    wait_for("the connection to be gone from the proxy", || {
        let metrics = witgate_tests::client::get(running.admin(), "/metrics", "").body;
        metrics.lines().any(|l| l == "witgate_downstream_connections_active 0").then_some(())
    });
}

#[test]
fn http_2_with_prior_knowledge_is_served() {
    let origin = Origin::scripted(|seen, stream| {
        respond(stream, 200, &[], format!("{} {:?}", seen.line, seen.header("cookie")).as_bytes())
    });
    let running = start(&origin, "", "");
    let url = format!("http://{}/two?q=1", running.web());
    let output = std::process::Command::new("curl")
        .args([
            "--silent",
            "--http2-prior-knowledge",
            "--write-out",
            " %{http_version} %{http_code}",
            "--cookie",
            "a=1; b=2",
            &url,
        ])
        .output()
        .expect("curl is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "GET /two?q=1 HTTP/1.1 Some(\"a=1; b=2\") 2 200");
    let seen = origin.seen().remove(0);
    assert_eq!(seen.all("host"), [running.web().to_string()]);
}

#[test]
fn an_endpoint_that_refuses_is_passed_over() {
    let good = Origin::named("good");
    let bad = Origin::named("bad");
    let running = proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n[[route]]\nname = \"all\"\ncluster = \"c\"\n\
         [[cluster]]\nname = \"c\"\nbalance = \"round-robin\"\nendpoints = [{{ address = \"{}\" }}, {{ address = \"{}\" }}]\n",
        good.address, bad.address
    ));
    drop(bad);
    for n in 0..40 {
        let response = Client::connect(running.web()).get(&format!("/{n}"), "");
        assert_eq!(response.status, 200, "{response:?}");
    }
    assert!(good.seen().len() >= 38, "{}", good.seen().len());
}
