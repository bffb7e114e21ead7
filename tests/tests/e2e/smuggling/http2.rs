//! Requests over HTTP/2, frame by frame. A row says what the origin sees, or how the proxy refuses it: with a `400`, by a
//! `reset` of the stream, or by a `goaway` and the end of the connection. Where the connection is left open, one more request must
//! pass over it.

use witgate_tests::h2;

use super::{Client, LAST_SEEN, Recording, Surprises, before};

type Fields = &'static [(&'static str, &'static str)];

/// What the proxy said of a stream, frame by frame, until its end or the connection's.
fn answer(client: &mut Client, stream: u32) -> String {
    loop {
        let Some(h2::Frame { kind, stream: of, payload }) = frame(client) else { return "closed".to_owned() };
        match kind {
            h2::GOAWAY => return "goaway".to_owned(),
            h2::RST_STREAM if of == stream => return "reset".to_owned(),
            h2::HEADERS if of == stream => return h2::status(&payload),
            _ => {}
        }
    }
}

fn frame(client: &mut Client) -> Option<h2::Frame> {
    let (mut frame, length) = h2::frame_head(&client.try_exactly(h2::FRAME_HEAD)?);
    frame.payload = client.try_exactly(length)?;
    Some(frame)
}

fn outcome(client: &mut Client, origin: &Recording, frames: &[u8]) -> String {
    let _ = client.send([&h2::hello(), frames].concat());
    let mut parts = Vec::new();
    let answered = answer(client, 1);
    if !matches!(&*answered, "goaway" | "closed") {
        let last = [(":method", "GET"), (":scheme", "http"), (":path", "/last"), (":authority", "last")];
        let _ = client.send(h2::headers(3, &last, true));
        let behind = answer(client, 3);
        parts.extend(origin.take());
        if behind != "200" || parts.pop_if(|last| last == LAST_SEEN).is_none() {
            parts.push(format!("{behind} behind it"));
        }
    } else {
        parts.extend(origin.take());
    }
    if answered != "200" {
        parts.push(answered);
    }
    parts.join(" | ")
}

#[track_caller]
fn check(rows: impl IntoIterator<Item = (Vec<u8>, &'static str)>) {
    let origin = Recording::start();
    let running = before(origin.address());
    let mut surprises = Surprises::default();
    for (frames, want) in rows {
        let came = outcome(&mut running.client(), &origin, &frames);
        surprises.check(&frames, want, &came);
    }
    let last = running.client().get("/end", "");
    surprises.check(b"the end", "200 [\"GET /end @test\"]", &format!("{} {:?}", last.status, origin.take()));
    surprises.none();
}

const GET: Fields = &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];

