//! `PUT /v1/plugins/{name}`: a module comes in, is checked and compiled off every thread that serves, and is stored.

use std::sync::Arc;

use bytes::Bytes;
use http::{StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use witgate_policy::Stage;

use super::{
    body::Limit,
    query,
    reply::{self, ApiError, Reply},
    serve::Call,
    work::Done as _,
};
use crate::control::{Control, ControlError, Uploaded};

/// Stages that may wait for a client that reads slowly. There are fewer than that, so that none is lost.
const STAGES: usize = 16;

const NDJSON: &str = "application/x-ndjson";

/// 201 for a new version, 200 for bytes that were there; with `?progress=true` a line for each stage first.
pub(super) async fn put(call: Call, name: String) -> Result<Reply, ApiError> {
    let [activate, progress] = query::switches(call.head.uri.query(), ["activate", "progress"])?;
    let header = |name| call.head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header(header::CONTENT_TYPE).starts_with("multipart/") {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body must be the module itself, not a form: curl -T FILE, or curl -X PUT --data-binary @FILE",
        ));
    }
    let progress = progress || header(header::ACCEPT).contains(NDJSON);
    let desk = call.desk.clone();
    let change = call.change("upload", name);
    let bytes = desk.control.live.load().config.plugin_bounds.max_upload;
    let limit = Limit { bytes, set_by: "[plugins] max_upload" };
    let sent = call.sent().announced(limit).await?;
    // Taken before the body is read: it bounds the memory of uploads as well as their compilations.
    let permit = desk.upload_permit().await?;
    let bytes = sent.bytes(limit).await?;
    let control = Arc::clone(&desk.control);
    if !progress {
        let uploaded = change.run(&control, permit, work(bytes, activate, |_| {})).await?;
        return Ok(reply::json(uploaded.status(), &uploaded));
    }
    let (lines, receiver) = mpsc::channel::<Bytes>(STAGES);
    let stages = lines.clone();
    let tell = move |stage: Stage| {
        // A client that went away misses its stages; the upload goes on.
        let _ = stages.try_send(reply::line(&json!({ "stage": stage.name() })));
    };
    tokio::task::spawn_local(async move {
        let outcome = change.run(&control, permit, work(bytes, activate, tell)).await;
        let last = outcome.map_or_else(ApiError::into_line, |uploaded| last_line(&uploaded));
        let _ = lines.send(reply::line(&last)).await;
    });
    Ok(reply::lines(receiver))
}

fn work(
    bytes: Vec<u8>,
    activate: bool,
    tell: impl Fn(Stage) + Send + 'static,
) -> impl FnOnce(&Control, &str) -> Result<Uploaded, ControlError> + Send + 'static {
    move |control, name| control.upload(name, &bytes, activate, &tell)
}

/// What the response would have been, with its status as a field.
fn last_line(uploaded: &Uploaded) -> Value {
    let mut line = serde_json::to_value(uploaded).unwrap_or_default();
    line["status"] = uploaded.status().as_u16().into();
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_answer_with_its_status() {
        let mut uploaded = Uploaded {
            name: "canary".into(),
            version: 3,
            sha256: "ab".into(),
            exports: vec!["splitter"],
            active: true,
            warnings: Vec::new(),
            existed: false,
        };
        let want = r#"{"active":true,"exports":["splitter"],"name":"canary","sha256":"ab","status":201,"version":3,"warnings":[]}"#;
        assert_eq!(last_line(&uploaded).to_string(), want);
        uploaded.existed = true;
        assert_eq!(last_line(&uploaded)["status"], 200);
    }
}
