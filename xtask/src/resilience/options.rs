//! What `cargo xtask resilience` is asked for.

use std::path::PathBuf;

use super::scenarios::{self, Row, Scenario};
use crate::lab::number;
use crate::run::Failed;

#[derive(Debug, PartialEq)]
pub(super) struct Options {
    /// How long a fault lasts; half of it comes before, half after it.
    pub(super) seconds: u64,
    /// Names of scenarios; all of them where there is none.
    pub(super) only: Vec<String>,
    /// Parts of names of proxies; all of them where there is none.
    pub(super) proxies: Vec<String>,
    /// A built proxy to use instead of the release build.
    pub(super) binary: Option<PathBuf>,
    /// Whether docs/ gets the figures.
    pub(super) write: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { seconds: 10, only: Vec::new(), proxies: Vec::new(), binary: None, write: true }
    }
}

impl Options {
    pub(super) fn scenarios(&self) -> Vec<&'static Scenario> {
        let asked = |scenario: &&Scenario| self.only.is_empty() || self.only.iter().any(|name| name == scenario.part);
        scenarios::ALL.iter().filter(asked).collect()
    }

    /// The rows of a scenario that are to be measured.
    pub(super) fn rows(&self, scenario: &'static Scenario) -> Vec<&'static Row> {
        let asked = |row: &&Row| self.proxies.is_empty() || self.proxies.iter().any(|name| row.name.contains(&**name));
        scenario.rows.iter().filter(asked).collect()
    }
}

pub(super) fn options(arguments: &[String]) -> Result<Options, Failed> {
    let mut options = Options::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| Failed::usage(format!("{word} needs a value")));
        match word.as_str() {
            "--quick" => (options.seconds, options.write) = (4, false),
            "--seconds" => options.seconds = number(word, value()?, 600)? as u64,
            "--binary" => options.binary = Some(PathBuf::from(value()?)),
            "--only" => options.only = value()?.split(',').map(scenario).collect::<Result<_, _>>()?,
            "--proxies" => {
                // Tables without the others would say less than those that are there.
                options.proxies = value()?.split(',').map(str::to_string).collect();
                options.write = false;
            }
            "--no-write" => options.write = false,
            _ => return Err(Failed::usage(format!("resilience does not know `{word}`"))),
        }
    }
    Ok(options)
}

fn scenario(name: &str) -> Result<String, Failed> {
    let names: Vec<&str> = scenarios::ALL.iter().map(|scenario| scenario.part).collect();
    if names.contains(&name) {
        return Ok(name.to_string());
    }
    Err(Failed::usage(format!("there is no scenario `{name}`; there are {}", names.join(", "))))
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
        check(&["--quick"], Some(Options { seconds: 4, write: false, ..Options::default() }));
        check(&["--seconds", "20"], Some(Options { seconds: 20, ..Options::default() }));
        for wrong in [&["--seconds"][..], &["--seconds", "0"], &["--only", "none"], &["kill"], &["--rounds", "2"]] {
            check(wrong, None);
        }
        let some = options(&run::words(&["--proxies", "witgate,leastconn", "--only", "slow,kill"])).unwrap();
        let names = |scenario| some.rows(scenario).iter().map(|row| row.name).collect::<Vec<_>>();
        let all: Vec<_> = some.scenarios().into_iter().map(names).collect();
        let slow =
            ["witgate, round-robin", "witgate, least-request", "witgate, peak-ewma", "haproxy, leastconn"].to_vec();
        assert_eq!((all, some.write), (vec![vec!["witgate"], slow], false));
    }
}
