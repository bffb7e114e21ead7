//! `health`, `outlier` and `slow_start` of a cluster.

use std::{ops::RangeInclusive, time::Duration};

use http::Method;

use super::{
    super::{
        model::{FailurePercentage, GrpcProbe, Health, HttpProbe, Latency, Outlier, Probe, SlowStart, SuccessRate},
        reader::{Table, Value},
        sink::Finding,
        value::{self, Bad, quoted},
    },
    MAX_LIST, PERCENT, SOME_TIME, duration, time, whole,
};

const PROBE: &str = "exactly one of `http` = { path = \"/healthz\" }, `tcp` = {} and `grpc` = {}";
/// Results in a row, of health checks and of responses.
const STREAK: RangeInclusive<u32> = 1..=1_000;
const STREAK_OR_OFF: RangeInclusive<u32> = 0..=100_000;
/// Bytes of `send` and `expect`, and of a body that is looked for.
const MAX_TEXT: usize = 4 << 10;

pub(super) fn health(table: Table<'_>) -> Option<Health> {
    let probe = probe(&table);
    let time = |key, default| time(&table, key, default);
    let interval = time("interval", Duration::from_secs(2));
    let timeout = time("timeout", Duration::from_secs(1));
    let (fast_interval, down_interval) = (time("fast_interval", interval), time("down_interval", interval));
    let (rise, fall) = (whole(&table, "rise", STREAK, 2), whole(&table, "fall", STREAK, 3));
    let jitter_percent = whole(&table, "jitter_percent", PERCENT, 10);
    table.finish();
    Some(Health { probe: probe?, interval, timeout, rise, fall, fast_interval, down_interval, jitter_percent })
}

fn probe(table: &Table<'_>) -> Option<Probe> {
    let kinds = ["http", "tcp", "grpc"].map(|kind| (kind, table.take(kind)));
    let given: Vec<_> = kinds.iter().filter_map(|(kind, value)| Some((*kind, value.as_ref()?))).collect();
    let message = match given[..] {
        [] => Some("nothing is asked of the endpoints".to_owned()),
        [_] => None,
        [(first, _), (second, _), ..] => Some(format!("`{first}` stands beside `{second}`")),
    };
    if let Some(message) = message {
        table.sink.report(Finding::absence(&table.spot, message).expected(PROBE));
    }
    let (kind, value) = given.first()?;
    match *kind {
        "http" => value.table("{ path = \"/healthz\", expect = [\"200-299\"] }").map(http_probe),
        "tcp" => value.table("{ send = \"…\", expect = \"…\" }").map(tcp_probe),
        _ => value.table("{ service = \"…\" }").map(grpc_probe),
    }
}

fn http_probe(table: Table<'_>) -> Probe {
    let method = table.take("method").and_then(|value| value.parse("a method, such as \"GET\"", value::method));
    let path = table.take("path").and_then(|value| value.parse("a path, such as \"/healthz?full\"", target));
    let host = table.take("host").and_then(|value| value.parse("a host, such as \"api.internal\"", value::host));
    let expect = table.take("expect").map(|value| expected(&value)).unwrap_or_else(|| vec![200..=299]);
    let drain = table.take("drain").map(|value| draining(&value, &expect)).unwrap_or_default();
    let expect_body = table.take("expect_body").and_then(|value| text(&value));
    table.finish();
    let (method, path) = (method.unwrap_or(Method::GET), path.unwrap_or_else(|| "/".to_owned()));
    Probe::Http(HttpProbe { method, path, host, expect, drain, expect_body })
}

fn tcp_probe(table: Table<'_>) -> Probe {
    let text = |key| table.take(key).and_then(|value| text(&value));
    let (send, expect) = (text("send"), text("expect"));
    table.finish();
    Probe::Tcp { send, expect }
}

fn grpc_probe(table: Table<'_>) -> Probe {
    let service = table.take("service").and_then(|value| value.parse("a service's name, or \"\"", service));
    let authority =
        table.take("authority").and_then(|value| value.parse("a host, such as \"api.internal\"", value::host));
    table.finish();
    Probe::Grpc(GrpcProbe { service: service.unwrap_or_default(), authority })
}

