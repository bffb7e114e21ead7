//! The header rules of a proxy: what makes a request unacceptable, what must not be passed on, and what the proxy says
//! of the client (RFC 9110 §7.6, RFC 9112 §6).

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version,
    header::{self, Entry},
};
use ipnet::IpNet;
use witgate_core::{
    endpoint::Endpoint,
    request::{Head, Scheme},
};

use crate::{reason::Reason, worker::conn::Conn};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Who the client is by the certificate that it has shown: Envoy's.
const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// What a client that asks for h2c says of itself (RFC 7540 §3.2.1): an endpoint that answered to it would speak HTTP/2.
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// What one pass over a request's headers finds of those that need a look. Looking them up one by one would cost more
/// than all else that is done to a head.
#[derive(Debug, Default)]
pub struct Found {
    hosts: usize,
    length: bool,
    encoding: bool,
    /// `Connection`, and what else concerns one connection only.
    hop_by_hop: bool,
    /// Something is said of a client's certificate.
    client_cert: bool,
    upgrade: bool,
    expect: bool,
}

impl Found {
    /// Looks at every name.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for (name, _) in headers {
            match *name {
                header::HOST => found.hosts += 1,
                header::CONTENT_LENGTH => found.length = true,
                header::TRANSFER_ENCODING => (found.encoding, found.hop_by_hop) = (true, true),
                header::UPGRADE => (found.upgrade, found.hop_by_hop) = (true, true),
                header::CONNECTION | header::TE => found.hop_by_hop = true,
                header::EXPECT => found.expect = true,
                // Those without a name of their own in `http`.
                _ => match name.as_str() {
                    "keep-alive" | "proxy-connection" | "http2-settings" => found.hop_by_hop = true,
                    name => found.client_cert |= is_client_cert(name),
                },
            }
        }
        found
    }

    /// Whether its body comes in chunks: any other transfer coding is refused.
    pub fn is_chunked(&self) -> bool {
        self.encoding
    }

    /// What the request says of the length of its body.
    pub fn length(&self, headers: &HeaderMap) -> Option<u64> {
        if !self.length {
            return None;
        }
        headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }
}

/// Refuses a request that could mean two things to two readers, and one that this proxy does not serve.
pub fn check(head: &Head, found: &Found, conn: &Conn) -> Result<(), Reason> {
    // One that may be served has a path instead (`connect::begin`).
    if head.method == Method::CONNECT && head.uri.authority().is_some() {
        return Err(Reason::MethodNotAllowed);
    }
    if found.hosts > 1 || (found.hosts == 0 && head.version == Version::HTTP_11) {
        return Err(Reason::BadRequest);
    }
    if let Some(host) = head.headers.get(header::HOST)
        && !host_is_sound(host.as_bytes())
    {
        return Err(Reason::BadRequest);
    }
    if let Some(authority) = head.uri.authority() {
        // `GET example.com` is CONNECT's form of a target (RFC 9112 §3.2.3), and other schemes are not served here.
        let scheme = head.uri.scheme_str();
        if !matches!(scheme, Some("http" | "https")) || !host_is_sound(authority.as_str().as_bytes()) {
            return Err(Reason::BadRequest);
        }
    }
    if let Some(target) = head.uri.path_and_query() {
        // The parser lets UTF-8 pass, which is no part of a target (RFC 3986 §2) and of which others make different things. And in
        // HTTP/2 a path is always there (RFC 9113 §8.3.1).
        let target = target.as_str();
        if !target.is_ascii() || (head.version == Version::HTTP_2 && target.starts_with('?')) {
            return Err(Reason::BadRequest);
        }
    }
    // Only a server can be meant by that, and only OPTIONS asks one (RFC 9112 §3.2.4).
    if head.uri.path() == "*" && head.method != Method::OPTIONS {
        return Err(Reason::BadRequest);
    }
    // What else would be expected is not known here, and nobody behind this is told of it (RFC 9110 §10.1.1).
    if found.expect && head.version != Version::HTTP_10 && !expects_to_continue(&head.headers) {
        return Err(Reason::ExpectationFailed);
    }
    if head.version >= Version::HTTP_2 {
        return Ok(());
    }
    if found.encoding && (!is_chunked_only(&head.headers) || conn.with_head(length_stands_beside_encoding)) {
        return Err(Reason::BadRequest);
    }
    Ok(())
}

