//! A response's head: bytes to status, headers and the framing of what follows. Strict: what two readers could read in
//! two ways is an error (RFC 9112 §4 to §6). Hop-by-hop headers end here.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header, response};

use super::super::failure::Malformed;

/// Headers of one response. nginx and Envoy bound the bytes of a head only, hyper's client takes 100 headers.
const MAX_HEADERS: usize = 128;

/// Bytes of one head, with the interim ones before it. Envoy's default is 60 KiB, nginx's 4 or 8.
pub(super) const MAX_HEAD: usize = 64 << 10;

/// How every response begins.
const BEGIN: &[u8] = b"HTTP/1.";

/// How long a response's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Until the last chunk.
    Chunked,
    /// Until the endpoint closes.
    Close,
}

/// A head that was read whole.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) parts: response::Parts,
    pub(super) framing: Framing,
    /// Whether the connection can carry another request when the body was read.
    pub(super) keep_alive: bool,
}

/// Takes the head of the final response off `buffer`, and interim ones (1xx) before it. None: more bytes are needed.
/// `spent` counts the bytes of interim heads; `no_body` is true where the request was HEAD; `asked` are its headers, where a switch
/// of protocols will do: it is final where they ask for it, as nothing behind it is HTTP.
pub(super) fn take(
    buffer: &mut BytesMut,
    spent: &mut usize,
    no_body: bool,
    asked: Option<&HeaderMap>,
) -> Result<Option<Head>, Malformed> {
    loop {
        let before = buffer.len();
        let Some(head) = take_one(buffer, no_body)? else {
            return if *spent + before > MAX_HEAD { Err(Malformed::new("a head that does not end")) } else { Ok(None) };
        };
        *spent += before - buffer.len();
        if *spent > MAX_HEAD {
            return Err(Malformed::new("heads that do not end"));
        }
        match head.parts.status {
            StatusCode::SWITCHING_PROTOCOLS if asked.is_some_and(|asked| is_asked(&head.parts.headers, asked)) => {
                return Ok(Some(head));
            }
            StatusCode::SWITCHING_PROTOCOLS => {
                return Err(Malformed::new("a switch of protocols that was not asked for"));
            }
            // The server's side of the proxy answers `Expect` by itself.
            status if status.is_informational() => {}
            _ => return Ok(Some(head)),
        }
    }
}

fn take_one(buffer: &mut BytesMut, no_body: bool) -> Result<Option<Head>, Malformed> {
    const NONE: Malformed = Malformed::new("a head that is none");
    // Whatever does not speak HTTP need not be waited for; and httparse would skip empty lines before a head.
    let begun = buffer.len().min(BEGIN.len());
    if buffer[..begun] != BEGIN[..begun] {
        return Err(NONE);
    }
    let Some(end) = super::end_of_head(buffer) else { return Ok(None) };
    let head = buffer.split_to(end).freeze();
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, &head, &mut headers) {
        Ok(httparse::Status::Complete(read)) if read == end => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::new("too many headers")),
        _ => return Err(NONE),
    }
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Malformed::new("no status"))?;
    let http_11 = parsed.version == Some(1);
    let mut collected = Collected { keep_alive: http_11, ..Collected::default() };
    let mut map = HeaderMap::with_capacity(parsed.headers.len());
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::new("a header's name"))?;
        collected.take(name, || head.slice_ref(field.value), field.value, &mut map)?;
    }
    collected.named.into_iter().for_each(|name| drop(map.remove(name)));
    match status {
        // It has none to tell (RFC 9110 §8.6), and HTTP/2 clients take it for a promise.
        StatusCode::NO_CONTENT => drop(map.remove(header::CONTENT_LENGTH)),
        StatusCode::SWITCHING_PROTOCOLS if http_11 => {
            collected.close = true;
            map.remove(header::CONTENT_LENGTH);
            if let Some(protocol) = protocol(parsed.headers) {
                map.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                map.insert(header::UPGRADE, field_value(head.slice_ref(protocol))?);
            }
        }
        _ => {}
    }
    let framing = framing(status, no_body, http_11, collected.length, collected.chunked)?;
    let (mut parts, ()) = Response::new(()).into_parts();
    (parts.status, parts.headers, parts.version) = (status, map, Version::HTTP_11);
    let keep_alive = collected.keep_alive && !collected.close && framing != Framing::Close;
    Ok(Some(Head { parts, framing, keep_alive }))
}

/// The one protocol that a switch is to.
fn protocol<'h>(headers: &[httparse::Header<'h>]) -> Option<&'h [u8]> {
    let mut named = headers.iter().filter(|field| field.name.eq_ignore_ascii_case("upgrade"));
    named.next().filter(|_| named.next().is_none()).map(|field| field.value)
}