pub(super) fn outlier(table: Table<'_>) -> Outlier {
    let time = |key, seconds| time(&table, key, Duration::from_secs(seconds));
    let streak = |key, default| whole(&table, key, STREAK_OR_OFF, default);
    let base_ejection = time("base_ejection", 30);
    let max_ejection = table.take("max_ejection").and_then(|value| duration(&value, base_ejection..=*SOME_TIME.end()));
    let success_rate = table.table("success_rate", "{ stdev_factor = 1.9, min_hosts = 5, min_requests = 100 }");
    let failures = table.table("failure_percentage", "{ threshold = 85, min_hosts = 5, min_requests = 50 }");
    let latency = table.table("latency", "{ p99 = \"500ms\", factor = 3.0, min_hosts = 5, min_requests = 100 }");
    let outlier = Outlier {
        consecutive_5xx: streak("consecutive_5xx", 5),
        consecutive_gateway: streak("consecutive_gateway", 0),
        consecutive_local: streak("consecutive_local", 5),
        interval: time("interval", 10),
        base_ejection,
        max_ejection: max_ejection.unwrap_or(Duration::from_secs(300).max(base_ejection)),
        max_ejection_percent: whole(&table, "max_ejection_percent", PERCENT, 10),
        success_rate: success_rate.map(|table| {
            let stdev_factor = table.take("stdev_factor").and_then(|value| value.number(0.1..=100.0)).unwrap_or(1.9);
            let (min_hosts, min_requests) = volume(&table, 100);
            table.finish();
            SuccessRate { stdev_factor, min_hosts, min_requests }
        }),
        failure_percentage: failures.map(|table| {
            let threshold = whole(&table, "threshold", 1..=100, 85);
            let (min_hosts, min_requests) = volume(&table, 50);
            table.finish();
            FailurePercentage { threshold, min_hosts, min_requests }
        }),
        latency: latency.and_then(latency_rule),
    };
    table.finish();
    outlier
}

fn latency_rule(table: Table<'_>) -> Option<Latency> {
    let p99 = table.require("p99", "what is too slow, such as \"500ms\"");
    let p99 = p99.and_then(|value| duration(&value, Duration::from_millis(1)..=Duration::from_secs(60)));
    let factor = table.take("factor").and_then(|value| value.number(1.0..=100.0)).unwrap_or(3.0);
    let (min_hosts, min_requests) = volume(&table, 100);
    table.finish();
    Some(Latency { p99: p99?, factor, min_hosts, min_requests })
}

fn volume(table: &Table<'_>, requests: u32) -> (u32, u32) {
    (whole(table, "min_hosts", 1..=100_000, 5), whole(table, "min_requests", 1..=1_000_000, requests))
}

pub(super) fn slow_start(table: Table<'_>) -> Option<SlowStart> {
    let window = table.require("window", "how long it lasts, such as \"30s\"");
    let window = window.and_then(|value| duration(&value, Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60)));
    let aggression = table.take("aggression").and_then(|value| value.number(0.1..=10.0)).unwrap_or(1.0);
    let min_weight_percent = whole(&table, "min_weight_percent", 1..=100, 10);
    table.finish();
    Some(SlowStart { window: window?, aggression, min_weight_percent })
}

/// A text that is not empty, and not long.
fn text(value: &Value<'_>) -> Option<String> {
    value.parse("a text of 1 to 4096 bytes", |text| match text.len() {
        1..=MAX_TEXT => Ok(text.to_owned()),
        len => Err(Bad::new(format!("it is {len} bytes long"))),
    })
}

/// A request's target: a path and perhaps a query.
fn target(text: &str) -> Result<String, Bad> {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    value::path(path)?;
    match query.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
        Some(c) => Err(Bad::new(format!("{} has {c:?} in it, which no query has", quoted(text)))),
        None if text.is_ascii() => Ok(text.to_owned()),
        None => Err(Bad::new(format!("{} is not ASCII", quoted(text))).help("percent-encode it")),
    }
}

/// What a server calls one of its services: any text.
fn service(text: &str) -> Result<String, Bad> {
    match text.len() {
        0..=MAX_TEXT => Ok(text.to_owned()),
        len => Err(Bad::new(format!("it is {len} bytes long"))),
    }
}

const STATUSES: &str = "statuses, such as [\"200-299\", \"401\"]";
const RANGE: &str = "a status, or two with a hyphen between them";

fn expected(value: &Value<'_>) -> Vec<RangeInclusive<u16>> {
    let items = value.array(MAX_LIST, STATUSES).unwrap_or_default();
    if items.is_empty() {
        value.report(Finding::error(&value.spot, "no status is expected, so every check fails").expected(STATUSES));
    }
    items.iter().filter_map(|item| item.parse(RANGE, status)).collect()
}

/// Statuses that mean something else than those of a healthy endpoint.
fn draining(value: &Value<'_>, healthy: &[RangeInclusive<u16>]) -> Vec<RangeInclusive<u16>> {
    let items = value.array(MAX_LIST, "statuses, such as [\"503\"]").unwrap_or_default();
    let other = |text: &str| {
        let range = status(text)?;
        let both = healthy.iter().find(|other| range.start() <= other.end() && other.start() <= range.end());
        match both.map(|other| range.start().max(other.start())) {
            Some(both) => Err(Bad::new(format!("{both} is a status of a healthy endpoint"))),
            None => Ok(range),
        }
    };
    items.iter().filter_map(|item| item.parse(RANGE, other)).collect()
}

fn status(text: &str) -> Result<RangeInclusive<u16>, Bad> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (100..=599).contains(status));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(Bad::new(format!("{} is not a range of statuses from 100 to 599", quoted(text)))),
    }
}