/// Heads that are not [`GET`] and something.
const HEADS: &[(Fields, &str)] = &[
    (GET, "GET / @a"),
    (&[(":authority", "a"), (":path", "/"), (":scheme", "http"), (":method", "GET")], "GET / @a"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a")], "GET / @a"),
    // Pseudo-headers that are missing, twice there, behind others, unknown.
    (&[(":scheme", "http"), (":path", "/"), (":authority", "a")], "reset"),
    (&[(":method", "GET"), (":path", "/"), (":authority", "a")], "reset"),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a")], "reset"),
    (&[(":method", "GET"), (":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")], "reset"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":path", "/b"), (":authority", "a")], "reset"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), (":authority", "b")], "reset"),
    (&[(":method", "GET"), (":scheme", "http"), (":scheme", "https"), (":path", "/"), (":authority", "a")], "reset"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("x", "y"), (":authority", "a")], "reset"),
    (&[("x", "y"), (":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")], "reset"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), (":x", "y")], "goaway"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), (":status", "200")], "reset"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), (":", "y")], "goaway"),
    (&[(":Method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")], "goaway"),
    // Methods.
    (&[(":method", "get"), (":scheme", "http"), (":path", "/"), (":authority", "a")], "get / @a"),
    (&[(":method", ""), (":scheme", "http"), (":path", "/"), (":authority", "a")], "goaway"),
    (&[(":method", "GET /x"), (":scheme", "http"), (":path", "/"), (":authority", "a")], "goaway"),
    (&[(":method", "GET / HTTP/1.1\r\nx:"), (":scheme", "http"), (":path", "/"), (":authority", "a")], "goaway"),
    (&[(":method", "GET\0"), (":scheme", "http"), (":path", "/"), (":authority", "a")], "goaway"),
    (&[(":method", "PRI"), (":scheme", "http"), (":path", "*"), (":authority", "a")], "400"),
    (&[(":method", "CONNECT"), (":authority", "a:80")], "405"),
    (&[(":method", "CONNECT"), (":scheme", "http"), (":path", "/"), (":authority", "a:80")], "reset"),
    (
        &[(":method", "CONNECT"), (":scheme", "http"), (":path", "/"), (":authority", "a"), (":protocol", "websocket")],
        "GET / @a ^websocket | 502",
    ),
    // Paths.
    (&[(":method", "GET"), (":scheme", "http"), (":path", ""), (":authority", "a")], "reset"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "*"), (":authority", "a")], "400"),
    (&[(":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), (":authority", "a")], "OPTIONS * @a"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "a"), (":authority", "a")], "reset"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "?a"), (":authority", "a")], "400"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "http://b/"), (":authority", "a")], "reset"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "//b/a"), (":authority", "a")], "GET //b/a @a"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/a b"), (":authority", "a")], "reset"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/ HTTP/1.1"), (":authority", "a")], "reset"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/\r\nx: y"), (":authority", "a")], "reset"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/\n"), (":authority", "a")], "reset"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/\0"), (":authority", "a")], "reset"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/\t"), (":authority", "a")], "reset"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/\u{e4}"), (":authority", "a")], "400"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/a#b"), (":authority", "a")], "GET /a @a"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/%0d%0a"), (":authority", "a")], "GET /%0d%0a @a"),
    // Authorities, which are the host whatever `host` says (RFC 9113 section 8.3.1).
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), ("host", "b")], "GET / @a"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), ("host", "a/b")], "400"),
    (
        &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), ("host", "a"), ("host", "a")],
        "400",
    ),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a"), ("host", "b")], "400"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a b")], "400"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "u@a")], "400"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a b")], "reset"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a/b")], "reset"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a\r\nx: y")], "reset"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a,b")], "400"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a:b")], "400"),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "")], "reset"),
    // Schemes.
    (&[(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "a")], "GET / @a"),
    (&[(":method", "GET"), (":scheme", ""), (":path", "/"), (":authority", "a")], "400"),
    (&[(":method", "GET"), (":scheme", "ftp"), (":path", "/"), (":authority", "a")], "400"),
    (&[(":method", "GET"), (":scheme", "http://b/?"), (":path", "/"), (":authority", "a")], "reset"),
    (&[(":method", "GET"), (":scheme", "http\r\nx"), (":path", "/"), (":authority", "a")], "reset"),
];

/// Fields behind those of [`GET`].
const FIELDS: &[(&str, &str, &str)] = &[
    ("x", "y", "GET / @a"),
    ("x", "", "GET / @a"),
    ("x", "y\r\nz: a", "goaway"),
    ("x", "y\nz: a", "goaway"),
    ("x", "y\r", "goaway"),
    ("x", "y\0", "goaway"),
    ("x", "\u{7f}", "goaway"),
    ("x", " y ", "GET / @a"),
    ("X", "y", "goaway"),
    ("Content-Length", "0", "goaway"),
    ("x y", "z", "goaway"),
    ("x:", "y", "goaway"),
    ("x\r\ny", "z", "goaway"),
    ("x: y\r\nz", "a", "goaway"),
    ("", "y", "goaway"),
    ("\u{e4}", "y", "goaway"),
    ("connection", "close", "reset"),
    ("connection", "x", "reset"),
    ("connection", "", "reset"),
    ("keep-alive", "timeout=5", "reset"),
    ("proxy-connection", "keep-alive", "reset"),
    ("upgrade", "websocket", "reset"),
    ("upgrade", "h2c", "reset"),
    ("http2-settings", "AAMAAABkAAQAAP__", "GET / @a"),
    ("transfer-encoding", "chunked", "reset"),
    ("transfer-encoding", "identity", "reset"),
    ("te", "trailers", "GET / @a"),
    ("te", "gzip", "reset"),
    ("te", "trailers, gzip", "reset"),
    ("te", "trailers\r\nx: y", "goaway"),
    ("content-length", "0", "GET / @a"),
    ("content-length", "5", "reset"),
    ("content-length", "+0", "reset"),
    ("content-length", "-1", "reset"),
    ("content-length", "0, 0", "reset"),
    ("content-length", "x", "reset"),
    ("content-length", "", "GET / @a"),
    ("content-length", "18446744073709551616", "reset"),
    ("expect", "100-continue", "GET / @a"),
    ("expect", "foo", "417"),
    ("cookie", "a=b", "GET / @a"),
];

