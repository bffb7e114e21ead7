//! As much of HTTP/1.1 as checks, probes and the admin API take: one connection, answers with a Content-Length. Not a
//! load generator, and not a client for anything else.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// For each step of an exchange: far above what any answer here takes.
const LIMIT: Duration = Duration::from_secs(30);

/// A kept connection to a port of this machine.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

/// What came back.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Connection {
    pub(crate) fn open(port: u16) -> io::Result<Connection> {
        Connection::open_within(port, LIMIT)
    }

    /// The same, with another limit for each step.
    pub(crate) fn open_within(port: u16, limit: Duration) -> io::Result<Connection> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        Ok(Connection { stream: BufReader::new(stream) })
    }

    /// Sends one request and reads its answer.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.get_mut().write_all(request)?;
        read(&mut self.stream)
    }
}

/// The bytes of a request; `headers` are added to Content-Length and, where they name none, Host.
pub(crate) fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        bytes.push_str("Host: 127.0.0.1\r\n");
    }
    for (name, value) in headers {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        bytes.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    bytes.push_str("\r\n");
    [bytes.as_bytes(), body].concat()
}

/// Whether the proxy whose admin API is at this port is serving.
pub(crate) fn is_ready(admin: u16) -> bool {
    let answer = Connection::open(admin).and_then(|mut to| to.exchange(&request("GET", "/readyz", &[], b"")));
    answer.is_ok_and(|answer| answer.status == 200)
}

/// Whether somebody listens there.
pub(crate) fn is_open(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn read(stream: &mut impl BufRead) -> io::Result<Answer> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_string());
    let first = line(stream)?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| bad("no status line"))?;
    let mut headers = Vec::new();
    loop {
        let line = line(stream)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad("a header without a colon"))?;
        headers.push((name.to_string(), value.trim().to_string()));
    }
    let mut answer = Answer { status, headers, body: Vec::new() };
    let length = answer.header("content-length").and_then(|length| length.parse().ok());
    answer.body.resize(length.ok_or_else(|| bad("no Content-Length"))?, 0);
    stream.read_exact(&mut answer.body)?;
    Ok(answer)
}

fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if stream.take(64 << 10).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let mut bytes: &[u8] = b"HTTP/1.1 200 OK\r\nX-Origin: canary\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 503 \r\nContent-Length: 0\r\n\r\n";
        let first = read(&mut bytes).unwrap();
        assert_eq!((first.status, first.header("x-origin"), first.body.as_slice()), (200, Some("canary"), &b"ok"[..]));
        assert_eq!(read(&mut bytes).unwrap().status, 503);
        assert_eq!(read(&mut bytes).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        for bad in ["HTTP/1.1 200 OK\r\n\r\n", "nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"]
        {
            assert!(read(&mut bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn requests() {
        let check = |body: &[u8], expected: &str| {
            let bytes = request("PUT", "/v1/x", &[("A", "b")], body);
            assert_eq!(String::from_utf8_lossy(&bytes), expected);
        };
        check(b"", "PUT /v1/x HTTP/1.1\r\nHost: 127.0.0.1\r\nA: b\r\n\r\n");
        check(b"hi", "PUT /v1/x HTTP/1.1\r\nHost: 127.0.0.1\r\nA: b\r\nContent-Length: 2\r\n\r\nhi");
    }
}
