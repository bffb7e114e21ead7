//! What `cargo xtask resilience` is asked for.

use super::scenarios::{self, Row, Scenario};
use crate::lab::{choice::Choice, number};
use crate::run::Failed;

#[derive(Debug, PartialEq)]
pub(super) struct Options {
    /// How long a fault lasts; half of it comes before, half after it.
    pub(super) seconds: u64,
    pub(super) choice: Choice,
}

impl Default for Options {
    fn default() -> Self {
        Options { seconds: 10, choice: Choice::default() }
    }
}

impl Options {
    pub(super) fn scenarios(&self) -> Vec<&'static Scenario> {
        scenarios::ALL.iter().filter(|scenario| self.choice.has_part(scenario.part)).collect()
    }

    /// The rows of a scenario that are to be measured.
    pub(super) fn rows(&self, scenario: &'static Scenario) -> Vec<&'static Row> {
        scenario.rows.iter().filter(|row| self.choice.has_proxy(row.name)).collect()
    }
}

pub(super) fn options(arguments: &[String]) -> Result<Options, Failed> {
    let mut options = Options::default();
    let parts: Vec<&str> = scenarios::ALL.iter().map(|scenario| scenario.part).collect();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| Failed::usage(format!("{word} needs a value")));
        match word.as_str() {
            "--quick" => (options.seconds, options.choice.write) = (4, false),
            "--seconds" => options.seconds = number(word, value()?, 600)? as u64,
            _ => options.choice.take("resilience", word, value, &parts)?,
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run;

    #[test]
    fn arguments() {
        let check = |words: &[&str], expected: Option<Options>| {
            assert_eq!(options(&run::words(words)).ok(), expected, "{words:?}");
        };
        check(&[], Some(Options::default()));
        check(&["--quick"], Some(Options { seconds: 4, choice: Choice { write: false, ..Choice::default() } }));
        check(&["--seconds", "20"], Some(Options { seconds: 20, ..Options::default() }));
        for wrong in [&["--seconds"][..], &["--seconds", "0"], &["--only", "none"], &["kill"], &["--rounds", "2"]] {
            check(wrong, None);
        }
        let some = options(&run::words(&["--proxies", "witgate,leastconn", "--only", "slow,kill"])).unwrap();
        let names = |scenario| some.rows(scenario).iter().map(|row| row.name).collect::<Vec<_>>();
        let all: Vec<_> = some.scenarios().into_iter().map(names).collect();
        let slow =
            ["witgate, round-robin", "witgate, least-request", "witgate, peak-ewma", "haproxy, leastconn"].to_vec();
        assert_eq!((all, some.choice.write), (vec![vec!["witgate"], slow], false));
    }
}
