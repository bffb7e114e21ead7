//! Responses that the proxy makes itself; each names its reason in `x-witgate-error`.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, header};

use super::body::Body;
use crate::reason::Reason;

/// A short text for people.
fn text(reason: Reason) -> Bytes {
    Bytes::from(format!("{}: {}\n", reason.status(), reason.word()))
}

/// The response for a reason.
pub fn response(reason: Reason) -> Response<Body> {
    let mut response = Response::new(Body::full(text(reason)));
    *response.status_mut() = reason.status();
    let headers = response.headers_mut();
    headers.insert("x-witgate-error", HeaderValue::from_static(reason.word()));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if reason.closes() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if reason == Reason::Overloaded {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if reason == Reason::MethodNotAllowed {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    response
}

/// The response to a request that may come again after `wait`, in whole seconds: no sooner.
pub fn rate_limited(wait: Duration) -> Response<Body> {
    let mut response = response(Reason::RateLimited);
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    response
}

/// The response as HTTP/1.1 bytes, for a request that never became one.
pub fn raw_response(reason: Reason) -> Bytes {
    let text = text(reason);
    let mut raw = format!(
        "HTTP/1.1 {}\r\nx-witgate-error: {}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        reason.status(),
        reason.word(),
        text.len()
    )
    .into_bytes();
    raw.extend_from_slice(&text);
    Bytes::from(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_as_long_as_told_does_not_come_too_soon() {
        for (wait, told) in [(0, "1"), (1, "1"), (999, "1"), (1_000, "1"), (1_001, "2"), (3_599_500, "3600")] {
            let response = rate_limited(Duration::from_millis(wait));
            assert_eq!(response.headers()[header::RETRY_AFTER], told, "{wait} ms");
            assert_eq!(response.status().as_u16(), 429);
            assert_eq!(response.headers()["x-witgate-error"], "rate-limited");
        }
    }

    #[test]
    fn a_raw_response_is_whole() {
        let raw = raw_response(Reason::BadRequest);
        let text = std::str::from_utf8(&raw).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text}");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{text}");
        assert!(head.contains("connection: close"), "{text}");
    }
}
