//! Answers of endpoints. A row says what the client gets (a status and a body, the reason of the proxy's own answer, or that it
//! was `cut`: never something else that looks whole), and whether the next request found the connection to the endpoint
//! `kept` or a `fresh` one.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};

use witgate_tests::{client::Client, origin::Origin, proxy::Running};

use super::{Surprises, before};

/// An endpoint that says `answer` where it is asked for `/bad`, and then closes, if it is to; else it says over which kind of
/// connection it was asked.
fn endpoint(answer: &[u8], closes: bool) -> Origin {
    let answer = answer.to_vec();
    Origin::raw(move |stream| {
        let mut was_bad = false;
        while let Some(head) = head(stream) {
            if head.contains(" /bad ") {
                was_bad = true;
                let _ = stream.write_all(&answer);
                if closes {
                    let _ = stream.shutdown(Shutdown::Write);
                }
            } else {
                let said = if was_bad { "kept" } else { "fresh" };
                let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{said}", said.len());
            }
        }
    })
}

/// A request's head, which is all of it.
fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.extend(byte);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// What comes of the answer to a request by this method, in the words of a row.
fn outcome(running: &Running, method: &str) -> String {
    let mut client = running.client();
    client.send(format!("{method} /bad HTTP/1.1\r\nhost: a\r\n\r\n")).expect("the proxy reads");
    let came = match client.response(method == "HEAD") {
        Ok(response) => {
            let why = response.header("x-witgate-error").unwrap_or(&response.body);
            format!("{} {why}", response.status).trim_end().to_owned()
        }
        Err(_) => "cut".to_owned(),
    };
    // Over the same connection, if it is of use: what is left of the answer would be taken for the next one.
    let ask = |client: &mut Client| {
        client.send("GET /good HTTP/1.1\r\nhost: a\r\n\r\n").and_then(|()| client.response(false)).map(|r| r.body)
    };
    let next = ask(&mut client).or_else(|_| ask(&mut running.client()));
    format!("{came} | {}", next.unwrap_or_else(|error| error.to_string()))
}

