//! What few routes have: `rate_limit`.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    super::{model::RateLimit, reader::Table, references::References, sink::Finding, value::MAX_DURATION},
    SOME_TIME, duration, route,
};

pub(super) const RATE_LIMIT: &str = "{ rate = 100, per = \"1s\", burst = 50, by = [\"client-address\"] }";

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
