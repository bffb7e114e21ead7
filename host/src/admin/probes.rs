//! Liveness and readiness, for orchestrators and load balancers. Ask nothing of a worker: a busy proxy is alive.

use http::StatusCode;

use super::reply::{Reply, text};
use crate::{control::Control, drain::Phase};

const PLAIN: &str = "text/plain; charset=utf-8";

/// `GET /livez`.
pub(super) fn live() -> Reply {
    text(StatusCode::OK, PLAIN, "alive\n")
}

/// `GET /readyz` while the proxy starts: plugins that are not in the artefact cache are compiled first.
pub(super) fn starting() -> Reply {
    text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "starting\n")
}

/// `GET /readyz`: 503 from the start of a drain, so that whoever balances over proxies stops sending.
pub(super) fn ready(control: &Control) -> Reply {
    match control.drain.phase() {
        Phase::Serve => text(StatusCode::OK, PLAIN, "ready\n"),
        Phase::Drain | Phase::Stop => text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "draining\n"),
    }
}
