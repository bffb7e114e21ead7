//! What `cargo xtask bench` is asked for.

use std::path::PathBuf;

use super::rounds::Effort;
use super::scenarios::{self, Scenario};
use super::targets::{self, Target};
use crate::lab::number;
use crate::run::Failed;

/// What can be measured by itself. Each has its markers in docs/performance.md.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Load(&'static Scenario),
    Idle,
    Swap,
    Small,
    Decisions,
}

impl Part {
    /// The proxies that it measures; those that only measure this repository's choose themselves.
    pub(super) fn targets(self) -> &'static [Target] {
        match self {
            Part::Load(scenario) => scenario.targets,
            Part::Idle => targets::PLAIN,
            Part::Swap | Part::Small | Part::Decisions => &[],
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Part::Load(scenario) => scenario.part,
            Part::Idle => "idle",
            Part::Swap => "swap",
            Part::Small => "small",
            Part::Decisions => "decisions",
        }
    }
}

/// All parts, in the document's order.
pub(super) fn all() -> impl Iterator<Item = Part> {
    let loads = scenarios::ALL.into_iter().map(Part::Load);
    loads.chain([Part::Idle, Part::Swap, Part::Small, Part::Decisions])
}

/// What `cargo xtask bench` was asked for.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    pub(super) effort: Effort,
    pub(super) activations: usize,
    pub(super) starts: usize,
    /// Names of parts; all of them where there is none.
    pub(super) only: Vec<String>,
    /// Parts of names of proxies; all of them where there is none.
    pub(super) proxies: Vec<String>,
    /// A built proxy to use instead of the release build.
    pub(super) binary: Option<PathBuf>,
    /// Whether docs/ gets the figures.
    pub(super) write: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            effort: Effort { rounds: 5, seconds: 4, careful: true },
            activations: 50,
            starts: 20,
            only: Vec::new(),
            proxies: Vec::new(),
            binary: None,
            write: true,
        }
    }
}

impl Options {
    pub(super) fn parts(&self) -> Vec<Part> {
        let asked = |part: &Part| self.only.is_empty() || self.only.iter().any(|name| name == part.name());
        all().filter(asked).collect()
    }

    /// The proxies that are to be measured in a part.
    pub(super) fn targets(&self, part: Part) -> Vec<&'static Target> {
        let asked =
            |target: &&Target| self.proxies.is_empty() || self.proxies.iter().any(|name| target.name.contains(&**name));
        part.targets().iter().filter(asked).collect()
    }
}

pub(crate) fn options(arguments: &[String]) -> Result<Options, Failed> {
    let mut options = Options::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| Failed::usage(format!("{word} needs a value")));
        match word.as_str() {
            "--quick" => {
                options.effort = Effort { rounds: 1, seconds: 1, careful: false };
                (options.activations, options.starts, options.write) = (3, 3, false);
            }
            "--rounds" => options.effort.rounds = number(word, value()?, 100)?,
            "--seconds" => options.effort.seconds = number(word, value()?, 600)? as u32,
            "--activations" => options.activations = number(word, value()?, 1000)?,
            "--binary" => options.binary = Some(PathBuf::from(value()?)),
            "--only" => options.only = value()?.split(',').map(part).collect::<Result<_, _>>()?,
            "--proxies" => {
                // Tables without the others would say less than those that are there.
                options.proxies = value()?.split(',').map(str::to_string).collect();
                options.write = false;
            }
            "--no-write" => options.write = false,
            _ => return Err(Failed::usage(format!("bench does not know `{word}`"))),
        }
    }
    Ok(options)
}

fn part(name: &str) -> Result<String, Failed> {
    let names: Vec<&str> = all().map(Part::name).collect();
    if names.contains(&name) {
        return Ok(name.to_string());
    }
    Err(Failed::usage(format!("there is no part `{name}`; there are {}", names.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run;

    #[test]
    fn arguments() {
        let check = |words: &[&str], expected: Option<Options>| {
            assert_eq!(options(&run::words(words)).ok(), expected, "{words:?}");
        };
        let quick = || Options {
            effort: Effort { rounds: 1, seconds: 1, careful: false },
            activations: 3,
            starts: 3,
            write: false,
            ..Options::default()
        };
        check(&[], Some(Options::default()));
        check(&["--quick"], Some(quick()));
        let two = vec!["swap".to_string(), "plain".to_string()];
        check(&["--quick", "--only", "swap,plain"], Some(Options { only: two.clone(), ..quick() }));
        let long = Options { effort: Effort { rounds: 9, seconds: 8, careful: true }, ..Options::default() };
        check(&["--rounds", "9", "--seconds", "8"], Some(long));
        let some = options(&run::words(&["--proxies", "nginx,no policy", "--only", "policy"])).unwrap_or_default();
        let names: Vec<&str> =
            some.parts().into_iter().flat_map(|part| some.targets(part)).map(|target| target.name).collect();
        assert_eq!((names, some.write), (vec!["nginx", "nginx + njs", "nginx + lua", "witgate, no policy"], false));
        for wrong in [&["--rounds"][..], &["--rounds", "0"], &["--seconds", "x"], &["--only", "none"], &["quick"]] {
            check(wrong, None);
        }
        let names: Vec<&str> = Options { only: two, ..quick() }.parts().into_iter().map(Part::name).collect();
        assert_eq!(names, ["plain", "swap"]);
        assert_eq!(quick().parts().len(), all().count());
    }
}
