//! `cargo xtask instructions`: counts the instructions of the deciding code's operations, of plugins' questions and of
//! whole requests under callgrind, and judges them by the recorded ones. A count does not depend on what else the machine
//! does, so that a regression shows where times tell nothing.

mod callgrind;
mod record;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use self::record::{Count, Record};
use crate::run::{self, Failed, Outcome};
use crate::{plugins, setup};

/// Some twenty seconds on a busy machine, and a minute where plugins are compiled; what takes this long is stuck.
const RUN_LIMIT: Duration = Duration::from_secs(600);

/// A benchmark that counts when it is started with `--instructions`, and has its record beside it.
pub(crate) struct Suite {
    package: &'static str,
    /// A package that is selected with it, so that dependencies have the features that they have in the tests: with others
    /// they would be built once more, wasmtime for some ten minutes.
    beside: Option<&'static str>,
    bench: &'static str,
    folder: &'static str,
    features: &'static [&'static str],
    /// What is optimised as for users, and in how many units of code: how a crate is cut up decides what is inlined, and so
    /// what is counted.
    optimised: &'static [(&'static str, u32)],
}

/// The native decisions.
pub(crate) const DECIDING: Suite = Suite {
    package: "witgate-core",
    beside: None,
    bench: "deciding",
    folder: "host/core/benches",
    features: &[],
    optimised: &[("witgate-core", 1)],
};

/// What a question costs, crossing and plugin; the plugins must have been built.
pub(crate) const QUESTIONS: Suite = Suite {
    package: "witgate-policy",
    beside: Some("witgate"),
    bench: "questions",
    folder: "host/policy/benches",
    features: &[],
    optimised: &[("witgate-core", 1), ("witgate-policy", 1)],
};

/// What serving a request costs; the plugins must have been built.
pub(crate) const REQUESTS: Suite = Suite {
    package: "witgate",
    beside: None,
    bench: "requests",
    folder: "host/benches",
    features: &["internals"],
    // The host is large: in one unit it takes twice as long on two cores, and counts differ by 2 % or so.
    optimised: &[("witgate-core", 1), ("witgate-policy", 1), ("witgate", 8)],
};

/// The suite's packages are optimised as it is for users, but for link-time optimisation, and without the checks of a debug
/// build, which would be a third of some counts. Only here, and not in Cargo.toml: the fast tests would take 20 s longer to
/// build after each change, while this is one more build of a crate or two, beside what is there of their dependencies. No
/// incremental build, which would cut the crate up as its history is.
const OPTIMISED: &[&str] =
    &["opt-level=3", "debug-assertions=false", "overflow-checks=false", "incremental=false", "debug=false"];

/// For the C library: large pieces of memory are not copied by the one instruction for that, of which callgrind counts each
/// byte. They would be nine tenths of some counts, on processors that have it.
const TUNABLES: &str = "glibc.cpu.x86_rep_movsb_threshold=1073741824";

/// What `cargo xtask instructions` was asked for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options {
    /// Write the record instead of judging by it.
    record: bool,
    /// Only operations whose name contains this; empty: all.
    filter: String,
}

pub(crate) fn options(arguments: &[String]) -> Result<Options, Failed> {
    match arguments {
        [] => Ok(Options::default()),
        [flag] if flag == "--record" => Ok(Options { record: true, ..Options::default() }),
        [filter] if !filter.starts_with('-') => Ok(Options { filter: filter.clone(), ..Options::default() }),
        _ => Err(Failed::usage(format!("instructions takes --record or one filter, not `{}`", arguments.join(" ")))),
    }
}

/// All suites; all but the first need plugins.
pub(crate) fn command(options: &Options) -> Outcome {
    let decided = run_suite(&DECIDING, options)?;
    plugins::command(&plugins::Options::default())?;
    let asked = run_suite(&QUESTIONS, options)?;
    let served = run_suite(&REQUESTS, options)?;
    if decided || asked || served { Ok(()) } else { Err(Failed::new("no operation has such a name")) }
}

/// All of one suite.
pub(crate) fn suite(suite: &Suite) -> Outcome {
    run_suite(suite, &Options::default()).map(|_| ())
}

/// Whether there was something to count, which only a filter keeps from being so.
fn run_suite(suite: &Suite, options: &Options) -> Result<bool, Failed> {
    let valgrind = setup::program("valgrind", "valgrind")?;
    let environment = environment(&valgrind)?;
    let counts = count(&valgrind, suite, &build(suite)?, &options.filter)?;
    if counts.is_empty() {
        return Ok(false);
    }
    let file = suite.file();
    let failed = |error: std::io::Error| Failed::new(format!("{}: {error}", file.display()));
    if options.record {
        let text = Record::new(environment, &counts).render();
        fs::write(&file, text).map_err(failed)?;
        println!("recorded {} operations in {}", counts.len(), file.display());
        return Ok(true);
    }
    let text = fs::read_to_string(&file).map_err(failed)?;
    let record = Record::parse(&text).map_err(|reason| Failed::new(format!("{}: {reason}", file.display())))?;
    let verdict = record.judge(&environment, &counts, options.filter.is_empty());
    println!("{}", verdict.table);
    verdict.hints.iter().for_each(|hint| println!("hint: {hint}"));
    if verdict.failures.is_empty() { Ok(true) } else { Err(Failed::new(verdict.failures.join("\n"))) }
}

