//! Text to values: durations, sizes, addresses and names. Knows nothing of TOML or of keys.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use http::{HeaderName, HeaderValue, Method, uri::PathAndQuery};
use ipnet::IpNet;

use super::model::HostPattern;

/// Why a text is not the value that it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) message: String,
    /// What was perhaps meant.
    pub(super) help: Option<String>,
}

impl Bad {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Longer durations are refused: added to a point in time they might pass the end of time.
pub(super) const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Text in quotes, escaped, and cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Splits `"250ms"` into `"250"` and `"ms"`.
fn number_and_unit(text: &str) -> (&str, &str) {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    text.split_at(digits)
}

/// `"250ms"`, `"2s"`, `"5m"`, `"1h"`: an integer and a unit.
pub(super) fn duration(text: &str) -> Result<Duration, Bad> {
    let (number, unit) = number_and_unit(text);
    if number.is_empty() {
        return Err(Bad::new(format!("{} is not a duration", quoted(text))));
    }
    let proposal = |unit: &str| format!("did you mean \"{number}{unit}\"?");
    let micros: u64 = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "" => return Err(Bad::new(format!("{} has no unit", quoted(text))).help(proposal("s"))),
        other => {
            let bad = Bad::new(format!("{} is not a unit of time", quoted(other)));
            let meant = match other.trim().to_lowercase().as_str() {
                "ms" | "msec" | "millis" | "milliseconds" => "ms",
                "s" | "sec" | "secs" | "second" | "seconds" => "s",
                "m" | "min" | "mins" | "minute" | "minutes" => "m",
                "h" | "hr" | "hour" | "hours" => "h",
                "µs" | "us" => "us",
                _ => return Err(bad.help("the units are us, ms, s, m and h, after a whole number")),
            };
            return Err(bad.help(proposal(meant)));
        }
    };
    let total = number.parse::<u64>().ok().and_then(|n| n.checked_mul(micros)).map(Duration::from_micros);
    total.filter(|d| *d <= MAX_DURATION).ok_or_else(|| Bad::new(format!("{} is more than a year", quoted(text))))
}

/// `"16MiB"`, `"64KiB"`, `"1024B"`: an integer and a unit, in bytes.
pub(super) fn size(text: &str) -> Result<u64, Bad> {
    let (number, unit) = number_and_unit(text);
    if number.is_empty() {
        return Err(Bad::new(format!("{} is not a size", quoted(text))));
    }
    let proposal = |unit: &str| format!("did you mean \"{number}{unit}\"?");
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "" => return Err(Bad::new(format!("{} has no unit", quoted(text))).help(proposal("B"))),
        other => {
            let bad = Bad::new(format!("{} is not a unit of size", quoted(other)));
            let meant = match other.trim().to_lowercase().as_str() {
                "b" | "byte" | "bytes" => "B",
                "k" | "kb" | "ki" | "kib" => "KiB",
                "m" | "mb" | "mi" | "mib" => "MiB",
                "g" | "gb" | "gi" | "gib" => "GiB",
                _ => return Err(bad.help("the units are B, KiB, MiB and GiB, after a whole number")),
            };
            return Err(bad.help(proposal(meant)));
        }
    };
    let total = number.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift));
    total.ok_or_else(|| Bad::new(format!("{} is too large", quoted(text))))
}

/// A duration as [`duration`] would read it, for messages.
pub(super) fn show_duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    let units = [(3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"), (1_000, "ms"), (1, "us")];
    match units.iter().find(|(scale, _)| micros > 0 && micros.is_multiple_of(*scale)) {
        Some((scale, unit)) => format!("{}{unit}", micros / scale),
        None => "0s".to_owned(),
    }
}

/// A size as [`size`] would read it, for messages.
pub(super) fn show_size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift)) {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes}B"),
    }
}

/// `"0.0.0.0:8080"`, `"[::1]:8080"`: an address to bind, so an IP address and not a name.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, Bad> {
    text.parse().map_err(|_| {
        let bad = Bad::new(format!("{} is not an IP address and port", quoted(text)));
        let proposal = match text.rsplit_once(':') {
            _ if text.parse::<std::net::Ipv4Addr>().is_ok() => Some(format!("{text}:8080")),
            _ if text.parse::<std::net::Ipv6Addr>().is_ok() => Some(format!("[{text}]:8080")),
            Some(("", port)) | Some(("*", port)) => Some(format!("0.0.0.0:{port}")),
            Some(("localhost", port)) => Some(format!("127.0.0.1:{port}")),
            None if text.parse::<u16>().is_ok() => Some(format!("0.0.0.0:{text}")),
            _ => None,
        };
        match proposal.filter(|proposal| proposal.parse::<SocketAddr>().is_ok()) {
            Some(proposal) => bad.help(format!("did you mean \"{proposal}\"?")),
            None => bad,
        }
    })
}

