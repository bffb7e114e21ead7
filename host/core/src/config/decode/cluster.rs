//! `[[cluster]]`.

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    super::{
        endpoints::MAX_PRIORITY,
        model::{
            Algorithm, Balance, Circuit, Cluster, DEFAULT_MAX_PENDING, DEFAULT_OVERPROVISIONING, DEFAULT_PANIC_PERCENT,
            Endpoint, Outlier, Pool, Protocol, ProxyVersion, RetryBudget, ScoreMode,
        },
        reader::{Spot, Table, Value},
        references::{References, report_repeats},
        sink::Finding,
        value::{self, quoted},
    },
    MAX_MANY, PERCENT, SOME_TIME, duration, health, name, plugin_reference, route, time, tls, whole,
};

const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ALGORITHMS: [(&str, Algorithm); 6] = [
    ("round-robin", Algorithm::RoundRobin),
    ("least-request", Algorithm::LeastRequest),
    ("peak-ewma", Algorithm::PeakEwma),
    ("random", Algorithm::Random),
    ("ring-hash", Algorithm::RingHash),
    ("maglev", Algorithm::Maglev),
];
/// Zones of `zone_failover`.
const MAX_ZONES: usize = 64;
/// More than any machine has sockets for, or any cluster requests.
const MAX_AT_ONCE: u32 = 1_000_000;