impl Suite {
    fn file(&self) -> PathBuf {
        run::root().join(self.folder).join("instructions.toml")
    }
}

/// Builds the operations; where the program is.
fn build(suite: &Suite) -> Result<PathBuf, Failed> {
    let mut cargo = run::cargo();
    cargo.args(["build", "--package", suite.package, "--bench", suite.bench]);
    cargo.args(suite.beside.iter().flat_map(|package| ["--package", package]));
    cargo.args(suite.features.iter().flat_map(|feature| ["--features", feature]));
    cargo.arg("--message-format=json-render-diagnostics");
    for (package, units) in suite.optimised {
        let units = format!("codegen-units={units}");
        for option in OPTIMISED.iter().copied().chain([&*units]) {
            cargo.arg("--config").arg(format!("profile.dev.package.{package}.{option}"));
        }
    }
    println!("building the operations");
    let messages = run::output(&mut cargo)?;
    executable(&messages).ok_or_else(|| Failed::new(format!("cargo named no program:\n{messages}")))
}

/// The benchmark that cargo's messages (JSON, one a line) name. No other string of theirs has these keys. A package's own
/// programs are built with its benchmark, and named before or after it.
fn executable(messages: &str) -> Option<PathBuf> {
    let bench = messages.lines().filter(|line| line.contains("\"kind\":[\"bench\"]"));
    let (_, rest) = bench.filter_map(|line| line.split_once("\"executable\":\"")).next_back()?;
    Some(PathBuf::from(rest.split_once('"')?.0))
}

fn count(valgrind: &Path, suite: &Suite, program: &Path, filter: &str) -> Result<Vec<Count>, Failed> {
    let folder = run::target_dir().join("instructions").join(suite.bench);
    let (names, dumps) = (folder.join("names"), folder.join("callgrind.out"));
    let failed = |error: std::io::Error| Failed::new(format!("{}: {error}", folder.display()));
    fs::create_dir_all(&folder).map_err(failed)?;
    // Dumps are added to what is there.
    if dumps.exists() {
        fs::remove_file(&dumps).map_err(failed)?;
    }
    let mut command = Command::new(valgrind);
    // Variables lie above the stack, and would shift it: what is copied to and from it would be aligned otherwise.
    command
        .env_clear()
        .env("GLIBC_TUNABLES", TUNABLES)
        .current_dir(run::root())
        .stdout(File::create(&names).map_err(failed)?);
    command.args(["--quiet", "--tool=callgrind", "--combine-dumps=yes", "--dump-before=*witgate_mark*"]);
    command.arg(format!("--callgrind-out-file={}", dumps.display()));
    command.arg(program).args(["--instructions", filter]);
    run::run_within(&mut command, RUN_LIMIT)?;
    let read = |file: &Path| fs::read_to_string(file).map_err(failed);
    let names = read(&names)?;
    if names.is_empty() && !filter.is_empty() {
        return Ok(Vec::new());
    }
    callgrind::counts(&names, &read(&dumps)?).map_err(Failed::new)
}

/// What counts depend on beside the sources: the compiler, and which of their variants for this processor the C library and
/// others take. Processors differ in much more, but valgrind knows no instructions beyond AVX2.
fn environment(valgrind: &Path) -> Result<String, Failed> {
    let line = |program: &str, argument: &str| {
        run::output(Command::new(program).args(argument.split(' '))).map(|text| text.trim().to_string())
    };
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_string());
    let libc = line("getconf", "GNU_LIBC_VERSION").unwrap_or_else(|_| "another C library".to_string());
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let avx2 = if processor.split_whitespace().any(|flag| flag == "avx2") { " with AVX2" } else { "" };
    let valgrind = line(&valgrind.to_string_lossy(), "--version")?;
    Ok(format!("{}, {}{avx2}, {libc}, {valgrind}", line(&rustc, "--version")?, std::env::consts::ARCH))
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
        check(&["--record"], Some(Options { record: true, ..Options::default() }));
        check(&["pick"], Some(Options { filter: "pick".to_string(), ..Options::default() }));
        check(&["--record", "pick"], None);
        check(&["--other"], None);
    }

    #[test]
    fn finds_the_program_in_cargos_messages() {
        let message = |kind: &str, program: &str| {
            format!("{{\"target\":{{\"kind\":[\"{kind}\"]}},\"executable\":{program},\"x\":2}}\n")
        };
        let (library, own) = (message("lib", "null"), message("bin", "\"/t/witgate\""));
        let bench = message("bench", "\"/t/deciding-1\"");
        for messages in [format!("{library}{own}{bench}"), format!("{library}{bench}{own}")] {
            assert_eq!(executable(&messages), Some(PathBuf::from("/t/deciding-1")), "{messages}");
        }
        assert_eq!(executable(&format!("{library}{own}")), None);
    }
}