/// Whether `Expect` says nothing but `100-continue`.
pub fn expects_to_continue(headers: &HeaderMap) -> bool {
    headers.get_all(header::EXPECT).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Bytes of a name, one of no address in brackets (RFC 3986 §3.2.2).
const OF_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"-._~!$&'()*+;=%";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

/// `uri-host [":" port]`, or nothing (RFC 9110 §7.2, RFC 3986 §3.2.2): no white space, no user information, no path, no list.
pub fn host_is_sound(host: &[u8]) -> bool {
    let port = match host.strip_prefix(b"[") {
        Some(inner) => {
            let Some(end) = memchr::memchr(b']', inner) else { return false };
            if !std::str::from_utf8(&inner[..end]).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok()) {
                return false;
            }
            &inner[end + 1..]
        }
        None => {
            let end = host.iter().position(|b| !OF_NAME[usize::from(*b)]).unwrap_or(host.len());
            &host[end..]
        }
    };
    port.is_empty() || port.strip_prefix(b":").is_some_and(|port| port.iter().all(u8::is_ascii_digit))
}

/// An authority without user information.
pub(super) fn without_user(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Whether the one transfer coding is `chunked`: any other would be lost, as it is not passed on.
pub fn is_chunked_only(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let chunked = codings.next().is_some_and(|c| c.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    chunked && codings.next().is_none()
}

/// Whether a head with a Transfer-Encoding line has a Content-Length line beside it. The parser drops the length, so the bytes
/// have to be asked; where nobody knows them, the answer is the safe one.
fn length_stands_beside_encoding(head: Option<&[u8]>) -> bool {
    head.is_none_or(|head| !has_line(head, b"transfer-encoding") || has_line(head, b"content-length"))
}

/// Whether the parser has refused a head because it tells a length that nothing has. It says of it that it is too large, as it
/// says of heads.
pub fn tells_boundless_length(head: Option<&[u8]>) -> bool {
    let lines = head.unwrap_or_default().split(|byte| *byte == b'\n');
    let mut lengths =
        lines.filter(|line| is_named(line, b"content-length")).filter_map(|line| line.splitn(2, |b| *b == b':').nth(1));
    lengths.any(|length| {
        std::str::from_utf8(length).is_ok_and(|text| text.trim().parse::<u64>().is_ok_and(|n| n >= u64::MAX - 1))
    })
}

fn has_line(head: &[u8], name: &[u8]) -> bool {
    head.split(|byte| *byte == b'\n').any(|line| is_named(line, name))
}

fn is_named(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|n| n.eq_ignore_ascii_case(name)) && line.get(name.len()) == Some(&b':')
}

/// The one protocol that a request asks to switch to, where it does so as it must (RFC 9110 §7.8) and has no body: what came
/// behind a body that ends early might be taken for the other protocol, or for HTTP, by one side alone.
pub fn upgrade(head: &Head, found: &Found) -> Option<HeaderValue> {
    // HTTP/2 has no such headers; there it was asked for by CONNECT (`upgrade::extended`).
    if !found.upgrade || found.encoding || head.version < Version::HTTP_11 {
        return None;
    }
    let is_empty = !found.length || found.length(&head.headers) == Some(0);
    let mut protocols = head.headers.get_all(header::UPGRADE).iter();
    let protocol = protocols.next().filter(|_| is_empty && protocols.next().is_none())?;
    let is_one = !protocol.is_empty() && protocol.as_bytes().iter().all(|b| b.is_ascii_graphic() && *b != b',');
    let mut options = head.headers.get_all(header::CONNECTION).iter().flat_map(|v| v.as_bytes().split(|b| *b == b','));
    let is_named = options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
    (is_one && is_named).then(|| protocol.clone())
}

/// Puts back what [`remove_hop_by_hop`] took of a request that asks for another protocol, and no more of it.
pub fn keep_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// Has a request no longer ask for another protocol.
pub fn drop_upgrade(headers: &mut HeaderMap) {
    headers.remove(header::CONNECTION);
    headers.remove(header::UPGRADE);
}

/// Removes what concerns one connection only, and what `Connection` names. Framing and `Host` stay whatever it names:
/// taking them away would change what the message means.
pub fn remove_hop_by_hop(headers: &mut HeaderMap, found: &Found) {
    if !found.hop_by_hop {
        return;
    }
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::try_from(name.trim()).ok())
            .filter(|name| !matches!(*name, header::CONTENT_LENGTH | header::HOST))
            .collect();
        headers.remove(header::CONNECTION);
        for name in named {
            headers.remove(name);
        }
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, HTTP2_SETTINGS, header::TRANSFER_ENCODING, header::UPGRADE] {
        headers.remove(&name);
    }
    // The one transfer coding that trailers need (RFC 9110 §10.1.4); gRPC insists on it.
    if let Entry::Occupied(te) = headers.entry(header::TE) {
        let trailers = te.iter().any(|v| v.to_str().is_ok_and(|v| v.split(',').any(|t| t.trim() == "trailers")));
        te.remove_entry_mult();
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// The address of the client: the peer, or, behind trusted proxies, the rightmost address in `X-Forwarded-For` that is
/// not a trusted proxy's.
pub fn client_address(headers: &HeaderMap, conn: &Conn, trusted: &[IpNet]) -> IpAddr {
    let peer = conn.peer().ip();
    if !conn.trusted() {
        return peer;
    }
    let mut client = peer;
    for value in headers.get_all(&X_FORWARDED_FOR).iter().rev() {
        let Ok(value) = value.to_str() else { return client };
        for hop in value.rsplit(',') {
            let Some(address) = parse_hop(hop.trim()) else { return client };
            client = address;
            if !is_trusted(trusted, address) {
                return client;
            }
        }
    }
    client
}

/// Whether an address is one of the trusted proxies.
pub fn is_trusted(trusted: &[IpNet], address: IpAddr) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

fn parse_hop(hop: &str) -> Option<IpAddr> {
    let address = hop
        .parse()
        .ok()
        .or_else(|| hop.parse::<SocketAddr>().ok().map(|a| a.ip()))
        .or_else(|| hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok())?;
    Some(IpAddr::to_canonical(&address))
}

/// Says who the client is. What an untrusted peer says of others is replaced.
pub fn set_forwarded(head: &mut Head, found: &Found, conn: &Conn, random: impl FnOnce() -> u128) {
    let scheme = match head.scheme {
        Scheme::Http => HeaderValue::from_static("http"),
        Scheme::Https => HeaderValue::from_static("https"),
    };
    // The target's authority goes before the header, as it does for routing and for the endpoint.
    let authority = head.uri.authority().and_then(|a| HeaderValue::try_from(a.as_str()).ok());
    let host = authority.or_else(|| head.headers.get(header::HOST).cloned());
    let headers = &mut head.headers;
    set_client_certificate(headers, found, conn);
    if !conn.trusted() {
        headers.insert(X_FORWARDED_FOR, conn.peer_value().clone());
        headers.insert(X_FORWARDED_PROTO, scheme);
        match host {
            Some(host) => drop(headers.insert(X_FORWARDED_HOST, host)),
            None => drop(headers.remove(X_FORWARDED_HOST)),
        }
        headers.insert(X_REQUEST_ID, request_id(random()));
        return;
    }
    headers.append(X_FORWARDED_FOR, conn.peer_value().clone());
    headers.entry(X_FORWARDED_PROTO).or_insert(scheme);
    if let (Entry::Vacant(entry), Some(host)) = (headers.entry(X_FORWARDED_HOST), host) {
        entry.insert(host);
    }
    headers.entry(X_REQUEST_ID).or_insert_with(|| request_id(random()));
}

/// Whether it is the name of that header, also as endpoints read it that make variables of names (CGI, WSGI): to them a
/// hyphen is an underscore.
fn is_client_cert(name: &str) -> bool {
    let same = |(a, b): (u8, u8)| a == b || (a == b'_' && b == b'-');
    let wanted = X_FORWARDED_CLIENT_CERT;
    name.len() == wanted.as_str().len() && name.bytes().zip(wanted.as_str().bytes()).all(same)
}

/// Says which certificate the client has shown. What a client says of that is believed where it is trusted.
fn set_client_certificate(headers: &mut HeaderMap, found: &Found, conn: &Conn) {
    if found.client_cert && !conn.trusted() {
        let named: Vec<HeaderName> = headers.keys().filter(|name| is_client_cert(name.as_str())).cloned().collect();
        for name in named {
            headers.remove(name);
        }
    }
    if let Some(certificate) = conn.client_certificate() {
        headers.append(X_FORWARDED_CLIENT_CERT, certificate.clone());
    }
}

/// 128 random bits in hexadecimal.
fn request_id(bits: u128) -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bits.to_be_bytes()) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    // Hexadecimal digits are always a header value.
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

/// Makes the head one of an HTTP/1.1 request to an origin: `Host` from the authority where the target had one (RFC 9112
/// §3.2.2), or the endpoint's address where the client named none, as HTTP/1.0 lets it.
pub fn to_origin(head: &mut Head, endpoint: Option<&Arc<Endpoint>>) {
    if let Some(authority) = head.uri.authority() {
        if let Ok(host) = HeaderValue::try_from(authority.as_str()) {
            head.headers.insert(header::HOST, host);
        }
    } else if head.version != Version::HTTP_11
        && !head.headers.contains_key(header::HOST)
        && let Some(host) = endpoint.and_then(|endpoint| HeaderValue::try_from(endpoint.authority()).ok())
    {
        head.headers.insert(header::HOST, host);
    }
    // HTTP/2 clients may send a cookie in pieces (RFC 9113 §8.2.3).
    if head.version == Version::HTTP_2 {
        join_cookies(&mut head.headers);
    }
}

fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(header::COOKIE).iter();
    if pieces.next().is_none() || pieces.next().is_none() {
        return;
    }
    let pieces: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}
