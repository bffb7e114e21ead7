//! What the admin API answers with: JSON, text, or lines as they come. Every error is JSON with an `error` that says
//! what is wrong and what would be right.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use witgate_policy::StoreError;

use crate::{control::ControlError, tls::TlsError};

/// A response of the admin API.
pub(super) type Reply = Response<Body>;

/// Its body.
pub(super) enum Body {
    /// Known whole; none once it was sent.
    Whole(Option<Bytes>),
    /// Chunks as they come.
    Lines(mpsc::Receiver<Bytes>),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Lines(lines) => lines.poll_recv(cx).map(|line| line.map(|line| Ok(Frame::data(line)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Lines(_) => SizeHint::default(),
        }
    }
}

fn reply(status: StatusCode, content_type: &'static str, body: Body) -> Reply {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // What is live now is not what is live a moment later.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A text.
pub(super) fn text(status: StatusCode, content_type: &'static str, text: impl Into<Bytes>) -> Reply {
    reply(status, content_type, Body::Whole(Some(text.into())))
}

/// One JSON value and a line break, for people with curl.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    let mut text = serde_json::to_vec(value).unwrap_or_else(|error| {
        // Maps with string keys and plain numbers, which is all that is sent, always serialise.
        tracing::error!(%error, "an admin response cannot be written as JSON");
        b"{}".to_vec()
    });
    text.push(b'\n');
    reply(status, "application/json", Body::Whole(Some(text.into())))
}

/// Lines of JSON, as they come.
pub(super) fn lines(lines: mpsc::Receiver<Bytes>) -> Reply {
    reply(StatusCode::OK, "application/x-ndjson", Body::Lines(lines))
}

/// One line of JSON.
pub(super) fn line(value: &Value) -> Bytes {
    Bytes::from(format!("{value}\n"))
}

/// A request that was not done.
#[derive(Debug)]
pub(super) struct ApiError {
    /// The status.
    pub(super) status: StatusCode,
    /// `error` and whatever else helps.
    fields: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        let fields = Map::from_iter([("error".to_owned(), Value::String(error.into()))]);
        Self { status, fields, headers: Vec::new() }
    }

    pub(super) fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    pub(super) fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    pub(super) fn internal(error: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error)
    }

    /// With one more field beside `error`.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// With a header.
    pub(super) fn header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    /// The text of `error`.
    pub(super) fn message(&self) -> &str {
        self.fields.get("error").and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether somebody may not have what was asked for.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST)
    }

    /// As the last line of a streamed answer, whose own status went out long ago.
    pub(super) fn into_line(self) -> Value {
        let status = self.status.as_u16();
        Value::Object(self.with("status", status).fields)
    }

    /// As a response.
    pub(super) fn into_reply(self) -> Reply {
        let mut response = json(self.status, &self.fields);
        response.headers_mut().extend(self.headers);
        response
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        let text = error.to_string();
        match error {
            ControlError::Refused(refused) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, text)
                .with("stage", refused.stage.name())
                .with("reason", refused.reason),
            ControlError::Store(error) => Self::new(store_status(&error), text),
            ControlError::NotFound(_) => Self::not_found(text),
            ControlError::Tls(refused) => {
                let one =
                    |error: &TlsError| json!({ "message": error.to_string(), "key": error.key, "file": error.path });
                let errors: Vec<Value> = refused.errors().iter().map(one).collect();
                let error = format!("nothing was changed, as files cannot be used for TLS: {}", errors.len());
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, error).with("errors", errors)
            }
            ControlError::Conflict(_)
            | ControlError::Bind(_)
            | ControlError::AccessLog(_)
            | ControlError::Traces(_) => Self::new(StatusCode::CONFLICT, text),
            ControlError::Invalid(diagnostics) => {
                let errors: Vec<Value> =
                    diagnostics.iter().map(|error| serde_json::to_value(error).unwrap_or_default()).collect();
                let count = diagnostics.count();
                let error = format!("nothing was changed, as there are errors in the configuration: {count}");
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, error).with("errors", errors).with("count", count)
            }
            ControlError::Write { .. } => Self::internal(text),
            ControlError::Upgrading => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, text).header(header::RETRY_AFTER, "1")
            }
        }
    }
}

/// Whether the client asked for what cannot be, or the disk failed.
fn store_status(error: &StoreError) -> StatusCode {
    match error {
        StoreError::Name(_) => StatusCode::BAD_REQUEST,
        StoreError::NoPlugin(_) | StoreError::NoVersion { .. } => StatusCode::NOT_FOUND,
        StoreError::NoPrevious(_) | StoreError::IsActive { .. } | StoreError::Damaged(_) => StatusCode::CONFLICT,
        StoreError::InUse { .. } | StoreError::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use witgate_policy::{Refused, Stage};

    use super::*;

    #[track_caller]
    fn check(error: ControlError, status: u16, fields: &str) {
        let shown = format!("{error:?}");
        let error = ApiError::from(error);
        assert_eq!(
            (error.status.as_u16(), Value::Object(error.fields).to_string().as_str()),
            (status, fields),
            "{shown}"
        );
    }

    #[test]
    fn what_control_refuses_has_a_status_and_a_reason() {
        let refused = Refused { stage: Stage::Inspect, reason: "it imports a socket".into() };
        check(
            refused.into(),
            422,
            r#"{"error":"refused at inspect: it imports a socket","reason":"it imports a socket","stage":"inspect"}"#,
        );
        check(StoreError::NoPlugin("x".into()).into(), 404, r#"{"error":"there is no plugin \"x\""}"#);
        check(ControlError::Conflict("in use".into()), 409, r#"{"error":"in use"}"#);
        let name = ApiError::from(ControlError::from(StoreError::Name("../x".into())));
        assert_eq!(name.status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn a_streamed_error_carries_its_status() {
        let line = ApiError::not_found("nothing").into_line();
        assert_eq!(line.to_string(), r#"{"error":"nothing","status":404}"#);
    }
}
