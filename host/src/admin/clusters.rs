//! `GET /v1/clusters` and `GET /v1/clusters/{c}`: endpoints as they are balanced over right now.

use std::time::Instant;

use http::StatusCode;
use serde_json::{Map, Value, json};
use witgate_core::{
    balance::Picker,
    config::{Algorithm, Balance, ScoreMode},
    endpoint::{Cause, Drainer, Endpoint, State},
};

use super::{
    reply::{self, ApiError, Reply},
    units::{age_ms, millis, number},
};
use crate::{control::Control, generation::Cluster, upstream::Circuit};

/// `{"generation", "clusters": [cluster]}`, in file order; each as [`show`] gives it.
pub(super) fn list(control: &Control) -> Reply {
    let generation = control.live.load();
    let now = Instant::now();
    let clusters: Vec<Value> = generation.clusters.iter().map(|cluster| one(cluster, now)).collect();
    reply::json(StatusCode::OK, &json!({ "generation": generation.serial, "clusters": clusters }))
}

/// `{"name", "balance", "scorer", "eligible", "panic", "circuit", "connect_timeout_ms", "endpoints": [{"address", "authority",
/// "zone", "priority", "state", "drained_by", "health", "complaint", "ejected", "ejections", "weight", "effective_weight",
/// "in_flight", "latency_ms", "success_rate", "requests", "failures", "available_ms"}]}`
pub(super) fn show(control: &Control, name: &str) -> Result<Reply, ApiError> {
    let generation = control.live.load();
    let index = generation.find_cluster(name).map_err(ApiError::not_found)?;
    Ok(reply::json(StatusCode::OK, &one(&generation.clusters[index], Instant::now())))
}

fn one(cluster: &Cluster, now: Instant) -> Value {
    let picker = cluster.picker(now);
    let endpoints: Vec<Value> =
        cluster.endpoints.iter().enumerate().map(|(index, e)| Value::Object(endpoint(e, picker, index, now))).collect();
    json!({
        "name": cluster.config.name,
        "balance": algorithm(&cluster.config.balance),
        "scorer": scorer(cluster, now),
        "eligible": picker.eligible_count(),
        "panic": picker.is_panicking(),
        "circuit": circuit(cluster),
        "connect_timeout_ms": millis(cluster.config.connect_timeout),
        "endpoints": endpoints,
    })
}

/// What is limited in the cluster, as it stands and at most: null where there is no limit.
fn circuit(cluster: &Cluster) -> Value {
    let limits = cluster.config.circuit;
    let counted = cluster.circuit.as_deref();
    let show = |now: Option<u32>, most: Option<u32>| most.map(|most| json!({ "now": now.unwrap_or(0), "max": most }));
    let waits = limits.max_connections.map(|_| limits.max_pending);
    json!({
        "connections": show(counted.and_then(Circuit::connections), limits.max_connections),
        "pending": show(counted.map(Circuit::pending), waits),
        "requests": show(counted.map(Circuit::requests), limits.max_requests),
        "retries": show(Some(cluster.retries.now()), limits.max_retries),
    })
}

/// The native algorithm's word; where a plugin scores, that of its fallback.
pub(super) fn algorithm(balance: &Balance) -> &'static str {
    let algorithm = match balance {
        Balance::Native(algorithm) | Balance::Plugin { fallback: algorithm, .. } => algorithm,
    };
    match algorithm {
        Algorithm::RoundRobin => "round-robin",
        Algorithm::LeastRequest => "least-request",
        Algorithm::PeakEwma => "peak-ewma",
        Algorithm::Random => "random",
        Algorithm::RingHash => "ring-hash",
        Algorithm::Maglev => "maglev",
    }
}

/// Who scores, how, and whether its word counts at present; null where no plugin does.
pub(super) fn scorer(cluster: &Cluster, now: Instant) -> Value {
    let (Some(scorer), Balance::Plugin { plugin, .. }) = (&cluster.scorer, &cluster.config.balance) else {
        return Value::Null;
    };
    let version = scorer.plugin.plugin.as_ref().map(|p| p.version());
    match &scorer.mode {
        ScoreMode::Pick { choices } => {
            json!({ "plugin": plugin, "version": version, "mode": "pick", "choices": choices })
        }
        ScoreMode::Weigh { interval, stale_after } => {
            let age = scorer.table.as_ref().map(|(_, made)| age_ms(*made, now));
            json!({
                "plugin": plugin,
                "version": version,
                "mode": "weigh",
                "interval_ms": millis(*interval),
                "stale_after_ms": millis(*stale_after),
                "table_age_ms": age,
                "table_in_use": age.is_some_and(|age| age <= millis(*stale_after)),
            })
        }
    }
}

/// One endpoint. `latency_ms` is 0 and `success_rate` 1 where nothing was measured yet.
pub(super) fn endpoint(endpoint: &Endpoint, picker: &Picker, index: usize, now: Instant) -> Map<String, Value> {
    let state = match endpoint.state() {
        State::Active => "active",
        State::Draining => "draining",
    };
    let ejected = endpoint.ejected_until().map(|until| {
        json!({
            "cause": endpoint.ejection_cause().map(Cause::word),
            "left_ms": millis(until.saturating_duration_since(now)),
        })
    });
    let shown = json!({
        "address": endpoint.address(),
        "authority": endpoint.authority(),
        "zone": endpoint.zone().as_deref(),
        "priority": endpoint.priority(),
        "state": state,
        "drained_by": endpoint.drained_by().map(Drainer::word).collect::<Vec<_>>(),
        "health": endpoint.health().word(),
        "complaint": endpoint.complaint(),
        "ejected": ejected,
        "ejections": endpoint.ejections(),
        "weight": endpoint.weight(),
        "effective_weight": number(picker.effective_weight(index).into(), 4),
        "in_flight": endpoint.in_flight(),
        "latency_ms": number(endpoint.latency_ms().into(), 3),
        "success_rate": number(endpoint.success_rate().into(), 4),
        "requests": endpoint.requests(),
        "failures": endpoint.failures(),
        "available_ms": age_ms(endpoint.available_since(), now),
    });
    match shown {
        Value::Object(shown) => shown,
        _ => Map::new(),
    }
}