#[track_caller]
fn check(method: &str, closes: bool, rows: impl IntoIterator<Item = (Vec<u8>, &'static str)>) {
    let mut surprises = Surprises::default();
    for (answer, want) in rows {
        let endpoint = endpoint(&answer, closes);
        let running = before(endpoint.address);
        surprises.check(&answer, want, &outcome(&running, method));
    }
    surprises.none();
}

fn owned(rows: &[(&[u8], &'static str)]) -> Vec<(Vec<u8>, &'static str)> {
    rows.iter().map(|(answer, want)| (answer.to_vec(), *want)).collect()
}

const MALFORMED: &str = "502 upstream-malformed | fresh";

/// What comes first of an answer that is right but for that.
const STARTS: &[(&[u8], &str)] = &[
    (b"HTTP/1.1 200 OK", "200 ok | kept"),
    (b"HTTP/1.1 200 ", "200 ok | kept"),
    (b"HTTP/1.1 200", "200 ok | kept"),
    (b"HTTP/1.1 599 \xe4", "599 ok | kept"),
    (b"HTTP/1.1 999 X", "999 ok | kept"),
    (b"HTTP/1.0 200 OK", "200 ok | fresh"),
    (b"HTTP/1.0 200 OK\r\nconnection: keep-alive", "200 ok | kept"),
    (b"HTTP/1.1 200 OK\r\nconnection: close", "200 ok | fresh"),
    (b"HTTP/1.1 200 OK\r\nconnection: content-length", "200 ok | kept"),
    (b"HTTP/1.1 200 OK\nx: y", "200 ok | kept"),
    (b"HTTP/1.1 99 X", MALFORMED),
    (b"HTTP/1.1 099 X", MALFORMED),
    (b"HTTP/1.1 000 X", MALFORMED),
    (b"HTTP/1.1 1000 X", MALFORMED),
    (b"HTTP/1.1 20 OK", MALFORMED),
    (b"HTTP/1.1 2x0 OK", MALFORMED),
    (b"HTTP/1.1 -20 OK", MALFORMED),
    (b"HTTP/1.1 +200 OK", MALFORMED),
    (b"HTTP/1.1 200OK", MALFORMED),
    (b"HTTP/1.1  200 OK", MALFORMED),
    (b"HTTP/1.1\t200 OK", MALFORMED),
    (b"HTTP/1.1 OK", MALFORMED),
    (b"HTTP/1.1", MALFORMED),
    (b"HTTP/1.1 200 O\0K", MALFORMED),
    (b"HTTP/1.1 200 O\rK", MALFORMED),
    (b"HTTP/1.2 200 OK", MALFORMED),
    (b"HTTP/2.0 200 OK", MALFORMED),
    (b"HTTP/2 200", MALFORMED),
    (b"http/1.1 200 OK", MALFORMED),
    (b"ICY 200 OK", MALFORMED),
    (b" HTTP/1.1 200 OK", MALFORMED),
    (b"\r\nHTTP/1.1 200 OK", MALFORMED),
    (b"\nHTTP/1.1 200 OK", MALFORMED),
    (b"\0HTTP/1.1 200 OK", MALFORMED),
    (b"<html>", MALFORMED),
    (b"\x15\x03\x01\0\x02\x02\x46", MALFORMED),
    (b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x80", MALFORMED),
    // Fields.
    (b"HTTP/1.1 200 OK\r\nx: \xe4", "200 ok | kept"),
    (b"HTTP/1.1 200 OK\r\nx:", "200 ok | kept"),
    (b"HTTP/1.1 200 OK\r\nx: y\r\n z", MALFORMED),
    (b"HTTP/1.1 200 OK\r\nx: y\r\n\tz: a", MALFORMED),
    (b"HTTP/1.1 200 OK\r\n x: y", MALFORMED),
    (b"HTTP/1.1 200 OK\r\nx: y\0", MALFORMED),
    (b"HTTP/1.1 200 OK\r\nx: y\x01", MALFORMED),
    (b"HTTP/1.1 200 OK\r\nx: y\rz: a", MALFORMED),
    (b"HTTP/1.1 200 OK\r\nx : y", MALFORMED),
    (b"HTTP/1.1 200 OK\r\nx y: z", MALFORMED),
    (b"HTTP/1.1 200 OK\r\nx\0: z", MALFORMED),
    (b"HTTP/1.1 200 OK\r\nx\xe4: z", MALFORMED),
    (b"HTTP/1.1 200 OK\r\nx", MALFORMED),
    (b"HTTP/1.1 200 OK\r\n: y", MALFORMED),
    (b"HTTP/1.1 200 OK\r\nconnection: a b", MALFORMED),
];

#[test]
fn a_head_of_an_endpoint_is_a_right_one_or_the_proxys() {
    let answer = |start: &[u8]| [start, b"\r\ncontent-length: 2\r\n\r\nok"].concat();
    check("GET", false, STARTS.iter().map(|(start, want)| (answer(start), *want)));
    let with = |lines: String| answer(format!("HTTP/1.1 200 OK\r\n{lines}x: y").as_bytes());
    check(
        "GET",
        false,
        [
            (with("x: y\r\n".repeat(100)), "200 ok | kept"),
            (with("x: y\r\n".repeat(200)), MALFORMED),
            (with(format!("x: {}\r\n", "y".repeat(70 << 10))), MALFORMED),
            (with(format!("{}: y\r\n", "x".repeat(70 << 10))), MALFORMED),
            (format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(70 << 10)).into_bytes(), MALFORMED),
            (format!("HTTP/1.1 200 {}", "K".repeat(70 << 10)).into_bytes(), MALFORMED),
        ],
    );
}

/// What comes behind `HTTP/1.1 200 OK`.
const FRAMING: &[(&[u8], &str)] = &[
    // Lengths.
    (b"content-length: 2\r\n\r\nok", "200 ok | kept"),
    (b"content-length: 002\r\n\r\nok", "200 ok | kept"),
    (b"content-length: 2\r\ncontent-length: 2\r\n\r\nok", "200 ok | kept"),
    (b"content-length: 0\r\n\r\n", "200 | kept"),
    (b"content-length: 2\r\ncontent-length: 3\r\n\r\nok!", MALFORMED),
    (b"content-length: 2, 2\r\n\r\nok", MALFORMED),
    (b"content-length: 2, 3\r\n\r\nok", MALFORMED),
    (b"content-length: +2\r\n\r\nok", MALFORMED),
    (b"content-length: -2\r\n\r\nok", MALFORMED),
    (b"content-length: 0x2\r\n\r\nok", MALFORMED),
    (b"content-length: 2.0\r\n\r\nok", MALFORMED),
    (b"content-length: two\r\n\r\nok", MALFORMED),
    (b"content-length:\r\n\r\nok", MALFORMED),
    (b"content-length: 18446744073709551616\r\n\r\nok", MALFORMED),
    (b"content-length: 18446744073709551618\r\n\r\nok", MALFORMED),
    // Both, and other codings.
    (b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", MALFORMED),
    (b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n", MALFORMED),
    (b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", MALFORMED),
    (b"transfer-encoding: xchunked\r\n\r\nok", MALFORMED),
    (b"transfer-encoding: identity\r\n\r\nok", MALFORMED),
    (b"transfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", MALFORMED),
    (b"transfer-encoding: chunked, gzip\r\n\r\nok", MALFORMED),
    (b"transfer-encoding:\x0bchunked\r\n\r\nok", MALFORMED),
    (b"transfer-encoding : chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", MALFORMED),
    // More than there should be.
    (b"content-length: 2\r\n\r\nok!", "200 ok | fresh"),
    (b"content-length: 2\r\n\r\nok\r\n", "200 ok | fresh"),
    (b"content-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", "200 ok | fresh"),
    (b"content-length: 0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", "200 | fresh"),
    (
        b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        "200 ok | fresh",
    ),
    // Chunks.
    (b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "200 ok | kept"),
    (b"transfer-encoding: Chunked\r\n\r\n02;a=b\r\nok\r\n00 \r\n\r\n", "200 ok | kept"),
    (b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n", "200 ok | kept"),
    (b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ncontent-length: 9\r\nset-cookie: a\r\n\r\n", "200 ok | kept"),
    (b"transfer-encoding: chunked\r\n\r\nok", "cut | fresh"),
    (b"transfer-encoding: chunked\r\n\r\n\r\n2\r\nok\r\n0\r\n\r\n", "cut | fresh"),
    (b"transfer-encoding: chunked\r\n\r\n2\r\nok0\r\n\r\n", "cut | fresh"),
    (b"transfer-encoding: chunked\r\n\r\n2\r\nok!\r\n0\r\n\r\n", "cut | fresh"),
    (b"transfer-encoding: chunked\r\n\r\n2\nok\n0\n\n", "cut | fresh"),
    (b"transfer-encoding: chunked\r\n\r\n-2\r\nok\r\n0\r\n\r\n", "cut | fresh"),
    (b"transfer-encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n", "cut | fresh"),
    (b"transfer-encoding: chunked\r\n\r\n10000000000000002\r\nok\r\n0\r\n\r\n", "cut | fresh"),
    (b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\nz\r\n", "cut | fresh"),
    (b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nno colon\r\n\r\n", "cut | fresh"),
    (b"transfer-encoding: chunked\r\n\r\n2;a\nb\r\nok\r\n0\r\n\r\n", "cut | fresh"),
];

#[test]
fn a_body_of_an_endpoint_is_as_long_to_the_client_or_visibly_cut() {
    check("GET", false, FRAMING.iter().map(|(rest, want)| ([b"HTTP/1.1 200 OK\r\n", *rest].concat(), *want)));
    let long = |size: usize| {
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;{}\r\nok\r\n0\r\n\r\n", "x".repeat(size))
    };
    check("GET", false, [(long(10 << 10).into_bytes(), "200 ok | kept"), (long(20 << 10).into_bytes(), "cut | fresh")]);
}

/// All that is said before the endpoint closes.
const CLOSED: &[(&[u8], &str)] = &[
    (b"", "502 upstream-reset | fresh"),
    (b"HTTP/1.1 200 OK\r\n", "502 upstream-reset | fresh"),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n", "502 upstream-reset | fresh"),
    (b"HTTP/1.1 103 Early Hints\r\n\r\n", "502 upstream-reset | fresh"),
    (b"HTTP/1.1 200 OK\r\n\r\nok", "200 ok | fresh"),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "200 ok | fresh"),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no", "cut | fresh"),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", "cut | fresh"),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\r\nok", "cut | fresh"),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "cut | fresh"),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\no", "cut | fresh"),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", "cut | fresh"),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", "cut | fresh"),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n", "cut | fresh"),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nok", "cut | fresh"),
    (b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", MALFORMED),
];

#[test]
fn an_endpoint_that_closes_early_is_seen_to() {
    check("GET", true, owned(CLOSED));
}

/// Answers that have no body, and those before the last one.
const BARE: &[(&[u8], &str)] = &[
    (b"HTTP/1.1 204 No Content\r\n\r\n", "204 | kept"),
    (b"HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nok", "204 | fresh"),
    (b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "204 | fresh"),
    (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n", "304 | kept"),
    (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\nok", "304 | fresh"),
    (b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "200 ok | kept"),
    (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 199 X\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "200 ok | kept",
    ),
    (b"HTTP/1.1 103 X\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", MALFORMED),
    (b"HTTP/1.1 103 X\r\n\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", MALFORMED),
    (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", MALFORMED),
    (b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", MALFORMED),
    (b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n\0\0\0\x04\0\0\0\0\0", MALFORMED),
    (b"HTTP/1.1 101 S\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", MALFORMED),
];

#[test]
fn an_answer_without_a_body_ends_with_its_head() {
    check("GET", false, owned(BARE));
    let flood = |count: usize| {
        [b"HTTP/1.1 103 X\r\n\r\n".repeat(count), b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()].concat()
    };
    check("GET", false, [(flood(100), "200 ok | kept"), (flood(10_000), MALFORMED)]);
    check(
        "HEAD",
        false,
        owned(&[
            (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", "200 | kept"),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "200 | kept"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "200 | fresh"),
            (
                b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
                "200 | fresh",
            ),
            (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", MALFORMED),
        ]),
    );
}

/// Nobody in between opens what is compressed, however large it is inside.
#[test]
fn what_is_compressed_passes_as_it_is() {
    // A head as RFC 1952 has it; whoever opened what follows would fail, or have something else.
    let bomb = [b"\x1f\x8b\x08\0\0\0\0\0\0\x03".as_slice(), &b"\x63\x60\0\r\n".repeat(16 << 10)].concat();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len());
    let endpoint = endpoint(&[head.as_bytes(), &bomb].concat(), false);
    let running = before(endpoint.address);
    let mut client = running.client();
    client.send("GET /bad HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\nconnection: close\r\n\r\n").unwrap();
    let came = client.rest();
    let body = came.windows(4).position(|four| four == b"\r\n\r\n").map(|end| &came[end + 4..]);
    assert_eq!(body, Some(&*bomb), "{} bytes came", came.len());
}