pub(super) fn cluster<'a>(table: Table<'a>, base_dir: &Path, references: &mut References<'a>) -> Option<Cluster> {
    let name = name(&table, &mut references.clusters);
    let endpoints = table.require("endpoints", "a list, such as [{ address = \"10.0.3.11:8080\" }]; it may be empty");
    let endpoints = endpoints.map(|value| endpoints_of(&value)).unwrap_or_default();
    let balance = match table.take("balance") {
        None => Some(Balance::Native(Algorithm::default())),
        Some(value) => balance(&value, references),
    };
    let protocol = table.take("protocol").and_then(|value| {
        value.word(&[("http1", Protocol::Http1), ("http2", Protocol::Http2), ("auto", Protocol::Auto)])
    });
    let connect_timeout = time(&table, "connect_timeout", DEFAULT_CONNECT_TIMEOUT);
    let pool = table.table("pool", "{ idle = 32, idle_timeout = \"60s\" }").map(pool);
    let (pool, circuit) = pool.unwrap_or_default();
    let health = table.table("health", "{ http = { path = \"/healthz\" } }").and_then(health::health);
    let slow_start = table.table("slow_start", "{ window = \"30s\" }").and_then(health::slow_start);
    let outlier = table.take("outlier").and_then(|value| outlier(&value, endpoints.len()));
    let panic_percent = whole(&table, "panic_percent", PERCENT, DEFAULT_PANIC_PERCENT);
    let overprovisioning = table.take("overprovisioning").and_then(|value| value.number(1.0..=100.0));
    let (zone, zone_failover) = zones(&table);
    let hash_balance_factor = table.take("hash_balance_factor").and_then(|value| value.integer(101..=10_000_u32));
    let retry_budget = table.table("retry_budget", "{ percent = 20, min = 3 }").map(retry_budget);
    let tls = table.table("tls", "{}, or { ca = \"ca.pem\" }").map(|table| tls::client(table, base_dir));
    let proxy_protocol = table.take("proxy_protocol").and_then(|value| {
        let version = value.word(&[("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)]);
        references.proxied.extend(name.clone().map(|name| (name, value.spot)));
        version
    });
    table.finish();
    Some(Cluster {
        name: name?,
        endpoints,
        balance: balance?,
        connect_timeout,
        pool,
        health: health.map(Arc::new),
        outlier: outlier.map(Arc::new),
        slow_start,
        panic_percent,
        overprovisioning: overprovisioning.unwrap_or(DEFAULT_OVERPROVISIONING),
        zone,
        zone_failover,
        hash_balance_factor,
        retry_budget: retry_budget.unwrap_or_default(),
        circuit,
        tls: tls.map(Arc::new),
        proxy_protocol,
        protocol: protocol.unwrap_or_default(),
    })
}

fn zones(table: &Table<'_>) -> (Option<String>, Vec<String>) {
    let zone = |value: &Value<'_>| value.parse("a zone's name", value::name);
    let own = table.take("zone");
    let failover = table.take("zone_failover");
    if let (None, Some(failover)) = (&own, &failover) {
        let finding = Finding::error(&failover.spot, "it comes after `zone`, and there is none");
        failover.report(finding.expected("`zone`, the one that this proxy is in"));
    }
    let expected = "zones, such as [\"eu-1b\", \"eu-1c\"]";
    let others = failover.and_then(|value| value.array(MAX_ZONES, expected)).unwrap_or_default();
    (own.as_ref().and_then(zone), others.iter().filter_map(zone).collect())
}

fn retry_budget(table: Table<'_>) -> RetryBudget {
    let default = RetryBudget::default();
    let (percent, min) =
        (whole(&table, "percent", PERCENT, default.percent), whole(&table, "min", 0..=100_000, default.min));
    table.finish();
    RetryBudget { percent, min }
}

/// Warns where `max_ejection_percent` of the endpoints that are configured is less than one of them.
fn outlier(value: &Value<'_>, endpoints: usize) -> Option<Outlier> {
    let outlier = health::outlier(value.table("{ consecutive_5xx = 5, max_ejection_percent = 10 }")?);
    let allowed = endpoints * outlier.max_ejection_percent as usize / 100;
    if allowed == 0 && endpoints > 0 {
        let percent = outlier.max_ejection_percent;
        let message = format!("nothing is ever ejected: {percent} % of {endpoints} endpoints is less than one");
        let least = 100_usize.div_ceil(endpoints);
        let finding = Finding::warning(&value.spot, message);
        value.report(finding.expected(format!("`max_ejection_percent` of at least {least}")));
    }
    Some(outlier)
}

fn endpoints_of<'a>(value: &Value<'a>) -> Vec<Endpoint> {
    let expected = "endpoints, such as [{ address = \"10.0.3.11:8080\" }]";
    let items = value.array(MAX_MANY, expected).unwrap_or_default();
    let mut addresses = Vec::with_capacity(items.len());
    let endpoints = items.iter().filter_map(|item| endpoint(item, &mut addresses)).collect();
    report_repeats(value.sink, &addresses, |address| format!("another endpoint has the address {}", quoted(address)));
    endpoints
}

fn endpoint<'a>(value: &Value<'a>, addresses: &mut Vec<(String, Spot<'a>)>) -> Option<Endpoint> {
    let table = value.table("{ address = \"10.0.3.11:8080\", weight = 1, zone = \"…\", priority = 0 }")?;
    let expected = "HOST:PORT, where HOST is an IP address (IPv6 in brackets) or a DNS name";
    let address = table.require("address", "\"HOST:PORT\"").and_then(|value| {
        let address = value.parse(expected, value::endpoint_address)?;
        addresses.push((address.clone(), value.spot));
        Some(address)
    });
    let weight = route::weight(&table);
    let zone = table.take("zone").and_then(|value| value.parse("a zone's name", value::name));
    let priority = whole(&table, "priority", 0..=MAX_PRIORITY, 0);
    table.finish();
    Some(Endpoint { address: address?, weight: weight?, zone, priority })
}

fn balance<'a>(value: &Value<'a>, references: &mut References<'a>) -> Option<Balance> {
    let names: Vec<String> = ALGORITHMS.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let expected = format!("{} or {{ plugin = \"…\" }}", names.join(", "));
    if value.is_string() {
        return value.word_or(&ALGORITHMS, &expected, meant).map(Balance::Native);
    }
    let table = value.table(&expected)?;
    let plugin = table.require("plugin", "a plugin's name");
    let plugin = plugin.and_then(|value| plugin_reference(&value, &mut references.plugins));
    let mode = mode(&table);
    let fallback = match table.take("fallback") {
        None => Some(Algorithm::default()),
        Some(value) => value.word(&ALGORITHMS),
    };
    table.finish();
    Some(Balance::Plugin { plugin: plugin?, mode: mode?, fallback: fallback? })
}

