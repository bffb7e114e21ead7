//! Plugins: what is stored, what is live and how it does; activation, rollback and removal.

use std::time::Instant;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use witgate_core::{config::Isolation, rollout::CircuitState};
use witgate_policy::{Active, Failure, Plugin, Question, QuestionStats, VersionInfo};

use super::{
    query,
    reply::{self, ApiError, Reply},
    serve::Call,
    units::{micros, millis},
};
use crate::control::{Control, Versions};

/// Digits of a SHA-256 that are enough to name a version.
const PREFIX: usize = 6;

/// `{"plugins": [plugin]}`, by name; each as [`show`] gives it.
pub(super) fn list(control: &Control) -> Reply {
    let now = Instant::now();
    let plugins: Vec<Value> = control.plugins().iter().map(|(name, versions)| one(name, versions, now)).collect();
    reply::json(StatusCode::OK, &json!({ "plugins": plugins }))
}

/// `{"name", "active", "previous", "versions": [{"version", "sha256", "size_bytes", "stored_at", "active"}], "broken",
/// "warnings", "live"}`; for `live` see [`live`].
pub(super) fn show(control: &Control, name: &str) -> Result<Reply, ApiError> {
    let versions = find(control, name)?;
    Ok(reply::json(StatusCode::OK, &one(name, &versions, Instant::now())))
}

fn find(control: &Control, name: &str) -> Result<Versions, ApiError> {
    let mut all = control.plugins();
    all.remove(name).ok_or_else(|| {
        let known: Vec<&str> = all.keys().map(String::as_str).collect();
        ApiError::not_found(format!("there is no plugin {name:?}; there are: {}", list_or_none(&known)))
    })
}

/// Its stored versions; none of a plugin that is only configured.
fn stored(plugin: &Versions) -> (Active, &[VersionInfo]) {
    (plugin.stored.active, plugin.stored.versions.as_slice())
}

