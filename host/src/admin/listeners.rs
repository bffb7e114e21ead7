//! `GET /v1/listeners`: what is listened on, with the ports that were given for port 0.

use http::StatusCode;
use serde_json::{Value, json};
use witgate_core::config::Listener;

use super::{
    reply::{self, Reply},
    units::millis,
};
use crate::control::Control;

/// `{"listeners": [{"name", "address", "protocol", "trusted_proxies", "limits"}]}`
pub(super) fn list(control: &Control) -> Reply {
    let generation = control.live.load();
    let listeners: Vec<Value> = generation.listeners().map(|(listener, address)| one(listener, address)).collect();
    reply::json(StatusCode::OK, &json!({ "listeners": listeners }))
}

fn one(listener: &Listener, address: std::net::SocketAddr) -> Value {
    let limits = &listener.limits;
    json!({
        "name": listener.name,
        "address": address.to_string(),
        "protocol": "http",
        "trusted_proxies": listener.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "limits": {
            "connections": limits.connections,
            "header_bytes": limits.header_bytes,
            "headers": limits.headers,
            "header_timeout_ms": millis(limits.header_timeout),
            "idle_timeout_ms": millis(limits.idle_timeout),
            "body_bytes": limits.body,
            "requests_per_connection": limits.requests_per_connection,
        },
    })
}
