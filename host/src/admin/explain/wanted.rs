//! The made-up request: from what was sent to a head that the data path would take.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use serde::Deserialize;
use witgate_core::request::Head;

use super::super::reply::ApiError;
use crate::{generation::Generation, proxy, reason::Reason};

/// Headers of a made-up request.
const HEADERS: usize = 100;

/// The made-up request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Wanted {
    method: String,
    /// With the query.
    path: String,
    host: Option<String>,
    headers: BTreeMap<String, Values>,
    client: IpAddr,
    /// Default: the first one.
    listener: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Many(Vec<String>),
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            host: None,
            headers: BTreeMap::new(),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            listener: None,
        }
    }
}

pub(super) const EXAMPLE: &str = r#"{"method": "GET", "path": "/api/x?q=1", "host": "api.example.com", "headers": {"cookie": "uid=7"}, "client": "203.0.113.7"}"#;

impl Wanted {
    pub(super) fn head(&self) -> Result<Head, ApiError> {
        let bad = |what: String| ApiError::bad_request(what).with("expected", EXAMPLE);
        let method = Method::from_bytes(self.method.as_bytes())
            .map_err(|_| bad(format!("method {:?} is not an HTTP method", self.method)))?;
        if !self.path.starts_with('/') {
            return Err(bad(format!("path {:?} does not begin with \"/\"; a host goes into \"host\"", self.path)));
        }
        let uri: Uri = self.path.parse().map_err(|error| bad(format!("path {:?}: {error}", self.path)))?;
        let mut headers = HeaderMap::new();
        let each = self.headers.iter().flat_map(|(name, values)| match values {
            Values::One(value) => vec![(name, value)],
            Values::Many(values) => values.iter().map(|value| (name, value)).collect(),
        });
        for (name, value) in each {
            if headers.len() == HEADERS {
                return Err(bad(format!("there are more than {HEADERS} headers")));
            }
            let key = HeaderName::try_from(name).map_err(|_| bad(format!("{name:?} is not a header name")))?;
            let value =
                HeaderValue::try_from(value).map_err(|_| bad(format!("header {name:?}: not a header value")))?;
            headers.append(key, value);
        }
        if let Some(host) = &self.host {
            let value = HeaderValue::try_from(host).map_err(|_| bad(format!("{host:?} is not a host")))?;
            headers.insert(header::HOST, value);
        }
        Ok(Head { method, uri, headers, client: self.client, ..Head::default() })
    }

    pub(super) fn listener(&self, generation: &Generation) -> Result<usize, ApiError> {
        let Some(wanted) = &self.listener else { return Ok(0) };
        let listeners = &generation.config.listeners;
        listeners.iter().position(|l| l.name == *wanted).ok_or_else(|| {
            let known: Vec<&str> = listeners.iter().map(|l| l.name.as_str()).collect();
            ApiError::bad_request(format!("there is no listener {wanted:?}; there are: {}", known.join(", ")))
        })
    }
}

