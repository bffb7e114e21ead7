//! The recorded counts: their file, and how measured ones are judged by them. Measures nothing.

use std::collections::BTreeMap;
use std::fmt::Write;

/// How far a count may rise above the record, and how far fall before it is worth another record. Changes that were meant to
/// change nothing move counts by a few instructions, as inlining turns out.
const PERCENT: u64 = 10;

const HEADER: &str = "\
# Instructions of one round of each operation of this benchmark. Written by `cargo xtask instructions --record`, and explained
# in docs/performance.md.
";

/// What was counted for one operation.
#[derive(Debug, PartialEq)]
pub(super) struct Count {
    pub(super) name: String,
    /// Of one round.
    pub(super) instructions: u64,
}

/// What a file of records says.
#[derive(Debug, PartialEq)]
pub(super) struct Record {
    /// Compiler and machine.
    environment: String,
    /// In the order of the operations where it is written, by name where it is read.
    counts: Vec<(String, u64)>,
}

/// What is to be said about measured counts.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) table: String,
    /// What someone should know.
    pub(super) hints: Vec<String>,
    /// What must not be.
    pub(super) failures: Vec<String>,
}

impl Record {
    pub(super) fn new(environment: String, counts: &[Count]) -> Record {
        let counts = counts.iter().map(|count| (count.name.clone(), count.instructions)).collect();
        Record { environment, counts }
    }

    pub(super) fn parse(text: &str) -> Result<Record, String> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
        let environment = table.get("environment").and_then(toml::Value::as_str).ok_or("`environment` is missing")?;
        let counts = table.get("instructions").and_then(toml::Value::as_table).ok_or("`[instructions]` is missing")?;
        let count = |(name, value): (&String, &toml::Value)| {
            let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
            number.map(|number| (name.clone(), number)).ok_or(format!("`{name}` is not a number of instructions"))
        };
        Ok(Record { environment: environment.to_string(), counts: counts.iter().map(count).collect::<Result<_, _>>()? })
    }

    pub(super) fn render(&self) -> String {
        let mut text = format!("{HEADER}environment = {:?}\n\n[instructions]\n", self.environment);
        for (name, instructions) in &self.counts {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:?} = {instructions}");
        }
        text
    }

    /// `all`: every operation was measured, so that what is recorded and was not is gone.
    pub(super) fn judge(&self, environment: &str, counts: &[Count], all: bool) -> Verdict {
        let same = self.environment == environment;
        let mut recorded: BTreeMap<&str, u64> = self.counts.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        let mut verdict = Verdict { table: String::new(), hints: Vec::new(), failures: Vec::new() };
        let _ = write!(verdict.table, "{:<48} {:>10} {:>10}", "instructions of", "recorded", "now");
        if !same {
            verdict.hints.push(format!(
                "recorded with {}; this is {environment}: a count that rose does not fail",
                self.environment
            ));
        }
        for Count { name, instructions: now } in counts {
            let Some(before) = recorded.remove(name.as_str()) else {
                let _ = write!(verdict.table, "\n{name:<48} {:>10} {now:>10}", "none");
                verdict.failures.push(format!("`{name}`: not recorded: `cargo xtask instructions --record`"));
                continue;
            };
            let change = (*now as f64 / before.max(1) as f64 - 1.0) * 100.0;
            let _ = write!(verdict.table, "\n{name:<48} {before:>10} {now:>10} {change:>+6.1} %");
            let told = format!("`{name}`: {before} instructions recorded, {now} measured ({change:+.1} %)");
            if now * 100 > before * (100 + PERCENT) {
                let list = if same { &mut verdict.failures } else { &mut verdict.hints };
                list.push(told);
            } else if now * 100 < before * (100 - PERCENT) {
                verdict.hints.push(format!("{told}: worth a `cargo xtask instructions --record`"));
            }
        }
        if all {
            let gone =
                |name: &&str| format!("`{name}`: recorded, but no operation: `cargo xtask instructions --record`");
            verdict.failures.extend(recorded.keys().map(gone));
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(counts: &[(&str, u64)]) -> Record {
        let counts = counts.iter().map(|&(name, n)| (name.to_string(), n)).collect();
        Record { environment: "rustc 1".to_string(), counts }
    }

    /// Judges measured counts by `a` = 100 and `b` = 50: how many failures and hints, and what the first says.
    #[track_caller]
    fn check(environment: &str, counts: &[(&str, u64)], failures: usize, hints: usize, first: &str) {
        let counts: Vec<Count> =
            counts.iter().map(|&(name, instructions)| Count { name: name.to_string(), instructions }).collect();
        let verdict = record(&[("a", 100), ("b", 50)]).judge(environment, &counts, true);
        assert_eq!((verdict.failures.len(), verdict.hints.len()), (failures, hints), "{counts:?}: {verdict:?}");
        let said = verdict.failures.iter().chain(&verdict.hints).next().map_or("", String::as_str);
        assert!(said.starts_with(first), "{counts:?}: {said}, want {first}");
        assert_eq!(verdict.table.lines().count(), 1 + counts.len(), "{}", verdict.table);
    }

    #[test]
    fn only_a_rise_with_the_same_compiler_fails() {
        check("rustc 1", &[("a", 100), ("b", 50)], 0, 0, "");
        check("rustc 1", &[("a", 110), ("b", 45)], 0, 0, "");
        check("rustc 1", &[("a", 111), ("b", 50)], 1, 0, "`a`: 100 instructions recorded, 111 measured (+11.0 %)");
        check("rustc 1", &[("a", 100), ("b", 44)], 0, 1, "`b`: 50 instructions recorded, 44 measured (-12.0 %): worth");
        check("rustc 2", &[("a", 111), ("b", 50)], 0, 2, "recorded with rustc 1; this is rustc 2");
    }

    #[test]
    fn every_operation_is_recorded_and_every_record_an_operation() {
        check("rustc 1", &[("a", 100), ("b", 50), ("c", 1)], 1, 0, "`c`: not recorded");
        check("rustc 1", &[("a", 100)], 1, 0, "`b`: recorded, but no operation");
        let some = record(&[("a", 1), ("b", 1)]).judge("rustc 1", &[], false);
        assert!(some.failures.is_empty(), "{some:?}");
    }

    #[test]
    fn what_is_written_is_read() {
        let record = record(&[("pick, 2", 100), ("read the client's address", 50)]);
        assert_eq!(Record::parse(&record.render()), Ok(record));
        assert!(Record::parse("environment = 'x'\n[instructions]\na = -1").is_err());
        assert!(Record::parse("[instructions]\na = 1").is_err());
    }
}
