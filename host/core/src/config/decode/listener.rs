//! `[[listener]]`.

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    super::{
        model::{Listener, ListenerLimits, ProxyProtocol, Service, SniRoute, TCP_IDLE_TIMEOUT, Tcp},
        reader::{Table, Value},
        references::References,
        sink::Finding,
        value,
    },
    MAX_LIST, SOME_TIME, duration, name, reference, size, tls,
};

/// Most connections or idle connections that can be asked for: more than a process can have files open.
const MAX_CONNECTIONS: u32 = 1_000_000;
/// The HTTP/1 parser does not work with a buffer below 8 KiB, so a smaller limit could not be kept.
const HEADER_BYTES: std::ops::RangeInclusive<u64> = 8 << 10..=1 << 20;

pub(super) fn listener<'a>(table: Table<'a>, base_dir: &Path, references: &mut References<'a>) -> Option<Listener> {
    let name = name(&table, &mut references.listeners);
    let expected = "an IP address and port, such as \"0.0.0.0:8080\"; port 0 picks a free one";
    let listen = table.require("listen", "an IP address and port, such as \"0.0.0.0:8080\"").and_then(|value| {
        let address = value.parse(expected, value::socket_address)?;
        references.addresses.push((address, value.spot));
        Some(address)
    });
    let service = service(&table, references);
    let trusted_proxies = table.take("trusted_proxies").map(|value| networks(&value)).unwrap_or_default();
    let proxy_protocol = table.take("proxy_protocol").and_then(|value| proxy_protocol(&value, &trusted_proxies));
    let limits = table.table("limits", "{ connections = 10000, … }");
    let is_http = !matches!(service, Some(Service::Tcp(_)));
    let limits = match limits {
        Some(table) => limits_of(table, is_http),
        None => default_limits(is_http),
    };
    let wants_tls = table.table("tls", "{ certificates = [{ cert = \"a.pem\", key = \"a.key\" }] }");
    let tls = wants_tls.and_then(|table| tls::server(table, base_dir));
    table.finish();
    let proxy_protocol = proxy_protocol.unwrap_or_default();
    Some(Listener { name: name?, listen: listen?, service: service?, trusted_proxies, proxy_protocol, tls, limits })
}

/// What `protocol` says, with the keys that belong to it.
fn service<'a>(table: &Table<'a>, references: &mut References<'a>) -> Option<Service> {
    let is_tcp = table.take("protocol").map_or(Some(false), |value| value.word(&[("http", false), ("tcp", true)]))?;
    let (cluster, sni) = (table.take("cluster"), table.take("sni"));
    if !is_tcp {
        for (key, value) in [("cluster", &cluster), ("sni", &sni)] {
            if let Some(value) = value {
                let finding = Finding::error(&value.spot, format!("`{key}` belongs to `protocol = \"tcp\"`"));
                value.report(finding.expected("that protocol, or routes, which say where requests go"));
            }
        }
    } else if let (None, None) = (&cluster, &sni) {
        table.require("cluster", "the name of a [[cluster]]");
    }
    let cluster = cluster.and_then(|value| reference(&value, "cluster", &mut references.clusters));
    let items = sni.and_then(|value| value.array(MAX_LIST, SNI)).unwrap_or_default();
    let sni = items.iter().filter_map(|item| sni_route(item, references)).collect();
    Some(if is_tcp { Service::Tcp(Arc::new(Tcp { sni, cluster })) } else { Service::Http })
}

const SNI: &str = "[{ hosts = [\"db.example.com\"], cluster = \"…\" }]";

fn sni_route<'a>(value: &Value<'a>, references: &mut References<'a>) -> Option<SniRoute> {
    let table = value.table(SNI)?;
    let hosts = table.require("hosts", "names, such as [\"db.example.com\", \"*.example.com\"]").and_then(|value| {
        let expected = "at least one name, such as [\"db.example.com\", \"*.example.com\"]";
        let items = value.array(MAX_LIST, expected)?;
        if items.is_empty() {
            value.report(Finding::error(&value.spot, "no connection is for none").expected(expected));
        }
        let host = |item: &Value<'_>| item.parse("a host, such as \"db.example.com\"", value::host_pattern);
        Some(items.iter().filter_map(host).collect())
    });
    let cluster = table.require("cluster", "the name of a [[cluster]]");
    let cluster = cluster.and_then(|value| reference(&value, "cluster", &mut references.clusters));
    table.finish();
    Some(SniRoute { hosts: hosts?, cluster: cluster? })
}