/// `"10.0.3.11:8080"`, `"[::1]:8080"`, `"origin.internal:80"`: an address to connect to, in its canonical form.
pub(super) fn endpoint_address(text: &str) -> Result<String, Bad> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 { Err(zero_port(text)) } else { Ok(address.to_string()) };
    }
    if text.contains("://") {
        let bad = Bad::new(format!("{} is a URL", quoted(text)));
        return Err(bad.help("leave out the scheme and the path"));
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        let bad = Bad::new(format!("{} has no port", quoted(text)));
        return Err(bad.help(format!("did you mean \"[{text}]:80\"?")));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(Bad::new(format!("{} has no port", quoted(text))).help(format!("did you mean \"{text}:80\"?")));
    };
    match port.parse::<u16>() {
        Ok(0) => return Err(zero_port(text)),
        Ok(_) if port.bytes().all(|b| b.is_ascii_digit()) => {}
        _ => return Err(Bad::new(format!("{} is not a port from 1 to 65535", quoted(port)))),
    }
    if host.contains(':') {
        return Err(Bad::new(format!("{} is not an IPv6 address in brackets", quoted(host))));
    }
    Ok(format!("{}:{}", dns_name(host)?, port))
}

fn zero_port(text: &str) -> Bad {
    Bad::new(format!("{} has port 0, to which nothing can connect", quoted(text)))
}

/// A DNS name or an IP address, without a port: what a certificate can be for.
pub(super) fn host_name(text: &str) -> Result<String, Bad> {
    match text.parse::<std::net::IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => dns_name(text),
    }
}

/// A DNS name in lower case. RFC 1123 section 2.1, and underscores, which service discovery uses.
fn dns_name(text: &str) -> Result<String, Bad> {
    let labels = text.strip_suffix('.').unwrap_or(text);
    if labels.is_empty() {
        return Err(Bad::new("the host is empty"));
    }
    if !text.is_ascii() {
        return Err(Bad::new(format!("{} is not ASCII", quoted(text))).help("write it in punycode (\"xn--…\")"));
    }
    if labels.len() > 253 {
        return Err(Bad::new(format!("{} is longer than 253 characters", quoted(text))));
    }
    for label in labels.split('.') {
        let word = label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if label.is_empty() || label.len() > 63 || !word || label.starts_with('-') || label.ends_with('-') {
            let message = format!("{} is not a host name: {} is not a label", quoted(text), quoted(label));
            return Err(Bad::new(message));
        }
    }
    let last = labels.rsplit('.').next().unwrap_or(labels);
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Bad::new(format!("{} is neither an IPv4 address nor a host name", quoted(text))));
    }
    Ok(text.to_ascii_lowercase())
}

/// `"10.0.0.0/8"`, or one address.
pub(super) fn network(text: &str) -> Result<IpNet, Bad> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| Bad::new(format!("{} is not an IP network", quoted(text))))
}

/// `"api.example.com"`, `"*.example.com"`, an IPv4 address or an IPv6 address in brackets.
pub(super) fn host_pattern(text: &str) -> Result<HostPattern, Bad> {
    if text == "*" {
        return Err(Bad::new("\"*\" is not a host").help("leave `hosts` out to match every host"));
    }
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match address.parse::<std::net::Ipv6Addr>() {
            Ok(address) => Ok(HostPattern::Exact(format!("[{address}]"))),
            Err(_) => Err(Bad::new(format!("{} is not an IPv6 address", quoted(address)))),
        };
    }
    if text.parse::<std::net::Ipv4Addr>().is_ok() {
        return Ok(HostPattern::Exact(text.to_owned()));
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        let bad = Bad::new(format!("{} is an IPv6 address without brackets", quoted(text)));
        return Err(bad.help(format!("did you mean \"[{text}]\"?")));
    }
    if text.contains("://") || text.contains('/') {
        return Err(Bad::new(format!("{} is a URL or path, not a host", quoted(text))));
    }
    if let Some((host, port)) = text.rsplit_once(':') {
        let bad = Bad::new(format!("{} has a port, and hosts have none", quoted(text)));
        let numeric = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        return Err(if numeric { bad.help(format!("did you mean {}?", quoted(host))) } else { bad });
    }
    if text.ends_with('.') {
        return Err(Bad::new(format!("{} ends with a dot", quoted(text))));
    }
    let (name, suffix) = match text.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (text, false),
    };
    if name.contains('*') {
        return Err(Bad::new(format!("{} has `*` elsewhere than as its whole first label", quoted(text))));
    }
    let name = dns_name(name)?;
    Ok(if suffix { HostPattern::Suffix(format!(".{name}")) } else { HostPattern::Exact(name) })
}

/// A path, or the beginning of one: without a query, as it comes in a request line.
pub(super) fn path(text: &str) -> Result<String, Bad> {
    if !text.starts_with('/') {
        let bad = Bad::new(format!("{} does not start with '/'", quoted(text)));
        return Err(if text.is_empty() {
            bad
        } else {
            bad.help(format!("did you mean {}?", quoted(&format!("/{text}"))))
        });
    }
    if let Some(c) = text.chars().find(|c| matches!(c, '?' | '#') || c.is_whitespace() || c.is_control()) {
        let bad = Bad::new(format!("{} has {c:?} in it, which no path has", quoted(text)));
        return Err(if c == '?' { bad.help("match the query with `query = { … }`") } else { bad });
    }
    Ok(text.to_owned())
}

