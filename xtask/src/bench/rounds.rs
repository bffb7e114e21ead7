//! Interleaved rounds: every target once a round, each freshly started, the order reversed every other round. Ratios are
//! taken within a round, so that a machine that drifts drifts for both. A target that fails is left out from then on, with
//! its reason; the others go on.

use super::check;
use super::load;
use super::scenarios::Scenario;
use super::site::Site;
use super::targets::Target;
use crate::lab::process::Usage;
use crate::lab::stats::median;
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
    /// Whether a run is warmed up, and repeated where it was disturbed.
    pub(super) careful: bool,
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

/// All runs of one target, by round; none where it failed.
pub(super) struct Measured<R> {
    pub(super) name: &'static str,
    pub(super) own: bool,
    pub(super) runs: Vec<R>,
    pub(super) failed: Option<String>,
}

impl<R> Measured<R> {
    pub(super) fn median(&self, of: impl Fn(&R) -> f64) -> f64 {
        median(self.runs.iter().map(of))
    }

    /// A figure as a multiple of `baseline`'s: the median over the rounds of the ratio within a round.
    pub(super) fn ratio(&self, baseline: &Measured<R>, of: impl Fn(&R) -> f64) -> f64 {
        median(self.runs.iter().zip(&baseline.runs).map(|(own, other)| of(own) / of(other)))
    }
}

impl Measured<Run> {
    pub(super) fn failures(&self) -> u64 {
        self.runs.iter().map(|run| run.failures).sum()
    }
}

/// The one of that name, where it was measured.
pub(super) fn find<'m, R>(all: &'m [Measured<R>], name: &str) -> Option<&'m Measured<R>> {
    all.iter().find(|measured| measured.name == name && !measured.runs.is_empty())
}

/// Runs all rounds of `one`.
pub(super) fn interleave<R>(
    targets: &[&Target],
    rounds: usize,
    mut one: impl FnMut(usize, &Target) -> Result<R, Failed>,
) -> Vec<Measured<R>> {
    let new = |target: &&Target| Measured { name: target.name, own: target.is_own(), runs: Vec::new(), failed: None };
    let mut all: Vec<Measured<R>> = targets.iter().map(new).collect();
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..all.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            if all[at].failed.is_some() {
                continue;
            }
            match one(round, targets[at]) {
                Ok(run) => all[at].runs.push(run),
                Err(failed) => {
                    println!("round {} {:36} {}", round + 1, targets[at].name, failed.message);
                    all[at].runs.clear();
                    all[at].failed = Some(failed.message);
                }
            }
        }
    }
    all
}

/// Measures a scenario, and says each run's figures as they come.
pub(super) fn measure(site: &Site, scenario: &Scenario, targets: &[&Target], effort: Effort) -> Vec<Measured<Run>> {
    interleave(targets, effort.rounds, |round, target| {
        let mut run = one(site, scenario, target, effort)?;
        say(round, target, &run);
        if effort.careful && run.others > NOISE {
            run = one(site, scenario, target, effort)?;
            say(round, target, &run);
        }
        Ok(run)
    })
}

fn one(site: &Site, scenario: &Scenario, target: &Target, effort: Effort) -> Result<Run, Failed> {
    let proxy = site.start(target)?;
    check::check(target, &scenario.work, proxy.port)?;
    let load =
        |seconds| load::start(&scenario.work, proxy.port, seconds, &site.scratch).and_then(load::Running::finish);
    if effort.careful {
        load(WARM_UP)?;
    }
    let usage = Usage::of(&proxy.process)?;
    let load = load(effort.seconds)?;
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
        "round {} {:36} {:6.1} µs/request ({:.1} user, {:.1} kernel)  {:7.0}/s  p99 {:6.2} ms  {:3.0} MB  others {:2.0} %{}",
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
    use super::super::targets;
    use super::*;

    #[test]
    fn ratios_are_taken_within_rounds() {
        let of = |name, costs: [f64; 3]| {
            let run = |cost| Run { user: cost / 2.0, kernel: cost / 2.0, ..Run::default() };
            Measured { name, own: false, runs: costs.map(run).to_vec(), failed: None }
        };
        // The machine was half as fast in the second round, for both.
        let (base, own) = (of("base", [10.0, 20.0, 10.0]), of("own", [11.0, 22.0, 12.0]));
        assert!((own.ratio(&base, Run::cpu) - 1.1).abs() < 1e-9, "{}", own.ratio(&base, Run::cpu));
        assert_eq!(own.median(Run::cpu), 12.0);
    }

    #[test]
    fn one_that_fails_is_left_out() {
        let mut order = Vec::new();
        let three: Vec<&Target> = targets::PLAIN[..3].iter().collect();
        let all = interleave(&three, 3, |round, target| {
            order.push((round, target.name));
            if round == 1 && target.name == targets::HAPROXY { Err(Failed::new("no")) } else { Ok(round) }
        });
        let names = |round| order.iter().filter(|(own, _)| *own == round).map(|(_, name)| *name).collect::<Vec<_>>();
        assert_eq!(names(0), ["nginx", "haproxy", "pingora"]);
        assert_eq!(names(1), ["pingora", "haproxy", "nginx"]);
        assert_eq!(names(2), ["nginx", "pingora"]);
        assert_eq!(all[0].runs, [0, 1, 2]);
        assert_eq!((all[1].runs.len(), all[1].failed.as_deref()), (0, Some("no")));
        assert!(find(&all, targets::HAPROXY).is_none() && find(&all, targets::NGINX).is_some());
    }
}
