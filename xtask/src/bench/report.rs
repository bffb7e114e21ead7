//! Figures as Markdown, for the screen and for docs/performance.md, of which only what is between a part's two markers is
//! ever written.

use std::fmt::Write as _;

use super::decisions::Decision;
use super::rounds::{self, Measured, Run};
use super::start::Small;
use super::swap::Swaps;
use super::targets::{NATIVE, PLUGINS, Scenario};

/// A scenario: a row a target, a ratio a baseline.
pub(super) fn scenario(scenario: &Scenario, all: &[Measured]) -> String {
    let mut text = String::new();
    let baselines: Vec<&Measured> = scenario.baselines.iter().filter_map(|name| rounds::find(all, name)).collect();
    let ratios: String = baselines.iter().map(|baseline| format!(" ÷ {} |", baseline.name)).collect();
    let _ = writeln!(
        text,
        "{}. {} rounds.\n\n| | CPU µs/request | user + kernel | min–max |{ratios} requests/s | p50 ms | p99 ms | RSS MB | core busy % | others % |\n|---|{}---|---|---|---|---|---|---|---|---|",
        scenario.title,
        all.first().map_or(0, |measured| measured.runs.len()),
        "---|".repeat(baselines.len()),
    );
    for own in all {
        let ratios: String = baselines.iter().map(|baseline| format!(" {:.2} |", own.ratio(baseline))).collect();
        let costs = || own.runs.iter().map(Run::cpu);
        let _ = writeln!(
            text,
            "| {} | {:.1} | {:.1} + {:.1} | {:.1}–{:.1} |{ratios} {:.0} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} |",
            own.name,
            own.median(Run::cpu),
            own.median(|run| run.user),
            own.median(|run| run.kernel),
            costs().fold(f64::INFINITY, f64::min),
            costs().fold(0.0, f64::max),
            own.median(|run| run.per_second),
            own.median(|run| run.p50),
            own.median(|run| run.p99),
            own.median(|run| run.resident_mb),
            own.median(|run| run.busy) * 100.0,
            own.median(|run| run.others) * 100.0,
        );
    }
    if let (Some(plugins), Some(native)) = (rounds::find(all, PLUGINS), rounds::find(all, NATIVE)) {
        let ratio = plugins.ratio(native);
        let _ = writeln!(
            text,
            "\nThree plugins instead of the native policy: **{ratio:.2}** × the CPU of a request ({}).",
            limit("1.15", ratio <= 1.15)
        );
    }
    let failures: u64 = all.iter().map(Measured::failures).sum();
    let _ = writeln!(text, "\nFailed requests: {failures}.");
    text
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

fn limit(limit: &str, met: bool) -> String {
    format!("limit {limit}: {}", if met { "met" } else { "missed" })
}

/// `document` with `content` between the markers of `part`; an error where they are not there, one after the other.
pub(super) fn replace(document: &str, part: &str, content: &str) -> Result<String, String> {
    let (open, close) = (format!("<!-- bench:{part} -->"), format!("<!-- /bench:{part} -->"));
    let missing = || format!("there is no `{open}` … `{close}`");
    let (before, rest) = document.split_once(&open).ok_or_else(missing)?;
    let (_, after) = rest.split_once(&close).ok_or_else(missing)?;
    Ok(format!("{before}{open}\n{}\n{close}{after}", content.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_between_the_markers() {
        let document = "# Prose\n<!-- bench:a -->\nold\n<!-- /bench:a -->\nmore\n<!-- bench:b --><!-- /bench:b -->\n";
        let written = replace(document, "a", "| new |\n").unwrap();
        assert_eq!(
            written,
            "# Prose\n<!-- bench:a -->\n| new |\n<!-- /bench:a -->\nmore\n<!-- bench:b --><!-- /bench:b -->\n"
        );
        assert_eq!(replace(&written, "a", "| new |").unwrap(), written, "the same figures change nothing");
        assert!(replace(document, "c", "x").is_err());
        assert!(replace("<!-- /bench:a --> <!-- bench:a -->", "a", "x").is_err());
    }
}
