//! What a route does: exactly one of `cluster`, `split`, `respond` and `redirect`.

use http::StatusCode;

use super::{
    super::{
        model::{Action, Split, WeightedCluster},
        reader::{Spot, Table, Value},
        references::References,
        sink::Finding,
        value,
    },
    MAX_LIST, matching, reference, route,
};

/// Bytes of a fixed response's body; the same that a plugin may answer.
const MAX_BODY: usize = 64 << 10;
const ONE_OF: &str = "exactly one of `cluster`, `split`, `respond` or `redirect`";

pub(super) fn action<'a>(table: &Table<'a>, references: &mut References<'a>) -> Option<Action> {
    let (cluster, split) = (table.take("cluster"), table.take("split"));
    let (respond, redirect) = (table.take("respond"), table.take("redirect"));
    let split_by = table.take("split_by");
    let given: Vec<(&str, &Spot<'_>)> =
        [("cluster", &cluster), ("split", &split), ("respond", &respond), ("redirect", &redirect)]
            .into_iter()
            .filter_map(|(key, value)| Some((key, &value.as_ref()?.spot)))
            .collect();
    if given.is_empty() {
        table.sink.report(Finding::absence(&table.spot, "this route does nothing").expected(ONE_OF));
    }
    matching::report_rivals(table, given, ONE_OF);
    if let (Some(by), None) = (&split_by, &split) {
        by.report(Finding::absence(&by.spot, "`split_by` without `split`").expected("`split` beside it"));
    }

    let cluster = cluster.and_then(|value| reference(&value, "cluster", &mut references.clusters)).map(Action::Cluster);
    let by = split_by.map(|value| route::keys(&value)).unwrap_or_default();
    let split = split.and_then(|value| choices(&value, references)).map(|choices| Action::Split(Split { choices, by }));
    let respond = respond.and_then(|value| respond_with(&value));
    let redirect = redirect.and_then(|value| redirect_to(&value));
    cluster.or(split).or(respond).or(redirect)
}

fn choices<'a>(value: &Value<'a>, references: &mut References<'a>) -> Option<Vec<WeightedCluster>> {
    let expected = "weighted clusters, such as [{ cluster = \"a\", weight = 95 }, { cluster = \"b\", weight = 5 }]";
    let items = value.array(MAX_LIST, expected)?;
    let choices: Vec<_> = items.iter().map(|item| choice(item, references)).collect();
    // A choice that could not be read might have had a weight.
    if !choices.iter().any(|choice| choice.as_ref().is_none_or(|choice| choice.weight > 0)) {
        let finding = Finding::error(&value.spot, "no choice of this split has a weight above 0");
        value.report(finding.expected(expected));
    }
    Some(choices.into_iter().flatten().collect())
}

fn choice<'a>(value: &Value<'a>, references: &mut References<'a>) -> Option<WeightedCluster> {
    let table = value.table("{ cluster = \"…\", weight = 1 }")?;
    let cluster = table.require("cluster", "the name of a [[cluster]]");
    let cluster = cluster.and_then(|value| reference(&value, "cluster", &mut references.clusters));
    let weight = route::weight(&table);
    table.finish();
    Some(WeightedCluster { cluster: cluster?, weight: weight? })
}

fn respond_with(value: &Value<'_>) -> Option<Action> {
    let table = value.table("{ status = 403, body = \"…\" }")?;
    let status = table.require("status", "a status from 200 to 599");
    let status = status.and_then(|value| value.integer(200..=599_u16)).and_then(|n| StatusCode::from_u16(n).ok());
    let body = table.take("body");
    let text = body.as_ref().and_then(|value| value.string("a text")).unwrap_or_default();
    if let Some(body) = &body {
        let without = status.filter(|s| matches!(s.as_u16(), 204 | 205 | 304) && !text.is_empty());
        if let Some(status) = without {
            let message = format!("a response with status {} has no body", status.as_u16());
            body.report(Finding::error(&body.spot, message).expected("no `body`, or another status"));
        }
        if text.len() > MAX_BODY {
            let message = format!("the body is {} bytes long", text.len());
            body.report(Finding::error(&body.spot, message).expected("at most 64KiB"));
        }
    }
    table.finish();
    Some(Action::Respond { status: status?, body: text.to_owned() })
}

fn redirect_to(value: &Value<'_>) -> Option<Action> {
    let table = value.table("{ status = 308, location = \"…\" }")?;
    let status = match table.take("status") {
        None => Some(StatusCode::PERMANENT_REDIRECT),
        Some(value) => redirect_status(&value),
    };
    let location = table.require("location", "a URL or path");
    let expected = "a URL or path in ASCII, without spaces and control characters";
    let location = location.and_then(|value| value.parse(expected, value::location));
    table.finish();
    Some(Action::Redirect { status: status?, location: location? })
}

fn redirect_status(value: &Value<'_>) -> Option<StatusCode> {
    let number = value.integer(100..=999_u16)?;
    if !matches!(number, 301 | 302 | 303 | 307 | 308) {
        let finding = Finding::error(&value.spot, format!("{number} is not a status of a redirect"));
        value.report(finding.expected("301, 302, 303, 307 or 308"));
        return None;
    }
    StatusCode::from_u16(number).ok()
}
