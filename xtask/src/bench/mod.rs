//! `cargo xtask bench`: what Witgate costs, beside nginx on the same work, on this machine and on loopback only. Measures and
//! writes down; judges nothing but failed requests, because a machine that is not quiet would fail any other limit.

mod decisions;
mod http;
mod load;
mod machine;
mod process;
mod report;
mod rounds;
mod start;
mod stats;
mod swap;
mod targets;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::run::{self, Failed, Outcome};
use crate::{plugins, setup};
use rounds::{Effort, Measured};
use targets::{Scenario, Site};

/// Whole-program optimisation of the engine and the proxy, on a slow machine.
const BUILD_LIMIT: Duration = Duration::from_secs(3600);

/// What can be measured by itself. Each has its markers in docs/performance.md.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Plain,
    Policy,
    Swap,
    Small,
    Decisions,
}

const PARTS: [(&str, Part); 5] = [
    ("plain", Part::Plain),
    ("policy", Part::Policy),
    ("swap", Part::Swap),
    ("small", Part::Small),
    ("decisions", Part::Decisions),
];

/// What `cargo xtask bench` was asked for.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    effort: Effort,
    activations: usize,
    starts: usize,
    parts: Vec<Part>,
    /// A built proxy to use instead of the release build.
    binary: Option<PathBuf>,
    /// Whether docs/performance.md gets the figures.
    write: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            effort: Effort { rounds: 5, seconds: 4 },
            activations: 50,
            starts: 20,
            parts: PARTS.iter().map(|(_, part)| *part).collect(),
            binary: None,
            write: true,
        }
    }
}

pub(crate) fn options(arguments: &[String]) -> Result<Options, Failed> {
    let mut options = Options::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| Failed::usage(format!("{word} needs a value")));
        match word.as_str() {
            "--quick" => {
                options.effort = Effort { rounds: 2, seconds: 2 };
                (options.activations, options.starts, options.write) = (5, 5, false);
            }
            "--rounds" => options.effort.rounds = number(word, value()?, 100)?,
            "--seconds" => options.effort.seconds = number(word, value()?, 600)? as u32,
            "--activations" => options.activations = number(word, value()?, 1000)?,
            "--binary" => options.binary = Some(PathBuf::from(value()?)),
            "--only" => options.parts = value()?.split(',').map(part).collect::<Result<_, _>>()?,
            "--no-write" => options.write = false,
            _ => return Err(Failed::usage(format!("bench does not know `{word}`"))),
        }
    }
    Ok(options)
}

fn number(option: &str, text: &str, most: usize) -> Result<usize, Failed> {
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| Failed::usage(format!("{option} takes a number from 1 to {most}, not `{text}`")))
}

fn part(name: &str) -> Result<Part, Failed> {
    let names = PARTS.map(|(name, _)| name).join(", ");
    let found = PARTS.iter().find(|(own, _)| *own == name).map(|(_, part)| *part);
    found.ok_or_else(|| Failed::usage(format!("there is no part `{name}`; there are {names}")))
}

pub(crate) fn command(options: &Options) -> Outcome {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        return Err(Failed::new("bench needs two cores: one for the proxy, one for load and origins"));
    }
    setup::all()?;
    plugins::command(&plugins::Options::default())?;
    let witgate = proxy_binary(options)?;
    let site = Site::open(witgate)?;
    let mut report = Report { write: options.write, failures: 0 };
    report.add("machine", &machine::describe(&site.witgate))?;
    if options.parts.contains(&Part::Decisions) {
        // Before this process is bound to a core: builds are for all of them.
        let decisions = decisions::measure(&site.scratch.path("decisions.log"))?;
        report.add("decisions", &report::decisions(&decisions))?;
    }
    process::pin_self()?;
    for (name, part) in PARTS.iter().filter(|(_, part)| options.parts.contains(part)) {
        measure(&site, options, name, *part, &mut report)?;
    }
    drop(site);
    match report.failures {
        0 => Ok(()),
        failures => Err(Failed::new(format!("{failures} requests failed; none should"))),
    }
}

/// The proxy to measure: as users get it, unless one is named.
fn proxy_binary(options: &Options) -> Result<PathBuf, Failed> {
    if let Some(binary) = &options.binary {
        let found = fs::canonicalize(binary).map_err(|error| Failed::new(format!("{}: {error}", binary.display())))?;
        println!("measuring {}", found.display());
        return Ok(found);
    }
    let mut cargo = run::cargo();
    run::run_within(cargo.args(["build", "--release", "--package", "witgate", "--bin", "witgate"]), BUILD_LIMIT)?;
    Ok(run::target_dir().join("release/witgate"))
}

fn measure(site: &Site, options: &Options, name: &'static str, part: Part, report: &mut Report) -> Outcome {
    println!("\n── {name}");
    let mut rounds = |scenario: &Scenario| -> Outcome {
        let all = rounds::measure(site, scenario, options.effort)?;
        report.failures += all.iter().map(Measured::failures).sum::<u64>();
        report.add(name, &report::scenario(scenario, &all))
    };
    match part {
        Part::Plain => rounds(&targets::PLAIN)?,
        Part::Policy => rounds(&targets::POLICY)?,
        Part::Swap => {
            let swaps = swap::measure(site, options.activations)?;
            report.failures += swaps.failures();
            report.add(name, &report::swaps(&swaps))?;
        }
        Part::Small => {
            let small = start::measure(site, options.starts, options.effort.seconds)?;
            report.failures += small.failures;
            report.add(name, &report::small(&small))?;
        }
        Part::Decisions => {}
    }
    Ok(())
}

/// What is said about what was measured.
struct Report {
    /// Whether docs/performance.md gets it too.
    write: bool,
    failures: u64,
}

impl Report {
    /// Shows a part and puts it into the document, at once: a later one may fail.
    fn add(&self, part: &str, text: &str) -> Outcome {
        println!("\n{text}");
        if !self.write {
            return Ok(());
        }
        let file = run::root().join("docs/performance.md");
        let failed = |error: &dyn std::fmt::Display| Failed::new(format!("{}: {error}", file.display()));
        let document = fs::read_to_string(&file).map_err(|error| failed(&error))?;
        let document = report::replace(&document, part, text).map_err(|error| failed(&error))?;
        fs::write(&file, document).map_err(|error| failed(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let check = |words: &[&str], expected: Option<Options>| {
            let words: Vec<String> = words.iter().map(|word| word.to_string()).collect();
            assert_eq!(options(&words).ok(), expected, "{words:?}");
        };
        let quick = || Options {
            effort: Effort { rounds: 2, seconds: 2 },
            activations: 5,
            starts: 5,
            write: false,
            ..Options::default()
        };
        check(&[], Some(Options::default()));
        check(&["--quick"], Some(quick()));
        check(&["--quick", "--only", "swap,small"], Some(Options { parts: vec![Part::Swap, Part::Small], ..quick() }));
        let long = Options { effort: Effort { rounds: 9, seconds: 8 }, ..Options::default() };
        check(&["--rounds", "9", "--seconds", "8"], Some(long));
        for wrong in [&["--rounds"][..], &["--rounds", "0"], &["--seconds", "x"], &["--only", "none"], &["quick"]] {
            check(wrong, None);
        }
    }

    #[test]
    fn every_part_has_its_place_in_the_document() {
        let document = fs::read_to_string(run::root().join("docs/performance.md")).unwrap();
        for name in PARTS.map(|(name, _)| name).iter().chain(&["machine"]) {
            assert!(report::replace(&document, name, "").is_ok(), "{name}");
        }
    }
}
