//! Everything that one run of the bench measured, for what looks at more than one part.

use super::decisions::Decision;
use super::idle::Held;
use super::rounds::{self, Measured, Run};

/// By part; what was not measured is empty.
#[derive(Default)]
pub(super) struct Results {
    pub(super) loads: Vec<(&'static str, Vec<Measured<Run>>)>,
    pub(super) idle: Vec<Measured<Held>>,
    /// p99 around an activation as a multiple of that before it.
    pub(super) swap: Option<f64>,
    pub(super) decisions: Vec<Decision>,
}

impl Results {
    /// One target's figure as a multiple of another's, in a part in which both were measured.
    pub(super) fn ratio(&self, part: &str, own: &str, other: &str, of: impl Fn(&Run) -> f64) -> Option<f64> {
        let (_, all) = self.loads.iter().find(|(name, _)| *name == part)?;
        Some(rounds::find(all, own)?.ratio(rounds::find(all, other)?, of))
    }

    /// Requests that failed under load.
    pub(super) fn failures(&self) -> u64 {
        self.loads.iter().flat_map(|(_, all)| all).map(Measured::failures).sum()
    }

    /// Targets of this repository that could not be measured, with the reason.
    pub(super) fn own_failed(&self) -> Vec<String> {
        let loads = self.loads.iter().flat_map(|(part, all)| all.iter().filter_map(move |one| broken(part, one)));
        loads.chain(self.idle.iter().filter_map(|one| broken("idle", one))).collect()
    }
}

fn broken<R>(part: &str, measured: &Measured<R>) -> Option<String> {
    let reason = measured.failed.as_ref().filter(|_| measured.own)?;
    Some(format!("{part}: {}: {reason}", measured.name))
}
