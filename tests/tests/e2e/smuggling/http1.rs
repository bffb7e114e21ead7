//! Requests over HTTP/1. A row says what the origin sees, request by request, and the status with which the proxy refuses what
//! comes then and closes: `POST /a @host =body | 400`. Where it refuses nothing, one more request must pass over the same
//! connection, if the row does not say that it is `closed`.

use super::{Client, LAST, LAST_SEEN, Recording, Surprises, before};

/// What comes of bytes, in the words of a row.
fn outcome(client: &mut Client, origin: &Recording, sent: &[u8], want: &str) -> String {
    // The proxy may close before all of it was sent.
    let _ = client.send(sent);
    let (mut refused, mut answers) = (String::new(), 0);
    let wanted: Vec<&str> = want.split(" | ").collect();
    for _ in wanted.iter().filter(|part| **part != "closed") {
        match client.response(false) {
            Ok(response) if response.status == 200 => answers += 1,
            Ok(response) => {
                refused = response.status.to_string();
                if response.header("x-witgate-error").is_none() {
                    refused.push_str(" without a reason");
                }
                break;
            }
            Err(error) => {
                refused = error.to_string();
                break;
            }
        }
    }
    let mut parts = Vec::new();
    if refused.is_empty() && !wanted.contains(&"closed") {
        let last = client.send(LAST).and_then(|()| client.response(false));
        if last.as_ref().map_or(0, |last| last.status) != 200 {
            refused = format!("behind it {last:?}");
        }
        parts.extend(origin.take());
        if parts.pop_if(|last| last == LAST_SEEN).is_none() {
            refused.push_str("; what came behind it was not seen");
        }
    } else {
        parts.extend(origin.take());
    }
    if parts.len() != answers {
        refused.push_str(&format!("; {answers} answered"));
    }
    if !refused.is_empty() {
        parts.push(refused);
    } else if wanted.contains(&"closed") {
        parts.push("closed".to_owned());
    }
    if !client.closed() {
        parts.push("open".to_owned());
    }
    parts.join(" | ")
}