/// A path that is sent: in ASCII, as it stands in a request line.
pub(super) fn sent_path(text: &str) -> Result<String, Bad> {
    let path = path(text)?;
    if !path.is_ascii() || PathAndQuery::try_from(&*path).is_err() {
        let bad = Bad::new(format!("{} has a character in it that a path has not", quoted(text)));
        return Err(bad.help("percent-encode it"));
    }
    Ok(path)
}

/// The value of a `Host` header.
pub(super) fn host(text: &str) -> Result<String, Bad> {
    let graphic = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@".contains(&b));
    match graphic && HeaderValue::from_str(text).is_ok() {
        true => Ok(text.to_owned()),
        false => Err(Bad::new(format!("{} is not a host", quoted(text)))),
    }
}

/// The value of a header that is sent.
pub(super) fn header_value(text: &str) -> Result<HeaderValue, Bad> {
    if text.trim() != text {
        // RFC 9110 section 5.5: it is no part of a value, and HTTP/2 forbids it.
        return Err(Bad::new(format!("{} begins or ends with white space", quoted(text))));
    }
    let value = HeaderValue::from_str(text).ok().filter(|_| text.is_ascii());
    value.ok_or_else(|| Bad::new(format!("{} has a character in it that no header has", quoted(text))))
}

/// A header's name.
pub(super) fn header_name(text: &str) -> Result<HeaderName, Bad> {
    let name = HeaderName::from_bytes(text.as_bytes());
    name.map_err(|_| Bad::new(format!("{} is not a header name", quoted(text))))
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// What an `Upgrade` header names, in lower case: a token, perhaps with a version (RFC 9110 section 7.8).
pub(super) fn protocol(text: &str) -> Result<String, Bad> {
    let (name, version) = text.split_once('/').unwrap_or((text, "-"));
    if !is_token(name) || !is_token(version) {
        return Err(Bad::new(format!("{} is not a protocol's name", quoted(text))));
    }
    let lower = text.to_ascii_lowercase();
    // Requests behind it would pass by routes and rules: request smuggling.
    if matches!(name.to_ascii_lowercase().as_str(), "h2c" | "h2" | "http" | "tls") {
        return Err(Bad::new(format!(
            "{} is never passed on: requests behind it would not be looked at",
            quoted(text)
        )));
    }
    Ok(lower)
}

/// A cookie's name: a token. RFC 6265 section 4.1.1.
pub(super) fn cookie_name(text: &str) -> Result<String, Bad> {
    if !is_token(text) {
        return Err(Bad::new(format!("{} is not a cookie name", quoted(text))));
    }
    Ok(text.to_owned())
}

/// A query parameter's name, decoded.
pub(super) fn query_name(text: &str) -> Result<String, Bad> {
    if text.is_empty() { Err(Bad::new("it is empty")) } else { Ok(text.to_owned()) }
}

/// A method. They are case-sensitive: RFC 9110 section 9.1.
pub(super) fn method(text: &str) -> Result<Method, Bad> {
    let standard = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    let upper = text.to_ascii_uppercase();
    if upper != text && standard.contains(&upper.as_str()) {
        let bad = Bad::new(format!("{} is not a method, which are case-sensitive", quoted(text)));
        return Err(bad.help(format!("did you mean \"{upper}\"?")));
    }
    Method::from_bytes(text.as_bytes()).map_err(|_| Bad::new(format!("{} is not a method", quoted(text))))
}

/// The value of a `Location` header.
pub(super) fn location(text: &str) -> Result<String, Bad> {
    if text.is_empty() {
        return Err(Bad::new("it is empty"));
    }
    if let Some(c) = text.chars().find(|c| c.is_control()) {
        return Err(Bad::new(format!("{} has the control character {c:?} in it", quoted(text))));
    }
    if text.contains(' ') || HeaderValue::from_str(text).is_err() {
        let bad = Bad::new(format!("{} has a character in it that a URL has not", quoted(text)));
        return Err(bad.help("percent-encode it"));
    }
    Ok(text.to_owned())
}

/// The name of a listener, route or cluster: it stands in URLs of the admin API and in labels of metrics.
pub(super) fn name(text: &str) -> Result<String, Bad> {
    if text.is_empty() {
        return Err(Bad::new("it is empty"));
    }
    if text.chars().count() > 128 {
        return Err(Bad::new(format!("{} is longer than 128 characters", quoted(text))));
    }
    let odd = |c: &char| c.is_control() || c.is_whitespace() || matches!(c, '/' | '?' | '#' | '%' | '"' | '\\');
    match text.chars().find(odd) {
        Some(c) => Err(Bad::new(format!("{} has {c:?} in it", quoted(text)))),
        None => Ok(text.to_owned()),
    }
}

/// The name of a plugin: it is also a directory of the plugin store.
pub(super) fn plugin_name(text: &str) -> Result<String, Bad> {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let rest = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'));
    if first && rest && text.len() <= 64 {
        return Ok(text.to_owned());
    }
    Err(Bad::new(format!("{} is not a plugin name", quoted(text))))
}
