//! A scenario in interleaved rounds: every target once a round, each freshly started, the order reversed every other round.
//! Ratios are taken within a round, so that a machine that drifts drifts for both.

use super::load;
use super::process::Usage;
use super::stats::median;
use super::targets::{self, Scenario, Site, Target};
use crate::run::Failed;

/// Load before the measured one: connections are made, caches and branch predictors warm.
const WARM_UP: u32 = 1;
/// A run in which others took more of the proxy's core than this is done once more. Some is the kernel's own: interrupts and
/// loopback work that it charges to nobody.
const NOISE: f64 = 0.15;

/// How often and how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Effort {
    pub(super) rounds: usize,
    pub(super) seconds: u32,
}

/// One measured run of one target.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    /// CPU time of the proxy for each request, in µs.
    pub(super) user: f64,
    pub(super) kernel: f64,
    pub(super) per_second: f64,
    /// Milliseconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) resident_mb: f64,
    /// Share of its core that the proxy used, and that anything else did.
    pub(super) busy: f64,
    pub(super) others: f64,
    pub(super) failures: u64,
}

impl Run {
    pub(super) fn cpu(&self) -> f64 {
        self.user + self.kernel
    }
}

/// All runs of one target, by round.
pub(super) struct Measured {
    pub(super) name: &'static str,
    pub(super) runs: Vec<Run>,
}

impl Measured {
    pub(super) fn median(&self, of: impl Fn(&Run) -> f64) -> f64 {
        median(self.runs.iter().map(of))
    }

    /// CPU per request as a multiple of `baseline`'s: the median over the rounds of the ratio within a round.
    pub(super) fn ratio(&self, baseline: &Measured) -> f64 {
        median(self.runs.iter().zip(&baseline.runs).map(|(own, other)| own.cpu() / other.cpu()))
    }

    pub(super) fn failures(&self) -> u64 {
        self.runs.iter().map(|run| run.failures).sum()
    }
}

/// The one of that name.
pub(super) fn find<'m>(all: &'m [Measured], name: &str) -> Option<&'m Measured> {
    all.iter().find(|measured| measured.name == name)
}

/// Runs all rounds, and says each run's figures as they come.
pub(super) fn measure(site: &Site, scenario: &Scenario, effort: Effort) -> Result<Vec<Measured>, Failed> {
    let new = |target: &Target| Measured { name: target.name, runs: Vec::new() };
    let mut all: Vec<Measured> = scenario.targets.iter().map(new).collect();
    for round in 0..effort.rounds {
        let mut order: Vec<usize> = (0..all.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let target = &scenario.targets[at];
            let once = || {
                let named = |failed: Failed| Failed::new(format!("{}: {}", target.name, failed.message));
                one(site, scenario, target, effort.seconds).map_err(named)
            };
            let mut run = once()?;
            say(round, target, &run);
            if run.others > NOISE {
                run = once()?;
                say(round, target, &run);
            }
            all[at].runs.push(run);
        }
    }
    Ok(all)
}

fn one(site: &Site, scenario: &Scenario, target: &Target, seconds: u32) -> Result<Run, Failed> {
    let proxy = site.start(target)?;
    targets::check(target, proxy.port)?;
    let script = scenario.script.map(|script| targets::template_dir().join(script));
    let load = |seconds| {
        load::start(proxy.port, seconds, script.as_deref(), &site.scratch.path("wrk.log"))
            .and_then(load::Running::finish)
    };
    load(WARM_UP)?;
    let usage = Usage::of(&proxy.process)?;
    let load = load(seconds)?;
    let used = usage.until_now()?;
    let per_request = |seconds: f64| seconds * 1e6 / load.requests as f64;
    Ok(Run {
        user: per_request(used.user),
        kernel: per_request(used.kernel),
        per_second: load.requests as f64 / load.seconds,
        p50: load.p50,
        p99: load.p99,
        resident_mb: proxy.process.resident_kib()? as f64 / 1024.0,
        busy: used.busy,
        others: used.others,
        failures: load.failures,
    })
}

fn say(round: usize, target: &Target, run: &Run) {
    println!(
        "round {} {:24} {:6.1} µs/request ({:.1} user, {:.1} kernel)  {:7.0}/s  p99 {:6.2} ms  {:3.0} MB  others {:2.0} %{}",
        round + 1,
        target.name,
        run.cpu(),
        run.user,
        run.kernel,
        run.per_second,
        run.p99,
        run.resident_mb,
        run.others * 100.0,
        if run.failures > 0 { format!("  {} FAILED", run.failures) } else { String::new() },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_rounds() {
        let of = |name, costs: [f64; 3]| {
            let run = |cost| Run { user: cost / 2.0, kernel: cost / 2.0, ..Run::default() };
            Measured { name, runs: costs.map(run).to_vec() }
        };
        // The machine was half as fast in the second round, for both.
        let (base, own) = (of("base", [10.0, 20.0, 10.0]), of("own", [11.0, 22.0, 12.0]));
        assert!((own.ratio(&base) - 1.1).abs() < 1e-9, "{}", own.ratio(&base));
        assert_eq!(own.median(Run::cpu), 12.0);
    }
}
