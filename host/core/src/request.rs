//! The owned head of a request and the names of its fields. Reads what the client sent; never changes it.

use std::{
    borrow::Cow,
    fmt,
    io::{Cursor, Write},
    net::{IpAddr, Ipv4Addr},
    ops::Deref,
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version,
    header::{COOKIE, HOST},
};
use memchr::memchr;

/// `http` or `https`, as the client connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Scheme {
    /// Plain text.
    #[default]
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The head of a request. Owned so that the Wasm host can swap it into a store's data for the time of a call without
/// copying; [`Head::default`] is the stand-in, and making one allocates nothing.
#[derive(Debug, Clone)]
pub struct Head {
    /// The method as it came.
    pub method: Method,
    /// The target: absolute (HTTP/2, absolute form) or only path and query.
    pub uri: Uri,
    /// Protocol version.
    pub version: Version,
    /// All headers, in order within a name.
    pub headers: HeaderMap,
    /// The client, after trusted proxies were looked through.
    pub client: IpAddr,
    /// How the client connected.
    pub scheme: Scheme,
}

/// Names of headers that are quicker looked through than hashed: a hash goes byte by byte, and each step waits for the last.
/// At eight, a look through takes a sixth more instructions.
const FEW: usize = 7;

impl Default for Head {
    /// An empty `GET /` from 0.0.0.0.
    fn default() -> Self {
        Self {
            method: Method::GET,
            uri: Uri::default(),
            version: Version::HTTP_11,
            headers: HeaderMap::new(),
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            scheme: Scheme::Http,
        }
    }
}

impl Head {
    /// The host the client asked for: the target's authority where there is one, else the `Host` header (RFC 9112
    /// section 3.2.2). Without port and without the final dot of an absolute name, in the case it came in; IPv6
    /// keeps its brackets. Empty where the request names none.
    pub fn host(&self) -> &str {
        let host = match self.uri.host() {
            Some(host) => host,
            None => self.headers.get(HOST).and_then(|v| v.to_str().ok()).map_or("", without_port),
        };
        host.strip_suffix('.').unwrap_or(host)
    }

    /// [`host`](Self::host) in lower case; borrowed where it came so.
    pub fn host_lower(&self) -> Cow<'_, str> {
        lower(self.host())
    }

    /// The path without the query, as it came.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// The query string without the `?`, as it came.
    pub fn query_string(&self) -> Option<&str> {
        self.uri.query()
    }

    /// The first header of this name; bytes that are not UTF-8 become U+FFFD.
    pub fn header(&self, name: &HeaderName) -> Option<Cow<'_, str>> {
        // Nearly all are ASCII, which is quickest told by itself.
        self.first(name).map(|v| v.to_str().map_or_else(|_| String::from_utf8_lossy(v.as_bytes()), Cow::Borrowed))
    }

    fn first(&self, name: &HeaderName) -> Option<&HeaderValue> {
        if self.headers.keys_len() > FEW {
            return self.headers.get(name);
        }
        self.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The first cookie of exactly this name, without surrounding quotes; none where its value is not UTF-8.
    /// Scans the `Cookie` headers and never allocates.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let others = || self.headers.get_all(COOKIE).iter().skip(1);
        let first = cookie_value(self.first(&COOKIE)?.as_bytes(), name.as_bytes());
        let found = first.or_else(|| others().find_map(|line| cookie_value(line.as_bytes(), name.as_bytes())))?;
        std::str::from_utf8(unquoted(found)).ok()
    }

    /// The first query parameter of exactly this name. Name and value are percent-decoded, `+` is a space, and bytes
    /// that are not UTF-8 become U+FFFD. Borrowed where nothing was encoded.
    pub fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        self.query_string()?.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            decoded_bytes(key).eq(name.bytes()).then(|| decoded(value))
        })
    }

    /// The client's address as text: `203.0.113.7`, `2001:db8::1`. An IPv4 address that came mapped into IPv6 is
    /// written as IPv4. Formatted into the returned value itself, without allocating.
    pub fn client_text(&self) -> AddressText {
        AddressText::new(self.client)
    }

    /// One field; none where the request lacks it. Only the client address, an encoded query parameter, a host in
    /// mixed case and a header that is not UTF-8 allocate.
    pub fn field(&self, name: &FieldName) -> Option<Cow<'_, str>> {
        match name {
            FieldName::Method => Some(Cow::Borrowed(self.method.as_str())),
            FieldName::Path => Some(Cow::Borrowed(self.path())),
            FieldName::Host => Some(self.host_lower()).filter(|host| !host.is_empty()),
            FieldName::Scheme => Some(Cow::Borrowed(self.scheme.as_str())),
            FieldName::ClientAddress => Some(Cow::Owned(self.client_text().to_string())),
            FieldName::QueryString => self.query_string().map(Cow::Borrowed),
            FieldName::Header(name) => self.header(name),
            FieldName::Cookie(name) => self.cookie(name).map(Cow::Borrowed),
            FieldName::Query(name) => self.query(name),
        }
    }
}

