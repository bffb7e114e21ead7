//! Tables of a file to the model, one module a kind of table. Never checks one table against another.

mod access_log;
mod action;
mod admin;
mod cluster;
mod globals;
mod health;
mod listener;
mod matching;
mod plugin;
mod route;
mod rules;
mod tls;
mod traces;

use std::{ops::RangeInclusive, path::Path, time::Duration};

use super::{
    model::Config,
    reader::{Table, Value, list},
    references::{Kind, References},
    sink::Finding,
    value::{self, Bad, MAX_DURATION, quoted, show_duration, show_size},
};

/// Most elements of `[[listener]]` and of `[[plugin]]`.
const MAX_FEW: usize = 1_000;
/// Most elements of `[[route]]`, of `[[cluster]]` and of a cluster's `endpoints`.
pub(super) const MAX_MANY: usize = 100_000;
/// Most elements of any other list.
const MAX_LIST: usize = 1_000;

/// Bytes of a path in a Unix socket's address, without the final zero.
const MAX_UNIX_PATH: usize = 107;

const PERCENT: RangeInclusive<u32> = 0..=100;
/// Any duration above nothing.
const SOME_TIME: RangeInclusive<Duration> = Duration::from_millis(1)..=MAX_DURATION;
/// Any duration, nothing included.
const ANY_TIME: RangeInclusive<Duration> = Duration::ZERO..=MAX_DURATION;

/// A whole file. What is wrong is reported to the table's sink and left out, or has its default, in the result.
pub(super) fn config<'a>(file: Table<'a>, base_dir: &Path, references: &mut References<'a>) -> Config {
    let admin = admin::admin(file.table("admin", "[admin]"), base_dir, references);
    let runtime = globals::runtime(file.table("runtime", "[runtime]"), base_dir);
    let plugin_bounds = globals::plugin_bounds(file.table("plugins", "[plugins]"));
    let access_log = file.table("access_log", "[access_log]");
    let access_log = access_log.and_then(|table| access_log::access_log(table, base_dir));
    let traces = file.table("traces", "[traces]").and_then(traces::traces);
    let listeners = each(&file, "listener", MAX_FEW, |table| listener::listener(table, base_dir, references));
    let routes = each(&file, "route", MAX_MANY, |table| route::route(table, references));
    let clusters = each(&file, "cluster", MAX_MANY, |table| cluster::cluster(table, base_dir, references));
    let ceiling = plugin_bounds.memory_ceiling;
    let plugins = each(&file, "plugin", MAX_FEW, |table| plugin::plugin(table, base_dir, ceiling, references));
    if file.is_empty("listener") {
        let finding = Finding::absence(&file.spot, "there is no listener, so there is nothing to serve");
        file.sink.report(finding.expected("at least one [[listener]]"));
    }
    file.finish();
    Config { admin, runtime, plugin_bounds, access_log, traces, listeners, routes, clusters, plugins }
}

/// The elements of an array of tables that could be read.
fn each<'a, T>(
    file: &Table<'a>,
    kind: &'static str,
    most: usize,
    mut read: impl FnMut(Table<'a>) -> Option<T>,
) -> Vec<T> {
    let expected = format!("[[{kind}]], in double brackets");
    let items = file.take(kind).and_then(|value| value.array(most, &expected)).unwrap_or_default();
    items.iter().filter_map(|item| item.named_table(kind, &expected)).filter_map(&mut read).collect()
}

/// The required `name`, which is registered as one of its kind.
fn name<'a>(table: &Table<'a>, kind: &mut Kind<'a>) -> Option<String> {
    let expected = "1 to 128 characters without spaces and without any of / ? # % \" \\";
    let value = table.require("name", "\"…\"")?;
    let name = value.parse(expected, value::name)?;
    kind.names.push((name.clone(), value.spot));
    Some(name)
}

/// The name of something else, which is registered as a use.
fn reference<'a>(value: &Value<'a>, word: &str, kind: &mut Kind<'a>) -> Option<String> {
    let name = value.string(&format!("the name of a [[{word}]]"))?.to_owned();
    kind.uses.push((name.clone(), value.spot.clone()));
    Some(name)
}

/// The name of a plugin, which is registered as a use.
fn plugin_reference<'a>(value: &Value<'a>, plugins: &mut Kind<'a>) -> Option<String> {
    let name = value.parse(PLUGIN_NAME, value::plugin_name)?;
    plugins.uses.push((name.clone(), value.spot.clone()));
    Some(name)
}

const PLUGIN_NAME: &str = "a plugin's name: 1 to 64 of a-z, 0-9, - and _, a letter or digit first";

/// A duration in a range.
fn duration(value: &Value<'_>, range: RangeInclusive<Duration>) -> Option<Duration> {
    let (least, most) = (show_duration(*range.start()), show_duration(*range.end()));
    let examples = ["250ms", "2s", "5m"].into_iter().filter(|e| value::duration(e).is_ok_and(|e| range.contains(&e)));
    let expected = format!("a duration from \"{least}\" to \"{most}\"{}", such_as(examples));
    let read = value.parse(&expected, value::duration)?;
    if range.contains(&read) { Some(read) } else { out_of_range(value, &expected) }
}

/// The duration of a key, above nothing; `default` where it is absent or wrong.
fn time(table: &Table<'_>, key: &'static str, default: Duration) -> Duration {
    table.take(key).and_then(|value| duration(&value, SOME_TIME)).unwrap_or(default)
}

/// The integer of a key; `default` where it is absent or wrong.
fn whole(table: &Table<'_>, key: &'static str, range: RangeInclusive<u32>, default: u32) -> u32 {
    table.take(key).and_then(|value| value.integer(range)).unwrap_or(default)
}

/// A size in bytes in a range.
fn size(value: &Value<'_>, range: RangeInclusive<u64>) -> Option<u64> {
    let (least, most) = (show_size(*range.start()), show_size(*range.end()));
    let examples = ["64KiB", "16MiB"].into_iter().filter(|e| value::size(e).is_ok_and(|e| range.contains(&e)));
    let expected = format!("a size from \"{least}\" to \"{most}\"{}", such_as(examples));
    let read = value.parse(&expected, value::size)?;
    if range.contains(&read) { Some(read) } else { out_of_range(value, &expected) }
}

/// `, such as "a", "b" or "c"`.
fn such_as<'e>(examples: impl Iterator<Item = &'e str>) -> String {
    let examples: Vec<&str> = examples.collect();
    if examples.is_empty() { String::new() } else { format!(", such as {}", list(&examples).replace('`', "\"")) }
}

fn out_of_range<T>(value: &Value<'_>, expected: &str) -> Option<T> {
    let text = quoted(value.string(expected)?);
    value.bad(Bad::new(format!("{text} is out of range")), expected)
}

/// A path of the file system, joined to `base_dir`.
fn file_path(value: &Value<'_>, base_dir: &Path) -> Option<std::path::PathBuf> {
    let expected = "a path, relative to the directory of this file";
    let text = value.string(expected)?;
    if text.is_empty() || text.contains('\0') {
        let message = format!("{} is not a path", quoted(text));
        value.report(Finding::error(&value.spot, message).expected(expected));
        return None;
    }
    Some(base_dir.join(text))
}
