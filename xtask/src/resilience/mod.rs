//! `cargo xtask resilience`: what clients see of faults at the origins, through Witgate and others that are configured alike, on
//! this machine and on loopback only. Breaks nothing that it did not start.

mod blackhole;
mod dns;
mod drain;
mod faults;
mod load;
mod made;
mod options;
mod origins;
mod reload;
mod report;
mod scenarios;
mod site;
pub(crate) mod soak;
mod summary;

use std::collections::BTreeSet;

use crate::lab::document::Document;
use crate::lab::peers::{Peer, Peers};
use crate::lab::{self, machine, process};
use crate::run::{self, Failed};
use crate::setup;
use options::Options;
use report::Outcome;
use scenarios::Scenario;
use site::{Absent, Site};

const DOCUMENT: Document = Document { name: "resilience.md", prefix: "resilience" };

pub(crate) fn command(arguments: &[String]) -> run::Outcome {
    let options = options::options(arguments)?;
    if !process::is_again() {
        lab::two_cores("resilience")?;
    }
    setup::program("nginx", "nginx-light")?;
    let witgate = lab::proxy_binary(options.choice.binary.as_deref())?;
    let peers = Peers::prepare(&witgate, &wanted(&options));
    if process::is_again() {
        return measure(&options, peers);
    }
    // Builds are for all cores and of no hurry; what follows is neither.
    let built = ["--binary".to_string(), witgate.display().to_string()];
    process::again(&[&["resilience".to_string()], arguments, &built].concat())
}

/// The proxies that are in the scenarios.
fn wanted(options: &Options) -> BTreeSet<Peer> {
    let rows = options.scenarios().into_iter().flat_map(|scenario| options.rows(scenario));
    rows.map(|row| row.peer).chain([Peer::Witgate]).collect()
}

fn measure(options: &Options, peers: Peers) -> run::Outcome {
    add(options, "machine", &machine::describe(&peers, &[]))?;
    process::allow_many_files()?;
    let site = Site::open(peers)?;
    let mut problems = Vec::new();
    for scenario in options.scenarios() {
        println!("\n── {}", scenario.part);
        let outcomes = live_through(&site, options, scenario);
        add(options, scenario.part, &report::table(scenario, &outcomes))?;
        problems.extend(wrong(scenario, &outcomes));
    }
    if problems.is_empty() { Ok(()) } else { Err(Failed::new(problems.join("\n"))) }
}

/// Shows a part and puts it into the document, at once: a later one may fail.
fn add(options: &Options, part: &str, text: &str) -> run::Outcome {
    println!("\n{text}");
    if options.choice.write { DOCUMENT.write(part, text) } else { Ok(()) }
}

/// Every proxy through the fault, one after the other.
fn live_through(site: &Site, options: &Options, scenario: &'static Scenario) -> Vec<Outcome> {
    let rows = options.rows(scenario).into_iter();
    let one = |row| {
        let run = faults::run(site, scenario, row, options.seconds).map_err(|absent| match absent {
            Absent::Refused(reason) => (reason, false),
            Absent::Failed(failed) => (failed.message, true),
        });
        match &run {
            Ok(run) => println!("{:24} {} of {} failed", row.name, run.seen.failed(), run.seen.requests),
            Err((reason, _)) => println!("{:24} {reason}", row.name),
        }
        Outcome { row, run }
    };
    rows.map(one).collect()
}

/// What should not have been: a run of our own that was not possible, and requests that failed.
fn wrong(scenario: &Scenario, outcomes: &[Outcome]) -> Vec<String> {
    let broken = outcomes.iter().filter_map(|outcome| match &outcome.run {
        Err((reason, true)) if outcome.row.is_own() => Some(format!("{}: {reason}", outcome.row.name)),
        _ => None,
    });
    let missed = report::verdicts(scenario, outcomes).into_iter().filter(|verdict| verdict.counts && !verdict.met);
    let all = broken.chain(missed.map(|verdict| verdict.text));
    all.map(|problem| format!("{}: {problem}", scenario.part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_its_place_in_the_document() {
        for name in scenarios::ALL.iter().map(|scenario| scenario.part).chain(["machine"]) {
            assert!(DOCUMENT.has(name), "{name}");
        }
    }
}
