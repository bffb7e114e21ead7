//! Figures as Markdown, and whether each bar is met. Measures nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::faults::Run;
use super::load::{self, End};
use super::scenarios::{Bar, Row, Scenario};
use super::summary::{Latency, Seen};
use crate::lab::document::{limit, one_line};

/// What became of a row.
pub(super) struct Outcome {
    pub(super) row: &'static Row,
    /// Or why there is nothing, and whether that is a fault of its own.
    pub(super) run: Result<Run, (String, bool)>,
}

/// A bar, and what there was.
pub(super) struct Verdict {
    pub(super) text: String,
    pub(super) met: bool,
    /// Whether missing it is an error: only requests that failed are, since a busy machine would fail any other.
    pub(super) counts: bool,
}

/// A row a proxy, the verdicts, and who is not there.
pub(super) fn table(scenario: &Scenario, outcomes: &[Outcome]) -> String {
    let runs: Vec<(&Row, &Run)> = runs(outcomes).collect();
    let tries = if scenario.retries == 1 { "One more try" } else { "Two more tries" };
    let mut text = format!("{}. {} requests a second. {tries}.\n", scenario.title, load::RATE);
    if !runs.is_empty() {
        let out = scenario.fault.is_ejected();
        let extra = if out { (" out after, ms |", "---|") } else { ("", "") };
        let _ = writeln!(
            text,
            "\n| | requests | failed | before: p50 · p99 · max, ms | during: p50 · p99 · max, ms | fault, s | answered during, % | origins ÷ clients |{}\n|---|---|---|---|---|---|---|---|{}",
            extra.0, extra.1
        );
        for (row, run) in &runs {
            let _ = writeln!(text, "| {} |{}{}", row.name, cells(run), if out { out_cell(run) } else { String::new() });
        }
    }
    for verdict in verdicts(scenario, outcomes) {
        let _ = write!(text, "\n- {}", verdict.text);
    }
    for reloads in runs.iter().filter_map(|(_, run)| run.reloads) {
        let _ = write!(text, "\n- {} times, each p50 {:.0} ms, max {:.0} ms", reloads.count, reloads.p50, reloads.max);
    }
    let late = runs.iter().map(|(_, run)| run.seen.late).fold(0.0, f64::max);
    if !runs.is_empty() {
        let _ = write!(text, "\n- requests were sent at most {late:.1} ms late (p99): that much is the load's own\n");
    }
    text.push_str(&absent(outcomes));
    text
}

fn runs(outcomes: &[Outcome]) -> impl Iterator<Item = (&Row, &Run)> {
    outcomes.iter().filter_map(|outcome| Some((outcome.row, outcome.run.as_ref().ok()?)))
}

fn cells(run: &Run) -> String {
    let Seen { requests, before, during, carried, .. } = &run.seen;
    format!(
        " {requests} | {} | {} | {} | {:.1} | {} | {:.2} |",
        failed(&run.seen.failures),
        latency(*before),
        latency(*during),
        run.lasted,
        percent(*carried),
        run.amplified
    )
}

fn out_cell(run: &Run) -> String {
    run.out_after.map_or(" never |".to_string(), |after| format!(" {after:.0} |"))
}

fn latency(latency: Latency) -> String {
    format!("{:.1} · {:.1} · {:.0}", latency.p50, latency.p99, latency.max)
}

/// Never rounded to all.
fn percent(share: f64) -> String {
    if share >= 100.0 { "100".to_string() } else { format!("{:.2}", (share * 100.0).floor() / 100.0) }
}

/// How many, and by what.
fn failed(failures: &BTreeMap<End, usize>) -> String {
    let all: usize = failures.values().sum();
    if all == 0 {
        return "0".to_string();
    }
    let each: Vec<String> = failures.iter().map(|(end, count)| format!("{count} × {}", word(*end))).collect();
    format!("**{all}** ({})", each.join(", "))
}

fn word(end: End) -> String {
    match end {
        End::Answered(status) => status.to_string(),
        End::NotConnected => "not connected".to_string(),
        End::Reset => "reset".to_string(),
        End::TimedOut => "timed out".to_string(),
        End::Malformed => "malformed".to_string(),
    }
}

/// What Witgate is held to; nothing of what was not measured.
pub(super) fn verdicts(scenario: &Scenario, outcomes: &[Outcome]) -> Vec<Verdict> {
    scenario.bars.iter().filter_map(|bar| verdict(*bar, outcomes)).collect()
}