/// Who may name clients that are not there must be somebody in particular.
fn proxy_protocol(value: &Value<'_>, trusted: &[ipnet::IpNet]) -> Option<ProxyProtocol> {
    let words = [("off", ProxyProtocol::Off), ("accept", ProxyProtocol::Accept), ("require", ProxyProtocol::Require)];
    let wanted = value.word(&words)?;
    if wanted == ProxyProtocol::Accept && trusted.is_empty() {
        let finding = Finding::error(&value.spot, "it is accepted from nobody: there are no `trusted_proxies`");
        value.report(finding.expected("`trusted_proxies` beside it, or \"require\" where only proxies connect"));
    }
    Some(wanted)
}

fn networks(value: &Value<'_>) -> Vec<ipnet::IpNet> {
    let expected = "IP networks, such as [\"10.0.0.0/8\", \"::1\"]";
    let items = value.array(MAX_LIST, expected).unwrap_or_default();
    items.iter().filter_map(|item| item.parse("an IP network, such as \"10.0.0.0/8\"", value::network)).collect()
}

fn default_limits(is_http: bool) -> ListenerLimits {
    let limits = ListenerLimits::default();
    if is_http { limits } else { ListenerLimits { idle_timeout: TCP_IDLE_TIMEOUT, ..limits } }
}

fn limits_of(table: Table<'_>, is_http: bool) -> ListenerLimits {
    let mut limits = default_limits(is_http);
    if let Some(connections) = table.take("connections").and_then(|value| value.integer(1..=MAX_CONNECTIONS)) {
        limits.connections = connections as usize;
    }
    if let Some(value) = table.take("connections_per_client") {
        limits.connections_per_client = value.integer(1..=MAX_CONNECTIONS);
    }
    if is_http {
        http_limits(&table, &mut limits);
    }
    let times: [(&'static str, &mut Duration); 2] =
        [("header_timeout", &mut limits.header_timeout), ("idle_timeout", &mut limits.idle_timeout)];
    for (key, time) in times {
        if let Some(read) = table.take(key).and_then(|value| duration(&value, SOME_TIME)) {
            *time = read;
        }
    }
    table.finish();
    limits
}

fn http_limits(table: &Table<'_>, limits: &mut ListenerLimits) {
    if let Some(bytes) = table.take("header_bytes").and_then(|value| header_bytes(&value)) {
        limits.header_bytes = bytes;
    }
    if let Some(headers) = table.take("headers").and_then(|value| value.integer(1..=1_000_u16)) {
        limits.headers = headers.into();
    }
    if let Some(value) = table.take("body") {
        limits.body = size(&value, 1..=1 << 40);
    }
    if let Some(value) = table.take("body_rate") {
        limits.body_rate = size(&value, 1..=1 << 30);
    }
    if let Some(streams) = table.take("concurrent_streams").and_then(|value| value.integer(1..=100_000_u32)) {
        limits.concurrent_streams = streams;
    }
    if let Some(requests) = table.take("requests_per_connection").and_then(|value| value.integer(0..=u32::MAX)) {
        limits.requests_per_connection = Some(requests.into()).filter(|requests| *requests > 0);
    }
}

fn header_bytes(value: &Value<'_>) -> Option<usize> {
    let bytes = size(value, 1..=*HEADER_BYTES.end())?;
    if bytes < *HEADER_BYTES.start() {
        let message = "the HTTP/1 parser needs a buffer of 8KiB or more";
        value.report(Finding::error(&value.spot, message).expected("a size from \"8KiB\" to \"1MiB\""));
        return None;
    }
    usize::try_from(bytes).ok()
}
