//! What a route's request must be like: hosts, path, methods, headers, cookies and query.

use http::{HeaderName, Method};
use regex::Regex;

use super::{
    super::{
        model::{HostPattern, PathMatch, ValueMatch},
        reader::{Spot, Table, Value},
        sink::Finding,
        value::{self, Bad},
    },
    MAX_LIST,
};

const VALUE: &str = "\"exact value\", { regex = \"…\" } or { present = true }";

pub(super) fn hosts(value: &Value<'_>) -> Vec<HostPattern> {
    let items = value.array(MAX_LIST, "hosts, such as [\"api.example.com\", \"*.example.com\"]").unwrap_or_default();
    let expected = "a host without a port; `*.` may be its first label";
    items.iter().filter_map(|item| item.parse(expected, value::host_pattern)).collect()
}

pub(super) fn methods(value: &Value<'_>) -> Vec<Method> {
    let items = value.array(MAX_LIST, "methods, such as [\"GET\", \"POST\"]").unwrap_or_default();
    items.iter().filter_map(|item| item.parse("a method, such as \"GET\"", value::method)).collect()
}

/// At most one of `path`, `path_prefix` and `path_regex`.
pub(super) fn path(table: &Table<'_>) -> PathMatch {
    let (path, prefix, regex) = (table.take("path"), table.take("path_prefix"), table.take("path_regex"));
    let given: Vec<(&str, &Spot<'_>)> = [("path", &path), ("path_prefix", &prefix), ("path_regex", &regex)]
        .into_iter()
        .filter_map(|(key, value)| Some((key, &value.as_ref()?.spot)))
        .collect();
    report_rivals(table, given, "at most one of `path`, `path_prefix` or `path_regex`");
    let path = path.and_then(|value| value.parse("a path, such as \"/exact\"", value::path)).map(PathMatch::Exact);
    let prefix = prefix
        .and_then(|value| value.parse("the beginning of a path, such as \"/api/\"", value::path))
        .map(PathMatch::Prefix);
    let regex = regex
        .and_then(|value| self::regex(&value, "a regular expression, such as \"^/v[0-9]+/\""))
        .map(PathMatch::Regex);
    path.or(prefix).or(regex).unwrap_or(PathMatch::Any)
}

fn regex(value: &Value<'_>, expected: &str) -> Option<Regex> {
    value.parse(expected, |text| value.sink.patterns.compile(text)).flatten()
}

/// Reports all but the first of keys that exclude each other.
pub(super) fn report_rivals(table: &Table<'_>, mut given: Vec<(&str, &Spot<'_>)>, expected: &str) {
    given.sort_by_key(|(_, spot)| spot.span.start);
    if let [(first, place), rivals @ ..] = given.as_slice() {
        for (key, spot) in rivals {
            let message = format!("`{key}` stands beside `{first}`");
            table.sink.report(Finding::error(spot, message).expected(expected).first_at(place));
        }
    }
}

pub(super) fn headers(value: &Value<'_>) -> Vec<(HeaderName, ValueMatch)> {
    values(value, "header", value::header_name)
}

pub(super) fn cookies(value: &Value<'_>) -> Vec<(String, ValueMatch)> {
    values(value, "cookie", value::cookie_name)
}

pub(super) fn query(value: &Value<'_>) -> Vec<(String, ValueMatch)> {
    values(value, "query parameter", value::query_name)
}

fn values<N>(value: &Value<'_>, word: &str, name: impl Fn(&str) -> Result<N, Bad>) -> Vec<(N, ValueMatch)> {
    let expected = format!("a table of {word} names and values: {VALUE}");
    let Some(table) = value.table(&expected) else {
        return Vec::new();
    };
    let mut matches = Vec::new();
    for (spot, key, value) in table.entries() {
        let name = name(key).map_err(|bad| {
            let finding = Finding::error(&spot, format!("bad key: {}", bad.message));
            table.sink.report(finding.expected(format!("the name of a {word}")));
        });
        let matching = value_match(&value);
        if let (Ok(name), Some(matching)) = (name, matching) {
            matches.push((name, matching));
        }
    }
    matches
}

fn value_match(value: &Value<'_>) -> Option<ValueMatch> {
    if value.is_string() {
        return value.string(VALUE).map(|text| ValueMatch::Exact(text.to_owned()));
    }
    let table = value.table(VALUE)?;
    let (regex, present) = (table.take("regex"), table.take("present"));
    if regex.is_some() == present.is_some() {
        let message = if regex.is_some() { "`regex` stands beside `present`" } else { "neither `regex` nor `present`" };
        table.sink.report(Finding::error(&table.spot, message).expected(VALUE));
    }
    let regex = regex.and_then(|value| self::regex(&value, "a regular expression")).map(ValueMatch::Regex);
    let present = present.and_then(|value| value.boolean()).map(ValueMatch::Present);
    table.finish();
    regex.or(present)
}