fn verdict(bar: Bar, outcomes: &[Outcome]) -> Option<Verdict> {
    let find = |name: &str| runs(outcomes).find(|(row, _)| row.name == name).map(|(_, run)| run);
    let (what, figure, most, unit, counts) = match bar {
        Bar::P99(own, other, most) => {
            let ratio = find(own)?.seen.during.p99 / find(other)?.seen.during.p99;
            (format!("p99 of {own} ÷ {other}"), ratio, most, "", false)
        }
        Bar::P99Before(most) => {
            let seen = &find("witgate")?.seen;
            ("Witgate's p99 during ÷ before".to_string(), seen.during.p99 / seen.before.p99, most, "", false)
        }
        Bar::Failed(most) => {
            let seen = &find("witgate")?.seen;
            let share = seen.failed() as f64 * 100.0 / seen.requests.max(1) as f64;
            ("Witgate's failed requests".to_string(), share, most, " %", true)
        }
        Bar::Slowest(most) => {
            ("Witgate's slowest request".to_string(), find("witgate")?.seen.during.max, most, " ms", false)
        }
        Bar::Amplified(most) => (
            "Witgate's requests at the origins ÷ its clients'".to_string(),
            find("witgate")?.amplified,
            most,
            "",
            false,
        ),
        Bar::OutAfter(most) => {
            let after = find("witgate")?.out_after.unwrap_or(f64::INFINITY);
            ("the bad origin gets nothing of Witgate any more after".to_string(), after, most, " ms", false)
        }
    };
    let met = figure <= most;
    let digits = if unit == " ms" { 0 } else { 2 };
    let text = format!("{what}: {figure:.digits$}{unit} ({})", limit(&format!("{most}{unit}"), met));
    Some(Verdict { text, met, counts })
}

/// Who is not in the table, and why.
fn absent(outcomes: &[Outcome]) -> String {
    let reasons = outcomes.iter().filter_map(|outcome| Some((outcome.row.name, outcome.run.as_ref().err()?)));
    let lines: String = reasons.map(|(name, (reason, _))| format!("- {name}: {}\n", one_line(reason))).collect();
    if lines.is_empty() { lines } else { format!("\nNot measured:\n\n{lines}") }
}

#[cfg(test)]
mod tests {
    use super::super::scenarios;
    use super::*;

    fn scenario(part: &str) -> &'static Scenario {
        scenarios::ALL.iter().find(|scenario| scenario.part == part).unwrap()
    }

    fn run(failed: usize, p99: f64) -> Run {
        let failures = if failed > 0 { BTreeMap::from([(End::Answered(502), failed)]) } else { BTreeMap::new() };
        let during = Latency { p50: 1.0, p99, max: 700.0 };
        let seen = Seen { requests: 1000, failures, during, carried: 99.999, ..Seen::default() };
        Run { seen, amplified: 1.1, ..Run::default() }
    }

    #[test]
    fn a_table_with_verdicts_and_those_who_are_not_there() {
        let hung = scenario("hung");
        let outcomes = [
            Outcome { row: &hung.rows[0], run: Ok(run(2, 5.0)) },
            Outcome { row: &hung.rows[2], run: Err(("`pip` failed\nmore".to_string(), true)) },
        ];
        let text = table(hung, &outcomes);
        let has = |part: &str| assert!(text.contains(part), "{part}\n{text}");
        has("| witgate | 1000 | **2** (2 × 502) | 0.0 · 0.0 · 0 | 1.0 · 5.0 · 700 | 0.0 | 99.99 | 1.10 |\n");
        has("- Witgate's failed requests: 0.20 % (limit 0 %: missed)");
        has("- Witgate's slowest request: 700 ms (limit 625 ms: missed)");
        has("\nNot measured:\n\n- envoy: pip failed\n");
        let counts: Vec<bool> = verdicts(hung, &outcomes).iter().map(|verdict| verdict.counts).collect();
        assert_eq!(counts, [true, false]);
    }

    #[test]
    fn ratios_are_of_rows_that_were_measured() {
        let slow = scenario("slow");
        let outcomes = [
            Outcome { row: &slow.rows[0], run: Ok(run(0, 100.0)) },
            Outcome { row: &slow.rows[1], run: Ok(run(0, 40.0)) },
        ];
        let texts: Vec<String> = verdicts(slow, &outcomes).into_iter().map(|verdict| verdict.text).collect();
        assert_eq!(texts, ["p99 of witgate, least-request ÷ witgate, round-robin: 0.40 (limit 0.4: met)"]);
    }

    #[test]
    fn out_or_not() {
        let half = scenario("half-503");
        let outcomes = [Outcome { row: &half.rows[0], run: Ok(run(0, 1.0)) }];
        let text = table(half, &outcomes);
        assert!(text.contains("| never |\n") && text.contains("after: inf ms (limit 2000 ms: missed)"), "{text}");
    }
}
