//! What one question costs: runs the policy crate's own bench and reads its figures.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use crate::run::{self, Failed};

/// A plugin's question with its p50 and p99 in nanoseconds.
#[derive(Debug, PartialEq)]
pub(super) struct Decision {
    pub(super) call: String,
    pub(super) p50: u64,
    pub(super) p99: u64,
}

/// Building it may take long: it is as optimised as the proxy.
const BUILD_LIMIT: Duration = Duration::from_secs(3600);
const RUN_LIMIT: Duration = Duration::from_secs(300);

/// Builds and runs `cargo bench -p witgate-policy`; what it prints is kept in `log`.
pub(super) fn measure(log: &Path) -> Result<Vec<Decision>, Failed> {
    let bench = ["bench", "--package", "witgate-policy", "--bench", "questions"];
    run::run_within(run::cargo().args(bench).arg("--no-run"), BUILD_LIMIT)?;
    let failed = |error: std::io::Error| Failed::new(format!("{}: {error}", log.display()));
    let out = File::create(log).map_err(failed)?;
    run::run_within(run::cargo().args(bench).stdout(out), RUN_LIMIT)?;
    let printed = fs::read_to_string(log).map_err(failed)?;
    let decisions = parse(&printed);
    if decisions.is_empty() {
        return Err(Failed::new(format!("the bench printed no figures:\n{printed}")));
    }
    Ok(decisions)
}

/// Lines that end in two whole numbers; everything else is prose.
fn parse(printed: &str) -> Vec<Decision> {
    let decision = |line: &str| {
        let (rest, p99) = line.trim_end().rsplit_once(' ')?;
        let (call, p50) = rest.trim_end().rsplit_once(' ')?;
        Some(Decision { call: call.trim().to_string(), p50: p50.parse().ok()?, p99: p99.parse().ok()? })
    };
    printed.lines().filter_map(decision).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_among_prose() {
        let printed = "\
call                                            p50 ns    p99 ns
canary: split                                      550       900
latency                                      not built: cargo xtask plugins
latency, 64 endpoints: weigh                      2130      4000
";
        let decision = |call: &str, p50, p99| Decision { call: call.to_string(), p50, p99 };
        let expected = [decision("canary: split", 550, 900), decision("latency, 64 endpoints: weigh", 2130, 4000)];
        assert_eq!(parse(printed), expected);
    }
}
