//! What measurements on this machine share: programs that are started and always ended, other proxies, templates, a small HTTP
//! client, and the documents that figures go into. Knows no scenario.

pub(crate) mod choice;
pub(crate) mod document;
pub(crate) mod http;
pub(crate) mod machine;
pub(crate) mod peers;
pub(crate) mod process;
pub(crate) mod stats;
pub(crate) mod template;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::run::{self, Failed, Outcome};

/// Whole-program optimisation of the engine and the proxy, on a slow machine.
const BUILD_LIMIT: Duration = Duration::from_secs(3600);

/// An error where there are too few.
pub(crate) fn two_cores(command: &str) -> Outcome {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        let needs = "needs two cores: one for the proxy, one for load and origins";
        return Err(Failed::new(format!("{command} {needs}")));
    }
    Ok(())
}

/// The proxy to measure: as users get it, unless one is named.
pub(crate) fn proxy_binary(named: Option<&Path>) -> Result<PathBuf, Failed> {
    if let Some(binary) = named {
        let found = fs::canonicalize(binary).map_err(|error| Failed::new(format!("{}: {error}", binary.display())))?;
        println!("measuring {}", found.display());
        return Ok(found);
    }
    let mut cargo = run::cargo();
    run::run_within(cargo.args(["build", "--release", "--package", "witgate", "--bin", "witgate"]), BUILD_LIMIT)?;
    Ok(run::target_dir().join("release/witgate"))
}

/// An option's value.
pub(crate) fn number(option: &str, text: &str, most: usize) -> Result<usize, Failed> {
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| Failed::usage(format!("{option} takes a number from 1 to {most}, not `{text}`")))
}
