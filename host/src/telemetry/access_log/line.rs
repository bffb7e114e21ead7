//! A request that ended to a line. Knows every field and how it looks; allocates nothing where the buffer has room.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use witgate_core::config::{LogField, LogFormat, LogPiece};

use super::escape;

/// What is known of a request that ended.
#[derive(Debug, Default)]
pub struct Line<'a> {
    /// `x-request-id` as sent on.
    pub request_id: Option<&'a [u8]>,
    /// The client, after trusted proxies were looked through.
    pub client: Option<&'a [u8]>,
    /// The other end of the connection: the text of its address, and its port.
    pub peer: Option<(&'a [u8], u16)>,
    /// The listener's name.
    pub listener: Option<&'a str>,
    /// As it came.
    pub method: Option<&'a str>,
    /// `http` or `https`.
    pub scheme: Option<&'static str>,
    /// As the client named it.
    pub host: Option<&'a [u8]>,
    /// With the query.
    pub path: Option<&'a str>,
    /// `HTTP/1.1`.
    pub protocol: Option<&'static str>,
    /// None where the client went away.
    pub status: Option<u16>,
    /// As in `x-witgate-error`.
    pub error: Option<&'static str>,
    /// From the head to the end of the response.
    pub duration: Option<Duration>,
    /// From the begin of the last try to its response's head.
    pub upstream: Option<Duration>,
    /// Of the request's body.
    pub bytes_in: u64,
    /// Of the response's body.
    pub bytes_out: u64,
    /// The route's name.
    pub route: Option<&'a str>,
    /// The cluster's name.
    pub cluster: Option<&'a str>,
    /// The address of the endpoint that was tried last.
    pub endpoint: Option<&'a str>,
    /// Tries that were begun.
    pub attempts: u32,
    /// The header.
    pub user_agent: Option<&'a [u8]>,
    /// The header.
    pub referer: Option<&'a [u8]>,
    /// The header.
    pub traceparent: Option<&'a [u8]>,
}

/// How values look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Json,
    Text,
}

/// A format, ready to be filled in.
#[derive(Debug)]
pub struct Layout {
    style: Style,
    /// What stands before each field.
    fields: Box<[(Box<[u8]>, LogField)]>,
    /// What stands behind the last one, its line break included.
    end: Box<[u8]>,
}

impl Layout {
    /// For lines of this format.
    pub fn of(format: &LogFormat) -> Self {
        match format {
            LogFormat::Json => {
                let fields = LogField::ALL.iter().enumerate().map(|(nth, field)| {
                    let before = format!("{}\"{}\":", if nth == 0 { '{' } else { ',' }, field.word());
                    (before.into_bytes().into(), *field)
                });
                Self { style: Style::Json, fields: fields.collect(), end: b"}\n"[..].into() }
            }
            LogFormat::Text(pieces) => Self::of_pieces(pieces),
        }
    }

    fn of_pieces(pieces: &[LogPiece]) -> Self {
        let (mut fields, mut before) = (Vec::new(), Vec::new());
        for piece in pieces {
            match piece {
                LogPiece::Text(text) => before.extend_from_slice(text.as_bytes()),
                LogPiece::Field(field) => fields.push((std::mem::take(&mut before).into(), *field)),
            }
        }
        before.push(b'\n');
        Self { style: Style::Text, fields: fields.into(), end: before.into() }
    }

    /// Appends a line.
    pub fn write(&self, out: &mut Vec<u8>, line: &Line<'_>, stamp: &mut Stamp) {
        for (before, field) in &self.fields {
            out.extend_from_slice(before);
            self.style.field(out, *field, line, stamp);
        }
        out.extend_from_slice(&self.end);
    }
}

