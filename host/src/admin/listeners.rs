//! `GET /v1/listeners`: what is listened on, with the ports that were given for port 0.

use std::net::SocketAddr;

use http::StatusCode;
use serde_json::{Value, json};
use witgate_core::config::{
    ClientAuth, HostPattern, Listener, ProxyProtocol, ServerTls, Service, SniRoute, TlsVersion,
};

use super::{
    reply::{self, Reply},
    units::millis,
};
use crate::control::Control;

/// `{"listeners": [{"name", "address", "protocol", "cluster", "sni", "proxy_protocol", "tls", "trusted_proxies", "limits"}]}`
pub(super) fn list(control: &Control) -> Reply {
    let generation = control.live.load();
    let not_after = |listener: &Listener| generation.tls.servers.get(&listener.name).map(|server| server.not_after);
    let listeners = generation.listeners().map(|(listener, address)| one(listener, address, not_after(listener)));
    let listeners: Vec<Value> = listeners.collect();
    reply::json(StatusCode::OK, &json!({ "listeners": listeners }))
}

fn sni(route: &SniRoute) -> Value {
    let host = |host: &HostPattern| match host {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Suffix(suffix) => format!("*{suffix}"),
    };
    json!({ "hosts": route.hosts.iter().map(host).collect::<Vec<_>>(), "cluster": route.cluster })
}

fn tls_of(tls: &ServerTls, not_after: Option<i64>) -> Value {
    json!({
        "certificates": tls.certificates.iter().map(|one| one.cert.display().to_string()).collect::<Vec<_>>(),
        "client_ca": tls.client_ca.as_ref().map(|path| path.display().to_string()),
        "client_auth": match tls.client_auth {
            ClientAuth::Require => "require",
            ClientAuth::Optional => "optional",
        },
        "min_version": match tls.min_version {
            TlsVersion::Tls12 => "1.2",
            TlsVersion::Tls13 => "1.3",
        },
        "max_handshakes": tls.max_handshakes,
        "not_after": not_after,
    })
}

fn one(listener: &Listener, address: SocketAddr, not_after: Option<i64>) -> Value {
    let limits = &listener.limits;
    let (protocol, to) = match &listener.service {
        Service::Http => ("http", None),
        Service::Tcp(to) => ("tcp", Some(to)),
    };
    json!({
        "name": listener.name,
        "address": address.to_string(),
        "protocol": protocol,
        "cluster": to.and_then(|to| to.cluster.as_deref()),
        "sni": to.map(|to| to.sni.iter().map(sni).collect::<Vec<_>>()),
        "proxy_protocol": match listener.proxy_protocol {
            ProxyProtocol::Off => "off",
            ProxyProtocol::Accept => "accept",
            ProxyProtocol::Require => "require",
        },
        "tls": listener.tls.as_ref().map(|tls| tls_of(tls, not_after)),
        "trusted_proxies": listener.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "limits": {
            "connections": limits.connections,
            "connections_per_client": limits.connections_per_client,
            "header_bytes": limits.header_bytes,
            "headers": limits.headers,
            "header_timeout_ms": millis(limits.header_timeout),
            "idle_timeout_ms": millis(limits.idle_timeout),
            "body_bytes": limits.body,
            "requests_per_connection": limits.requests_per_connection,
        },
    })
}
