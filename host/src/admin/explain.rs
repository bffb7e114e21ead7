//! `POST /v1/explain`: a made-up request goes through the same decisions as a real one, and each is shown. Sends
//! nothing anywhere. What it does leave behind: plugins count its questions, and round-robin moves on by one.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    rc::Rc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::BodyExt;
use serde::Deserialize;
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

/// Candidates that are shown of a cluster, and that a scoring plugin is asked about.
const CANDIDATES: usize = 64;

/// Headers of a made-up request.
const HEADERS: usize = 100;

/// A plugin that was swapped in a moment ago may have no instance to spare for an explanation yet.
const TRIES: usize = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(25);

/// The made-up request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    method: String,
    /// With the query.
    path: String,
    host: Option<String>,
    headers: BTreeMap<String, Values>,
    client: IpAddr,
    /// Default: the first one.
    listener: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Many(Vec<String>),
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            host: None,
            headers: BTreeMap::new(),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            listener: None,
        }
    }
}

const EXAMPLE: &str = r#"{"method": "GET", "path": "/api/x?q=1", "host": "api.example.com", "headers": {"cookie": "uid=7"}, "client": "203.0.113.7"}"#;

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

impl Wanted {
    fn head(&self) -> Result<Head, ApiError> {
        let bad = |what: String| ApiError::bad_request(what).with("expected", EXAMPLE);
        let method = Method::from_bytes(self.method.as_bytes())
            .map_err(|_| bad(format!("method {:?} is not an HTTP method", self.method)))?;
        if !self.path.starts_with('/') {
            return Err(bad(format!("path {:?} does not begin with \"/\"; a host goes into \"host\"", self.path)));
        }
        let uri: Uri = self.path.parse().map_err(|error| bad(format!("path {:?}: {error}", self.path)))?;
        let mut headers = HeaderMap::new();
        let each = self.headers.iter().flat_map(|(name, values)| match values {
            Values::One(value) => vec![(name, value)],
            Values::Many(values) => values.iter().map(|value| (name, value)).collect(),
        });
        for (name, value) in each {
            if headers.len() == HEADERS {
                return Err(bad(format!("there are more than {HEADERS} headers")));
            }
            let key = HeaderName::try_from(name).map_err(|_| bad(format!("{name:?} is not a header name")))?;
            let value =
                HeaderValue::try_from(value).map_err(|_| bad(format!("header {name:?}: not a header value")))?;
            headers.append(key, value);
        }
        if let Some(host) = &self.host {
            let value = HeaderValue::try_from(host).map_err(|_| bad(format!("{host:?} is not a host")))?;
            headers.insert(header::HOST, value);
        }
        Ok(Head { method, uri, headers, client: self.client, ..Head::default() })
    }

    fn listener(&self, generation: &Generation) -> Result<usize, ApiError> {
        let Some(wanted) = &self.listener else { return Ok(0) };
        let listeners = &generation.config.listeners;
        listeners.iter().position(|l| l.name == *wanted).ok_or_else(|| {
            let known: Vec<&str> = listeners.iter().map(|l| l.name.as_str()).collect();
            ApiError::bad_request(format!("there is no listener {wanted:?}; there are: {}", known.join(", ")))
        })
    }
}