/// One fact about a request, as a plugin's manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FieldName {
    /// The method as it came.
    Method,
    /// The path without the query.
    Path,
    /// The host in lower case, without a port.
    Host,
    /// `http` or `https`.
    Scheme,
    /// The client's IP address as text.
    ClientAddress,
    /// The query string without the `?`.
    QueryString,
    /// The first header of this name.
    Header(HeaderName),
    /// The first cookie of this name.
    Cookie(String),
    /// The first query parameter of this name, percent-decoded.
    Query(String),
}

impl fmt::Display for FieldName {
    /// As it is shown to operators: `method`, `header x-user`, `cookie uid`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method => f.write_str("method"),
            Self::Path => f.write_str("path"),
            Self::Host => f.write_str("host"),
            Self::Scheme => f.write_str("scheme"),
            Self::ClientAddress => f.write_str("client-address"),
            Self::QueryString => f.write_str("query-string"),
            Self::Header(name) => write!(f, "header {name}"),
            Self::Cookie(name) => write!(f, "cookie {name}"),
            Self::Query(name) => write!(f, "query {name}"),
        }
    }
}

/// Room for the longest text of an address: eight groups of four digits and seven colons.
const ADDRESS_LEN: usize = 39;

/// An IP address as text on the stack.
#[derive(Debug, Clone, Copy)]
pub struct AddressText {
    bytes: [u8; ADDRESS_LEN],
    len: usize,
}

impl AddressText {
    /// The text of `address`, with an IPv4 address mapped into IPv6 written as IPv4.
    pub fn new(address: IpAddr) -> Self {
        let mut out = Cursor::new([0; ADDRESS_LEN]);
        // Cannot fail: a canonical address never needs more than ADDRESS_LEN bytes.
        let _ = write!(out, "{}", address.to_canonical());
        let len = usize::try_from(out.position()).unwrap_or(0);
        Self { bytes: out.into_inner(), len }
    }
}

impl Deref for AddressText {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

/// `host:port` or `[v6]:port` without the port.
fn without_port(authority: &str) -> &str {
    let end = match authority.strip_prefix('[') {
        Some(inner) => memchr(b']', inner.as_bytes()).map(|i| i + 2),
        None => memchr(b':', authority.as_bytes()),
    };
    &authority[..end.unwrap_or(authority.len())]
}

/// In lower case; borrowed where it is.
pub(crate) fn lower(host: &str) -> Cow<'_, str> {
    if is_lower(host.as_bytes()) { Cow::Borrowed(host) } else { Cow::Owned(host.to_ascii_lowercase()) }
}

/// Whether no letter is in upper case. Without a branch for each byte, so that it is done for many at once.
fn is_lower(text: &[u8]) -> bool {
    !text.iter().fold(false, |found, byte| found | byte.is_ascii_uppercase())
}

/// The value of the first cookie of this name in a line of `name=value` pairs with semicolons between them.
fn cookie_value<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let mut rest = line;
    loop {
        let (pair, after) = match memchr(b';', rest) {
            Some(end) => (&rest[..end], Some(&rest[end + 1..])),
            None => (rest, None),
        };
        if let Some(value) = pair.trim_ascii_start().strip_prefix(name)
            && let Some(value) = value.trim_ascii_start().strip_prefix(b"=")
        {
            return Some(value.trim_ascii());
        }
        rest = after?;
    }
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value)
}

fn decoded(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|b| b == b'%' || b == b'+') {
        return Cow::Borrowed(text);
    }
    let bytes: Vec<u8> = decoded_bytes(text).collect();
    Cow::Owned(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

/// Percent-decodes as the URL standard's form decoder does: a `%` without two digits stands for itself.
fn decoded_bytes(text: &str) -> impl Iterator<Item = u8> + '_ {
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        let (&first, tail) = rest.split_first()?;
        let (byte, after) = match (first, tail) {
            (b'+', _) => (b' ', tail),
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', tail),
            },
            _ => (first, tail),
        };
        rest = after;
        Some(byte)
    })
}

