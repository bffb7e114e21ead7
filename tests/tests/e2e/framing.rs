//! Limits of heads and bodies, and what could mean two things to two readers where it comes in pieces or behind something
//! else; the rest of that is in `smuggling`.

use std::io::{Read, Write};

use witgate_tests::{client::Client, origin::Origin, proxy, wait_for};

fn config(origin: &Origin) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\nlimits = {{ header_bytes = \"16KiB\", headers = 20, body = \"1KiB\" }}\n\
         [[route]]\nname = \"all\"\ncluster = \"c\"\n[[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{}\" }}]\n",
        origin.address
    )
}

/// Sends each request on a connection of its own: the status is as said, the reason is as said, the connection is
/// closed, and the origin sees nothing.
#[track_caller]
fn refused(cases: &[(&str, Vec<u8>, u16, &str)]) {
    let origin = Origin::named("o");
    let running = proxy::start(&config(&origin));
    for (what, request, status, reason) in cases {
        let mut client = running.client();
        // The proxy may close before the whole request was sent.
        let _ = client.send(request);
        let response = client.response(false).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(response.status, *status, "{what}: {response:?}");
        assert_eq!(response.header("x-witgate-error"), Some(*reason), "{what}: {response:?}");
        assert!(client.closed(), "{what}: the connection was left open");
    }
    assert!(origin.seen().is_empty(), "an origin saw {:?}", origin.seen());
    // The same listener still serves.
    assert_eq!(running.client().get("/", "").status, 200);
}

fn text(request: &str) -> Vec<u8> {
    request.as_bytes().to_vec()
}

#[test]
fn heads_over_a_limit_are_refused() {
    let many: String = (0..21).map(|n| format!("x-{n}: y\r\n")).collect();
    refused(&[
        (
            "one huge header",
            text(&format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(20 << 10))),
            431,
            "header-too-large",
        ),
        ("too many headers", text(&format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n")), 431, "header-too-large"),
    ]);
}

#[test]
fn bodies_over_the_limit_are_refused_whether_announced_or_not() {
    let announced = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2000\r\n\r\n{}", "x".repeat(2000));
    refused(&[("announced", text(&announced), 413, "body-too-large")]);

    let origin = Origin::named("o");
    let running = proxy::start(&config(&origin));
    let mut client = running.client();
    let chunk = format!("400\r\n{}\r\n", "x".repeat(0x400));
    let _ =
        client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n"));
    let response = client.response(false).unwrap();
    assert_eq!(response.status, 413, "{response:?}");
    assert!(origin.seen().is_empty(), "an origin read a whole request: {:?}", origin.seen());
}

#[test]
fn a_length_beside_an_encoding_is_seen_behind_another_request_too() {
    let both = "POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let first = "POST /b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n";
    let rest = "0\r\n\r\n";
    for pieces in [vec![format!("{first}{rest}{both}")], vec![first.to_owned(), format!("{rest}{both}")]] {
        let origin = Origin::named("o");
        let running = proxy::start(&config(&origin));
        let mut client = running.client();
        let mut seen = 0;
        for piece in &pieces {
            client.send(piece).unwrap();
            // The next piece goes out once the first request is on its way.
            seen += wait_for("the proxy to have asked for a connection", || {
                (origin.connections() > 0 || pieces.len() == 1).then_some(1)
            });
        }
        let statuses: Vec<u16> = (0..2).filter_map(|_| client.response(false).ok()).map(|r| r.status).collect();
        assert_eq!(statuses.last(), Some(&400), "{statuses:?} after {seen} pieces");
        assert!(origin.seen().len() <= 1, "the second request went on: {:?}", origin.seen());
    }
}

/// As above, behind a body of known length, of which nothing is kept.
#[test]
fn a_length_beside_an_encoding_is_seen_behind_a_body_of_known_length() {
    let both = "POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let first = "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n";
    for pieces in [
        vec![format!("{first}0123456789{both}")],
        vec![first.to_owned(), format!("0123456789{both}")],
        vec![format!("{first}01234"), "56".to_owned(), format!("789{}", &both[..30]), both[30..].to_owned()],
    ] {
        let origin = Origin::named("o");
        let running = proxy::start(&config(&origin));
        let mut client = running.client();
        for piece in &pieces {
            client.send(piece).unwrap();
            // Each is a piece of its own to the proxy.
            std::thread::yield_now();
        }
        let statuses: Vec<u16> = (0..2).filter_map(|_| client.response(false).ok()).map(|r| r.status).collect();
        assert_eq!(statuses, [200, 400], "{pieces:?}");
        let seen = origin.seen();
        assert_eq!(seen.len(), 1, "the second request went on: {seen:?}");
        assert_eq!(seen[0].body, b"0123456789");
    }
}

#[test]
fn a_length_beside_an_encoding_is_seen_in_heads_that_come_in_pieces() {
    let origin = Origin::named("o");
    let running = proxy::start(&config(&origin).replace("16KiB", "1MiB").replace("headers = 20", "headers = 100"));
    let long = format!("x-long: {}\r\n", "y".repeat(200 << 10));
    let length = "POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n";
    let encoding = "transfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    for (first, pieces) in [
        // Lines of the head in front end with a line feed alone.
        ("GET /a HTTP/1.1\nhost: a\n\n", vec![length, encoding]),
        ("", vec![length, long.as_str(), encoding]),
    ] {
        let mut client = running.client();
        client.send(format!("{first}{}", pieces[0])).unwrap();
        if !first.is_empty() {
            assert_eq!(client.response(false).unwrap().status, 200);
        }
        // The proxy may close before the whole request was sent.
        let _ = pieces[1..].iter().try_for_each(|piece| client.send(piece));
        let response = client.response(false).unwrap();
        assert_eq!((response.status, response.header("x-witgate-error")), (400, Some("bad-request")), "{response:?}");
        assert!(client.closed());
    }
    assert!(origin.seen().iter().all(|seen| seen.line.starts_with("GET")), "{:?}", origin.seen());
}

