//! `POST /v1/explain`: a made-up request goes through the same decisions as a real one, and each is shown. Sends
//! nothing anywhere. What it does leave behind: plugins count its questions, and round-robin moves on by one.

mod wanted;

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use witgate_core::{config::ScoreMode, request::Head};
use witgate_policy::{Failure, Instances};

use super::{
    access::Right,
    clusters,
    reply::{self, ApiError, Reply},
    serve::{Call, Desk},
    unasked::{self, Came},
    units::{micros, number},
};
use crate::{
    generation::{Cluster, Generation, Scorer},
    proxy::{
        self,
        ask::{self, Asked, Asker},
        choose,
        decide::{self, Forward, Plan},
    },
    reason::Reason,
    scores,
};
use wanted::{EXAMPLE, Wanted, sound};

/// Candidates that are shown of a cluster, and that a scoring plugin is asked about.
const CANDIDATES: usize = 64;

/// A plugin that was swapped in a moment ago may have no instance to spare for an explanation yet.
const TRIES: usize = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(25);

/// `{"generation", "listener", "request", "route", "questions", "headers_set", "headers_removed", "outcome": "forward" |
/// "reply" | "error", …}`; with `forward`: `cluster`, `affinity`, `balance`, `scorer`, `candidates`, `picked`; with
/// `reply`: `reply`; with `error`: `status` and `reason`, as the response's `x-witgate-error` would have it.
pub(super) async fn explain(call: Call) -> Result<Reply, ApiError> {
    let (desk, right) = (Rc::clone(&call.desk), call.right);
    let wanted: Wanted = call.sent().json(EXAMPLE).await?;
    let head = wanted.head()?;
    sound(&head)?;
    let generation = desk.control.live.load();
    let listener = wanted.listener(&generation)?;
    let mut tries = 0;
    loop {
        let decided = decide(&desk, &generation, listener, Box::new(head.clone()));
        tries += 1;
        if tries == TRIES || !decided.wanted_an_instance() {
            let mut shown = decided.show(&generation, listener, &head).await;
            if right == Right::Read {
                hide_values(&mut shown);
            }
            return Ok(reply::json(StatusCode::OK, &shown));
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
}

/// Of headers that a plugin sets, values may be secrets that endpoints ask for.
fn hide_values(shown: &mut Value) {
    if let Some(set) = shown.get_mut("headers_set").and_then(Value::as_object_mut) {
        set.values_mut().for_each(|value| *value = Value::Null);
    }
}

/// Lets go of instances of plugins that are no longer live.
pub(super) async fn forget_old_plugins(desk: Rc<Desk>) {
    let mut changed = desk.control.live.subscribe();
    while changed.changed().await.is_ok() {
        desk.instances.borrow_mut().sweep();
    }
}

/// What came of a made-up request.
struct Decided {
    /// The head as plugins left it.
    head: Box<Head>,
    /// Its index and its name.
    route: Option<(usize, String)>,
    asked: Vec<Asked>,
    outcome: Outcome,
}

enum Outcome {
    Reply(Box<http::Response<proxy::Body>>),
    Error(Reason),
    Forward(Forward, Picked),
}

/// Which endpoint, and what a scoring plugin says of all that are shown.
struct Picked {
    endpoint: Result<usize, Reason>,
    scores: Vec<Option<f32>>,
}

/// Everything that the data path decides, in the same order, but for rate limits: to ask takes no token. Synchronous, as
/// there: one generation, no other task in between.
fn decide(desk: &Desk, generation: &Generation, listener: usize, mut head: Box<Head>) -> Decided {
    let route = generation.routes.table.find(listener, &head);
    let mut instances = desk.instances.borrow_mut();
    let mut asked = Vec::new();
    let random = || getrandom::u64().unwrap_or_default();
    let mut asker = Asker::new(&mut instances, Instant::now(), &random).recording(&mut asked);
    let plan = route.ok_or(Reason::NoRoute).and_then(|route| decide::plan(generation, &mut asker, route, &mut head));
    let outcome = match plan {
        Err(reason) => Outcome::Error(reason),
        Ok(Plan::Reply(response)) => Outcome::Reply(response),
        Ok(Plan::Forward(forward)) => match generation.clusters.get(forward.cluster) {
            None => Outcome::Error(Reason::NoHealthyEndpoint),
            Some(cluster) => {
                let endpoint = choose(cluster, &forward, &mut asker, &mut head);
                let scores = scores(cluster, &mut instances, &random, &mut head);
                Outcome::Forward(forward, Picked { endpoint, scores })
            }
        },
    };
    let route = route.and_then(|index| Some((index, generation.routes.plans.get(index)?.name.to_string())));
    Decided { head, route, asked, outcome }
}

/// What a plugin that scores per request says of each endpoint that is shown. A real request has it asked about a few
/// that were drawn, which is what `choose` did.
fn scores(
    cluster: &Cluster,
    instances: &mut Instances,
    random: &dyn Fn() -> u64,
    head: &mut Box<Head>,
) -> Vec<Option<f32>> {
    let shown = cluster.endpoints.len().min(CANDIDATES);
    let Some(Scorer { plugin, mode: ScoreMode::Pick { .. }, salt, .. }) = &cluster.scorer else {
        return vec![None; shown];
    };
    let now = Instant::now();
    let columns = scores::columns(*salt, cluster.endpoints.iter().take(shown), now);
    match ask::picker(&mut Asker::new(instances, now, random), plugin, head, &columns) {
        Ok(Some(scores)) => scores.into_iter().map(Some).collect(),
        _ => vec![None; shown],
    }
}

impl Decided {
    fn wanted_an_instance(&self) -> bool {
        let none = Failure::NoInstance.to_string();
        self.asked.iter().any(|asked| asked.fallback.as_ref() == Some(&none))
    }

    async fn show(self, generation: &Generation, listener: usize, before: &Head) -> Value {
        let (set, removed) = changes(&before.headers, &self.head.headers);
        let (index, route) = self.route.unzip();
        let came = match &self.outcome {
            Outcome::Reply(_) => Came::Answered,
            Outcome::Error(_) => Came::Failed,
            Outcome::Forward(forward, picked) => {
                Came::Picking { forward, failed: picked.endpoint.as_ref().err().copied() }
            }
        };
        let asked = match index {
            Some(index) => unasked::filled_in(generation, index, self.asked, &came),
            None => self.asked,
        };
        let mut shown = json!({
            "generation": generation.serial,
            "listener": generation.config.listeners.get(listener).map(|l| l.name.as_str()),
            "request": {
                "method": before.method.as_str(),
                "path": before.uri.to_string(),
                "host": before.host(),
                "client": before.client.to_string(),
            },
            "route": route,
            "questions": asked.iter().map(question).collect::<Vec<_>>(),
            "headers_set": set,
            "headers_removed": removed,
        });
        let more = match self.outcome {
            Outcome::Error(reason) => error(reason),
            Outcome::Reply(response) => json!({ "outcome": "reply", "reply": own_reply(*response).await }),
            Outcome::Forward(forward, picked) => forwarded(generation, &forward, &picked),
        };
        if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
            shown.extend(more);
        }
        shown
    }
}

fn error(reason: Reason) -> Value {
    json!({ "outcome": "error", "status": reason.status().as_u16(), "reason": reason.word() })
}

fn question(asked: &Asked) -> Value {
    json!({
        "question": asked.question.name(),
        "plugin": asked.plugin,
        "version": asked.version,
        "answer": asked.answer,
        "fallback": asked.fallback,
        "took_us": (!asked.took.is_zero()).then(|| micros(asked.took)),
    })
}

/// Headers that plugins set (with their new values) and removed.
fn changes(before: &HeaderMap, after: &HeaderMap) -> (Map<String, Value>, Vec<String>) {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let set = after
        .keys()
        .filter(|name| !after.get_all(*name).iter().eq(before.get_all(*name).iter()))
        .map(|name| {
            let values: Vec<String> = after.get_all(name).iter().map(text).collect();
            (name.to_string(), values.join(", ").into())
        })
        .collect();
    let removed = before.keys().filter(|name| !after.contains_key(*name)).map(ToString::to_string).collect();
    (set, removed)
}

/// A response that a plugin or the route itself gives.
async fn own_reply(response: http::Response<proxy::Body>) -> Value {
    let (head, body) = response.into_parts();
    let headers: Map<String, Value> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    json!({ "status": head.status.as_u16(), "headers": headers, "body": String::from_utf8_lossy(&body) })
}

fn forwarded(generation: &Generation, forward: &Forward, picked: &Picked) -> Value {
    let Some(cluster) = generation.clusters.get(forward.cluster) else { return error(Reason::NoHealthyEndpoint) };
    let now = Instant::now();
    let picker = cluster.picker(now);
    let total: f32 = (0..cluster.endpoints.len()).map(|index| picker.effective_weight(index)).sum();
    let candidates: Vec<Value> = picked
        .scores
        .iter()
        .zip(cluster.endpoints.iter())
        .enumerate()
        .map(|(index, (score, endpoint))| {
            let mut shown = clusters::endpoint(endpoint, picker, index, now);
            let share = if total > 0.0 { picker.effective_weight(index) / total } else { 0.0 };
            shown.insert("share".to_owned(), number(share.into(), 4));
            shown.insert("score".to_owned(), score.map_or(Value::Null, |score| number(score.into(), 4)));
            Value::Object(shown)
        })
        .collect();
    let mut shown = match &picked.endpoint {
        Err(reason) => error(*reason),
        Ok(index) => json!({
            "outcome": "forward",
            "picked": {
                "address": cluster.endpoints.get(*index).map(|e| e.address()),
                "by": picked_by(cluster, forward, *index),
            },
        }),
    };
    let more = json!({
        "cluster": cluster.config.name,
        "affinity": {
            "key_hash": forward.hash.map(|hash| format!("{hash:016x}")),
            "cookie_endpoint": forward.sticky.map(|id| {
                let named = cluster.endpoints.iter().find(|e| e.id() == id);
                named.map_or("gone", |e| e.address())
            }),
            "issues_cookie": forward.issue_for.is_some(),
            "set_cookie": forward.set_cookie.as_ref().map(|c| String::from_utf8_lossy(c.as_bytes()).into_owned()),
        },
        "balance": clusters::algorithm(&cluster.config.balance),
        "scorer": clusters::scorer(cluster, now),
        "candidates": candidates,
        "candidates_omitted": cluster.endpoints.len().saturating_sub(CANDIDATES),
    });
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        shown.extend(more);
    }
    shown
}

/// `cookie`, `affinity`, `scorer` or `balance`. By the last two another request may go elsewhere.
fn picked_by(cluster: &Cluster, forward: &Forward, index: usize) -> &'static str {
    let named = cluster.endpoints.get(index).map(|e| e.id());
    if forward.sticky.is_some() && forward.sticky == named {
        "cookie"
    } else if forward.hash.is_some() {
        "affinity"
    } else if cluster.scorer.is_some() {
        "scorer"
    } else {
        "balance"
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    #[test]
    fn who_only_reads_is_told_which_headers_are_set_and_not_to_what() {
        let mut shown = json!({"headers_set": {"authorization": "s3cret"}, "outcome": "forward"});
        hide_values(&mut shown);
        assert_eq!(shown, json!({"headers_set": {"authorization": null}, "outcome": "forward"}));
    }

    #[test]
    fn header_changes_are_told_apart() {
        let map = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
        };
        let (set, removed) =
            changes(&map(&[("a", "1"), ("b", "2"), ("c", "3")]), &map(&[("a", "1"), ("b", "4"), ("d", "5")]));
        assert_eq!(Value::Object(set).to_string(), r#"{"b":"4","d":"5"}"#);
        assert_eq!(removed, ["c"]);
    }
}