/// Whether a switch is to the protocol that was asked for (RFC 9110 §7.8).
fn is_asked(switched: &HeaderMap, asked: &HeaderMap) -> bool {
    let [to, asked] = [switched, asked].map(|headers| headers.get(header::UPGRADE));
    to.zip(asked).is_some_and(|(to, asked)| to.as_bytes().eq_ignore_ascii_case(asked.as_bytes()))
}

/// What the headers say of the connection and of the framing.
#[derive(Default)]
struct Collected {
    keep_alive: bool,
    close: bool,
    length: Option<u64>,
    chunked: bool,
    /// Headers that `Connection` names.
    named: Vec<HeaderName>,
}

impl Collected {
    /// Keeps a header that is for the client, and reads one that is for this connection.
    fn take(
        &mut self,
        name: HeaderName,
        shared: impl FnOnce() -> Bytes,
        value: &[u8],
        map: &mut HeaderMap,
    ) -> Result<(), Malformed> {
        match name {
            header::CONNECTION => self.connection(value)?,
            header::TRANSFER_ENCODING => {
                // Any other coding would be lost, as the header is not passed on.
                if self.chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed::new("a transfer coding other than chunked"));
                }
                self.chunked = true;
            }
            header::CONTENT_LENGTH => {
                let length = length(value).ok_or(Malformed::new("a length that is no number"))?;
                // Said twice alike is said once (RFC 9110 §8.6).
                if self.length.replace(length).is_some_and(|before| before != length) {
                    return Err(Malformed::new("two lengths"));
                }
                map.insert(name, field_value(shared())?);
            }
            header::UPGRADE | header::TE => {}
            name if ends_here(name.as_str()) => {}
            name => drop(map.append(name, field_value(shared())?)),
        }
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) -> Result<(), Malformed> {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if !option.is_empty() {
                let name = HeaderName::from_bytes(option).map_err(|_| Malformed::new("a connection option"))?;
                // Framing stays whatever is named: taking it away would change what the message means.
                if name != header::CONTENT_LENGTH {
                    self.named.push(name);
                }
            }
        }
        Ok(())
    }
}

/// Headers without a constant of their own in `http`: two that concern one connection only, and the one that says that a
/// proxy has answered, which an endpoint is not.
fn ends_here(name: &str) -> bool {
    matches!(name, "keep-alive" | "proxy-connection" | "x-witgate-error")
}

/// Whether a field of a response's head may be sent on from HTTP/2, which has refused most of what may not.
pub(in super::super) fn may_begin(name: &HeaderName) -> bool {
    !ends_here(name.as_str()) && !matches!(*name, header::TE | header::UPGRADE)
}

/// Whether a field may come behind the body, of a request or a response: not where it changes how the message is framed,
/// routed, read or authorised (RFC 9110 §6.5.1), belongs to one connection, or says what the proxy says itself. HTTP/2 ends a
/// stream over some of them.
pub(in super::super) fn may_trail(name: &HeaderName) -> bool {
    let text = name.as_str();
    let own = text.starts_with("x-forwarded-") || matches!(text, "x-request-id" | "forwarded");
    !own && !ends_here(text)
        && !matches!(
            *name,
            header::CONTENT_LENGTH
                | header::TRANSFER_ENCODING
                | header::HOST
                | header::CONNECTION
                | header::TE
                | header::TRAILER
                | header::UPGRADE
                | header::EXPECT
                | header::AUTHORIZATION
                | header::PROXY_AUTHORIZATION
                | header::WWW_AUTHENTICATE
                | header::PROXY_AUTHENTICATE
                | header::COOKIE
                | header::SET_COOKIE
                | header::CONTENT_ENCODING
                | header::CONTENT_TYPE
                | header::CONTENT_RANGE
        )
}

fn field_value(value: Bytes) -> Result<HeaderValue, Malformed> {
    HeaderValue::from_maybe_shared(value).map_err(|_| Malformed::new("a header's value"))
}

