//! `[[plugin]]`, and TOML to the JSON that the plugin gets.

use std::{path::Path, time::Duration};

use serde_json::{Map, Number};
use toml::de::DeValue;

use super::{
    super::{
        model::{Budget, Isolation, OnError, Plugin, Quarantine},
        reader::{Table, Value},
        references::References,
        sink::Finding,
        value::{self, Bad},
    },
    PLUGIN_NAME, SOME_TIME, duration, file_path, size,
};

/// A call's time is watched by a ticker of about a millisecond, and a worker stands still meanwhile.
const BUDGET_TIME: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(10);

/// `ceiling` is `memory_ceiling`, in bytes.
pub(super) fn plugin<'a>(
    table: Table<'a>,
    base_dir: &Path,
    ceiling: u64,
    references: &mut References<'a>,
) -> Option<Plugin> {
    let name = table.require("name", "\"…\"").and_then(|value| {
        let name = value.parse(PLUGIN_NAME, value::plugin_name)?;
        references.plugins.names.push((name.clone(), value.spot));
        Some(name)
    });
    let path = table.take("path").and_then(|value| file_path(&value, base_dir));
    let config = table.table("config", "any table").map(|table| json_table(&table)).unwrap_or_default();
    let budget = budget(table.table("budget", "{ time = \"2ms\", memory = \"16MiB\" }"), ceiling, references);
    let on_error = [("fallback", OnError::Fallback), ("reject", OnError::Reject)];
    let on_error = table.take("on_error").and_then(|value| value.word(&on_error)).unwrap_or_default();
    let isolation = [("worker", Isolation::Worker), ("request", Isolation::Request)];
    let isolation = table.take("isolation").and_then(|value| value.word(&isolation)).unwrap_or_default();
    let quarantine = table.table("quarantine", "{ failures = 5, window = \"10s\", … }").map(quarantine);
    table.finish();
    Some(Plugin { name: name?, path, config, budget, on_error, isolation, quarantine: quarantine.unwrap_or_default() })
}

fn budget<'a>(table: Option<Table<'a>>, ceiling: u64, references: &mut References<'a>) -> Budget {
    let mut budget = Budget::default();
    // A low ceiling lowers the default; a budget that is named must keep to it by itself.
    budget.memory = budget.memory.min(ceiling);
    let Some(table) = table else {
        return budget;
    };
    if let Some(time) = table.take("time").and_then(|value| duration(&value, BUDGET_TIME)) {
        budget.time = time;
    }
    if let Some(value) = table.take("memory")
        && let Some(memory) = size(&value, 64 << 10..=4 << 30)
    {
        budget.memory = memory;
        references.memory.push((memory, value.spot));
    }
    table.finish();
    budget
}

fn quarantine(table: Table<'_>) -> Quarantine {
    let mut quarantine = Quarantine::default();
    if let Some(failures) = table.take("failures").and_then(|value| value.integer(1..=1_000_000_u32)) {
        quarantine.failures = failures;
    }
    let maximum = table.take("max_back_off");
    let longest = maximum.as_ref().map(|value| value.spot.clone());
    for (value, time) in [
        (table.take("window"), &mut quarantine.window),
        (table.take("back_off"), &mut quarantine.back_off),
        (maximum, &mut quarantine.max_back_off),
    ] {
        if let Some(read) = value.and_then(|value| duration(&value, SOME_TIME)) {
            *time = read;
        }
    }
    if quarantine.max_back_off < quarantine.back_off {
        let spot = longest.unwrap_or_else(|| table.spot.clone());
        let expected = format!("`max_back_off` of at least \"{}\"", value::show_duration(quarantine.back_off));
        table.sink.report(Finding::error(&spot, "`max_back_off` is shorter than `back_off`").expected(expected));
    }
    table.finish();
    quarantine
}

/// Any TOML, as JSON: dates and times become strings.
fn json_table(table: &Table<'_>) -> Map<String, serde_json::Value> {
    table.entries().into_iter().filter_map(|(_, key, value)| Some((key.to_owned(), json(&value)?))).collect()
}

/// The parser limits how deep values nest.
fn json(value: &Value<'_>) -> Option<serde_json::Value> {
    Some(match value.raw() {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Boolean(boolean) => (*boolean).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Integer(_) => value.integer(i64::MIN..=i64::MAX)?.into(),
        DeValue::Float(text) => match text.as_str().parse::<f64>().ok().and_then(Number::from_f64) {
            Some(number) => number.into(),
            None => {
                let bad = Bad { message: format!("{text} is not a finite number"), help: None };
                return value.bad(bad, "a finite number: JSON has no others");
            }
        },
        DeValue::Array(_) => {
            let items = value.array(usize::MAX, "")?;
            items.iter().filter_map(json).collect::<Vec<_>>().into()
        }
        DeValue::Table(_) => json_table(&value.table("")?).into(),
    })
}