/// Refuses what the data path refuses before anything is decided (`proxy::headers`, and the parser for lengths): of such a
/// request there is nothing to explain. A request without `Host` is taken here, as nobody needs one to ask.
fn sound(head: &Head) -> Result<(), ApiError> {
    let refused = |reason: Reason, why: &str| {
        let (status, word) = (reason.status().as_u16(), reason.word());
        let error = format!("the proxy refuses such a request with {status} ({word}): {why}");
        Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, error).with("reason", word))
    };
    let bad = |why| refused(Reason::BadRequest, why);
    if head.method == Method::CONNECT {
        return refused(Reason::MethodNotAllowed, "CONNECT asks for a tunnel, and there are none");
    }
    if head.uri.path() == "*" && head.method != Method::OPTIONS {
        return bad("only OPTIONS may ask for `*`");
    }
    if !proxy::expects_to_continue(&head.headers) {
        return refused(Reason::ExpectationFailed, "its Expect says something else than 100-continue");
    }
    let all = |name| head.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    match all(header::HOST).as_slice() {
        [] => {}
        [host] if proxy::host_is_sound(host) => {}
        [_] => return bad("its host is not of the form NAME or NAME:PORT"),
        _ => return bad("it has more than one host"),
    }
    let lengths = all(header::CONTENT_LENGTH);
    let is_length = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if !lengths.iter().all(|length| is_length(length) && *length == lengths[0]) {
        return bad("its Content-Length is not a number, or there are several");
    }
    if !head.headers.contains_key(header::TRANSFER_ENCODING) {
        return Ok(());
    }
    if !lengths.is_empty() {
        return bad("it has both Content-Length and Transfer-Encoding (RFC 9112 §6.1)");
    }
    if proxy::is_chunked_only(&head.headers) {
        Ok(())
    } else {
        bad("its Transfer-Encoding is not \"chunked\" and nothing else")
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
    use super::*;

    fn wanted(body: &str) -> Wanted {
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn a_request_is_made_of_what_was_sent_and_defaults() {
        let head = wanted(EXAMPLE).head().unwrap();
        assert_eq!((head.path(), head.query_string(), head.host()), ("/api/x", Some("q=1"), "api.example.com"));
        assert_eq!((head.cookie("uid"), head.client.to_string().as_str()), (Some("7"), "203.0.113.7"));
        let head = wanted(r#"{"headers": {"x-a": ["1", "2"], "host": "h"}}"#).head().unwrap();
        assert_eq!((head.method, head.uri.path(), head.headers.len()), (Method::GET, "/", 3));
    }

    #[track_caller]
    fn check(body: &str, part: &str) {
        let error = wanted(body).head().unwrap_err();
        assert_eq!(error.status, StatusCode::BAD_REQUEST);
        assert!(error.message().contains(part), "{body}: {}", error.message());
    }

    #[test]
    fn a_request_that_cannot_be_is_refused() {
        check(r#"{"method": "G ET"}"#, "not an HTTP method");
        check(r#"{"path": "http://x/"}"#, "does not begin");
        check(r#"{"path": "/a b"}"#, "/a b");
        check(r#"{"headers": {"a b": "x"}}"#, "not a header name");
        check(r#"{"headers": {"a": "x\ny"}}"#, "not a header value");
        check(r#"{"host": "a\u0000"}"#, "not a host");
        for body in [r#"{"paht": "/"}"#, r#"{"client": "nobody"}"#, r#"{"headers": {"a": 1}}"#] {
            assert!(serde_json::from_str::<Wanted>(body).is_err(), "{body}");
        }
    }

    #[test]
    fn a_request_that_the_data_path_refuses_is_refused() {
        let check = |body: &str, want: Result<(), &str>| {
            let got = sound(&wanted(body).head().unwrap());
            match (&got, want) {
                (Ok(()), Ok(())) => {}
                (Err(error), Err(part)) => {
                    assert_eq!(error.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
                    assert!(error.message().contains(part), "{body}: {}", error.message());
                }
                _ => panic!("{body}: {got:?}, want {want:?}"),
            }
        };
        for fine in [
            r#"{}"#,
            r#"{"host": "a.test:8080"}"#,
            r#"{"host": "[::1]:80"}"#,
            r#"{"headers": {"transfer-encoding": "Chunked"}}"#,
            r#"{"headers": {"content-length": ["3", "3"]}}"#,
        ] {
            check(fine, Ok(()));
        }
        check(r#"{"method": "CONNECT"}"#, Err("405 (method-not-allowed)"));
        check(r#"{"headers": {"expect": "foo"}}"#, Err("417 (expectation-failed)"));
        for host in ["a b", "u@a", "a/b", "a,b", r"a\\b"] {
            check(&format!(r#"{{"host": "{host}"}}"#), Err("NAME:PORT"));
        }
        check(r#"{"headers": {"host": ["a", "b"]}}"#, Err("more than one host"));
        check(r#"{"headers": {"content-length": "3", "transfer-encoding": "chunked"}}"#, Err("400 (bad-request)"));
        check(r#"{"headers": {"content-length": ["3", "4"]}}"#, Err("there are several"));
        check(r#"{"headers": {"content-length": "+3"}}"#, Err("not a number"));
        check(r#"{"headers": {"transfer-encoding": "gzip, chunked"}}"#, Err("nothing else"));
        check(r#"{"headers": {"transfer-encoding": ["chunked", "chunked"]}}"#, Err("nothing else"));
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