/// Digits only: Rust's parser would take a sign.
fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// RFC 9112 §6.3.
fn framing(
    status: StatusCode,
    no_body: bool,
    http_11: bool,
    length: Option<u64>,
    chunked: bool,
) -> Result<Framing, Malformed> {
    if chunked && (length.is_some() || !http_11) {
        return Err(Malformed::new("two framings"));
    }
    let empty =
        no_body || status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(match (empty, chunked, length) {
        (true, ..) => Framing::Length(0),
        (_, true, _) => Framing::Chunked,
        (.., Some(length)) => Framing::Length(length),
        _ => Framing::Close,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, no_body: bool) -> Result<Option<(Head, BytesMut)>, Malformed> {
        parse_asked(text, no_body, None)
    }

    fn parse_asked(
        text: &str,
        no_body: bool,
        asked: Option<&HeaderMap>,
    ) -> Result<Option<(Head, BytesMut)>, Malformed> {
        let mut buffer = BytesMut::from(text);
        Ok(take(&mut buffer, &mut 0, no_body, asked)?.map(|head| (head, buffer)))
    }

    #[track_caller]
    fn framed(text: &str, no_body: bool, framing: Framing, keep_alive: bool) {
        let (head, _) = parse(text, no_body).unwrap_or_else(|e| panic!("{text:?}: {e:?}")).unwrap();
        assert_eq!((head.framing, head.keep_alive), (framing, keep_alive), "{text:?}");
    }

    #[test]
    fn a_response_that_has_no_body_tells_no_length() {
        for (text, told) in [("204 N", false), ("304 N", true), ("200 O", true)] {
            let text = format!("HTTP/1.1 {text}\r\ncontent-length: 5\r\n\r\n");
            let (head, _) = parse(&text, true).unwrap().unwrap();
            assert_eq!(head.parts.headers.contains_key(header::CONTENT_LENGTH), told, "{text}");
        }
    }

    #[test]
    fn framing_and_persistence_are_as_rfc_9112_says() {
        use Framing::{Chunked, Close, Length};
        framed("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", false, Length(5), true);
        framed("HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n", false, Length(5), true);
        framed("HTTP/1.1 200\r\ntransfer-encoding: Chunked\r\n\r\n", false, Chunked, true);
        framed("HTTP/1.1 200 OK\r\n\r\n", false, Close, false);
        framed("HTTP/1.1 204 No Content\r\n\r\n", false, Length(0), true);
        framed("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", false, Length(0), true);
        framed("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", true, Length(0), true);
        framed("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", true, Length(0), true);
        framed("HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 0\r\n\r\n", false, Length(0), false);
        framed("HTTP/1.1 200 OK\r\nconnection: x-a, close\r\ncontent-length: 0\r\n\r\n", false, Length(0), false);
        framed("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n", false, Length(1), false);
        framed("HTTP/1.0 200 OK\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\n", false, Length(1), true);
        framed(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
            false,
            Length(7),
            true,
        );
    }

    #[test]
    fn what_concerns_the_connection_ends_here() {
        let text = "HTTP/1.1 200 OK\r\nconnection: x-gone, keep-alive, content-length\r\nx-gone: 1\r\nkeep-alive: timeout=5\r\n\
                    proxy-connection: a\r\nx-witgate-error: b\r\nte: a\r\nupgrade: b\r\ncontent-length: 2\r\nset-cookie: a\r\nset-cookie: b\r\n\r\nhi";
        let (head, rest) = parse(text, false).unwrap().unwrap();
        let mut names: Vec<_> = head.parts.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        names.sort_unstable();
        assert_eq!(names, [("content-length", "2"), ("set-cookie", "a"), ("set-cookie", "b")]);
        assert_eq!(&rest[..], b"hi");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for text in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx : a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: a\rb\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: a\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\n\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: a\r\n\r\n",
            "SSH-2.0-OpenSSH_9.2\r\n",
            "hello\r\n\r\n",
        ] {
            assert!(parse(text, false).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_switch_is_to_the_one_protocol_that_was_asked_for() {
        let asked = HeaderMap::from_iter([(header::UPGRADE, HeaderValue::from_static("websocket"))]);
        let text = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade, x-gone\r\nx-gone: 1\r\n\
                    Upgrade: WebSocket\r\ncontent-length: 5\r\nsec-websocket-accept: a\r\n\r\nhello";
        let (head, rest) = parse_asked(text, false, Some(&asked)).unwrap().unwrap();
        let mut names: Vec<_> = head.parts.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        names.sort_unstable();
        assert_eq!(names, [("connection", "upgrade"), ("sec-websocket-accept", "a"), ("upgrade", "WebSocket")]);
        assert_eq!((head.framing, head.keep_alive, &rest[..]), (Framing::Length(0), false, &b"hello"[..]));
        for other in [
            "1.1 101 S\r\nconnection: upgrade\r\nupgrade: h2c\r\n",
            "1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket, h2c\r\n",
            "1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\nupgrade: websocket\r\n",
            "1.1 101 S\r\nconnection: upgrade\r\n",
            "1.0 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\n",
        ] {
            assert!(parse_asked(&format!("HTTP/{other}\r\n"), false, Some(&asked)).is_err(), "{other:?}");
        }
    }

    #[test]
    fn a_lone_line_feed_ends_a_line() {
        let (head, rest) = parse("HTTP/1.1 200 OK\ncontent-length: 2\n\nhi", false).unwrap().unwrap();
        assert_eq!((head.framing, &rest[..]), (Framing::Length(2), &b"hi"[..]));
    }

    #[test]
    fn a_head_ends_or_is_refused() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(MAX_HEADERS + 1));
        assert!(parse(&many, false).is_err());
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(MAX_HEAD));
        assert!(parse(&endless, false).is_err());
        let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(MAX_HEAD / 20);
        assert!(parse(&interim, false).is_err());
        assert!(parse("HTTP/1.1 200 OK\r\nx: y\r\n", false).unwrap().is_none());
        assert!(parse("", false).unwrap().is_none());
    }
}