#[test]
fn a_head_of_http_2_is_one_head_to_the_origin_or_is_refused() {
    let heads = HEADS.iter().map(|(fields, want)| (h2::headers(1, fields, true), *want));
    let fields = FIELDS.iter().map(|(name, value, want)| {
        let fields: Vec<_> = GET.iter().copied().chain([(*name, *value)]).collect();
        (h2::headers(1, &fields, true), *want)
    });
    check(heads.chain(fields));
}

/// What is said of the length, and the frames of data; `!` is a frame of trailers.
const BODIES: &[(&[&str], &[&str], &str)] = &[
    (&[], &["hello"], "POST / @a =hello"),
    (&[], &["he", "", "llo"], "POST / @a =hello"),
    (&[], &[""], "POST / @a"),
    (&[], &["0\r\n\r\n"], "POST / @a =0\\r\\n\\r\\n"),
    (&["5"], &["hello"], "POST / @a =hello"),
    (&["5"], &["he", "llo"], "POST / @a =hello"),
    (&["05"], &["hello"], "POST / @a =hello"),
    (&["0"], &[""], "POST / @a"),
    (&["6"], &["hello"], "reset"),
    (&["4"], &["hello"], "reset"),
    (&["0"], &["hello"], "reset"),
    (&["4"], &["hel", "lo"], "reset"),
    (&["6"], &["hel", "lo"], "reset"),
    (&["5", "5"], &["hello"], "POST / @a =hello"),
    (&["5", "6"], &["hello"], "reset"),
    (&["5", "6"], &["hello!"], "reset"),
    (&["5, 5"], &["hello"], "reset"),
    (&["+5"], &["hello"], "reset"),
    (&["5 "], &["hello"], "reset"),
    (&[], &["hello", "!x"], "POST / @a =hello"),
    (&["5"], &["hello", "!x"], "POST / @a =hello"),
    (&["6"], &["hello", "!x"], "reset"),
    (&[], &["hello", "!content-length"], "POST / @a =hello"),
    (&[], &["hello", "!host"], "POST / @a =hello"),
    (&[], &["hello", "!transfer-encoding"], "reset"),
    // Dropped, as what belongs to a head is.
    (&[], &["hello", "!:path"], "POST / @a =hello"),
    (&[], &["hello", "!X"], "goaway"),
];

#[test]
fn a_body_of_http_2_is_as_long_to_the_origin_or_is_refused() {
    check(BODIES.iter().map(|(lengths, data, want)| {
        let mut fields = vec![(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
        fields.extend(lengths.iter().map(|length| ("content-length", *length)));
        let mut frames = h2::headers(1, &fields, false);
        for (n, piece) in data.iter().enumerate() {
            let ends = n + 1 == data.len();
            frames.extend(match piece.strip_prefix('!') {
                Some(name) => h2::headers(1, &[(name, "1")], ends),
                None => h2::frame(0, u8::from(ends), 1, piece.as_bytes()),
            });
        }
        (frames, *want)
    }));
}
