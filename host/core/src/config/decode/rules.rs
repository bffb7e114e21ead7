//! What few routes have: `rate_limit`, `rewrite`, `request_headers` and `response_headers`.

use std::{ops::RangeInclusive, time::Duration};

use http::{HeaderName, HeaderValue, header};

use super::{
    super::{
        model::{Action, HeaderRules, PathMatch, RateLimit, Rewrite},
        reader::{Spot, Table, Value},
        references::{References, report_repeats},
        sink::{Finding, Sink},
        value::{self, MAX_DURATION},
    },
    MAX_LIST, SOME_TIME, duration, route,
};

pub(super) const RATE_LIMIT: &str = "{ rate = 100, per = \"1s\", burst = 50, by = [\"client-address\"] }";
const REWRITE: &str = "{ path_prefix = \"/\", host = \"…\" }";
const HEADERS: &str = "{ set = { x-a = \"1\" }, add = { x-b = \"2\" }, remove = [\"x-c\"] }";

/// Tokens of a bucket, and in a `per`.
const TOKENS: RangeInclusive<u32> = 1..=1_000_000_000;
/// Tokens in a second, at the most: a bucket counts time in nanoseconds.
const MAX_RATE: u128 = 1_000_000;

pub(super) fn rate_limit<'a>(table: Table<'a>, references: &mut References<'a>) -> Option<RateLimit> {
    let rate = table.require("rate", "how many requests in a `per`, such as 100").and_then(|v| v.integer(TOKENS));
    let per = match table.take("per") {
        None => Some(Duration::from_secs(1)),
        Some(value) => duration(&value, SOME_TIME),
    };
    let burst = match table.take("burst") {
        None => rate,
        Some(value) => value.integer(TOKENS),
    };
    let by = table.take("by");
    if let Some(by) = &by {
        references.rate_tables.push(by.spot.clone());
    }
    let by = by.map(|value| route::keys(&value)).unwrap_or_default();
    let spot = table.spot.clone();
    let sink = table.sink;
    table.finish();
    let limit = RateLimit { rate: rate?, per: per?, burst: burst?, by };
    let (rate, per) = (u128::from(limit.rate), limit.per.as_nanos());
    if rate * Duration::from_secs(1).as_nanos() > MAX_RATE * per {
        let finding = Finding::error(&spot, "this is more than a million requests in a second");
        sink.report(finding.expected("a lower `rate`, or a longer `per`"));
    }
    if u128::from(limit.burst) * per > MAX_DURATION.as_nanos() * rate {
        let finding = Finding::error(&spot, "an empty bucket would take more than a year to be full");
        sink.report(finding.expected("a smaller `burst`, or a higher `rate`"));
    }
    Some(limit)
}

/// `rewrite` of the route in `table`, which has this path.
pub(super) fn rewrite(value: &Value<'_>, table: &Table<'_>, path: &PathMatch) -> Option<Rewrite> {
    let rewrite = value.table(REWRITE)?;
    let (prefix, host) = (rewrite.take("path_prefix"), rewrite.take("host"));
    if prefix.is_none() && host.is_none() {
        rewrite.sink.report(Finding::absence(&rewrite.spot, "neither `path_prefix` nor `host`").expected(REWRITE));
    }
    if let Some(prefix) = &prefix {
        check_seam(prefix, table, path);
    }
    let expected = "the beginning of a path, such as \"/\"";
    let path_prefix = prefix.and_then(|value| value.parse(expected, value::sent_path));
    let host = host.and_then(|value| value.parse("a host, such as \"api.internal\"", value::host));
    let host = host.and_then(|host| HeaderValue::try_from(host).ok());
    rewrite.finish();
    Some(Rewrite { path_prefix, host })
}

