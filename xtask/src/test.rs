//! `cargo xtask test`: every check there is, cheap ones first, one closing line `N passed, N failed`. A check that fails does not
//! keep the next from running, so that one run tells everything.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::run::{self, Failed, Outcome};
use crate::tally::{Counted, Tally};
use crate::{deny, instructions, languages, plugins, setup};

/// What `cargo xtask test` was asked for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options {
    fast: bool,
    /// Only tests whose name contains this, and nothing but tests.
    filter: Option<String>,
}

pub(crate) fn options(arguments: &[String]) -> Result<Options, Failed> {
    let mut options = Options::default();
    for argument in arguments {
        match argument.as_str() {
            "--fast" => options.fast = true,
            flag if flag.starts_with('-') => return Err(Failed::usage(format!("test does not know `{flag}`"))),
            filter if options.filter.is_none() => options.filter = Some(filter.to_string()),
            second => return Err(Failed::usage(format!("test takes one filter; what is `{second}`?"))),
        }
    }
    Ok(options)
}

pub(crate) fn command(options: &Options) -> Outcome {
    let mut tests = Tests { tally: Tally::default(), filter: options.filter.clone(), started: Instant::now() };
    tests.run(options);
    println!("\nall checks took {}", shown(tests.started));
    println!("{}", tests.tally.closing());
    // The closing line is the last word: what failed is listed above it.
    if tests.tally.is_green() { Ok(()) } else { Err(Failed::new("")) }
}

struct Tests {
    tally: Tally,
    filter: Option<String>,
    started: Instant,
}

impl Tests {
    fn run(&mut self, options: &Options) {
        let everything = !options.fast && self.filter.is_none();
        if everything {
            self.check("format", || run::run(run::cargo().args(["fmt", "--all", "--check"])));
        }
        if !options.fast {
            self.needed("setup", setup::all);
        }
        // Pure crates: seconds, and most mistakes.
        let fast = fast_packages();
        self.cargo_test("fast tests", fast.iter().flat_map(|package| ["--package", package]));
        if self.filter.is_none() {
            self.check("instructions", || instructions::suite(&instructions::DECIDING));
        }
        if options.fast {
            return;
        }
        if everything {
            self.check("licences and dependencies", deny::command);
        }
        self.needed("plugins", || plugins::command(&plugins::Options::for_demo()));
        self.needed("plugins in other languages", languages::build);
        if everything {
            let lint = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
            self.check("clippy", || run::run(run::cargo().args(lint)));
            // What only benchmarks see; apart, as the product is judged without it.
            let lint =
                ["clippy", "--workspace", "--bench=requests", "--features=witgate/internals", "--", "-D", "warnings"];
            self.check("clippy of benchmarks", || run::run(run::cargo().args(lint)));
        }
        let exclude = fast.iter().flat_map(|package| ["--exclude", package]);
        self.cargo_test("tests", ["--workspace"].into_iter().chain(exclude));
        if everything {
            self.check("instructions of questions", || instructions::suite(&instructions::QUESTIONS));
            self.check("instructions of requests", || instructions::suite(&instructions::REQUESTS));
            let mut doc = run::cargo();
            doc.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-Dwarnings");
            self.check("documentation", || run::run(&mut doc));
        }
    }

    /// A check that counts as one test.
    fn check(&mut self, name: &str, check: impl FnOnce() -> Outcome) {
        let outcome = step(name, check);
        self.tally.check(name, &outcome.map_err(|failed| failed.message));
    }

    /// Something that tests stand on: not a test where it works, a failure where it does not.
    fn needed(&mut self, name: &str, work: impl FnOnce() -> Outcome) {
        if let Err(failed) = step(name, work) {
            self.tally.check(name, &Err(failed.message));
        }
    }

    fn cargo_test<'a>(&mut self, name: &str, packages: impl Iterator<Item = &'a str>) {
        let mut cargo = run::cargo();
        cargo.args(["test", "--no-fail-fast"]).args(packages).args(&self.filter);
        cargo.env("WITGATE_PLUGINS", plugins::output_dir());
        let mut counted = Counted::default();
        let outcome = step(name, || count(&mut cargo, &mut counted));
        self.tally.tests(name, &counted, outcome.is_ok());
    }
}

/// The members that need neither hyper nor wasmtime.
fn fast_packages() -> Vec<String> {
    let plugins = plugins::packages().unwrap_or_default();
    ["witgate-core", "witgate-sdk", "xtask"].into_iter().map(str::to_string).chain(plugins).collect()
}

/// A header, the work, the time it took, and why it failed.
fn step(name: &str, work: impl FnOnce() -> Outcome) -> Outcome {
    println!("\n── {name}");
    let started = Instant::now();
    let outcome = work();
    match &outcome {
        Ok(()) => println!("── {name}: {}", shown(started)),
        Err(failed) => println!("{}\n── {name}: FAILED after {}", failed.message, shown(started)),
    }
    outcome
}

fn shown(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().as_secs_f64())
}

/// Runs cargo test, showing its lines as they come and counting them.
fn count(command: &mut Command, counted: &mut Counted) -> Outcome {
    let failed = |error: std::io::Error| Failed::new(format!("cargo test: {error}"));
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
    if let Some(output) = child.stdout.take() {
        // By bytes: a test may print what is not UTF-8.
        for line in BufReader::new(output).split(b'\n') {
            let line = line.map_err(failed)?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            counted.line(&line);
        }
    }
    let status = child.wait().map_err(failed)?;
    if status.success() { Ok(()) } else { Err(Failed::new(format!("cargo test failed ({status})"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let check = |words: &[&str], expected: Option<Options>| {
            assert_eq!(options(&run::words(words)).ok(), expected, "{words:?}");
        };
        check(&[], Some(Options::default()));
        check(&["--fast", "split"], Some(Options { fast: true, filter: Some("split".to_string()) }));
        check(&["a", "b"], None);
        check(&["--slow"], None);
    }
}