#[track_caller]
pub fn check(rows: impl IntoIterator<Item = (Vec<u8>, &'static str)>) {
    let origin = Recording::start();
    let running = before(origin.address());
    let mut surprises = Surprises::default();
    for (sent, want) in rows {
        let came = outcome(&mut running.client(), &origin, &sent, want);
        surprises.check(&sent, want, &came);
    }
    // Nothing was on its way yet.
    let came = outcome(&mut running.client(), &origin, b"GET /end HTTP/1.1\r\nhost: a\r\n\r\n", "GET /end @a");
    surprises.check(b"the end", "GET /end @a", &came);
    surprises.none();
}

pub fn joined(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.concat()
}

/// Lines of the head, and what comes behind it.
const FRAMING: &[(&[u8], &[u8], &str)] = &[
    // Content-Length beside Transfer-Encoding, plain and in disguise.
    (b"content-length: 5\r\ntransfer-encoding: chunked", b"0\r\n\r\n", "400"),
    (b"transfer-encoding: chunked\r\ncontent-length: 5", b"0\r\n\r\n", "400"),
    (b"Transfer-Encoding: chunked\r\nx: y\r\nContent-Length: 0", b"0\r\n\r\n", "400"),
    (b"x: y\ntransfer-encoding: chunked\r\ncontent-length: 5", b"0\r\n\r\n", "400"),
    (b"content-length: 5\ntransfer-encoding: chunked\n", b"0\r\n\r\n", "400"),
    (b"content-length: 5\r\nconnection: content-length\r\ntransfer-encoding: chunked", b"0\r\n\r\n", "400"),
    (b"content-length: 5\r\nconnection: transfer-encoding\r\ntransfer-encoding: chunked", b"0\r\n\r\n", "400"),
    (b"content-length: 5\r\ntransfer-encoding: xchunked", b"hello", "400"),
    (b"content-length: 5\r\ntransfer-encoding: identity", b"hello", "400"),
    (b"content-length: 5\r\ntransfer-encoding : chunked", b"hello", "400"),
    (b"content-length: 5\r\ntransfer-encoding\t: chunked", b"hello", "400"),
    (b"content-length: 5\r\ntransfer-encoding\x0b: chunked", b"hello", "400"),
    (b"content-length: 5\r\ntransfer-encoding\0: chunked", b"hello", "400"),
    (b"content-length: 5\r\n transfer-encoding: chunked", b"hello", "400"),
    (b"content-length: 5\r\n\ttransfer-encoding: chunked", b"hello", "400"),
    (b"content-length: 5\r\nx: y\rtransfer-encoding: chunked", b"hello", "400"),
    (b"content-length: 5\r\nx: y\r\n transfer-encoding: chunked", b"hello", "400"),
    (b"content-length: 5\r\ntransfer-encoding:\r\n chunked", b"hello", "400"),
    (b"content-length: 5\r\ntransfer-encoding:\n chunked", b"hello", "400"),
    (b"content-length: 5\r\n\xc2\xa0transfer-encoding: chunked", b"hello", "400"),
    (b"content-length: 5\r\ntransfer_encoding: chunked", b"hello", "POST / @a =hello"),
    (b"content-length: 5\r\nx-transfer-encoding: chunked", b"hello", "POST / @a =hello"),
    (b"content-length: 5\r\nx: y\0transfer-encoding: chunked", b"hello", "400"),
    // Transfer codings.
    (b"transfer-encoding: chunked", b"2\r\nhi\r\n0\r\n\r\n", "POST / @a =hi"),
    (b"Transfer-Encoding:cHuNkEd", b"2\r\nhi\r\n0\r\n\r\n", "POST / @a =hi"),
    (b"transfer-encoding: \t chunked \t", b"2\r\nhi\r\n0\r\n\r\n", "POST / @a =hi"),
    (b"connection: transfer-encoding\r\ntransfer-encoding: chunked", b"2\r\nhi\r\n0\r\n\r\n", "POST / @a =hi"),
    (b"transfer-encoding: xchunked", b"0\r\n\r\n", "400"),
    (b"transfer-encoding: chunkedx", b"0\r\n\r\n", "400"),
    (b"transfer-encoding: chunked, identity", b"0\r\n\r\n", "400"),
    (b"transfer-encoding: identity, chunked", b"0\r\n\r\n", "400"),
    (b"transfer-encoding: identity", b"hello", "400"),
    (b"transfer-encoding: gzip", b"hello", "400"),
    (b"transfer-encoding: gzip, chunked", b"0\r\n\r\n", "400"),
    (b"transfer-encoding: chunked, gzip", b"0\r\n\r\n", "400"),
    (b"transfer-encoding: chunked, chunked", b"0\r\n\r\n", "400"),
    (b"transfer-encoding: , chunked", b"0\r\n\r\n", "400"),
    (b"transfer-encoding: chunked,", b"0\r\n\r\n", "400"),
    (b"transfer-encoding: chunked;q=1", b"0\r\n\r\n", "400"),
    (b"transfer-encoding: \"chunked\"", b"0\r\n\r\n", "400"),
    (b"transfer-encoding: 'chunked'", b"0\r\n\r\n", "400"),
    (b"transfer-encoding: chu nked", b"0\r\n\r\n", "400"),
    (b"transfer-encoding: \x0bchunked", b"0\r\n\r\n", "400"),
    (b"transfer-encoding: chunked\x0b", b"0\r\n\r\n", "400"),
    (b"transfer-encoding: \x0cchunked", b"0\r\n\r\n", "400"),
    (b"transfer-encoding: chunked\0", b"0\r\n\r\n", "400"),
    (b"transfer-encoding: \xa0chunked", b"0\r\n\r\n", "400"),
    (b"transfer-encoding:", b"hello", "400"),
    (b"transfer-encoding: chunked\r\ntransfer-encoding: chunked", b"0\r\n\r\n", "400"),
    (b"transfer-encoding: chunked\r\ntransfer-encoding: identity", b"0\r\n\r\n", "400"),
    (b"transfer-encoding: identity\r\ntransfer-encoding: chunked", b"0\r\n\r\n", "400"),
    (b"transfer-encoding: x\r\nTransfer-encoding: chunked", b"0\r\n\r\n", "400"),
    // Lengths.
    (b"content-length: 5", b"hello", "POST / @a =hello"),
    (b"content-length: 0", b"", "POST / @a"),
    (b"Content-Length:\t5\t ", b"hello", "POST / @a =hello"),
    (b"content-length: 0005", b"hello", "POST / @a =hello"),
    (b"content-length: 5\r\nContent-Length: 5", b"hello", "POST / @a =hello"),
    (b"content-length: 5\r\ncontent-length: 05", b"hello", "POST / @a =hello"),
    (b"connection: content-length\r\ncontent-length: 5", b"hello", "POST / @a =hello"),
    (b"content_length: 9\r\ncontent-length: 5", b"hello", "POST / @a =hello"),
    (b"content-length: 5\r\ncontent-length: 6", b"hello!", "400"),
    (b"content-length: 0\r\ncontent-length: 5", b"hello", "400"),
    (b"content-length: 5, 5", b"hello", "400"),
    (b"content-length: 5, 6", b"hello!", "400"),
    (b"content-length: 5,", b"hello", "400"),
    (b"content-length: 5 5", b"hello", "400"),
    (b"content-length: +5", b"hello", "400"),
    (b"content-length: -5", b"hello", "400"),
    (b"content-length: -0", b"", "400"),
    (b"content-length: 0x5", b"hello", "400"),
    (b"content-length: 5h", b"hello", "400"),
    (b"content-length: 5.0", b"hello", "400"),
    (b"content-length: 5e0", b"hello", "400"),
    (b"content-length: 1_0", b"0123456789", "400"),
    (b"content-length: \"5\"", b"hello", "400"),
    (b"content-length: five", b"hello", "400"),
    (b"content-length:", b"hello", "400"),
    (b"content-length: \x0b5", b"hello", "400"),
    (b"content-length: 5\0", b"hello", "400"),
    (b"content-length: \xd9\xa5", b"hello", "400"),
    (b"content-length : 5", b"hello", "400"),
    (b"content-length: 5\r\n 0", b"hello", "400"),
    (b"content-length: 18446744073709551613\r\ncontent-length: 18446744073709551612", b"hello", "400"),
    (b"content-length: 18446744073709551614", b"hello", "400"),
    (b"content-length: 18446744073709551615", b"hello", "400"),
    (b"content-length: 18446744073709551616", b"hello", "400"),
    (b"content-length: 18446744073709551621", b"hello", "400"),
    (b"content-length: 99999999999999999999999999", b"hello", "400"),
];

#[test]
fn a_request_is_as_long_to_the_origin_as_to_the_proxy_or_is_refused() {
    check(
        FRAMING.iter().map(|(head, behind, want)| {
            (joined(&[b"POST / HTTP/1.1\r\nhost: a\r\n", head, b"\r\n\r\n", behind]), *want)
        }),
    );
}

/// Chunked bodies.
const CHUNKS: &[(&[u8], &str)] = &[
    (b"0\r\n\r\n", "POST / @a"),
    (b"2\r\nhi\r\n0\r\n\r\n", "POST / @a =hi"),
    (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "POST / @a =01234567890123456789"),
    (b"02\r\nhi\r\n00\r\n\r\n", "POST / @a =hi"),
    (b"00000000000000000000000000000002\r\nhi\r\n0\r\n\r\n", "POST / @a =hi"),
    (b"2 \r\nhi\r\n0\t\r\n\r\n", "POST / @a =hi"),
    (b"2;a=b\r\nhi\r\n0;last\r\n\r\n", "POST / @a =hi"),
    (b"2 ; a=\"b;c\"\r\nhi\r\n0\r\n\r\n", "POST / @a =hi"),
    (b"2;a=\"\r\nhi\r\n0\r\n\r\n", "POST / @a =hi"),
    (b"2;\xff\r\nhi\r\n0\r\n\r\n", "POST / @a =hi"),
    (b"2;a\nb\r\nhi\r\n0\r\n\r\n", "400"),
    (b"2;a\rb\r\nhi\r\n0\r\n\r\n", "400"),
    (b"2;\nxx\r\n0\r\n\r\n", "400"),
    (b"2\nhi\n0\n\n", "400"),
    (b"2\nhi\r\n0\r\n\r\n", "400"),
    (b"2\r\nhi\n0\r\n\r\n", "400"),
    (b"2\r\nhi\r\n0\n\r\n", "400"),
    (b"2\r\nhi\r0\r\n\r\n", "400"),
    (b"2\rhi\r\n0\r\n\r\n", "400"),
    (b"2\r\nhi0\r\n\r\n", "400"),
    (b"2\r\nhi!\r\n0\r\n\r\n", "400"),
    (b"2\r\nhi\r\n\r\n0\r\n\r\n", "400"),
    (b"\r\n2\r\nhi\r\n0\r\n\r\n", "400"),
    (b" 2\r\nhi\r\n0\r\n\r\n", "400"),
    (b"2 2\r\nhi\r\n0\r\n\r\n", "400"),
    (b"-2\r\nhi\r\n0\r\n\r\n", "400"),
    (b"+2\r\nhi\r\n0\r\n\r\n", "400"),
    (b"0x2\r\nhi\r\n0\r\n\r\n", "400"),
    (b"2h\r\nhi\r\n0\r\n\r\n", "400"),
    (b"g\r\nhi\r\n0\r\n\r\n", "400"),
    (b"2_\r\nhi\r\n0\r\n\r\n", "400"),
    (b"2\0\r\nhi\r\n0\r\n\r\n", "400"),
    (b"2,\r\nhi\r\n0\r\n\r\n", "400"),
    (b";a=b\r\nhi\r\n0\r\n\r\n", "400"),
    (b"2\r\nhi\r\n-0\r\n\r\n", "400"),
    (b"10000000000000000\r\nhi\r\n0\r\n\r\n", "400"),
    (b"10000000000000002\r\nhi\r\n0\r\n\r\n", "400"),
    (b"fffffffffffffffff\r\nhi\r\n0\r\n\r\n", "400"),
    // What looks like framing and is content.
    (b"13\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "POST / @a =Content-Length: 5\\r\\n"),
    (
        b"35\r\n\r\n\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n\r\n0\r\n\r\n",
        "POST / @a =\\r\\n\\r\\nTransfer-Encoding: chunked\\r\\nContent-Length: 5\\r\\n\\r\\n",
    ),
    (
        b"4b\r\nGET /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n\r\n0\r\n\r\n",
        "POST / @a =GET /x HTTP/1.1\\r\\nhost: x\\r\\ntransfer-encoding: chunked\\r\\ncontent-length: 1\\r\\n\\r\\n",
    ),
    (b"7\r\n0\r\n\r\nGE\r\n0\r\n\r\n", "POST / @a =0\\r\\n\\r\\nGE"),
    // Trailers.
    (b"2\r\nhi\r\n0\r\nx: y\r\n\r\n", "POST / @a =hi"),
    (b"2\r\nhi\r\n0\r\ncontent-length: 9\r\n\r\n", "POST / @a =hi"),
    (b"2\r\nhi\r\n0\r\ntransfer-encoding: chunked\r\nhost: b\r\ncookie: c\r\n\r\n", "POST / @a =hi"),
    (b"2\r\nhi\r\n0\r\nconnection: close\r\nte: gzip\r\nupgrade: h2c\r\nexpect: x\r\n\r\n", "POST / @a =hi"),
    (b"2\r\nhi\r\n0\r\nno colon\r\n\r\n", "400"),
    (b"2\r\nhi\r\n0\r\nx y: z\r\n\r\n", "400"),
    (b"2\r\nhi\r\n0\r\nx: y\0z\r\n\r\n", "400"),
    (b"2\r\nhi\r\n0\r\nx: y\rz\r\n\r\n", "400"),
    (b"2\r\nhi\r\n0\r\nx: y\r\n z\r\n\r\n", "400"),
    // A whole request in front, and one behind.
    (b"0\r\n\r\nGET /b HTTP/1.1\r\nhost: b\r\n\r\n", "POST / @a | GET /b @b"),
    (
        b"0\r\n\r\nPOST /b HTTP/1.1\r\nhost: b\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / @a | 400",
    ),
    (b"0\r\nx: y\r\n\r\nGET /b HTTP/1.1\r\nhost: b\r\n\r\n", "POST / @a | GET /b @b"),
    (b"0\r\n\r\nGARBAGE\r\n\r\n", "POST / @a | 400"),
];

#[test]
fn a_chunked_body_is_the_same_to_the_origin_as_to_the_proxy_or_is_refused() {
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let long = |size: usize| joined(&[head, b"2;", &vec![b'x'; size], b"\r\nhi\r\n0\r\n\r\n"]);
    check(
        CHUNKS
            .iter()
            .map(|(body, want)| (joined(&[head, body]), *want))
            .chain([(long(10 << 10), "POST / @a =hi"), (long(20 << 10), "400")]),
    );
}

/// All that is sent.
const WHOLE: &[(&[u8], &str)] = &[
    // One behind another.
    (b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: b\r\n\r\n", "GET /1 @a | GET /2 @b"),
    (b"GET /1 HTTP/1.1\nhost: a\n\nGET /2 HTTP/1.1\r\nhost: b\r\n\r\n", "GET /1 @a | GET /2 @b"),
    (b"\r\n\r\n\nGET /1 HTTP/1.1\r\nhost: a\r\n\r\n\r\nGET /2 HTTP/1.1\r\nhost: b\r\n\r\n", "GET /1 @a | GET /2 @b"),
    (
        b"POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhelloGET /2 HTTP/1.1\r\nhost: b\r\n\r\n",
        "POST /1 @a =hello | GET /2 @b",
    ),
    (
        b"POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\nGET /2 HTTP/1.1\r\nhost: b\r\n\r\n",
        "POST /1 @a | GET /2 @b",
    ),
    (
        b"POST /1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n\
          POST /2 HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n1\r\ny\r\n0\r\n\r\n",
        "POST /1 @a =x | POST /2 @b =y",
    ),
    (
        b"POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 36\r\n\r\nGET /admin HTTP/1.1\r\nhost: admin\r\n\r\n",
        "POST /1 @a =GET /admin HTTP/1.1\\r\\nhost: admin\\r\\n\\r\\n",
    ),
    (b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\nhello\r\n\r\n", "GET /1 @a | 400"),
    (b"GET /1 HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: b\r\n\r\n", "400"),
    (b"GET /1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\nGET /2 HTTP/1.1\r\nhost: b\r\n\r\n", "GET /1 @a | closed"),
    // Bodies where few expect them.
    (b"GET /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello", "GET /1 @a =hello"),
    (b"GET /1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "GET /1 @a =x"),
    (b"DELETE /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello", "DELETE /1 @a =hello"),
    (b"OPTIONS * HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello", "OPTIONS * @a =hello"),
    (
        b"GET /1 HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 5\r\n\r\nhello",
        "GET /1 @a =hello",
    ),
    (
        b"GET /1 HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\ntransfer-encoding: chunked\r\n\r\n\
          1\r\nx\r\n0\r\n\r\n",
        "GET /1 @a =x",
    ),
    // HTTP/1.0.
    (b"POST /1 HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
    (b"POST /1 HTTP/1.0\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nhello", "400"),
    (b"POST /1 HTTP/1.0\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello", "POST /1 @a =hello | closed"),
    (b"POST /1 HTTP/1.0\r\nhost: a\r\n\r\nhello", "POST /1 @a | closed"),
    (b"GET /1 HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n", "400"),
    (b"GET /1 HTTP/1.0\r\nhost: a\r\nexpect: foo\r\n\r\n", "GET /1 @a | closed"),
    // Other protocols.
    (b"hello\r\n\r\n", "400"),
    (b"\0\0\0\0\r\n\r\n", "400"),
    (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", "400"),
    (b"SSH-2.0-x\r\n", "400"),
    (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\rhost: a\r\r", "400"),
    (b"CONNECT b:80 HTTP/1.1\r\nhost: b:80\r\n\r\n", "405"),
    (b"CONNECT b:80 HTTP/1.1\r\nhost: b:80\r\ncontent-length: 5\r\n\r\nhello", "400"),
];

#[test]
fn what_is_sent_is_as_many_requests_to_the_origin_as_to_the_proxy() {
    check(WHOLE.iter().map(|(whole, want)| (whole.to_vec(), *want)));
}