fn list_or_none(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn one(name: &str, plugin: &Versions, now: Instant) -> Value {
    let (active, versions) = stored(plugin);
    let versions: Vec<Value> =
        versions.iter().map(|info| version(info, active.version == Some(info.version))).collect();
    let slot = plugin.slot.as_ref();
    json!({
        "name": name,
        "active": active.version,
        "previous": active.previous,
        "versions": versions,
        "broken": slot.and_then(|slot| slot.broken.as_deref()),
        "warnings": plugin.warnings,
        "live": slot.and_then(|slot| slot.live.as_deref()).map(|plugin| live(plugin, now)),
    })
}

fn version(info: &VersionInfo, active: bool) -> Value {
    json!({
        "version": info.version,
        "sha256": info.sha256,
        "size_bytes": info.size,
        "stored_at": info.stored_at,
        "active": active,
    })
}

/// The version that answers, with what it did since the process started: `{"version", "sha256", "exports", "imports",
/// "reads", "isolation", "budget", "circuit", "calls", "fallbacks", "traps", "p50_us", "p99_us", "memory_bytes",
/// "spares", "questions": {"router": {"calls", "fallbacks": {"trap": n}, "p50_us", "p99_us"}}}`. The top p50 and p99
/// are those of the question that was asked most.
fn live(plugin: &Plugin, now: Instant) -> Value {
    let settings = plugin.settings();
    let questions: Vec<(Question, QuestionStats)> = Question::ALL
        .into_iter()
        .filter(|question| plugin.exports().answers(*question))
        .map(|question| (question, plugin.stats().question(question)))
        .collect();
    let traps = |stats: &QuestionStats| stats.fallbacks[Failure::Trap(String::new()).kind()];
    let main = questions.iter().max_by_key(|(_, stats)| stats.calls).map(|(_, stats)| stats);
    let isolation = match settings.isolation {
        Isolation::Worker => "worker",
        Isolation::Request => "request",
    };
    json!({
        "version": plugin.version(),
        "sha256": plugin.code().hex(),
        "exports": plugin.exports().names(),
        "imports": plugin.code().imports,
        "reads": plugin.manifest().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "isolation": isolation,
        "budget": { "time_us": micros(settings.budget.time), "memory_bytes": settings.budget.memory },
        "circuit": circuit(plugin.circuit_state(), now),
        "calls": questions.iter().map(|(_, stats)| stats.calls).sum::<u64>(),
        "fallbacks": questions.iter().map(|(_, stats)| stats.all_fallbacks()).sum::<u64>(),
        "traps": questions.iter().map(|(_, stats)| traps(stats)).sum::<u64>(),
        "p50_us": main.and_then(|stats| quantile(stats, 0.5)),
        "p99_us": main.and_then(|stats| quantile(stats, 0.99)),
        "memory_bytes": plugin.stats().memory(),
        "spares": plugin.spares(),
        "questions": questions
            .iter()
            .map(|(question, stats)| (question.name().to_owned(), answered(stats)))
            .collect::<Map<String, Value>>(),
    })
}

/// One question's counters; of the fallbacks only the reasons that there were.
fn answered(stats: &QuestionStats) -> Value {
    let fallbacks: Map<String, Value> = Failure::KINDS
        .iter()
        .zip(stats.fallbacks)
        .filter(|(_, n)| *n > 0)
        .map(|(kind, n)| ((*kind).to_owned(), n.into()))
        .collect();
    json!({
        "calls": stats.calls,
        "fallbacks": fallbacks,
        "p50_us": quantile(stats, 0.5),
        "p99_us": quantile(stats, 0.99),
    })
}

/// Null where nothing was asked.
fn quantile(stats: &QuestionStats, share: f64) -> Option<Value> {
    (stats.calls > 0).then(|| micros(stats.quantile(share)))
}

/// `{"state": "closed" | "open" | "probation", "retry_in_ms"}`; open: quarantined, native answers only.
fn circuit(state: CircuitState, now: Instant) -> Value {
    match state {
        CircuitState::Closed => json!({ "state": "closed" }),
        CircuitState::Open { until } => {
            json!({ "state": "open", "retry_in_ms": millis(until.saturating_duration_since(now)) })
        }
        CircuitState::Probation => json!({ "state": "probation" }),
    }
}

/// A version as a request names it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Wanted {
    Number(u32),
    Digest(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Activate {
    version: Wanted,
}

const ACTIVATE: &str = r#"{"version": 2} or {"version": "3f5a9c"} (the start of its sha256)"#;

/// `POST /v1/plugins/{name}/activate`: 200 once new requests ask it.
pub(super) async fn activate(call: Call, name: String) -> Result<Reply, ApiError> {
    let desk = call.desk.clone();
    let change = call.change("activate", name.clone());
    let wanted: Activate = call.sent().json(ACTIVATE).await?;
    let version = resolve(&name, &wanted.version, stored(&find(&desk.control, &name)?).1)?;
    let permit = desk.change_permit().await?;
    change.run(&desk.control, permit, move |control, name| control.activate(name, version).map(|()| version)).await?;
    show(&desk.control, &name)
}

/// `POST /v1/plugins/{name}/rollback`: 200 once new requests ask the version before.
pub(super) async fn rollback(call: Call, name: String) -> Result<Reply, ApiError> {
    find(&call.desk.control, &name)?;
    let permit = call.desk.change_permit().await?;
    call.change("rollback", name.clone()).run(&call.desk.control, permit, Control::rollback).await?;
    show(&call.desk.control, &name)
}

/// `DELETE /v1/plugins/{name}[?force=true]`: `{"name", "removed": [version]}`.
pub(super) async fn remove(call: Call, name: String) -> Result<Reply, ApiError> {
    let [force] = query::switches(call.head.uri.query(), ["force"])?;
    let versions: Vec<u32> = stored(&find(&call.desk.control, &name)?).1.iter().map(|info| info.version).collect();
    let permit = call.desk.change_permit().await?;
    let change = call.change("remove", name.clone());
    change.run(&call.desk.control, permit, move |control, name| control.remove(name, force)).await?;
    Ok(reply::json(StatusCode::OK, &json!({ "name": name, "removed": versions })))
}

fn resolve(name: &str, wanted: &Wanted, versions: &[VersionInfo]) -> Result<u32, ApiError> {
    let digest = match wanted {
        Wanted::Number(version) => return Ok(*version),
        Wanted::Digest(digest) => digest.to_ascii_lowercase(),
    };
    if digest.len() < PREFIX || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
        let error =
            format!("version {digest:?}: expected a number, or at least {PREFIX} hexadecimal digits of a sha256");
        return Err(ApiError::bad_request(error));
    }
    let found: Vec<u32> = versions.iter().filter(|v| v.sha256.starts_with(&digest)).map(|v| v.version).collect();
    match found.as_slice() {
        [version] => Ok(*version),
        [] => Err(ApiError::not_found(format!("plugin {name:?} has no version whose sha256 begins with {digest}"))),
        many => Err(ApiError::new(
            StatusCode::CONFLICT,
            format!("the sha256 of several versions of plugin {name:?} begins with {digest}: {many:?}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[track_caller]
    fn check(body: &str, want: Result<u32, u16>) {
        let info = |version, sha256: &str| VersionInfo { version, sha256: sha256.into(), size: 1, stored_at: 0 };
        let versions = [info(1, "abcdef01"), info(2, "abcdef02"), info(3, "0123456789")];
        let wanted: Activate = serde_json::from_str(body).unwrap();
        let got = resolve("p", &wanted.version, &versions).map_err(|error| error.status.as_u16());
        assert_eq!(got, want, "{body}");
    }

    #[test]
    fn a_version_is_a_number_or_the_start_of_a_digest() {
        check(r#"{"version": 7}"#, Ok(7));
        check(r#"{"version": "012345"}"#, Ok(3));
        check(r#"{"version": "ABCDEF02"}"#, Ok(2));
        check(r#"{"version": "abcdef"}"#, Err(409));
        check(r#"{"version": "abcde"}"#, Err(400));
        check(r#"{"version": "v1.2.3"}"#, Err(400));
        check(r#"{"version": "ffffff"}"#, Err(404));
        for body in [r#"{"version": -1}"#, r#"{"version": 99999999999}"#, "{}", r#"{"version": 1, "x": 2}"#] {
            assert!(serde_json::from_str::<Activate>(body).is_err(), "{body}");
        }
    }

    #[test]
    fn a_circuit_says_when_it_is_tried_again() {
        let now = Instant::now();
        let open = CircuitState::Open { until: now + Duration::from_millis(1500) };
        assert_eq!(circuit(open, now).to_string(), r#"{"retry_in_ms":1500,"state":"open"}"#);
        assert_eq!(circuit(CircuitState::Closed, now).to_string(), r#"{"state":"closed"}"#);
    }
}