impl Style {
    fn field(self, out: &mut Vec<u8>, field: LogField, line: &Line<'_>, stamp: &mut Stamp) {
        match field {
            LogField::Time => self.quoted(out, Some(()), |out, ()| stamp.write(out, SystemTime::now())),
            LogField::RequestId => self.value(out, line.request_id),
            LogField::Client => self.value(out, line.client),
            LogField::Peer => self.quoted(out, line.peer, address),
            LogField::Listener => self.value(out, line.listener),
            LogField::Method => self.value(out, line.method),
            LogField::Scheme => self.value(out, line.scheme),
            LogField::Host => self.value(out, line.host),
            LogField::Path => self.value(out, line.path),
            LogField::Protocol => self.value(out, line.protocol),
            LogField::Status => self.bare(out, line.status, |out, status| number(out, status.into())),
            LogField::Error => self.value(out, line.error),
            LogField::Duration => self.bare(out, line.duration, milliseconds),
            LogField::Upstream => self.bare(out, line.upstream, milliseconds),
            LogField::BytesIn => number(out, line.bytes_in),
            LogField::BytesOut => number(out, line.bytes_out),
            LogField::Route => self.value(out, line.route),
            LogField::Cluster => self.value(out, line.cluster),
            LogField::Endpoint => self.value(out, line.endpoint),
            LogField::Attempts => number(out, line.attempts.into()),
            LogField::UserAgent => self.value(out, line.user_agent),
            LogField::Referer => self.value(out, line.referer),
            LogField::Traceparent => self.value(out, line.traceparent),
        }
    }

    /// Whatever somebody may have written.
    fn value(self, out: &mut Vec<u8>, value: Option<impl AsRef<[u8]>>) {
        // In columns of text an empty one would not be seen.
        let value = value.filter(|value| self == Self::Json || !value.as_ref().is_empty());
        self.quoted(out, value, |out, value| match self {
            Self::Json => escape::json(out, value.as_ref()),
            Self::Text => escape::text(out, value.as_ref()),
        });
    }

    fn quoted<V>(self, out: &mut Vec<u8>, value: Option<V>, write: impl FnOnce(&mut Vec<u8>, V)) {
        self.bare(out, value, |out, value| {
            let quote: &[u8] = if self == Self::Json { b"\"" } else { b"" };
            out.extend_from_slice(quote);
            write(out, value);
            out.extend_from_slice(quote);
        });
    }

    fn bare<V>(self, out: &mut Vec<u8>, value: Option<V>, write: impl FnOnce(&mut Vec<u8>, V)) {
        match (value, self) {
            (Some(value), _) => write(out, value),
            (None, Self::Json) => out.extend_from_slice(b"null"),
            (None, Self::Text) => out.push(b'-'),
        }
    }
}

/// As a socket's address is written: an IPv6 address in brackets.
fn address(out: &mut Vec<u8>, (ip, port): (&[u8], u16)) {
    let (open, close): (&[u8], &[u8]) = if memchr::memchr(b':', ip).is_some() { (b"[", b"]:") } else { (b"", b":") };
    [open, ip, close].into_iter().for_each(|part| out.extend_from_slice(part));
    number(out, port.into());
}

fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// With three digits behind the point: `12.345`.
fn milliseconds(out: &mut Vec<u8>, time: Duration) {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    number(out, micros / 1_000);
    out.push(b'.');
    digits(out, micros % 1_000);
}

/// The three digits of a number below 1000.
fn digits(out: &mut Vec<u8>, number: u64) {
    out.extend([100, 10, 1].map(|place| b'0' + (number / place % 10) as u8));
}

/// The time of lines. Most of a text is that of the second before, which is kept.
#[derive(Debug, Default)]
pub struct Stamp {
    second: Option<u64>,
    /// `2026-01-31T23:59:59`.
    text: String,
}

