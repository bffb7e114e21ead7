//! The bars: how good each figure should be, and whether it is. Judges nothing but numbers.

use std::fmt::Write as _;

use super::results::Results;
use super::rounds::{self, Run};
use super::targets::{
    ENVOY, ENVOY_WASM, HAPROXY, HAPROXY_LUA, IN_WASM, NGINX, NGINX_NJS, NO_POLICY, ONE_ROUTE, PINGORA, WITGATE,
};

/// One goal. Its name is also how its row is found again.
struct Bar {
    name: &'static str,
    limit: Limit,
    figure: Figure,
}

#[derive(Clone, Copy)]
enum Limit {
    AtMost(f64),
    Below(f64),
}

enum Figure {
    /// CPU per request of the one, divided by that of the other.
    Cpu(&'static str, &'static str, &'static str),
    /// The same for p99.
    P99(&'static str, &'static str, &'static str),
    /// KB for each kept connection.
    Idle,
    /// p99 around an activation ÷ before it.
    Swap,
    /// The slowest of the questions of which one of these is a part of the name: p50 or p99 in µs.
    Decision(&'static [&'static str], Percentile),
}

#[derive(Clone, Copy, PartialEq)]
enum Percentile {
    P50,
    P99,
}

const fn cpu(name: &'static str, most: f64, part: &'static str, own: &'static str, other: &'static str) -> Bar {
    Bar { name, limit: Limit::AtMost(most), figure: Figure::Cpu(part, own, other) }
}

/// What the plugins answer that declare two fields.
const ASKED: &[&str] = &["two fields: route", "two fields: split", "two fields, sets a header: route"];

const BARS: [Bar; 22] = [
    cpu("A: CPU/request ÷ nginx", 1.08, "plain", WITGATE, NGINX),
    cpu("A: CPU/request ÷ Pingora", 0.60, "plain", WITGATE, PINGORA),
    cpu("A: CPU/request ÷ Envoy", 0.45, "plain", WITGATE, ENVOY),
    cpu("B: CPU/request, router + splitter in Wasm ÷ no policy", 1.08, "policy", IN_WASM, NO_POLICY),
    cpu("B: CPU/request, router + splitter in Wasm ÷ Envoy + proxy-wasm", 0.35, "policy", IN_WASM, ENVOY_WASM),
    Bar {
        name: "B: CPU/request, router + splitter in Wasm ÷ HAProxy + Lua",
        limit: Limit::Below(1.0),
        figure: Figure::Cpu("policy", IN_WASM, HAPROXY_LUA),
    },
    Bar {
        name: "B: CPU/request, router + splitter in Wasm ÷ nginx + njs",
        limit: Limit::Below(1.0),
        figure: Figure::Cpu("policy", IN_WASM, NGINX_NJS),
    },
    Bar {
        name: "B: p99, router + splitter in Wasm ÷ no policy",
        limit: Limit::AtMost(1.15),
        figure: Figure::P99("policy", IN_WASM, NO_POLICY),
    },
    cpu("C: CPU/request ÷ nginx", 1.15, "tls", WITGATE, NGINX),
    cpu("C: CPU/handshake and request ÷ nginx", 1.2, "handshakes", WITGATE, NGINX),
    cpu("TCP: CPU/request ÷ HAProxy", 1.1, "tcp", WITGATE, HAPROXY),
    cpu("D: CPU/request ÷ nginx", 0.75, "http2", WITGATE, NGINX),
    cpu("F: CPU/MB ÷ nginx", 1.12, "bodies", WITGATE, NGINX),
    cpu("G: CPU/request ÷ nginx", 1.2, "churn", WITGATE, NGINX),
    cpu("H: CPU/request, one busy route ÷ a configuration of one", 1.05, "busy", WITGATE, ONE_ROUTE),
    cpu("H: CPU/request, all routes and endpoints in turn ÷ one route", 1.05, "scale", WITGATE, ONE_ROUTE),
    Bar { name: "I: KB for each idle connection", limit: Limit::AtMost(13.0), figure: Figure::Idle },
    Bar {
        name: "one route or split, two declared fields: p50, µs",
        limit: Limit::AtMost(0.6),
        figure: Figure::Decision(ASKED, Percentile::P50),
    },
    Bar {
        name: "one route or split, two declared fields: p99, µs",
        limit: Limit::AtMost(2.0),
        figure: Figure::Decision(ASKED, Percentile::P99),
    },
    Bar {
        name: "weighing 512 endpoints, without logic: p50, µs",
        limit: Limit::AtMost(3.0),
        figure: Figure::Decision(&["no logic, 512 endpoints: weigh"], Percentile::P50),
    },
    Bar {
        name: "weighing 512 endpoints, with that of `latency`: p50, µs",
        limit: Limit::AtMost(3.0),
        figure: Figure::Decision(&["latency, 512 endpoints: weigh"], Percentile::P50),
    },
    Bar { name: "swap: p99 around an activation ÷ before it", limit: Limit::AtMost(1.2), figure: Figure::Swap },
];

impl Figure {
    fn measured(&self, results: &Results) -> Option<f64> {
        match self {
            Figure::Cpu(part, own, other) => results.ratio(part, own, other, Run::cpu),
            Figure::P99(part, own, other) => results.ratio(part, own, other, |run| run.p99),
            Figure::Idle => Some(rounds::find(&results.idle, WITGATE)?.median(|held| held.per_connection())),
            Figure::Swap => results.swap,
            Figure::Decision(parts, percentile) => {
                let asked = |call: &str| parts.iter().any(|part| call.contains(part));
                let all = results.decisions.iter().filter(|decision| asked(&decision.call));
                let nanoseconds =
                    all.map(|decision| if *percentile == Percentile::P50 { decision.p50 } else { decision.p99 });
                Some(nanoseconds.max()? as f64 / 1e3)
            }
        }
    }