#[test]
fn what_is_no_request_is_refused_in_the_proxys_words_behind_a_request_too() {
    let origin = Origin::named("o");
    let running = proxy::start(&config(&origin));
    for first in ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab"] {
        let mut client = running.client();
        client.send(format!("{first}this is no request\r\n\r\n")).unwrap();
        assert_eq!(client.response(false).unwrap().status, 200);
        let refused = client.response(false).unwrap();
        assert_eq!((refused.status, refused.header("x-witgate-error")), (400, Some("bad-request")), "{refused:?}");
        assert!(client.closed());
    }
}

#[test]
fn workers_that_wait_hold_no_permit_that_another_needs() {
    let origin = Origin::named("o");
    let running = proxy::start(&config(&origin).replace("limits = {", "limits = { connections = 1,"));
    for n in 0..20 {
        let response = Client::connect(running.web()).get(&format!("/{n}"), "connection: close\r\n");
        assert_eq!(response.status, 200, "{response:?}");
    }
}

#[test]
fn a_slow_head_is_cut_off() {
    let origin = Origin::named("o");
    let running = proxy::start(&config(&origin).replace("headers = 20", "headers = 20, header_timeout = \"1s\""));
    let mut slow = running.client();
    slow.send("GET / HTTP/1.1\r\nhost: a\r\nx: ").unwrap();
    let mut silent = Client::connect(running.web());
    wait_for("both connections to be closed", || (slow.closed() && silent.closed()).then_some(()));
    assert!(origin.seen().is_empty());
}

#[test]
fn an_answer_before_the_whole_request_says_that_the_connection_is_closed() {
    let early = Origin::raw(|stream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).unwrap_or(0) == 0 {
                return;
            }
            head.extend(byte);
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
        // Open until the proxy has had enough of it.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let running = proxy::start_before(&[&early], "", "");
    let mut client = running.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nonly this much").unwrap();
    let answer = client.response(false).unwrap();
    assert_eq!((answer.status, &*answer.body, answer.header("connection")), (200, "hi", Some("close")));
    assert!(client.closed());

    let whole = Origin::named("whole");
    let running = proxy::start_before(&[&whole], "", "");
    let mut client = running.client();
    for body in ["content-length: 5\r\n\r\nwhole", "transfer-encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n"] {
        let answer = client.ask(format!("POST / HTTP/1.1\r\nhost: a\r\n{body}"));
        assert_eq!((answer.status, answer.header("connection")), (200, None), "{body}");
    }
}
