//! `cargo xtask bench`: what Witgate costs, beside other proxies on the same work, on this machine and on loopback only.
//! Measures and writes down; judges nothing but failed requests, because a machine that is not quiet would fail any other limit.

mod bars;
mod check;
mod decisions;
mod generate;
mod idle;
mod load;
mod options;
mod plot;
mod report;
mod results;
mod rounds;
mod scenarios;
mod site;
mod start;
mod swap;
mod targets;
mod templates;

use std::collections::BTreeSet;
use std::fs;

use crate::lab::document::Document;
use crate::lab::peers::{Peer, Peers};
use crate::lab::{self, machine, process};
use crate::run::{self, Failed, Outcome};
use crate::{plugins, setup};
use options::Part;
pub(crate) use options::{Options, options};
use plot::Plot;
use results::Results;
use site::Site;

const DOCUMENT: Document = Document { name: "performance.md", prefix: "bench" };

pub(crate) fn command(options: &Options) -> Outcome {
    lab::two_cores("bench")?;
    setup::all()?;
    plugins::command(&plugins::Options::default())?;
    let witgate = lab::proxy_binary(options.choice.binary.as_deref())?;
    let parts = options.parts();
    let peers = Peers::prepare(&witgate, &wanted(options, &parts));
    let report = Report { write: options.choice.write };
    report.add("machine", &machine::describe(&peers, &[("wrk", "-v"), ("h2load", "--version")]), None)?;
    process::allow_many_files()?;
    let site = Site::open(peers)?;
    if let Err(failed) = site.make_certificate() {
        println!("bench goes on without TLS: {}", failed.message);
    }
    let mut results = Results::default();
    if parts.iter().any(|part| matches!(part, Part::Decisions)) {
        // Before this process is bound to a core: builds are for all of them.
        results.attempt("decisions", |results| {
            results.decisions = decisions::measure(&site.scratch.path("decisions.log"))?;
            report.add("decisions", &report::decisions(&results.decisions), None)
        });
    }
    process::pin_self()?;
    for part in parts {
        println!("\n── {}", part.name());
        results.attempt(part.name(), |results| measure(&site, options, part, &report, results));
    }
    if !options.choice.only.is_empty() {
        println!("\nBars of other parts are as {} has them.", DOCUMENT.name);
    }
    report.add("bars", &bars::table(&results, &DOCUMENT.present("bars")?), None)?;
    drop(site);
    match results.problems() {
        problems if problems.is_empty() => Ok(()),
        problems => Err(Failed::new(problems.join("\n"))),
    }
}

/// The peers that these parts need.
fn wanted(options: &Options, parts: &[Part]) -> BTreeSet<Peer> {
    let targets = parts.iter().flat_map(|part| options.targets(*part));
    targets.map(|target| target.peer).chain([Peer::Witgate]).collect()
}

fn measure(site: &Site, options: &Options, part: Part, report: &Report, results: &mut Results) -> Outcome {
    match part {
        Part::Load(scenario) => {
            let all = rounds::measure(site, scenario, &options.targets(part), options.effort);
            let (text, plot) = (report::scenario(scenario, &all), report::scenario_plot(scenario, &all));
            results.loads.push((scenario.part, all));
            report.add(part.name(), &text, Some(&plot))
        }
        Part::Idle => {
            results.idle = idle::measure(site, &options.targets(part), options.effort.rounds);
            report.add(part.name(), &report::idle(&results.idle), Some(&report::idle_plot(&results.idle)))
        }
        Part::Swap => {
            let swaps = swap::measure(site, options.activations)?;
            results.swap = Some(swaps.ratio);
            results.failures += swaps.failures();
            report.add(part.name(), &report::swaps(&swaps), None)
        }
        Part::Small => {
            let small = start::measure(site, options.starts, options.effort.seconds)?;
            results.failures += small.failures;
            report.add(part.name(), &report::small(&small), None)
        }
        // Measured before this process was bound to a core.
        Part::Decisions => Ok(()),
    }
}

/// What is said about what was measured.
struct Report {
    /// Whether docs/ gets it too.
    write: bool,
}

impl Report {
    /// Shows a part and puts it into the document, at once: a later one may fail.
    fn add(&self, part: &str, text: &str, plot: Option<&Plot>) -> Outcome {
        println!("\n{text}");
        if !self.write {
            return Ok(());
        }
        let mut text = text.to_string();
        if let Some(plot) = plot {
            let name = format!("img/bench-{part}.svg");
            let file = run::root().join("docs").join(&name);
            let written = fs::create_dir_all(file.with_file_name("")).and_then(|()| fs::write(&file, plot::svg(plot)));
            written.map_err(|error| Failed::new(format!("{}: {error}", file.display())))?;
            text = format!("![{}]({name})\n\n{text}", plot.title);
        }
        DOCUMENT.write(part, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_its_place_in_the_document() {
        for name in options::all().map(Part::name).chain(["machine", "bars"]) {
            assert!(DOCUMENT.has(name), "{name}");
        }
    }
}
