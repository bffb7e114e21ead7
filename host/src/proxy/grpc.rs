//! What a proxy owes to gRPC beyond HTTP/2 ([protocol](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md)): calls
//! end when their deadline has passed, and a call that the proxy itself answers ends in a way that its client understands.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, response};
use witgate_core::endpoint::Outcome;

use super::Body;
use crate::reason::Reason;

const GRPC: &[u8] = b"application/grpc";
const GRPC_STATUS: &str = "grpc-status";

/// Whether a request is a call.
pub fn is_call(headers: &HeaderMap) -> bool {
    let rest = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.as_bytes().strip_prefix(GRPC));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// How long the client waits for a call; none: it does not say, or not in the words of the protocol.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let (unit, digits) = headers.get("grpc-timeout")?.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Makes the proxy's own answer the end of a call: clients of gRPC read no other statuses. The codes are those that
/// [clients are to make](https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md) of the HTTP status, but for
/// two that say more: a deadline that has passed, and a limit that is reached.
pub fn end(response: &mut Response<Body>, reason: Reason) {
    let code = match reason {
        Reason::Timeout | Reason::BodyTooSlow => 4,
        Reason::RateLimited | Reason::HeaderTooLarge | Reason::BodyTooLarge => 8,
        Reason::NoRoute | Reason::MethodNotAllowed => 12,
        Reason::BadRequest | Reason::UriTooLong | Reason::ExpectationFailed => 13,
        Reason::ClientAborted => 1,
        Reason::NoHealthyEndpoint
        | Reason::CircuitOpen
        | Reason::ConnectFailure
        | Reason::UpstreamReset
        | Reason::UpstreamMalformed
        | Reason::PluginFailure
        | Reason::Overloaded => 14,
    };
    *response.status_mut() = StatusCode::OK;
    *response.body_mut() = Body::full(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(code));
    headers.insert("grpc-message", HeaderValue::from_static(reason.word()));
}

/// How a call went as far as its response's head tells: a call that fails at once says so there.
pub fn outcome(head: &response::Parts) -> Outcome {
    match head.headers.get(GRPC_STATUS).map(HeaderValue::as_bytes) {
        // Deadline exceeded, and unavailable.
        Some(b"4" | b"14") => Outcome::GatewayError,
        // Unknown, internal, and data loss.
        Some(b"2" | b"13" | b"15") => Outcome::ServerError,
        _ => Outcome::of_status(head.status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_by_their_type() {
        let is = |kind: &'static str| {
            is_call(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]))
        };
        assert!(["application/grpc", "application/grpc+proto", "application/grpc;a=b"].into_iter().all(is));
        assert!(!["application/grpc-web", "application/grpcs", "application/json", ""].into_iter().any(is));
        assert!(!is_call(&HeaderMap::new()));
    }

    #[test]
    fn timeouts_are_read_or_there_are_none() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_static(text));
            timeout(&headers)
        };
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("1S"), Some(Duration::from_secs(1)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(
            [read("2M"), read("3u"), read("4n")],
            [120_000_000_000, 3_000, 4].map(|n| Some(Duration::from_nanos(n)))
        );
        for bad in ["", "S", "1", "1s", "-1S", "+1S", "123456789S", "1.5S", "1 S"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_proxys_own_answer_ends_a_call() {
        for reason in Reason::ALL {
            let mut response = super::super::reply::response(reason);
            end(&mut response, reason);
            assert_eq!(response.status(), 200, "{reason:?}");
            let code: u32 = response.headers()[GRPC_STATUS].to_str().unwrap().parse().unwrap();
            assert!((1..=16).contains(&code), "{reason:?}: {code}");
            assert_eq!(response.headers()["x-witgate-error"], reason.word());
        }
    }
}
