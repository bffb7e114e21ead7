//! `[[route]]`, and the keys by which it splits and keeps clients.

use std::time::Duration;

use super::{
    super::{
        endpoints::MAX_WEIGHT,
        model::{Action, Affinity, DEFAULT_TIMEOUT, DEFAULT_UPGRADE, Key, Mirror, Retry, RetryOn, Route, RoutePlugins},
        reader::{Table, Value},
        references::References,
        sink::Finding,
        value::{self, MAX_DURATION},
    },
    ANY_TIME, MAX_FEW, MAX_LIST, SOME_TIME, action, duration, matching, name, plugin_reference, reference,
    rules::{self, Way},
};

/// Part of the requests that are mirrored, where the file is silent.
const DEFAULT_MIRROR_PERCENT: f64 = 1.0;
const KEY: &str = "{ cookie = \"…\" }, { header = \"…\" }, { query = \"…\" } or \"client-address\"";

pub(super) fn route<'a>(table: Table<'a>, references: &mut References<'a>) -> Option<Route> {
    let name = name(&table, &mut references.routes);
    let listeners = table.take("listeners").and_then(|value| listeners(&value, references));
    let hosts = table.take("hosts").map(|value| matching::hosts(&value)).unwrap_or_default();
    let path = matching::path(&table);
    let methods = table.take("methods").map(|value| matching::methods(&value)).unwrap_or_default();
    let headers = table.take("headers").map(|value| matching::headers(&value)).unwrap_or_default();
    let cookies = table.take("cookies").map(|value| matching::cookies(&value)).unwrap_or_default();
    let query = table.take("query").map(|value| matching::query(&value)).unwrap_or_default();
    let action = action::action(&table, references);
    let affinity = table.take("affinity").and_then(|value| affinity(&value));
    let plugins = table.take("plugins").and_then(|value| plugins(&value, action.as_ref(), references));
    let timeout = match table.take("timeout") {
        None => Some(DEFAULT_TIMEOUT),
        Some(value) => duration(&value, ANY_TIME).filter(|timeout| !timeout.is_zero()),
    };
    let retry = table.table("retry", "{ attempts = 1, on = [\"connect-failure\", \"reset\"] }").map(retry);
    let rate_limit =
        table.table("rate_limit", rules::RATE_LIMIT).and_then(|table| rules::rate_limit(table, references));
    let (rewrite, request_headers) = (table.take("rewrite"), table.take("request_headers"));
    let mirror = table.table("mirror", "{ cluster = \"…\", percent = 1.0 }").and_then(|m| mirror(m, references));
    let upgrade = table.take("upgrade");
    let plugins = plugins.unwrap_or_default();
    if plugins.router.is_none() {
        rules::warn_unsent(action.as_ref(), [&rewrite, &request_headers, &upgrade]);
    }
    let rewrite = rewrite.and_then(|value| rules::rewrite(&value, &table, &path));
    let request_headers = request_headers.map(|value| rules::headers(&value, Way::Request));
    let response_headers = table.take("response_headers").map(|value| rules::headers(&value, Way::Response));
    let upgrade = upgrade.map_or_else(|| vec![DEFAULT_UPGRADE.to_owned()], |value| upgrades(&value));
    table.finish();
    let (name, action) = (name?, action?);
    Some(Route {
        name,
        listeners,
        hosts,
        path,
        methods,
        headers,
        cookies,
        query,
        action,
        affinity,
        plugins,
        timeout,
        retry,
        rate_limit,
        rewrite,
        request_headers: request_headers.unwrap_or_default(),
        response_headers: response_headers.unwrap_or_default(),
        mirror,
        upgrade,
    })
}

fn upgrades(value: &Value<'_>) -> Vec<String> {
    let items = value.array(MAX_FEW, "names of protocols, such as [\"websocket\"]; [] forbids all").unwrap_or_default();
    items.iter().filter_map(|item| item.parse("a protocol's name, such as \"websocket\"", value::protocol)).collect()
}

fn mirror<'a>(table: Table<'a>, references: &mut References<'a>) -> Option<Mirror> {
    let cluster = table.require("cluster", "the name of a [[cluster]]");
    let cluster = cluster.and_then(|value| reference(&value, "cluster", &mut references.clusters));
    let percent = table.take("percent").and_then(|value| value.number(0.0..=100.0)).unwrap_or(DEFAULT_MIRROR_PERCENT);
    table.finish();
    Some(Mirror { cluster: cluster?, percent })
}

fn retry(table: Table<'_>) -> Retry {
    let default = Retry::default();
    let attempts = table.take("attempts").and_then(|value| value.integer(0..=10_u32));
    let on = table.take("on").map(|value| retry_on(&value));
    let per_try_timeout = table.take("per_try_timeout").and_then(|value| duration(&value, SOME_TIME));
    let backoff = table.take("backoff").and_then(|value| duration(&value, ANY_TIME));
    let hedge = table.take("hedge").and_then(|value| hedge(&value, &table));
    table.finish();
    Retry {
        attempts: attempts.unwrap_or(default.attempts),
        on: on.unwrap_or(default.on),
        per_try_timeout,
        backoff: backoff.unwrap_or(default.backoff),
        hedge: hedge.unwrap_or(default.hedge),
    }
}

/// `hedge`, which means nothing while a try has no time of its own.
fn hedge(value: &Value<'_>, retry: &Table<'_>) -> Option<bool> {
    let hedge = value.boolean()?;
    if hedge && retry.is_empty("per_try_timeout") {
        let message = "no try is ever joined by another: `hedge` without `per_try_timeout`";
        value.report(Finding::error(&value.spot, message).expected("`per_try_timeout` beside it"));
    }
    Some(hedge)
}