fn digit(b: u8) -> Option<u8> {
    char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str, headers: &[(&str, &str)]) -> Head {
        let mut head = Head { uri: uri.parse().unwrap(), ..Head::default() };
        for (name, value) in headers {
            head.headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        head
    }

    #[track_caller]
    fn check(uri: &str, headers: &[(&str, &str)], field: FieldName, want: Option<&str>) {
        let head = head(uri, headers);
        assert_eq!(head.field(&field).as_deref(), want, "{field} of {uri} with {headers:?}");
    }

    #[test]
    fn the_host_comes_from_the_authority_then_from_the_header() {
        let host = FieldName::Host;
        check("/", &[("host", "Api.Example.com:8080")], host.clone(), Some("api.example.com"));
        check("/", &[("host", "example.com.")], host.clone(), Some("example.com"));
        check("/", &[("host", "[::1]:80")], host.clone(), Some("[::1]"));
        check("/", &[("host", "[::1]")], host.clone(), Some("[::1]"));
        check("http://one.example:1/x", &[("host", "two.example")], host.clone(), Some("one.example"));
        check("/", &[], host.clone(), None);
        check("/", &[("host", "")], host, None);
    }

    #[test]
    fn the_first_header_is_found_among_few_and_among_many() {
        let header = |name: &str| FieldName::Header(name.parse().unwrap());
        for more in [0, FEW - 3, FEW - 2, 3 * FEW] {
            let names: Vec<String> = (0..more).map(|n| format!("x-{n}")).collect();
            let mut headers = vec![("x-a", "1"), ("cookie", "c=3"), ("x-a", "2")];
            headers.extend(names.iter().map(|name| (&**name, "n")));
            headers.extend([("cookie", "d=4"), ("accept", "5")]);
            for (field, want) in [
                (header("x-a"), Some("1")),
                (header("accept"), Some("5")),
                (header("x-none"), None),
                (header("range"), None),
                (FieldName::Cookie("c".into()), Some("3")),
                (FieldName::Cookie("d".into()), Some("4")),
                (FieldName::Cookie("e".into()), None),
            ] {
                check("/", &headers, field, want);
            }
        }
    }

    #[test]
    fn cookies_are_matched_by_exact_name() {
        let cookie = |name: &str| FieldName::Cookie(name.into());
        let one = [("cookie", "a=1; ab=2; b=\"x y\"; c=; a=9")];
        check("/", &one, cookie("a"), Some("1"));
        check("/", &one, cookie("ab"), Some("2"));
        check("/", &one, cookie("b"), Some("x y"));
        check("/", &one, cookie("c"), Some(""));
        check("/", &one, cookie("A"), None);
        check("/", &one, cookie("d"), None);
        check("/", &[("cookie", "a=1"), ("cookie", "z=2")], cookie("z"), Some("2"));
        check("/", &[("cookie", "flag; a=b=c")], cookie("a"), Some("b=c"));
        check("/", &[("cookie", "flag; a=b=c")], cookie("flag"), None);
        check("/", &[("cookie", "q=\"")], cookie("q"), Some("\""));
        check("/", &[("cookie", ";;=x; ;k=v")], cookie("k"), Some("v"));
    }

    #[test]
    fn query_parameters_are_decoded() {
        let query = |name: &str| FieldName::Query(name.into());
        check("/p?a=1&b=two", &[], query("b"), Some("two"));
        check("/p?a=x%20y+z", &[], query("a"), Some("x y z"));
        check("/p?na%6De=v", &[], query("name"), Some("v"));
        check("/p?a=%zz%4", &[], query("a"), Some("%zz%4"));
        check("/p?a=%ff", &[], query("a"), Some("\u{fffd}"));
        check("/p?a&b=2", &[], query("a"), Some(""));
        check("/p?a=1&a=2", &[], query("a"), Some("1"));
        check("/p", &[], query("a"), None);
        check("/p?x=1&y", &[], FieldName::QueryString, Some("x=1&y"));
        check("/p?", &[], FieldName::QueryString, Some(""));
    }

    #[test]
    fn plain_fields() {
        check("/a%20b?x", &[], FieldName::Path, Some("/a%20b"));
        check("/", &[], FieldName::Method, Some("GET"));
        check("/", &[], FieldName::Scheme, Some("http"));
        check("/", &[], FieldName::ClientAddress, Some("0.0.0.0"));
        let header = FieldName::Header("x-user".parse().unwrap());
        check("/", &[("x-user", "one"), ("x-user", "two")], header.clone(), Some("one"));
        check("/", &[], header.clone(), None);
        let mut head = head("/", &[]);
        head.headers.insert("x-user", http::HeaderValue::from_bytes(b"a\xffb").unwrap());
        assert_eq!(head.field(&header).as_deref(), Some("a\u{fffd}b"));
    }

    #[test]
    fn the_longest_address_fits() {
        for text in ["ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0", "255.255.255.255", "2001:db8::1", "::"] {
            assert_eq!(&*AddressText::new(text.parse().unwrap()), text);
        }
        assert_eq!(&*AddressText::new("::ffff:203.0.113.7".parse().unwrap()), "203.0.113.7");
    }
}
