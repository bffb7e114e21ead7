//! `cargo xtask bench`: what Witgate costs, beside other proxies on the same work, on this machine and on loopback only.
//! Measures and writes down; judges nothing but failed requests, because a machine that is not quiet would fail any other limit.

mod bars;
mod check;
mod decisions;
mod generate;
mod http;
mod idle;
mod load;
mod machine;
mod options;
mod peers;
mod plot;
mod process;
mod report;
mod results;
mod rounds;
mod scenarios;
mod site;
mod start;
mod stats;
mod swap;
mod targets;
mod template;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::run::{self, Failed, Outcome};
use crate::{plugins, setup};
use options::Part;
pub(crate) use options::{Options, options};
use peers::{Peer, Peers};
use plot::Plot;
use results::Results;
use site::Site;

/// Whole-program optimisation of the engine and the proxy, on a slow machine.
const BUILD_LIMIT: Duration = Duration::from_secs(3600);

pub(crate) fn command(options: &Options) -> Outcome {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        return Err(Failed::new("bench needs two cores: one for the proxy, one for load and origins"));
    }
    setup::all()?;
    plugins::command(&plugins::Options::default())?;
    let witgate = proxy_binary(options)?;
    let parts = options.parts();
    let peers = Peers::prepare(&witgate, &wanted(options, &parts));
    let report = Report { write: options.write };
    report.add("machine", &machine::describe(&peers), None)?;
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
    report.add("bars", &bars::table(&results, &report.present("bars")?), None)?;
    drop(site);
    match results.problems() {
        problems if problems.is_empty() => Ok(()),
        problems => Err(Failed::new(problems.join("\n"))),
    }
}

/// The proxy to measure: as users get it, unless one is named.
fn proxy_binary(options: &Options) -> Result<PathBuf, Failed> {
    if let Some(binary) = &options.binary {
        let found = fs::canonicalize(binary).map_err(|error| Failed::new(format!("{}: {error}", binary.display())))?;
        println!("measuring {}", found.display());
        return Ok(found);
    }
    let mut cargo = run::cargo();
    run::run_within(cargo.args(["build", "--release", "--package", "witgate", "--bin", "witgate"]), BUILD_LIMIT)?;
    Ok(run::target_dir().join("release/witgate"))
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
        let document = report::replace(&document()?, part, &text).map_err(Failed::new)?;
        fs::write(document_file(), document).map_err(|error| Failed::new(format!("docs/performance.md: {error}")))
    }

    /// What the document has now.
    fn present(&self, part: &str) -> Result<String, Failed> {
        Ok(report::present(&document()?, part).unwrap_or_default().to_string())
    }
}

fn document_file() -> PathBuf {
    run::root().join("docs/performance.md")
}

fn document() -> Result<String, Failed> {
    fs::read_to_string(document_file()).map_err(|error| Failed::new(format!("docs/performance.md: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_its_place_in_the_document() {
        let document = document().unwrap();
        for name in options::all().map(Part::name).chain(["machine", "bars"]) {
            assert!(report::replace(&document, name, "").is_ok(), "{name}");
        }
    }
}