fn retry_on(value: &Value<'_>) -> RetryOn {
    #[derive(Clone, Copy)]
    enum On {
        ConnectFailure,
        RefusedStream,
        Reset,
        ServerError,
        GatewayError,
    }
    const WORDS: [(&str, On); 5] = [
        ("connect-failure", On::ConnectFailure),
        ("refused-stream", On::RefusedStream),
        ("reset", On::Reset),
        ("5xx", On::ServerError),
        ("gateway-error", On::GatewayError),
    ];
    let expected = "words, such as [\"connect-failure\", \"reset\"]";
    let mut on = RetryOn::default();
    for item in value.array(MAX_LIST, expected).unwrap_or_default() {
        match item.word(&WORDS) {
            Some(On::ConnectFailure) => on.connect_failure = true,
            Some(On::RefusedStream) => on.refused_stream = true,
            Some(On::Reset) => on.reset = true,
            Some(On::ServerError) => on.server_error = true,
            Some(On::GatewayError) => on.gateway_error = true,
            None => {}
        }
    }
    on
}

fn listeners<'a>(value: &Value<'a>, references: &mut References<'a>) -> Option<Vec<String>> {
    let expected = "names of listeners, such as [\"web\"]";
    let items = value.array(MAX_FEW, expected)?;
    if items.is_empty() {
        let finding = Finding::error(&value.spot, "a route without listeners is never taken").expected(expected);
        value.report(finding.help("leave `listeners` out to serve all of them"));
    }
    Some(items.iter().filter_map(|item| reference(item, "listener", &mut references.listeners)).collect())
}

fn affinity(value: &Value<'_>) -> Option<Affinity> {
    let expected = "{ by = [{ header = \"…\" }] } or { cookie = { name = \"…\", ttl = \"1h\" } }";
    let table = value.table(expected)?;
    let (by, cookie) = (table.take("by"), table.take("cookie"));
    if by.is_some() == cookie.is_some() {
        let message = if by.is_some() { "`by` stands beside `cookie`" } else { "neither `by` nor `cookie`" };
        table.sink.report(Finding::error(&table.spot, message).expected(expected));
    }
    let by = by.map(|value| Affinity::By(keys(&value)));
    let cookie = cookie.and_then(|value| affinity_cookie(&value));
    table.finish();
    by.or(cookie)
}

fn affinity_cookie(value: &Value<'_>) -> Option<Affinity> {
    let table = value.table("{ name = \"…\", ttl = \"1h\" }")?;
    let name =
        table.require("name", "the cookie's name").and_then(|value| value.parse("a cookie's name", value::cookie_name));
    // `Max-Age` counts seconds.
    let ttl = table.take("ttl").and_then(|value| duration(&value, Duration::from_secs(1)..=MAX_DURATION));
    table.finish();
    Some(Affinity::Cookie { name: name?, ttl })
}

fn plugins<'a>(value: &Value<'a>, action: Option<&Action>, references: &mut References<'a>) -> Option<RoutePlugins> {
    let table = value.table("{ router = \"…\", splitter = \"…\", affinity = \"…\" }")?;
    let splitter = table.take("splitter");
    if let (Some(splitter), Some(action)) = (&splitter, action)
        && !matches!(action, Action::Split(_))
    {
        let message = "this plugin is never asked: the route has no `split` to choose from";
        splitter.report(Finding::warning(&splitter.spot, message));
    }
    let (router, affinity) = (table.take("router"), table.take("affinity"));
    let mut name = |value: Option<Value<'a>>| plugin_reference(&value?, &mut references.plugins);
    let plugins = RoutePlugins { router: name(router), splitter: name(splitter), affinity: name(affinity) };
    table.finish();
    Some(plugins)
}

/// `split_by`, and `by` of an affinity: at least one key.
pub(super) fn keys(value: &Value<'_>) -> Vec<Key> {
    let expected =
        "keys, such as [{ cookie = \"uid\" }, \"client-address\"]; { header = \"…\" } and { query = \"…\" } are others";
    let Some(items) = value.array(MAX_LIST, expected) else {
        return Vec::new();
    };
    if items.is_empty() {
        value.report(Finding::error(&value.spot, "the list is empty").expected(expected));
    }
    items.iter().filter_map(key).collect()
}

fn key(value: &Value<'_>) -> Option<Key> {
    if value.is_string() {
        return value.word_or(&[("client-address", ())], KEY, |_| None).map(|()| Key::ClientAddress);
    }
    let table = value.table(KEY)?;
    let (cookie, header, query) = (table.take("cookie"), table.take("header"), table.take("query"));
    if [&cookie, &header, &query].into_iter().flatten().count() != 1 {
        table.sink.report(Finding::error(&table.spot, "a key is one thing").expected(KEY));
    }
    let cookie = cookie.and_then(|value| value.parse("a cookie's name", value::cookie_name)).map(Key::Cookie);
    let header = header.and_then(|value| value.parse("a header's name", value::header_name)).map(Key::Header);
    let query = query.and_then(|value| value.parse("a query parameter's name", value::query_name)).map(Key::Query);
    table.finish();
    cookie.or(header).or(query)
}

/// `weight` of a choice or an endpoint, 1 where the file is silent.
pub(super) fn weight(table: &Table<'_>) -> Option<u32> {
    match table.take("weight") {
        None => Some(1),
        Some(value) => value.integer(0..=MAX_WEIGHT),
    }
}
