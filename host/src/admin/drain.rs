//! `POST /v1/drain`: the same as SIGTERM.

use http::StatusCode;
use serde_json::json;

use super::{
    reply::{self, Reply},
    serve::Call,
    units::millis,
};
use crate::drain::Phase;

/// Begins a graceful shutdown. Answers at once; again where one is under way already.
pub(super) fn begin(call: &Call) -> Reply {
    let control = &call.desk.control;
    if control.drain.phase() == Phase::Serve {
        control.drain.advance(Phase::Drain);
        call.change("drain", String::new()).done(control, StatusCode::ACCEPTED, None, String::new());
    }
    let timeout = control.live.load().config.runtime.drain_timeout;
    reply::json(StatusCode::ACCEPTED, &json!({ "draining": true, "timeout_ms": millis(timeout) }))
}
