//! Figures as Markdown, for the screen and for docs/performance.md.

use std::fmt::Write as _;

use super::decisions::Decision;
use super::idle::{self, Held};
use super::plot::{Plot, Row};
use super::rounds::{self, Measured, Run};
use super::scenarios::{Per, Scenario};
use super::start::Small;
use super::swap::Swaps;
use super::targets::{NATIVE, NGINX, PLUGINS};
use crate::lab::document::{limit, one_line};

/// A scenario: a row a target, a ratio a baseline, and who is not in it.
pub(super) fn scenario(scenario: &Scenario, all: &[Measured<Run>]) -> String {
    let mut text = String::new();
    let baselines: Vec<&Measured<Run>> = scenario.baselines.iter().filter_map(|name| rounds::find(all, name)).collect();
    let ratios: String = baselines.iter().map(|baseline| format!(" ÷ {} |", baseline.name)).collect();
    let _ = writeln!(
        text,
        "{}. {}.\n\n| | CPU {} | user + kernel | min–max |{ratios} requests/s | p50 ms | p99 ms | RSS MB | core busy % | others % |\n|---|{}---|---|---|---|---|---|---|---|---|",
        scenario.title,
        rounds_of(all),
        scenario.per.unit(),
        "---|".repeat(baselines.len()),
    );
    for own in all.iter().filter(|own| !own.runs.is_empty()) {
        let ratios: String =
            baselines.iter().map(|baseline| format!(" {:.2} |", own.ratio(baseline, Run::cpu))).collect();
        let _ = writeln!(text, "| {} | {} |{ratios} {} |", own.name, cost(scenario, own), rates(own));
    }
    if let (Some(plugins), Some(native)) = (rounds::find(all, PLUGINS), rounds::find(all, NATIVE)) {
        let ratio = plugins.ratio(native, Run::cpu);
        let _ = writeln!(
            text,
            "\nThree plugins instead of the native policy + affinity: **{ratio:.2}** × the CPU of a request ({}).",
            limit("1.15", ratio <= 1.15)
        );
    }
    let failures: u64 = all.iter().map(Measured::failures).sum();
    let _ = writeln!(text, "\nFailed requests: {failures}.");
    text.push_str(&not_measured(scenario.absent, all));
    text
}

fn rounds_of<R>(all: &[Measured<R>]) -> String {
    match all.iter().map(|measured| measured.runs.len()).max() {
        Some(1) => "1 round".to_string(),
        rounds => format!("{} rounds", rounds.unwrap_or(0)),
    }
}

/// CPU time, its two parts, and the extremes.
fn cost(scenario: &Scenario, own: &Measured<Run>) -> String {
    let times = scenario.per.requests(&scenario.work);
    let costs = || own.runs.iter().map(|run| run.cpu() * times);
    let (least, most) = (costs().fold(f64::INFINITY, f64::min), costs().fold(0.0, f64::max));
    let (cpu, user, kernel) =
        (own.median(Run::cpu) * times, own.median(|run| run.user) * times, own.median(|run| run.kernel) * times);
    let digits = decimals(scenario.per);
    format!("{cpu:.digits$} | {user:.digits$} + {kernel:.digits$} | {least:.digits$}–{most:.digits$}")
}

fn decimals(per: Per) -> usize {
    if per == Per::Request { 1 } else { 0 }
}

fn rates(own: &Measured<Run>) -> String {
    format!(
        "{:.0} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0}",
        own.median(|run| run.per_second),
        own.median(|run| run.p50),
        own.median(|run| run.p99),
        own.median(|run| run.resident_mb),
        own.median(|run| run.busy) * 100.0,
        own.median(|run| run.others) * 100.0,
    )
}

/// Who is not in the table, and why.
fn not_measured<R>(absent: &[(&str, &str)], all: &[Measured<R>]) -> String {
    let failed = all.iter().filter_map(|one| Some((one.name, one.failed.as_deref()?)));
    let lines = absent.iter().copied().chain(failed);
    let lines: String = lines.map(|(name, reason)| format!("- {name}: {}\n", one_line(reason))).collect();
    if lines.is_empty() { lines } else { format!("\nNot measured:\n\n{lines}") }
}

/// A picture of a scenario's CPU time.
pub(super) fn scenario_plot(scenario: &Scenario, all: &[Measured<Run>]) -> Plot {
    let times = scenario.per.requests(&scenario.work);
    let measured = all.iter().filter(|own| !own.runs.is_empty());
    let rows = measured.map(|own| Row {
        name: own.name.to_string(),
        own: own.own,
        parts: vec![own.median(|run| run.user) * times, own.median(|run| run.kernel) * times],
    });
    Plot {
        title: format!("{}: CPU {}", scenario.short, scenario.per.unit()),
        legend: &["user", "kernel"],
        decimals: decimals(scenario.per),
        rows: rows.collect(),
    }
}