/// Reports a rewriting of nothing, and one that is perhaps not what was meant.
fn check_seam(by: &Value<'_>, table: &Table<'_>, path: &PathMatch) {
    let given = |key| !table.is_empty(key);
    let beside = "`path_prefix` or `path` of the route, which is what it replaces";
    match path {
        PathMatch::Regex(_) => {
            let finding = Finding::error(&by.spot, "`path_regex` does not say which part of the path is replaced");
            by.report(finding.expected(beside));
        }
        // Where there was one and it was wrong, that was said.
        PathMatch::Any if !["path", "path_prefix", "path_regex"].into_iter().any(given) => {
            by.report(Finding::absence(&by.spot, "there is nothing to replace").expected(beside));
        }
        PathMatch::Prefix(prefix) => {
            let text = by.is_string().then(|| by.string(REWRITE)).flatten();
            if let Some(text) = text.filter(|text| prefix.ends_with('/') && !text.ends_with('/')) {
                let finding = Finding::warning(&by.spot, format!("`{prefix}x` becomes `{text}x`"));
                by.report(finding.expected("a slash at the end of both, or of neither"));
            }
        }
        PathMatch::Any | PathMatch::Exact(_) => {}
    }
}

/// A route that answers by itself sends nothing to an endpoint.
pub(super) fn warn_unsent(action: Option<&Action>, given: [&Option<Value<'_>>; 3]) {
    if let Some(Action::Respond { .. } | Action::Redirect { .. }) = action {
        for value in given.into_iter().flatten() {
            let message = "nothing is changed by this: the route answers by itself, and sends no request";
            value.report(Finding::warning(&value.spot, message));
        }
    }
}

/// Which messages rules are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Request,
    Response,
}

pub(super) fn headers(value: &Value<'_>, way: Way) -> HeaderRules {
    let Some(table) = value.table(HEADERS) else {
        return HeaderRules::default();
    };
    let remove = table.take("remove").map(|value| names(&value)).unwrap_or_default();
    let set = table.take("set").map(|value| values(&value, way)).unwrap_or_default();
    let add = table.take("add").map(|value| values(&value, way)).unwrap_or_default();
    table.finish();
    HeaderRules { remove, set, add }
}

fn names(value: &Value<'_>) -> Vec<HeaderName> {
    let items = value.array(MAX_LIST, "names of headers, such as [\"x-c\"]").unwrap_or_default();
    let name = |item: &Value<'_>| {
        let name = item.parse("a header's name", value::header_name)?;
        check_name(item.sink, &item.spot, &name);
        Some(name)
    };
    items.iter().filter_map(name).collect()
}

fn values(value: &Value<'_>, way: Way) -> Vec<(HeaderName, HeaderValue)> {
    let expected = "a table of header names and values, such as { x-a = \"1\" }";
    let Some(table) = value.table(expected) else {
        return Vec::new();
    };
    let (mut rules, mut places) = (Vec::new(), Vec::new());
    for (spot, key, value) in table.entries() {
        let name = value::header_name(key).map_err(|bad| {
            let finding = Finding::error(&spot, format!("bad key: {}", bad.message));
            table.sink.report(finding.expected("the name of a header"));
        });
        if let Ok(name) = &name {
            check_name(table.sink, &spot, name);
            if way == Way::Response && name == "x-witgate-error" {
                let finding = Finding::error(&spot, "`x-witgate-error` says that the proxy made a response");
                table.sink.report(finding.expected("another header"));
            }
            places.push((name.clone(), spot));
        }
        let text = value.parse("a header's value, in ASCII", value::header_value);
        if let (Ok(name), Some(text)) = (name, text) {
            rules.push((name, text));
        }
    }
    report_repeats(table.sink, &places, |name| format!("`{name}` is there already, in other letters"));
    rules
}

/// Refuses what concerns one connection, or how a message is framed (RFC 9110 sections 7.6 and 8.6): the proxy's own.
fn check_name(sink: &Sink<'_>, spot: &Spot<'_>, name: &HeaderName) {
    let framing = matches!(
        *name,
        header::CONNECTION
            | header::CONTENT_LENGTH
            | header::EXPECT
            | header::TE
            | header::TRAILER
            | header::TRANSFER_ENCODING
            | header::UPGRADE
    );
    let finding = if *name == header::HOST {
        let finding = Finding::error(spot, "`host` is not changed by rules for headers");
        finding.help("`rewrite = { host = \"…\" }` replaces it")
    } else if framing || name == "keep-alive" || name.as_str().starts_with("proxy-") {
        let message = format!("`{name}` concerns a connection or how a message is framed, which is the proxy's part");
        Finding::error(spot, message)
    } else {
        return;
    };
    sink.report(finding.expected("another header"));
}