    /// Whether this run would have measured it: one of the two proxies may have failed.
    fn was_tried(&self, results: &Results) -> bool {
        match self {
            Figure::Cpu(part, ..) | Figure::P99(part, ..) => results.loads.iter().any(|(name, _)| name == part),
            Figure::Idle => !results.idle.is_empty(),
            Figure::Swap | Figure::Decision(..) => false,
        }
    }
}

impl Limit {
    fn shown(self) -> String {
        match self {
            Limit::AtMost(most) => format!("≤ {most:.2}"),
            Limit::Below(end) => format!("< {end:.2}"),
        }
    }

    fn is_met(self, figure: f64) -> bool {
        match self {
            Limit::AtMost(most) => figure <= most,
            Limit::Below(end) => figure < end,
        }
    }
}

/// A row a bar. What this run did not try to measure stays as it is in `present`, the table as it was.
pub(super) fn table(results: &Results, present: &str) -> String {
    let mut text = "| | bar | measured | |\n|---|---|---|---|\n".to_string();
    for bar in &BARS {
        let (name, limit) = (bar.name, bar.limit.shown());
        let start = format!("| {name} | {limit} |");
        let row = match bar.figure.measured(results) {
            Some(figure) => {
                let verdict = if bar.limit.is_met(figure) { "met" } else { "**missed**" };
                format!("{start} {figure:.2} | {verdict} |")
            }
            None => {
                let before = present.lines().find(|line| line.starts_with(&start));
                let kept = before.filter(|_| !bar.figure.was_tried(results));
                kept.map_or_else(|| format!("{start} not measured | |"), str::to_string)
            }
        };
        let _ = writeln!(text, "{row}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::decisions::Decision;
    use super::super::rounds::Measured;
    use super::super::scenarios;
    use super::*;

    fn measured(name: &'static str, cpu: f64) -> Measured<Run> {
        let run = Run { user: cpu, p99: cpu, ..Run::default() };
        Measured { name, own: false, runs: vec![run], failed: None }
    }

    #[test]
    fn met_missed_and_kept() {
        let plain = vec![measured(NGINX, 20.0), measured(WITGATE, 22.0), measured(ENVOY, 70.0)];
        let results = Results { loads: vec![("plain", plain)], swap: Some(1.1), ..Results::default() };
        let pingora = "| A: CPU/request ÷ Pingora | ≤ 0.60 | 0.50 | met |";
        let before = "| F: CPU/MB ÷ nginx | ≤ 1.12 | 1.01 | met |\n| G: CPU/request ÷ nginx | ≤ 9.00 | 1.01 | met |";
        let table = table(&results, &format!("{pingora}\n{before}"));
        let row = |row: &str| assert!(table.lines().any(|line| line == row), "{row}\n{table}");
        row("| A: CPU/request ÷ nginx | ≤ 1.08 | 1.10 | **missed** |");
        row("| A: CPU/request ÷ Envoy | ≤ 0.45 | 0.31 | met |");
        // It failed this time.
        row("| A: CPU/request ÷ Pingora | ≤ 0.60 | not measured | |");
        row("| F: CPU/MB ÷ nginx | ≤ 1.12 | 1.01 | met |");
        // Another bar than the one that was met.
        row("| G: CPU/request ÷ nginx | ≤ 1.20 | not measured | |");
        row("| swap: p99 around an activation ÷ before it | ≤ 1.20 | 1.10 | met |");
    }

    #[test]
    fn the_slowest_question_counts() {
        let decision = |call: &str, p50, p99| Decision { call: call.to_string(), p50, p99 };
        let decisions = vec![
            decision("canary, two fields: split", 500, 900),
            decision("tenant, two fields, sets a header: route", 550, 2100),
            decision("session, two fields: stick", 5000, 5000),
            decision("no logic, 512 endpoints: weigh", 1700, 1800),
            decision("latency, 512 endpoints: weigh", 2900, 3200),
        ];
        let results = Results { decisions, ..Results::default() };
        let figure = |at: usize| BARS[at].figure.measured(&results);
        let figures = [18, 19, 20].map(figure);
        assert_eq!((figure(17), figures), (Some(0.55), [Some(2.1), Some(1.7), Some(2.9)]));
    }

    #[test]
    fn bars_are_of_targets_that_are_measured() {
        for bar in &BARS {
            if let Figure::Cpu(part, own, other) | Figure::P99(part, own, other) = bar.figure {
                let scenario = scenarios::ALL.iter().find(|scenario| scenario.part == part).unwrap();
                for name in [own, other] {
                    assert!(scenario.targets.iter().any(|target| target.name == name), "{}: {name}", bar.name);
                }
            }
        }
    }
}
