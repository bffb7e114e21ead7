//! `docs/configuration.md` beside the parser: every key in its tables is one that the parser takes, and every key that
//! the parser takes is in its tables. Sockets and plugins have no part in this.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use witgate_core::config::{self, Diagnostics};
use witgate_tests::root;

/// Tables whose keys are the user's own words.
const FREE: [&str; 4] = ["headers", "cookies", "query", "config"];

/// A key that no version will have.
const STRANGER: &str = "no-such-key";

#[test]
fn every_key_is_documented_and_nothing_else_is() {
    let sections = documented();
    assert_eq!(sections.len(), 9, "{sections:?}");
    for (section, keys) in &sections {
        let parents: BTreeSet<&str> = keys.iter().filter_map(|key| Some(key.rsplit_once('.')?.0)).chain([""]).collect();
        for parent in &parents {
            let told: BTreeSet<&str> = keys.iter().filter_map(|key| child(parent, key)).collect();
            let known = accepted(section, parent).unwrap_or_else(|| panic!("{section} {parent} takes no keys"));
            let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
            assert_eq!(told, known, "{section} {parent}: documented on the left, accepted on the right");
        }
        // What is documented without keys of its own must not take any.
        for key in keys.iter().filter(|key| !FREE.contains(&key.as_str())) {
            for leaf in [key.clone(), format!("{key}[]")].iter().filter(|leaf| !parents.contains(leaf.as_str())) {
                assert_eq!(accepted(section, leaf), None, "{section} {leaf} takes keys that are not documented");
            }
        }
    }
}

#[test]
fn what_is_said_to_come_later_is_refused_as_such() {
    let text = reference();
    let table = text.split_once("\n## Not in this version\n").expect("a section on what is not there").1;
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `[")?.split_once(" | "));
    let mut keys = 0;
    for (place, row) in rows {
        let section = format!("[{}", place.trim_matches('`'));
        for key in code_words(row) {
            let probe = match key.split_once(" = ") {
                Some((key, value)) => probe(&section, key, value),
                None => probe(&section, key, "{}"),
            };
            let shown = parse(&probe).expect_err("a file with nothing else in it").to_string();
            assert!(shown.contains("is not supported by this version of Witgate"), "{section} {key}:\n{shown}");
            keys += 1;
        }
    }
    assert!(keys > 0, "{keys}");
}

#[test]
fn the_sample_of_errors_is_what_is_shown() {
    let text = reference();
    let section = text.split_once("\n## Errors\n").expect("a section on errors").1;
    let block = |language: &str| {
        let begin = format!("```{language}\n");
        section.split_once(&begin).and_then(|(_, rest)| rest.split_once("```")).expect("a block").0
    };
    let shown = parse(block("toml")).expect_err("the sample is wrong").to_string();
    assert_eq!(block("text").trim_end(), shown.trim_end());
}

#[test]
fn every_complete_block_is_a_configuration() {
    let text = reference();
    let smallest = text.split_once("\n## The smallest file\n").expect("a section on the smallest file").1;
    let file = smallest.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("```")).expect("a block").0;
    let parsed = parse(file).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    assert!(parsed.warnings.is_empty(), "{}", parsed.warnings);
    // The blocks of single tables, together with what they refer to.
    let blocks = ["[[listener]]", "[[route]]", "[[cluster]]", "[[plugin]]"].map(|section| {
        let part = text.split_once(&format!("\n## `{section}`\n")).unwrap_or_else(|| panic!("no section {section}")).1;
        part.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("```")).expect("a block").0
    });
    let whole = blocks.concat() + "[[cluster]]\nname = \"api-canary\"\nendpoints = []\n";
    let parsed = parse(&whole).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    assert!(parsed.warnings.is_empty(), "{}", parsed.warnings);
}

fn reference() -> String {
    fs::read_to_string(root().join("docs/configuration.md")).expect("the reference is there")
}

/// The keys in the tables of each section that is about a table of the file: `affinity.cookie.name`, `split[].weight`.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let text = reference();
    let mut sections = BTreeMap::new();
    for part in text.split("\n## ").skip(1) {
        let (title, rest) = part.split_once('\n').unwrap_or((part, ""));
        if let Some(section) = title.strip_prefix('`').and_then(|t| t.strip_suffix('`')).filter(|t| t.starts_with('['))
        {
            let keys = rest.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
            sections.insert(section.to_owned(), keys.map(|(key, _)| key.to_owned()).collect());
        }
    }
    sections
}

/// The key just below `parent` on the way to `key`: `cookie` from `affinity` to `affinity.cookie.name`.
fn child<'k>(parent: &str, key: &'k str) -> Option<&'k str> {
    let rest = if parent.is_empty() { key } else { key.strip_prefix(parent)?.strip_prefix('.')? };
    rest.split('.').next().map(|step| step.trim_end_matches("[]"))
}

/// The keys that the parser accepts below `parent`; none where that is no table.
fn accepted(section: &str, parent: &str) -> Option<BTreeSet<String>> {
    let key = if parent.is_empty() { STRANGER.to_owned() } else { format!("{parent}.{STRANGER}") };
    let diagnostics = parse(&probe(section, &key, "1")).expect_err("a key that nobody knows");
    let unknown = diagnostics.iter().find(|d| d.message == format!("unknown key {STRANGER:?}"))?;
    let expected = unknown.expected.as_deref().expect("an unknown key comes with those that are known");
    Some(code_words(expected).map(str::to_owned).collect())
}

/// A file with one key in one table: `probe("[[route]]", "split[].weight", "1")` is
/// `[[route]]⏎split = [{ weight = 1 }]`.
fn probe(section: &str, key: &str, value: &str) -> String {
    let value = key.split('.').rev().fold(value.to_owned(), |value, step| match step.strip_suffix("[]") {
        Some(step) => format!("{{ {step} = [{value}] }}"),
        None => format!("{{ {step} = {value} }}"),
    });
    let inner = value.strip_prefix("{ ").and_then(|value| value.strip_suffix(" }")).unwrap_or(&value);
    format!("{section}\n{inner}\n")
}

/// What stands between backticks.
fn code_words(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn parse(text: &str) -> Result<config::Parsed, Diagnostics> {
    config::parse(text, "witgate.toml", Path::new("."))
}
