//! Responses by the thousand, right ones and ones with a few bytes changed, read by this client and by hyper's. What this
//! one takes hyper's takes too, and both make the same of it; where only hyper's takes it, the reason is one that is meant.
//! However a response is cut into pieces, the same comes out.
//!
//! `WITGATE_FUZZ_ROUNDS` says how many, `WITGATE_FUZZ_SEED` which.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::decode::{Decoded, Decoder};
use super::head::{self, may_trail};

/// Why this client refuses what hyper's takes.
const STRICTER: &[&str] = &[
    // Framing that could be read in two ways.
    "two framings",
    "two lengths",
    "a length that is no number",
    "a transfer coding other than chunked",
    "a connection option",
    "a switch of protocols that was not asked for",
    // White space before a colon, an obsolete fold, an empty line before the head, a lone carriage return.
    "a head that is none",
    // A zero byte in an extension, a lone line feed among trailers.
    "a chunk's extension",
    "a trailer",
];

/// What came of a response.
#[derive(Debug, PartialEq)]
struct Read {
    status: StatusCode,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
}

fn list(map: &HeaderMap, leave_out: impl Fn(&str) -> bool) -> Vec<(String, Vec<u8>)> {
    let own = map.iter().filter(|(name, _)| !leave_out(name.as_str()));
    let mut list: Vec<_> = own.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    list.sort();
    list.dedup_by(|a, b| a.0 == "content-length" && a == b); // Said twice alike is said once.
    list
}

/// A trailer that is not passed on.
fn is_left_out(name: &str) -> bool {
    name.parse().is_ok_and(|name| !may_trail(&name))
}

/// By this client's parser and decoder; the error says why, and is empty where the response was not whole.
fn own(pieces: &[&[u8]], no_body: bool) -> Result<Read, String> {
    let (mut buffer, mut spent, mut rest) = (BytesMut::new(), 0, pieces.iter());
    let found = loop {
        let Some(piece) = rest.next() else { return Err(String::new()) };
        buffer.extend_from_slice(piece);
        if let Some(found) = head::take(&mut buffer, &mut spent, no_body, None).map_err(|e| e.to_string())? {
            break found;
        }
    };
    let (mut decoder, mut body, mut trailers) = (Decoder::new(found.framing), Vec::new(), HeaderMap::new());
    loop {
        match decoder.next(&mut buffer).map_err(|e| e.to_string())? {
            Decoded::Data(data) => body.extend_from_slice(&data),
            Decoded::Trailers(map) => trailers = map,
            Decoded::End => break,
            Decoded::More => match rest.next() {
                Some(piece) => buffer.extend_from_slice(piece),
                None if decoder.close() => break,
                None => return Err(String::new()),
            },
        }
    }
    let (headers, trailers) = (list(&found.parts.headers, |_| false), list(&trailers, |_| false));
    Ok(Read { status: found.parts.status, headers, body, trailers })
}

