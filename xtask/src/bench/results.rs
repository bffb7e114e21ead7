//! Everything that one run of the bench measured, for what looks at more than one part, and what went wrong in it.

use super::decisions::Decision;
use super::idle::Held;
use super::rounds::{self, Measured, Run};
use crate::run::Outcome;

/// By part; what was not measured is empty.
#[derive(Default)]
pub(super) struct Results {
    pub(super) loads: Vec<(&'static str, Vec<Measured<Run>>)>,
    pub(super) idle: Vec<Measured<Held>>,
    /// p99 around an activation as a multiple of that before it.
    pub(super) swap: Option<f64>,
    pub(super) decisions: Vec<Decision>,
    /// Requests that failed, but for those in `loads`.
    pub(super) failures: u64,
    /// Parts that could not be measured, with the reason.
    pub(super) broken: Vec<String>,
}

impl Results {
    /// Does a part of the bench; the others do not need it to work.
    pub(super) fn attempt(&mut self, part: &str, work: impl FnOnce(&mut Results) -> Outcome) {
        if let Err(failed) = work(self) {
            println!("{part}: {}", failed.message);
            self.broken.push(format!("{part}: {}", failed.message));
        }
    }

    /// One target's figure as a multiple of another's, in a part in which both were measured.
    pub(super) fn ratio(&self, part: &str, own: &str, other: &str, of: impl Fn(&Run) -> f64) -> Option<f64> {
        let (_, all) = self.loads.iter().find(|(name, _)| *name == part)?;
        Some(rounds::find(all, own)?.ratio(rounds::find(all, other)?, of))
    }

    /// What should not have been: parts and targets of this repository that could not be measured, and failed requests.
    /// A peer that could not is none: its table says so.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = self.broken.clone();
        problems.extend(self.loads.iter().flat_map(|(part, all)| all.iter().filter_map(move |one| broken(part, one))));
        problems.extend(self.idle.iter().filter_map(|one| broken("idle", one)));
        let loads = self.loads.iter().flat_map(|(_, all)| all).map(Measured::failures).sum::<u64>();
        match loads + self.failures {
            0 => {}
            failures => problems.push(format!("{failures} requests failed; none should")),
        }
        problems
    }
}

fn broken<R>(part: &str, measured: &Measured<R>) -> Option<String> {
    let reason = measured.failed.as_ref().filter(|_| measured.own)?;
    Some(format!("{part}: {}: {reason}", measured.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Failed;

    #[test]
    fn problems_are_our_own() {
        let failed = |name, own| {
            let failed = Some("no".to_string());
            Measured { name, own, runs: Vec::<Run>::new(), failed }
        };
        let mut results = Results { loads: vec![("plain", vec![failed("envoy", false)])], ..Results::default() };
        assert!(results.problems().is_empty());
        results.loads.push(("http2", vec![failed("witgate", true)]));
        results.attempt("swap", |_| Err(Failed::new("it fell")));
        results.failures = 3;
        let expected = ["swap: it fell", "http2: witgate: no", "3 requests failed; none should"];
        assert_eq!(results.problems(), expected);
    }
}
