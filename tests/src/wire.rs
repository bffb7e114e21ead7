//! What goes over the wire to an origin, read as strictly as RFC 9112 lets anybody read it, by code that the proxy has no part
//! in: whatever could be read in two ways is an error, and so is whatever concerns one connection only.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, PoisonError},
};

use crate::origin::Origin;

/// A request that means one thing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Its method and target: `GET /a?b`.
    pub line: String,
    /// What `Host` says.
    pub host: String,
    /// Whether it asks for WebSocket.
    pub upgrade: bool,
    /// In the order they came.
    pub headers: Vec<(String, String)>,
    /// Decoded.
    pub body: Vec<u8>,
}

impl std::fmt::Display for Request {
    /// `GET /a @host ^websocket =body`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} @{}{}", self.line, self.host, if self.upgrade { " ^websocket" } else { "" })?;
        if self.body.is_empty() { Ok(()) } else { write!(f, " ={}", self.body.escape_ascii()) }
    }
}

/// What no proxy may pass on (RFC 9110 §7.6.1), but where it asks for WebSocket.
const HOP_BY_HOP: &[&str] = &["connection", "upgrade", "keep-alive", "proxy-connection", "http2-settings", "expect"];

/// The first request of `bytes`, and how many bytes it has. None: it is not whole.
///
/// # Errors
/// What is there could be read in two ways, or should not have been sent.
pub fn request(bytes: &[u8]) -> Result<Option<(Request, usize)>, String> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let lines = lines(&bytes[..end])?;
    let mut request = start(&lines[0])?;
    for line in &lines[1..] {
        request.headers.push(field(line)?);
    }
    let headers = request.headers.clone();
    let all = |name: &str| -> Vec<&str> {
        headers.iter().filter(|(found, _)| found == name).map(|(_, value)| &**value).collect()
    };
    request.upgrade = (all("connection"), all("upgrade")) == (vec!["upgrade"], vec!["websocket"]);
    let passed_on = |(name, value): &&(String, String)| match &**name {
        "te" => value != "trailers",
        "connection" | "upgrade" => !request.upgrade,
        name => HOP_BY_HOP.contains(&name),
    };
    if let Some(field) = headers.iter().find(passed_on) {
        return Err(format!("{field:?} was passed on"));
    }
    let host = match &*all("host") {
        [host] if is_host(host) => (*host).to_owned(),
        hosts => return Err(format!("host: {hosts:?}")),
    };
    let (body, length) = match (&*all("content-length"), &*all("transfer-encoding")) {
        ([], []) => (Vec::new(), 0),
        ([length], []) if !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) => {
            let length: usize = length.parse().map_err(|error| format!("{length}: {error}"))?;
            let Some(body) = bytes.get(end + 4..end + 4 + length) else { return Ok(None) };
            (body.to_vec(), length)
        }
        ([], ["chunked"]) => match chunked(&bytes[end + 4..])? {
            Some(found) => found,
            None => return Ok(None),
        },
        framings => return Err(format!("framed by {framings:?}")),
    };
    (request.host, request.body) = (host, body);
    Ok(Some((request, end + 4 + length)))
}

/// Lines that end with CRLF, and have no other control character within than a tab; each byte as a character of its own. At
/// least one.
fn lines(bytes: &[u8]) -> Result<Vec<String>, String> {
    let text: String = bytes.iter().copied().map(char::from).collect();
    let lines: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
    match lines.iter().find(|line| line.is_empty() || line.chars().any(|c| c != '\t' && c.is_ascii_control())) {
        Some(line) => Err(format!("line {line:?} of {text:?}")),
        None => Ok(lines),
    }
}

/// `uri-host [":" port]` (RFC 3986 §3.2.2), or nothing.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("", port),
        Some(_) => return false,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port = if port.is_empty() { "" } else { port.strip_prefix(':').unwrap_or("none") };
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%".contains(&b))
        && port.bytes().all(|b| b.is_ascii_digit())
}