/// Kept connections: a row a target.
pub(super) fn idle(all: &[Measured<Held>]) -> String {
    let mut text = format!(
        "{} connections, each after one request. {}.\n\n| | KB/connection | ÷ nginx | RSS MB before | RSS MB after |\n|---|---|---|---|---|\n",
        idle::CONNECTIONS,
        rounds_of(all),
    );
    let nginx = rounds::find(all, NGINX);
    for own in all.iter().filter(|own| !own.runs.is_empty()) {
        let ratio = nginx.map_or("–".to_string(), |nginx| format!("{:.2}", own.ratio(nginx, Held::per_connection)));
        let _ = writeln!(
            text,
            "| {} | {:.1} | {ratio} | {:.1} | {:.1} |",
            own.name,
            own.median(Held::per_connection),
            own.median(|held| held.before) / 1024.0,
            own.median(|held| held.after) / 1024.0,
        );
    }
    text.push_str(&not_measured(&[], all));
    text
}

/// A picture of the same.
pub(super) fn idle_plot(all: &[Measured<Held>]) -> Plot {
    let measured = all.iter().filter(|own| !own.runs.is_empty());
    let rows = measured.map(|own| Row {
        name: own.name.to_string(),
        own: own.own,
        parts: vec![own.median(Held::per_connection)],
    });
    Plot { title: "Memory, KB for each idle connection".to_string(), legend: &[], decimals: 1, rows: rows.collect() }
}

/// What replacing a plugin costs those who are being served.
pub(super) fn swaps(swaps: &Swaps) -> String {
    format!(
        "\
| | |
|---|---|
| activations under load, alternating two versions | {} |
| requests of wrk, and a second | {} · {:.0} |
| probes timed one by one | {} |
| failed: socket errors, answers other than 2xx | **{}** ({}) |
| activation, from the admin request to its answer | p50 {:.1} ms, max {:.1} ms |
| p99 in the second before an activation | {:.2} ms (slowest {:.1} ms) |
| p99 in the second around it | {:.2} ms (slowest {:.1} ms) |
| around ÷ before, median of the activations | **{:.2}** |
| others on the proxy's core | {:.0} % |
",
        swaps.activations,
        swaps.load.requests,
        swaps.load.requests as f64 / swaps.load.seconds.max(1.0),
        swaps.probed,
        swaps.failures(),
        limit("0", swaps.failures() == 0),
        swaps.activation_p50,
        swaps.activation_max,
        swaps.before_p99,
        swaps.before_max,
        swaps.around_p99,
        swaps.around_max,
        swaps.ratio,
        swaps.others * 100.0,
    )
}

/// Start-up, memory, size.
pub(super) fn small(small: &Small) -> String {
    format!(
        "\
| one worker, four plugins | | limit |
|---|---|---|
| `witgate run` to `/readyz` 200, compiled plugins in the cache | median {:.0} ms, slowest {:.0} ms of {} | {} |
| the same with an empty cache: four plugins are compiled | {:.0} ms | |
| resident once ready | {:.1} MB | {} |
| resident after load | {:.1} MB | {} |
| the binary, stripped | {:.1} MB | |
",
        small.warm,
        small.warm_max,
        small.starts,
        limit("200 ms", small.warm < 200.0),
        small.cold,
        small.idle_mb,
        limit("40 MB", small.idle_mb < 40.0),
        small.loaded_mb,
        limit("40 MB", small.loaded_mb < 40.0),
        small.binary_mb,
    )
}

/// A row a question.
pub(super) fn decisions(all: &[Decision]) -> String {
    let mut text = "| call | p50 ns | p99 ns |\n|---|---|---|\n".to_string();
    for decision in all {
        let _ = writeln!(text, "| {} | {} | {} |", decision.call, decision.p50, decision.p99);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_there() {
        let failed = Measured::<Run> {
            name: "envoy",
            own: false,
            runs: Vec::new(),
            failed: Some("`pip` failed\nmore".to_string()),
        };
        let text = not_measured(&[("witgate", "has no TLS yet")], &[failed]);
        assert_eq!(text, "\nNot measured:\n\n- witgate: has no TLS yet\n- envoy: pip failed\n");
        assert_eq!(not_measured::<Run>(&[], &[]), "");
    }
}
