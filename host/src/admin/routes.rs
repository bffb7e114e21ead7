//! `GET /v1/routes`: what is matched, what is done, which plugin versions are asked, and what came of it.

use http::{HeaderName, StatusCode};
use serde_json::{Map, Value, json};
use witgate_core::config::{
    Action, Affinity, HeaderRules, HostPattern, Key, PathMatch, RateLimit, Retry, Rewrite, Route, ValueMatch,
};

use super::{
    reply::{self, Reply},
    units::{millis, number},
};
use crate::{
    control::Control,
    generation::{PluginRef, RoutePlan},
    telemetry::STATUS_CLASSES,
};

/// `{"generation", "routes": [{"name", "listeners", "match", "action", "affinity", "plugins", "timeout_ms",
/// "retry", "mirror", "upgrade", "rate_limit", "rewrite", "request_headers", "response_headers", "responses", "mean_ms"}]}`, in
/// file order.
pub(super) fn list(control: &Control) -> Reply {
    let generation = control.live.load();
    let routes: Vec<Value> =
        generation.config.routes.iter().zip(&generation.routes.plans).map(|(route, plan)| one(route, plan)).collect();
    reply::json(StatusCode::OK, &json!({ "generation": generation.serial, "routes": routes }))
}

fn one(route: &Route, plan: &RoutePlan) -> Value {
    let (responses, latency) = plan.metrics.view();
    let responses: Map<String, Value> =
        STATUS_CLASSES.iter().zip(responses).map(|(class, n)| ((*class).to_owned(), n.into())).collect();
    let count = latency.count();
    #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
    let mean = if count == 0 { Value::Null } else { number(latency.sum / count as f64 * 1e3, 3) };
    json!({
        "name": route.name,
        "listeners": route.listeners,
        "match": matches(route),
        "action": action(&route.action),
        "affinity": route.affinity.as_ref().map(affinity),
        "plugins": {
            "router": asked(route.plugins.router.as_deref(), plan.router.as_ref()),
            "splitter": asked(route.plugins.splitter.as_deref(), plan.splitter.as_ref()),
            "affinity": asked(route.plugins.affinity.as_deref(), plan.affinity_plugin.as_ref()),
        },
        "timeout_ms": route.timeout.map(millis),
        "retry": retry(&route.retry.unwrap_or_default()),
        "mirror": route.mirror.as_ref().map(|to| json!({ "cluster": to.cluster, "percent": number(to.percent, 4) })),
        "upgrade": route.upgrade,
        "rate_limit": route.rate_limit.as_ref().map(rate_limit),
        "rewrite": route.rewrite.as_ref().map(rewrite),
        "request_headers": header_rules(&route.request_headers),
        "response_headers": header_rules(&route.response_headers),
        "responses": responses,
        "mean_ms": mean,
    })
}

/// Only what the route asks for.
fn matches(route: &Route) -> Value {
    let mut wanted = Map::new();
    if !route.hosts.is_empty() {
        let hosts: Vec<String> = route.hosts.iter().map(host).collect();
        wanted.insert("hosts".to_owned(), hosts.into());
    }
    match &route.path {
        PathMatch::Any => {}
        PathMatch::Exact(path) => _ = wanted.insert("path".to_owned(), path.clone().into()),
        PathMatch::Prefix(prefix) => _ = wanted.insert("path_prefix".to_owned(), prefix.clone().into()),
        PathMatch::Regex(regex) => _ = wanted.insert("path_regex".to_owned(), regex.as_str().into()),
    }
    if !route.methods.is_empty() {
        let methods: Vec<&str> = route.methods.iter().map(http::Method::as_str).collect();
        wanted.insert("methods".to_owned(), methods.into());
    }
    values(&mut wanted, "headers", route.headers.iter().map(|(name, value)| (name.as_str(), value)));
    values(&mut wanted, "cookies", route.cookies.iter().map(|(name, value)| (name.as_str(), value)));
    values(&mut wanted, "query", route.query.iter().map(|(name, value)| (name.as_str(), value)));
    Value::Object(wanted)
}

fn host(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(host) => host.clone(),
        HostPattern::Suffix(suffix) => format!("*{suffix}"),
    }
}

fn values<'r>(wanted: &mut Map<String, Value>, kind: &str, all: impl Iterator<Item = (&'r str, &'r ValueMatch)>) {
    let all: Map<String, Value> = all
        .map(|(name, value)| {
            let value = match value {
                ValueMatch::Exact(text) => text.clone().into(),
                ValueMatch::Regex(regex) => json!({ "regex": regex.as_str() }),
                ValueMatch::Present(present) => json!({ "present": present }),
            };
            (name.to_owned(), value)
        })
        .collect();
    if !all.is_empty() {
        wanted.insert(kind.to_owned(), Value::Object(all));
    }
}

fn action(action: &Action) -> Value {
    match action {
        Action::Cluster(cluster) => json!({ "cluster": cluster }),
        Action::Split(split) => {
            let choices: Vec<Value> =
                split.choices.iter().map(|c| json!({ "cluster": c.cluster, "weight": c.weight })).collect();
            json!({ "split": choices, "split_by": split.by.iter().map(key).collect::<Vec<_>>() })
        }
        Action::Respond { status, body } => json!({ "respond": { "status": status.as_u16(), "body": body } }),
        Action::Redirect { status, location } => {
            json!({ "redirect": { "status": status.as_u16(), "location": location } })
        }
    }
}