fn start(line: &str) -> Result<Request, String> {
    let parts: Vec<&str> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = *parts else { return Err(format!("request line {line:?}")) };
    let in_origin_form = target.starts_with('/') || (method, target) == ("OPTIONS", "*");
    // RFC 3986 has no other characters; some more are let through, none of which ends a target or a line.
    let sound = target.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if !is_token(method) || !in_origin_form || !sound {
        return Err(format!("request line {line:?}"));
    }
    Ok(Request { line: format!("{method} {target}"), ..Request::default() })
}

fn field(line: &str) -> Result<(String, String), String> {
    let (name, value) = line.split_once(':').ok_or_else(|| format!("no colon in {line:?}"))?;
    if !is_token(name) || name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(format!("name of {line:?}"));
    }
    Ok((name.to_owned(), value.trim_matches(' ').to_owned()))
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A chunked body, and how many bytes it took. Without extensions, white space or zeros that nobody needs.
fn chunked(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(end) = bytes[at..].windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        let size = &bytes[at..at + end];
        let sound =
            size.iter().all(|b| b.is_ascii_hexdigit()) && (size == b"0" || size.first().is_some_and(|b| *b != b'0'));
        let size = std::str::from_utf8(size).ok().filter(|_| sound && end <= 8);
        let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.ok_or_else(|| format!("chunk's size in {}", bytes[at..].escape_ascii()))?;
        at += end + 2;
        if size == 0 {
            break;
        }
        let Some(data) = bytes.get(at..at + size + 2) else { return Ok(None) };
        let data = data.strip_suffix(b"\r\n").ok_or_else(|| format!("chunk's end: {}", data.escape_ascii()))?;
        body.extend_from_slice(data);
        at += size + 2;
    }
    if bytes[at..].starts_with(b"\r\n") {
        return Ok(Some((body, at + 2)));
    }
    let Some(end) = bytes[at..].windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    for line in lines(&bytes[at..at + end])? {
        let (name, _) = field(&line)?;
        let framing = ["content-length", "transfer-encoding", "host", "authorization", "cookie"];
        if framing.contains(&&*name) || HOP_BY_HOP.contains(&&*name) {
            return Err(format!("{name} as a trailer"));
        }
    }
    Ok(Some((body, at + end + 4)))
}

/// An origin that reads so, answers each request with 200 and `ok`, and closes what it cannot read.
pub struct Recording {
    origin: Origin,
    said: Arc<Mutex<Vec<String>>>,
}

impl Recording {
    /// One that listens.
    pub fn start() -> Self {
        let said = Arc::<Mutex<Vec<String>>>::default();
        let record = Arc::clone(&said);
        Self { origin: Origin::raw(move |stream| serve(stream, &record)), said }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.origin.address
    }

    /// Every request since this was last asked for, as [`Request`] is shown, and what could not be read.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.said.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn serve(stream: &mut TcpStream, record: &Mutex<Vec<String>>) {
    let say = |what: String| record.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    let mut bytes = Vec::new();
    loop {
        match request(&bytes) {
            Ok(Some((request, length))) => {
                bytes.drain(..length);
                say(request.to_string());
                if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                    return;
                }
            }
            Ok(None) => {
                let mut piece = [0; 4 << 10];
                match stream.read(&mut piece) {
                    Ok(read) if read > 0 => bytes.extend_from_slice(&piece[..read]),
                    _ => return,
                }
            }
            Err(why) => return say(format!("unreadable: {why}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_that_could_be_read_in_two_ways() {
        let whole = "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx: y\r\n\r\n";
        let (read, length) = request(format!("{whole}rest").as_bytes()).unwrap().unwrap();
        assert_eq!((read.to_string(), length), ("POST /a @a =hi".to_owned(), whole.len()));
        for cut in 0..whole.len() {
            assert_eq!(request(&whole.as_bytes()[..cut]), Ok(None), "cut at {cut}");
        }
        for bad in [
            "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nhost: a\r\n\r\n",
            "GET /\u{e4} HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /#a HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a:b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: [a]\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nte: gzip\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx: y\nz: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n x: y\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\na",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;a\r\na\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\ncontent-length: 1\r\n\r\n",
        ] {
            assert!(request(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
