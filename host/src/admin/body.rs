//! Reads request bodies whole, within a size and a time. Nothing is read of a body before its request was let in.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::reply::ApiError;

/// Bytes of a JSON body.
const JSON_LIMIT: u64 = 64 << 10;

/// How long a client may send nothing.
const SILENCE: Duration = Duration::from_secs(10);

/// How long a whole body may take: 64 MiB over 2 Mbit/s.
const WHOLE: Duration = Duration::from_secs(300);

/// Bytes and time for reading on past a limit, so that the client, which is still sending, gets to see the answer
/// instead of a reset connection.
const SPILL: (u64, Duration) = (256 << 20, Duration::from_secs(5));

/// A body's limit, with what the operator would have to change.
#[derive(Clone, Copy)]
pub(super) struct Limit<'a> {
    pub(super) bytes: u64,
    pub(super) set_by: &'a str,
}

/// A request's body, as its parts came.
pub(super) struct Sent {
    pub(super) headers: HeaderMap,
    pub(super) body: Incoming,
}

impl Sent {
    /// The same body, where what it says of its own length is within the limit. Costs no permit and no memory.
    ///
    /// # Errors
    /// 413.
    pub(super) async fn announced(self, limit: Limit<'_>) -> Result<Self, ApiError> {
        if self.body.size_hint().lower() > limit.bytes { Err(self.too_large(limit).await) } else { Ok(self) }
    }

    /// The whole body.
    ///
    /// # Errors
    /// 413 over the limit, 408 where it takes too long, 400 where it breaks off.
    pub(super) async fn bytes(self, limit: Limit<'_>) -> Result<Vec<u8>, ApiError> {
        let mut sent = self.announced(limit).await?;
        let announced = sent.body.size_hint().lower();
        let mut bytes = Vec::with_capacity(usize::try_from(announced).unwrap_or(0));
        let end = Instant::now() + WHOLE;
        loop {
            let deadline = end.min(Instant::now() + SILENCE);
            let frame = match timeout_at(deadline, sent.body.frame()).await {
                Ok(None) => return Ok(bytes),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    return Err(closing(ApiError::bad_request(format!("the body broke off: {error}"))));
                }
                Err(_) => {
                    let error = "the body came too slowly: 10 s without a byte, or 5 min for all of it";
                    return Err(closing(ApiError::new(StatusCode::REQUEST_TIMEOUT, error)));
                }
            };
            let Some(data) = frame.data_ref() else { continue };
            if (bytes.len() + data.len()) as u64 > limit.bytes {
                return Err(sent.too_large(limit).await);
            }
            bytes.extend_from_slice(data);
        }
    }

    /// A small JSON body; `example` shows one that would be accepted.
    ///
    /// # Errors
    /// As [`Sent::bytes`]; 400 with line and column where it is not what was expected.
    pub(super) async fn json<T: DeserializeOwned>(self, example: &str) -> Result<T, ApiError> {
        self.json_within(Limit { bytes: JSON_LIMIT, set_by: "every other JSON body" }, example).await
    }

    /// A JSON body within a limit of its own.
    ///
    /// # Errors
    /// As [`Sent::json`].
    pub(super) async fn json_within<T: DeserializeOwned>(self, limit: Limit<'_>, example: &str) -> Result<T, ApiError> {
        parse(&self.bytes(limit).await?, example)
    }

    async fn too_large(mut self, limit: Limit<'_>) -> ApiError {
        // A client that asked whether to send will not send anything; nobody must wait for it.
        if !self.headers.contains_key(header::EXPECT) {
            let end = Instant::now() + SPILL.1;
            let mut spilt = 0;
            while let Ok(Some(Ok(frame))) = timeout_at(end, self.body.frame()).await {
                spilt += frame.data_ref().map_or(0, |data| data.len() as u64);
                if spilt > SPILL.0 {
                    break;
                }
            }
        }
        let error = format!("the body is larger than {} bytes, the limit of {}", limit.bytes, limit.set_by);
        closing(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, error).with("limit_bytes", limit.bytes))
    }
}

/// Where the body's end is unknown, the connection cannot carry another request.
fn closing(error: ApiError) -> ApiError {
    error.header(header::CONNECTION, "close")
}

fn parse<T: DeserializeOwned>(bytes: &[u8], example: &str) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let what = if bytes.is_empty() { "there is no body".to_owned() } else { format!("the body: {error}") };
        ApiError::bad_request(format!("{what}; expected JSON like {example}"))
            .with("line", error.line())
            .with("column", error.column())
            .with("expected", example)
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Point {
        x: u32,
    }

    #[track_caller]
    fn check(body: &str, parts: &[&str]) {
        let error = parse::<Point>(body.as_bytes(), r#"{"x": 1}"#).unwrap_err();
        assert_eq!(error.status, StatusCode::BAD_REQUEST);
        for part in parts {
            assert!(error.message().contains(part), "{body:?}: {} lacks {part:?}", error.message());
        }
    }

    #[test]
    fn bad_json_is_pointed_at() {
        assert_eq!(parse::<Point>(br#"{"x": 4}"#, "").unwrap(), Point { x: 4 });
        check("", &["there is no body", r#"{"x": 1}"#]);
        check("{\"x\":", &["line 1 column 5"]);
        check("{\n \"y\": 1}", &["unknown field `y`", "expected `x`", "line 2"]);
        check("{\"x\": -1}", &["-1", "u32"]);
        check("{\"x\": \"\u{fe}\"}", &["invalid type"]);
    }
}