/// What other proxies call it, or a plugin that was named without saying so.
fn meant(word: &str) -> Option<String> {
    let lower = word.to_ascii_lowercase().replace('_', "-");
    let native = match lower.as_str() {
        "rr" | "roundrobin" | "wrr" => "round-robin",
        "least-conn" | "leastconn" | "least-connections" | "p2c" => "least-request",
        "hash" | "ip-hash" | "consistent-hash" | "ketama" => "ring-hash",
        "rand" => "random",
        "ewma" | "peakewma" | "least-time" | "leasttime" => "peak-ewma",
        _ => return value::plugin_name(word).ok().map(|name| format!("{{ plugin = \"{name}\" }}")),
    };
    Some(format!("\"{native}\""))
}

fn mode(table: &Table<'_>) -> Option<ScoreMode> {
    let mode = table.take("mode");
    let pick = match &mode {
        None => Some(false),
        Some(value) => value.word(&[("weigh", false), ("pick", true)]),
    };
    let (interval, stale_after, choices) = (table.take("interval"), table.take("stale_after"), table.take("choices"));
    let pick = pick?;
    let (strangers, other) = if pick {
        (vec![("interval", &interval), ("stale_after", &stale_after)], "weigh")
    } else {
        (vec![("choices", &choices)], "pick")
    };
    for (key, value) in strangers.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
        let message = format!("`{key}` belongs to `mode = \"{other}\"`");
        value.report(Finding::error(&value.spot, message).expected(format!("no `{key}`, or that mode")));
    }
    if pick {
        let choices = choices.map_or(Some(2), |value| value.integer(2..=8_u8))?;
        return Some(ScoreMode::Pick { choices: choices.into() });
    }
    let interval = interval.map_or(Some(Duration::from_millis(100)), |value| {
        duration(&value, Duration::from_millis(10)..=Duration::from_secs(60))
    });
    let stale_spot = stale_after.as_ref().map(|value| value.spot.clone());
    let stale_after = stale_after.map_or(Some(Duration::from_secs(1)), |value| duration(&value, SOME_TIME));
    let (interval, stale_after) = (interval?, stale_after?);
    if stale_after < interval {
        let spot = stale_spot.unwrap_or_else(|| table.spot.clone());
        let message = "every table of scores would be stale: `stale_after` is shorter than `interval`";
        let expected = format!("`stale_after` of at least \"{}\"", value::show_duration(interval));
        table.sink.report(Finding::error(&spot, message).expected(expected));
    }
    Some(ScoreMode::Weigh { interval, stale_after })
}

fn pool(table: Table<'_>) -> (Pool, Circuit) {
    let mut pool = Pool::default();
    if let Some(idle) = table.take("idle").and_then(|value| value.integer(0..=10_000_u16)) {
        pool.idle = idle.into();
    }
    if let Some(timeout) = table.take("idle_timeout").and_then(|value| duration(&value, SOME_TIME)) {
        pool.idle_timeout = timeout;
    }
    let most = |key, least| table.take(key).and_then(|value| value.integer(least..=MAX_AT_ONCE));
    let max_connections = most("max_connections", 1);
    let max_pending = table.take("max_pending");
    if let (Some(value), None) = (&max_pending, max_connections) {
        let message = "nothing ever waits: there is no `max_connections`";
        value.report(Finding::warning(&value.spot, message).expected("`max_connections` beside it"));
    }
    let max_pending = max_pending.and_then(|value| value.integer(0..=MAX_AT_ONCE)).unwrap_or(DEFAULT_MAX_PENDING);
    let (max_requests, max_retries) = (most("max_requests", 1), most("max_retries", 0));
    table.finish();
    (pool, Circuit { max_connections, max_pending, max_requests, max_retries })
}