/// By hyper's client, less the headers that concern the connection.
async fn hypers(response: &[u8], no_body: bool) -> Result<Read, String> {
    let (client, mut server) = tokio::io::duplex(1 << 20);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(client)).await.map_err(|e| e.to_string())?;
    let exchange = async {
        let method = if no_body { Method::HEAD } else { Method::GET };
        let request = Request::builder().method(method).body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
        let endpoint = async {
            // A response that is there before its request is one that nobody asked for.
            let asked = server.read(&mut [0; 1024]).await.and(server.write_all(response).await);
            asked.and(server.shutdown().await)
        };
        let (answer, wrote) = tokio::join!(sender.send_request(request), endpoint);
        wrote.map_err(|e| e.to_string())?;
        let (head, body) = answer.map_err(|e| e.to_string())?.into_parts();
        let body = body.collect().await.map_err(|e| e.to_string())?;
        let trailers = body.trailers().map(|map| list(map, is_left_out)).unwrap_or_default();
        let named = head.headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
        let named: Vec<String> = named.flat_map(|line| line.split(',')).map(|n| n.trim().to_lowercase()).collect();
        let headers = list(&head.headers, |name| {
            let hop = ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];
            let kept = name == "content-length";
            let told = kept && head.status == StatusCode::NO_CONTENT;
            hop.contains(&name) || name == "x-witgate-error" || told || !kept && named.iter().any(|named| named == name)
        });
        Ok(Read { status: head.status, headers, body: body.to_bytes().to_vec(), trailers })
    };
    tokio::select! {
        biased;
        read = exchange => read,
        ended = async { let _ = connection.await; std::future::pending::<()>().await } => Err(format!("{ended:?}")),
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % n as u64).expect("below a usize")
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// A response that mostly is right, and says one of the things that responses say.
fn response(random: &mut Random) -> Vec<u8> {
    let mut text = String::new();
    while random.below(8) == 0 {
        text.push_str(random.one(&["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"]));
    }
    text.push_str(random.one(&["HTTP/1.1 ", "HTTP/1.1 ", "HTTP/1.1 ", "HTTP/1.0 "]));
    text.push_str(random.one(&[
        "200 OK",
        "200",
        "404 Not Found",
        "204 No Content",
        "304 Not Modified",
        "599 \u{e4}",
        "101 S",
    ]));
    text.push_str("\r\n");
    for _ in 0..random.below(5) {
        text.push_str(random.one(&[
            "server: a\r\n",
            "Set-Cookie: a=b; path=/\r\n",
            "set-cookie:c\r\n",
            "x-empty:\r\n",
            "x-space:  a b \t\r\n",
            "connection: keep-alive\r\n",
            "connection: close\r\n",
            "connection: x-gone , close\r\n",
            "x-gone: 1\r\n",
            "keep-alive: timeout=5\r\n",
            "te: trailers\r\n",
            "trailer: x-t\r\n",
            "upgrade: h2c\r\n",
            "x-high: \u{e4}\u{20ac}\r\n",
        ]));
    }
    let body = random.one(&["", "x", "hello, world", "0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"]);
    match random.below(8) {
        0 => text.push_str("\r\n"),
        1..4 => {
            let wrong = if random.below(6) == 0 { 1 } else { 0 };
            text.push_str(&format!("content-length: {}\r\n", body.len() + wrong));
            if random.below(6) == 0 {
                let line = random.one(&[
                    "content-length: 5\r\n",
                    "transfer-encoding: chunked\r\n",
                    "Content-Length: 5, 5\r\n",
                ]);
                text.push_str(line);
            }
            text.push_str("\r\n");
            text.push_str(body);
        }
        _ => {
            text.push_str(random.one(&[
                "transfer-encoding: chunked\r\n",
                "Transfer-Encoding: Chunked\r\n",
                "transfer-encoding: gzip, chunked\r\n",
            ]));
            text.push_str("\r\n");
            for _ in 0..random.below(3) {
                let extension = random.one(&["", ";a=b", " ", "; a=\"b;c\""]);
                if !body.is_empty() {
                    text.push_str(&format!("{:x}{extension}\r\n{body}\r\n", body.len()));
                }
            }
            text.push_str(random.one(&["0\r\n\r\n", "0\r\nx-t: 1\r\n\r\n", "00\r\n\r\n", "0;last\r\n\r\n"]));
        }
    }
    if random.below(10) == 0 {
        text.push_str("more");
    }
    text.into_bytes()
}

/// Changes a few bytes, as an attacker would: at the ends of lines, around colons, anywhere.
fn spoil(random: &mut Random, response: &mut Vec<u8>) {
    const BYTES: &[u8] = b"\r\n\t :;,\0\x7f\x80\xff0159aAfFgGxX+-\"HTP/.";
    for _ in 0..random.below(4) {
        if response.is_empty() {
            return;
        }
        let (at, byte) = (random.below(response.len()), BYTES[random.below(BYTES.len())]);
        match random.below(6) {
            0 => response[at] = byte,
            1 => response.insert(at, byte),
            2 => drop(response.remove(at)),
            3 => response.truncate(at),
            4 => {
                let piece: Vec<u8> = response[at..].iter().copied().take(random.below(20)).collect();
                response.splice(at..at, piece);
            }
            // The nearest line's end.
            _ => {
                if let Some(end) = memchr::memchr(b'\r', &response[at..]) {
                    response.splice(at + end..at + end + 1, BYTES[random.below(3)..].iter().copied().take(1));
                }
            }
        }
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[tokio::test]
async fn reads_what_hypers_client_reads() {
    let (rounds, seed) = (number("WITGATE_FUZZ_ROUNDS", 20_000), number("WITGATE_FUZZ_SEED", 1));
    let mut random = Random(seed);
    let (mut both, mut stricter) = (0, 0);
    for round in 0..rounds {
        let mut bytes = response(&mut random);
        if random.below(3) > 0 {
            spoil(&mut random, &mut bytes);
        }
        let no_body = random.below(8) == 0;
        let shown = || format!("round {round}, HEAD: {no_body}, {:?}", String::from_utf8_lossy(&bytes));

        let whole = own(&[&bytes], no_body);
        let cut = random.below(bytes.len() + 1);
        assert_eq!(own(&[&bytes[..cut], &bytes[cut..]], no_body), whole, "cut at {cut}: {}", shown());
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(own(&single, no_body), whole, "byte by byte: {}", shown());

        match (whole, hypers(&bytes, no_body).await) {
            (Ok(own), Ok(hypers)) => {
                assert_eq!(own, hypers, "{}", shown());
                both += 1;
            }
            (Ok(own), Err(error)) => panic!("only this client reads {own:?}, hyper's: {error}; {}", shown()),
            (Err(reason), Ok(hypers)) => {
                assert!(STRICTER.contains(&&*reason), "{reason:?}, hyper's reads {hypers:?}; {}", shown());
                stricter += 1;
            }
            (Err(_), Err(_)) => {}
        }
    }
    assert!(both > rounds / 4 && stricter < rounds / 4, "of {rounds}, {both} were read, {stricter} by hyper's only");
}