fn retry(retry: &Retry) -> Value {
    let on = retry.on;
    let causes = [
        ("connect-failure", on.connect_failure),
        ("refused-stream", on.refused_stream),
        ("reset", on.reset),
        ("5xx", on.server_error),
        ("gateway-error", on.gateway_error),
    ];
    json!({
        "attempts": retry.attempts,
        "on": causes.iter().filter(|(_, on)| *on).map(|(cause, _)| *cause).collect::<Vec<_>>(),
        "per_try_timeout_ms": retry.per_try_timeout.map(millis),
        "backoff_ms": millis(retry.backoff),
        "hedge": retry.hedge,
    })
}

fn affinity(affinity: &Affinity) -> Value {
    match affinity {
        Affinity::By(keys) => json!({ "by": keys.iter().map(key).collect::<Vec<_>>() }),
        Affinity::Cookie { name, ttl } => json!({ "cookie": { "name": name, "ttl_ms": ttl.map(millis) } }),
    }
}

fn rate_limit(limit: &RateLimit) -> Value {
    let by: Vec<Value> = limit.by.iter().map(key).collect();
    json!({ "rate": limit.rate, "per_ms": millis(limit.per), "burst": limit.burst, "by": by })
}

fn rewrite(rewrite: &Rewrite) -> Value {
    let host = rewrite.host.as_ref().and_then(|host| host.to_str().ok());
    json!({ "path_prefix": rewrite.path_prefix, "host": host })
}

/// The names only: a value may be a secret that the proxy brings an endpoint.
fn header_rules(rules: &HeaderRules) -> Option<Value> {
    fn names<'n>(names: impl Iterator<Item = &'n HeaderName>) -> Vec<&'n str> {
        names.map(HeaderName::as_str).collect()
    }
    (!rules.is_empty()).then(|| {
        json!({
            "remove": names(rules.remove.iter()),
            "set": names(rules.set.iter().map(|(name, _)| name)),
            "add": names(rules.add.iter().map(|(name, _)| name)),
        })
    })
}

fn key(key: &Key) -> Value {
    match key {
        Key::Cookie(name) => json!({ "cookie": name }),
        Key::Header(name) => json!({ "header": name.as_str() }),
        Key::Query(name) => json!({ "query": name }),
        Key::ClientAddress => "client-address".into(),
    }
}

/// `{"plugin", "version"}`: version is null where native decisions stand because nothing usable is live.
fn asked(name: Option<&str>, plugin: Option<&PluginRef>) -> Option<Value> {
    let version = plugin.and_then(|p| p.plugin.as_ref()).map(|p| p.version());
    Some(json!({ "plugin": name?, "version": version }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use witgate_core::config::{RoutePlugins, Split, WeightedCluster};

    use super::*;

    fn route() -> Route {
        Route {
            name: "api".into(),
            listeners: None,
            hosts: vec![HostPattern::Exact("a.example".into()), HostPattern::Suffix(".b.example".into())],
            path: PathMatch::Prefix("/api/".into()),
            methods: vec![http::Method::GET],
            headers: vec![(http::header::ACCEPT, ValueMatch::Present(true))],
            cookies: Vec::new(),
            query: Vec::new(),
            action: Action::Split(Split {
                choices: vec![WeightedCluster { cluster: "one".into(), weight: 95 }],
                by: vec![Key::Cookie("uid".into()), Key::ClientAddress],
            }),
            affinity: Some(Affinity::Cookie { name: "wg".into(), ttl: Some(Duration::from_secs(3600)) }),
            plugins: RoutePlugins::default(),
            timeout: None,
            retry: None,
            rate_limit: Some(RateLimit {
                rate: 5,
                per: Duration::from_secs(60),
                burst: 2,
                by: vec![Key::ClientAddress],
            }),
            rewrite: Some(Rewrite { path_prefix: Some("/".into()), host: None }),
            request_headers: HeaderRules {
                set: vec![(http::header::AUTHORIZATION, http::HeaderValue::from_static("secret"))],
                ..HeaderRules::default()
            },
            response_headers: HeaderRules::default(),
            mirror: None,
            upgrade: Vec::new(),
        }
    }

    #[test]
    fn a_route_is_shown_as_it_is_configured() {
        let route = route();
        assert_eq!(
            matches(&route).to_string(),
            r#"{"headers":{"accept":{"present":true}},"hosts":["a.example","*.b.example"],"methods":["GET"],"path_prefix":"/api/"}"#
        );
        assert_eq!(
            action(&route.action).to_string(),
            r#"{"split":[{"cluster":"one","weight":95}],"split_by":[{"cookie":"uid"},"client-address"]}"#
        );
        let shown = route.affinity.as_ref().map(affinity).unwrap();
        assert_eq!(shown.to_string(), r#"{"cookie":{"name":"wg","ttl_ms":3600000}}"#);
        let shown = route.rate_limit.as_ref().map(rate_limit).unwrap();
        assert_eq!(shown, json!({ "rate": 5, "per_ms": 60_000, "burst": 2, "by": ["client-address"] }));
        let shown = route.rewrite.as_ref().map(rewrite).unwrap();
        assert_eq!(shown, json!({ "path_prefix": "/", "host": null }));
        let shown = header_rules(&route.request_headers).unwrap();
        assert_eq!(shown, json!({ "remove": [], "set": ["authorization"], "add": [] }), "without values");
        assert_eq!(header_rules(&route.response_headers), None);
    }
}
