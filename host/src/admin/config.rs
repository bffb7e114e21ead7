//! `GET /v1/config` and `PUT /v1/config`: the live configuration as a text, and another one in its place.

use http::StatusCode;
use serde_json::json;

use super::{
    body::Limit,
    reply::{self, ApiError, Reply},
    serve::Call,
};
use crate::{
    control::{Control, Reloaded},
    files,
};

/// The text, as it was written.
pub(super) fn show(control: &Control) -> Reply {
    reply::text(StatusCode::OK, "application/toml; charset=utf-8", control.config_text().as_bytes().to_vec())
}

/// Replaces it: the file first, then what is live. 200 `{"generation", "warnings", "plugins": [{"plugin", "error"}]}`; 422
/// with every error, and nothing has changed.
pub(super) async fn replace(call: Call) -> Result<Reply, ApiError> {
    let desk = call.desk.clone();
    let change = call.change("config", desk.control.source.name());
    let limit = Limit { bytes: files::CONFIG.bytes, set_by: files::CONFIG.of };
    let text = String::from_utf8(call.sent().bytes(limit).await?)
        .map_err(|error| ApiError::bad_request(format!("the body is not text in UTF-8: {error}")))?;
    let permit = desk.change_permit().await?;
    let replace = move |control: &Control, _: &str| control.reload(&text, true);
    let Reloaded { warnings, plugins } = change.run(&desk.control, permit, replace).await?;
    let plugins: Vec<_> = plugins.iter().map(|(plugin, error)| json!({ "plugin": plugin, "error": error })).collect();
    let warnings: Vec<_> = warnings.iter().collect();
    let generation = desk.control.live.load().serial;
    Ok(reply::json(StatusCode::OK, &json!({ "generation": generation, "warnings": warnings, "plugins": plugins })))
}
