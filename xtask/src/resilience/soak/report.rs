//! What was seen as Markdown, and whether it is as it should be. Measures nothing.

use std::fmt::Write as _;

use super::judge::Kind;
use super::options::Options;
use super::run::{self, Soaked};
use super::samples::{self, FDS, RSS};
use crate::lab::document::limit;

/// Of each kind of loss, so many are told.
const TOLD: usize = 5;

pub(super) fn table(soaked: &Soaked, options: &Options) -> String {
    let minutes = options.minutes;
    let mut text = format!("{minutes} minutes, {} requests a second, seed {}.\n", options.rate, soaked.seed);
    text.push_str("\n| fault | times |\n|---|---|\n");
    for fault in run::faults() {
        let _ = writeln!(text, "| {fault} | {} |", soaked.times.get(fault).unwrap_or(&0));
    }
    text.push_str(
        "\n| | requests | unavoidable | lost | sent again | p50 · p99 · max, ms |\n|---|---|---|---|---|---|\n",
    );
    for kind in &soaked.kinds {
        let Kind { name, well, failed, gone, took, again, lost, .. } = kind;
        let (all, unavoidable) = (well + failed + gone, kind.unavoidable.values().sum::<usize>());
        let lost = if lost.is_empty() { "0".to_string() } else { format!("**{}**", lost.len()) };
        let took =
            if *gone > 0 { "–".to_string() } else { format!("{:.1} · {:.1} · {:.0}", took[0], took[1], took[2]) };
        let _ = writeln!(text, "| {name} | {all} | {unavoidable} | {lost} | {again} | {took} |");
    }
    for verdict in verdicts(soaked) {
        let _ = write!(text, "\n- {}", verdict.0);
    }
    let (before, after) = soaked.rest;
    let last = soaked.samples.last().copied().unwrap_or_default();
    let _ = write!(
        text,
        "\n- threads before and after: {}, {}; the proxy took {:.0} % of a core",
        before.threads,
        after.threads,
        samples::share(&soaked.samples) * 100.0
    );
    let _ =
        write!(text, "\n- at the end of the load: {} descriptors, {} clients' connections", last.fds, last.connections);
    let mut reasons: Vec<(&str, usize)> = Vec::new();
    for (why, count) in soaked.kinds.iter().flat_map(|kind| &kind.unavoidable) {
        match reasons.iter_mut().find(|(own, _)| own == why) {
            Some((_, all)) => *all += count,
            None => reasons.push((why, *count)),
        }
    }
    for (why, count) in reasons {
        let _ = write!(text, "\n- unavoidable: {count} × {why}");
    }
    text.push('\n');
    text
}

/// What the proxy is held to, and whether each is met.
fn verdicts(soaked: &Soaked) -> Vec<(String, bool)> {
    let lost: usize = soaked.kinds.iter().map(|kind| kind.lost.len() + kind.skipped).sum();
    let (first, last) = samples::resident(&soaked.samples);
    let (before, after) = soaked.rest;
    let mut all = Vec::new();
    let mut add = |text: String, bar: &str, met: bool| all.push((format!("{text} ({})", limit(bar, met)), met));
    add(format!("lost: {lost}"), "0", lost == 0);
    let ratio = last / first.max(0.001);
    let memory = "resident memory of the last process, at the end of its first third and over its last";
    add(format!("{memory}: {first:.0} MiB, {last:.0} MiB, × {ratio:.2}"), &format!("× {RSS}"), ratio <= RSS);
    let fds = format!("descriptors before the load and after it: {}, {}", before.fds, after.fds);
    add(fds, &format!("{FDS} more"), after.fds <= before.fds + FDS);
    let held = after.in_flight + after.connections;
    let text = format!("after it in flight {}, connections of clients {}", after.in_flight, after.connections);
    add(text, "0", held == 0);
    let problems = soaked.problems.len();
    add(format!("acts that did not come to what they should: {problems}"), "0", problems == 0);
    all
}

/// Each bar that was missed, and what of it.
pub(super) fn wrong(soaked: &Soaked) -> Vec<String> {
    let missed = verdicts(soaked).into_iter().filter(|(_, met)| !met).map(|(text, _)| text);
    let lost = soaked.kinds.iter().flat_map(|kind| kind.lost.iter().take(TOLD).map(|told| format!("lost: {told:?}")));
    missed.chain(lost).chain(soaked.problems.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::super::judge;
    use super::super::samples::Sample;
    use super::*;

    fn soaked(log: &str, last_kib: u64, after: Sample) -> Soaked {
        let sample = |at, rss_kib| Sample { at: Duration::from_secs(at), id: 7, rss_kib, ..Sample::default() };
        Soaked {
            seed: 7,
            times: BTreeMap::from([(run::KILLED, 3)]),
            kinds: judge::kinds(log, &[], &[]),
            samples: (0..9).map(|at| sample(at, if at < 6 { 10_240 } else { last_kib })).collect(),
            rest: (Sample { fds: 40, ..Sample::default() }, after),
            problems: Vec::new(),
        }
    }

    #[test]
    fn nothing_is_wrong() {
        let soaked = soaked("kind\tGET\t9\t0\t0\t0\t10\t20\t35\n", 10_240, Sample { fds: 44, ..Sample::default() });
        assert_eq!(wrong(&soaked), Vec::<String>::new());
        let text = table(&soaked, &Options::default());
        let has = |part: &str| assert!(text.contains(part), "{part}\n{text}");
        has("started again later | 3 |\n");
        has("| GET | 9 | 0 | 0 | 0 | 1.0 · 2.0 · 4 |\n");
        has("- descriptors before the load and after it: 40, 44 (limit 4 more: met)");
    }

    #[test]
    fn each_bar_can_be_missed() {
        let log = "failed\tGET\t10\t20\t-\t502 upstream-reset\nkind\tGET\t9\t1\t0\t0\t10\t20\t35\n";
        let after = Sample { fds: 45, in_flight: 1, ..Sample::default() };
        let mut soaked = soaked(log, 11_400, after);
        soaked.problems.push("9 s: Sighup: waited in vain".to_string());
        let wrong = wrong(&soaked);
        assert_eq!(wrong.len(), 7, "five bars, a loss and a problem: {wrong:#?}");
        assert!(table(&soaked, &Options::default()).contains("| GET | 10 | 0 | **1** | 0 |"));
    }
}
