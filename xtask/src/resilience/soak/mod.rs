//! `cargo xtask soak`: the proxy for as long as told, under clients of every kind, while every fault comes again and again.

mod dice;
mod judge;
mod operator;
mod options;
mod proxy;
mod report;
mod run;
mod samples;
mod sets;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::DOCUMENT;
use crate::lab::{self, process};
use crate::run::{Failed, Outcome};
use crate::setup;

/// The tests' own crate, and what it needs.
const BUILD_LIMIT: Duration = Duration::from_secs(1800);
const PART: &str = "soak";

pub(crate) fn command(arguments: &[String]) -> Outcome {
    let options = options::options(arguments)?;
    if !process::is_again() {
        lab::two_cores("soak")?;
        setup::program("nginx", "nginx-light")?;
        let witgate = lab::proxy_binary(options.choice.binary.as_deref())?;
        build()?;
        // As for resilience: what follows is on the core of the load.
        let built = ["--binary".to_string(), witgate.display().to_string()];
        return process::again(&[&["soak".to_string()], arguments, &built].concat());
    }
    process::allow_many_files()?;
    let witgate = options.choice.binary.clone().ok_or_else(|| Failed::new("there is no binary"))?;
    let soaked = run::soak(&witgate, &helper(), &options)?;
    let mut text = report::table(&soaked, &options);
    if witgate.components().any(|part| part.as_os_str() == "debug") {
        text.push_str(
            "- of a build without optimisation: its times and its share of the core are not what users get\n",
        );
    }
    println!("\n{text}");
    if options.choice.write {
        DOCUMENT.write(PART, &text)?;
    }
    let wrong = report::wrong(&soaked);
    if wrong.is_empty() { Ok(()) } else { Err(Failed::new(wrong.join("\n"))) }
}

/// The program of clients and of what echoes, which needs libraries that this one does without.
fn build() -> Outcome {
    let mut cargo = crate::run::cargo();
    crate::run::run_within(cargo.args(["build", "--package", "witgate-tests", "--bin", "soak"]), BUILD_LIMIT)
}

fn helper() -> PathBuf {
    crate::run::target_dir().join("debug/soak")
}

/// Milliseconds since 1970, which is the clients' clock as well.
fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_its_place_in_the_document() {
        assert!(DOCUMENT.has(PART));
    }
}
