//! The PROXY protocol (v1 and v2): whom the proxy before this one speaks for. Says who a client is, and nothing of what it
//! may.

use std::net::SocketAddr;

use proxy_header::{Error, ParseConfig, ProxyHeader};
use tokio::{io::AsyncReadExt, net::TcpStream};
use witgate_core::config::ProxyProtocol;

use super::peek::peek;

/// Bytes of a header, the longest. What proxies add to the addresses takes some hundred.
const LONGEST: usize = 4 << 10;

/// Bytes of a header of version 1, its end included, at the most (HAProxy's `proxy-protocol.txt`, section 2.1).
const LINE: usize = 107;

/// What headers begin with.
const BEGINNINGS: [&[u8]; 2] = [b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"];

/// A header that is none, or none where one is required.
#[derive(Debug)]
pub(super) struct Broken;

/// What was found of a header.
enum Found {
    /// So many bytes, and the client that they name.
    Header(usize, Option<SocketAddr>),
    /// Other bytes.
    Absent,
    Broken,
}

/// Reads the header, where there is one, and returns the client that it names: none where the peer speaks for itself.
pub(super) async fn read(stream: &mut TcpStream, wanted: ProxyProtocol) -> Result<Option<SocketAddr>, Broken> {
    let mut room = [0; LONGEST];
    let (length, client) = match peek(stream, &mut room, find).await {
        Some(Found::Header(length, client)) => (length, client),
        Some(Found::Absent) if wanted == ProxyProtocol::Accept => return Ok(None),
        _ => return Err(Broken),
    };
    // It is all there.
    stream.read_exact(&mut room[..length]).await.map_err(|_| Broken)?;
    Ok(client)
}

fn find(come: &[u8]) -> Option<Found> {
    if come.is_empty() {
        return None;
    }
    let begins = |beginning: &&[u8]| come.iter().zip(*beginning).all(|(come, wanted)| come == wanted);
    let Some(beginning) = BEGINNINGS.iter().find(|beginning| begins(beginning)) else { return Some(Found::Absent) };
    if come.len() < beginning.len() {
        return None;
    }
    // Whether it is a line must not hang on how much of it has come.
    if *beginning == BEGINNINGS[0] {
        match memchr::memchr(b'\n', come) {
            Some(end) if end >= LINE || come[end - 1] != b'\r' => return Some(Found::Broken),
            None if come.len() >= LINE => return Some(Found::Broken),
            _ => {}
        }
    }
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    match ProxyHeader::parse(come, config) {
        Ok((header, length)) => Some(Found::Header(length, header.proxied_address().map(|address| address.source))),
        // A line that has ended gets no longer.
        Err(Error::BufferTooShort) if come.starts_with(BEGINNINGS[0]) && come.contains(&b'\n') => Some(Found::Broken),
        Err(Error::BufferTooShort) => None,
        Err(_) => Some(Found::Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use witgate_tests::fuzz;

    fn found(come: &[u8]) -> String {
        match find(come) {
            None => "more".to_owned(),
            Some(Found::Absent) => "absent".to_owned(),
            Some(Found::Broken) => "broken".to_owned(),
            Some(Found::Header(length, client)) => {
                format!("{length} {}", client.map_or_else(|| "itself".to_owned(), |client| client.to_string()))
            }
        }
    }

    #[test]
    fn a_header_is_the_same_however_it_comes() {
        fuzz::run("proxy_protocol", |bytes| {
            let whole = found(bytes);
            for length in 0..bytes.len() {
                let some = found(&bytes[..length]);
                assert!(some == "more" || some == whole, "{some} after {length} bytes, then {whole}");
            }
            if let Some(Found::Header(length, client)) = find(bytes) {
                assert!(length <= bytes.len(), "more than there is");
                // In text, a simple reader finds the same.
                let line = std::str::from_utf8(&bytes[..length]).ok().filter(|line| line.starts_with("PROXY TCP"));
                if let Some(words) = line.map(|line| line.trim_end().split(' ').collect::<Vec<_>>()) {
                    let simple = words[2].parse().ok().zip(words[4].parse().ok());
                    assert_eq!(client, simple.map(|(ip, port): (std::net::IpAddr, u16)| SocketAddr::new(ip, port)));
                }
            }
            whole != "more"
        });
    }

    #[test]
    fn headers_are_told_from_what_is_none() {
        let v2 = |command: u8, family: u8, rest: &[u8]| {
            let mut bytes = BEGINNINGS[1].to_vec();
            bytes.extend([command, family, 0, u8::try_from(rest.len()).unwrap()]);
            bytes.extend(rest);
            bytes
        };
        let addresses = [192, 0, 2, 1, 192, 0, 2, 2, 0x30, 0x39, 0, 80];
        let cases: [(&[u8], &str); 15] = [
            (b"", "more"),
            (b"P", "more"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 12345 80\r", "more"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 12345 80\r\nGET /", "41 192.0.2.1:12345"),
            (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", "40 [2001:db8::1]:1"),
            (b"PROXY UNKNOWN\r\n", "15 itself"),
            (b"PROXY UNKNOWN what ever\r\nGET", "25 itself"),
            (b"PROXY TCP4 192.0.2.1 12345\r\n", "broken"),
            (b"PROXY UNKNOWN \nGET / HTTP/1.1\r\n", "broken"),
            (b"PROXY TCP4 192.0.2.256 192.0.2.2 12345 80\r\n", "broken"),
            (b"POST / HTTP/1.1\r\n", "absent"),
            (b"\r\n\r\nGET / HTTP/1.1\r\n", "absent"),
            (&v2(0x21, 0x11, &addresses), "28 192.0.2.1:12345"),
            (&v2(0x20, 0, &[]), "16 itself"),
            (&v2(0x31, 0x11, &addresses), "broken"),
        ];
        for (come, want) in cases {
            assert_eq!(found(come), want, "{}", come.escape_ascii());
        }
        let whole = v2(0x21, 0x11, &addresses);
        for length in 1..whole.len() {
            assert_eq!(found(&whole[..length]), "more", "{length}");
        }
        // With what else proxies say, which is skipped.
        assert_eq!(found(&v2(0x21, 0x11, &[&addresses[..], &[3, 0, 4, 1, 2, 3, 4]].concat())), "35 192.0.2.1:12345");
    }

    #[test]
    fn a_line_that_does_not_end_is_none() {
        assert_ne!(found(&[b"PROXY ".as_slice(), &[b'x'; 200]].concat()), "more");
    }
}