/// Refuses what the data path refuses before anything is decided (`proxy::headers`, and the parser for lengths): of such a
/// request there is nothing to explain. A request without `Host` is taken here, as nobody needs one to ask.
pub(super) fn sound(head: &Head) -> Result<(), ApiError> {
    let refused = |reason: Reason, why: &str| {
        let (status, word) = (reason.status().as_u16(), reason.word());
        let error = format!("the proxy refuses such a request with {status} ({word}): {why}");
        Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, error).with("reason", word))
    };
    let bad = |why| refused(Reason::BadRequest, why);
    if head.method == Method::CONNECT {
        return refused(Reason::MethodNotAllowed, "CONNECT asks for a tunnel, which is no request to explain");
    }
    if head.uri.path() == "*" && head.method != Method::OPTIONS {
        return bad("only OPTIONS may ask for `*`");
    }
    if !proxy::expects_to_continue(&head.headers) {
        return refused(Reason::ExpectationFailed, "its Expect says something else than 100-continue");
    }
    let all = |name| head.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    match all(header::HOST).as_slice() {
        [] => {}
        [host] if proxy::host_is_sound(host) => {}
        [_] => return bad("its host is not of the form NAME or NAME:PORT"),
        _ => return bad("it has more than one host"),
    }
    let lengths = all(header::CONTENT_LENGTH);
    let is_length = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if !lengths.iter().all(|length| is_length(length) && *length == lengths[0]) {
        return bad("its Content-Length is not a number, or there are several");
    }
    if !head.headers.contains_key(header::TRANSFER_ENCODING) {
        return Ok(());
    }
    if !lengths.is_empty() {
        return bad("it has both Content-Length and Transfer-Encoding (RFC 9112 §6.1)");
    }
    if proxy::is_chunked_only(&head.headers) {
        Ok(())
    } else {
        bad("its Transfer-Encoding is not \"chunked\" and nothing else")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(body: &str) -> Wanted {
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn a_request_is_made_of_what_was_sent_and_defaults() {
        let head = wanted(EXAMPLE).head().unwrap();
        assert_eq!((head.path(), head.query_string(), head.host()), ("/api/x", Some("q=1"), "api.example.com"));
        assert_eq!((head.cookie("uid"), head.client.to_string().as_str()), (Some("7"), "203.0.113.7"));
        let head = wanted(r#"{"headers": {"x-a": ["1", "2"], "host": "h"}}"#).head().unwrap();
        assert_eq!((head.method, head.uri.path(), head.headers.len()), (Method::GET, "/", 3));
    }

    #[track_caller]
    fn check(body: &str, part: &str) {
        let error = wanted(body).head().unwrap_err();
        assert_eq!(error.status, StatusCode::BAD_REQUEST);
        assert!(error.message().contains(part), "{body}: {}", error.message());
    }

    #[test]
    fn a_request_that_cannot_be_is_refused() {
        check(r#"{"method": "G ET"}"#, "not an HTTP method");
        check(r#"{"path": "http://x/"}"#, "does not begin");
        check(r#"{"path": "/a b"}"#, "/a b");
        check(r#"{"headers": {"a b": "x"}}"#, "not a header name");
        check(r#"{"headers": {"a": "x\ny"}}"#, "not a header value");
        check(r#"{"host": "a\u0000"}"#, "not a host");
        for body in [r#"{"paht": "/"}"#, r#"{"client": "nobody"}"#, r#"{"headers": {"a": 1}}"#] {
            assert!(serde_json::from_str::<Wanted>(body).is_err(), "{body}");
        }
    }

    #[test]
    fn a_request_that_the_data_path_refuses_is_refused() {
        let check = |body: &str, want: Result<(), &str>| {
            let got = sound(&wanted(body).head().unwrap());
            match (&got, want) {
                (Ok(()), Ok(())) => {}
                (Err(error), Err(part)) => {
                    assert_eq!(error.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
                    assert!(error.message().contains(part), "{body}: {}", error.message());
                }
                _ => panic!("{body}: {got:?}, want {want:?}"),
            }
        };
        for fine in [
            r#"{}"#,
            r#"{"host": "a.test:8080"}"#,
            r#"{"host": "[::1]:80"}"#,
            r#"{"headers": {"transfer-encoding": "Chunked"}}"#,
            r#"{"headers": {"content-length": ["3", "3"]}}"#,
        ] {
            check(fine, Ok(()));
        }
        check(r#"{"method": "CONNECT"}"#, Err("405 (method-not-allowed)"));
        check(r#"{"headers": {"expect": "foo"}}"#, Err("417 (expectation-failed)"));
        for host in ["a b", "u@a", "a/b", "a,b", r"a\\b"] {
            check(&format!(r#"{{"host": "{host}"}}"#), Err("NAME:PORT"));
        }
        check(r#"{"headers": {"host": ["a", "b"]}}"#, Err("more than one host"));
        check(r#"{"headers": {"content-length": "3", "transfer-encoding": "chunked"}}"#, Err("400 (bad-request)"));
        check(r#"{"headers": {"content-length": ["3", "4"]}}"#, Err("there are several"));
        check(r#"{"headers": {"content-length": "+3"}}"#, Err("not a number"));
        check(r#"{"headers": {"transfer-encoding": "gzip, chunked"}}"#, Err("nothing else"));
        check(r#"{"headers": {"transfer-encoding": ["chunked", "chunked"]}}"#, Err("nothing else"));
    }
}