impl Stamp {
    /// RFC 3339, in UTC, with milliseconds.
    fn write(&mut self, out: &mut Vec<u8>, now: SystemTime) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            self.second = Some(since.as_secs());
            self.text.clear();
            // Only the year 10000 has none.
            let _ = write!(self.text, "{}", humantime::format_rfc3339_seconds(now));
            self.text.truncate("2026-01-31T23:59:59".len());
        }
        out.extend_from_slice(self.text.as_bytes());
        out.push(b'.');
        digits(out, since.subsec_millis().into());
        out.push(b'Z');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(word: &str) -> LogPiece {
        LogPiece::Field(*LogField::ALL.iter().find(|field| field.word() == word).unwrap())
    }

    fn written(format: &LogFormat, line: &Line<'_>) -> String {
        let mut out = Vec::new();
        Layout::of(format).write(&mut out, line, &mut Stamp::default());
        String::from_utf8(out).unwrap()
    }

    fn line() -> Line<'static> {
        Line {
            request_id: Some(b"abc"),
            client: Some(b"203.0.113.7"),
            peer: Some((b"2001:db8::1", 40_000)),
            listener: Some("web"),
            method: Some("GET"),
            scheme: Some("http"),
            host: Some(b"example.com"),
            path: Some("/a?b=c"),
            protocol: Some("HTTP/1.1"),
            status: Some(200),
            error: None,
            duration: Some(Duration::from_micros(12_034)),
            upstream: Some(Duration::from_micros(7)),
            bytes_in: 0,
            bytes_out: u64::MAX,
            route: Some("all"),
            cluster: Some("c"),
            endpoint: Some("192.0.2.1:80"),
            attempts: 2,
            user_agent: Some(b"a \"b\"\r\n{\"forged\":1}"),
            referer: Some(b""),
            traceparent: None,
        }
    }

    #[test]
    fn an_object_has_every_field() {
        let text = written(&LogFormat::Json, &line());
        assert!(text.ends_with("}\n") && text.matches('\n').count() == 1, "{text}");
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
        for field in LogField::ALL {
            assert!(object.contains_key(field.word()), "{field:?}: {text}");
        }
        assert_eq!(object.len(), LogField::ALL.len());
        assert_eq!(object["user_agent"], "a \"b\"\r\n{\"forged\":1}");
        assert_eq!(object["bytes_out"], u64::MAX);
        let rest = text.split_once(",").unwrap().1;
        let want = "\"request_id\":\"abc\",\"client\":\"203.0.113.7\",\"peer\":\"[2001:db8::1]:40000\",\"listener\":\"web\",\
                    \"method\":\"GET\",\"scheme\":\"http\",\"host\":\"example.com\",\"path\":\"/a?b=c\",\
                    \"protocol\":\"HTTP/1.1\",\"status\":200,\"error\":null,\"duration_ms\":12.034,\"upstream_ms\":0.007,\
                    \"bytes_in\":0,\"bytes_out\":18446744073709551615,\"route\":\"all\",\"cluster\":\"c\",\
                    \"endpoint\":\"192.0.2.1:80\",\"attempts\":2,\"user_agent\":\"a \\\"b\\\"\\u000d\\u000a{\\\"forged\\\":1}\",\
                    \"referer\":\"\",\"traceparent\":null}\n";
        assert_eq!(rest, want);
    }

    #[test]
    fn a_format_is_filled_in_and_what_is_missing_is_a_dash() {
        let says = |text: &str| LogPiece::Text(text.to_owned());
        let pieces = [says("<"), field("client"), says("> {"), field("user_agent"), says("} "), field("duration_ms")];
        let format = LogFormat::Text(pieces.to_vec());
        assert_eq!(written(&format, &line()), "<203.0.113.7> {a \\x22b\\x22\\x0d\\x0a{\\x22forged\\x22:1}} 12.034\n");
        assert_eq!(written(&format, &Line::default()), "<-> {-} -\n");
        let format = LogFormat::Text(vec![field("status"), says(" "), field("referer"), says(" "), field("bytes_in")]);
        assert_eq!(written(&format, &Line { status: None, ..line() }), "- - 0\n", "an empty value is none in columns");
    }

    #[test]
    fn a_stamp_is_the_time_to_the_millisecond() {
        let mut stamp = Stamp::default();
        let times = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_007, "2000-02-29T00:00:00.007Z"),
            (951_782_400_999, "2000-02-29T00:00:00.999Z"),
            (1_798_761_599_250, "2026-12-31T23:59:59.250Z"),
            (951_782_400_010, "2000-02-29T00:00:00.010Z"),
        ];
        for (millis, want) in times {
            let mut out = Vec::new();
            stamp.write(&mut out, UNIX_EPOCH + Duration::from_millis(millis));
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }
}
