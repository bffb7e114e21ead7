//! What `cargo xtask bench` is asked for.

use super::rounds::Effort;
use super::scenarios::{self, Scenario};
use super::targets::{self, Target};
use crate::lab::{choice::Choice, number};
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
    pub(super) choice: Choice,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            effort: Effort { rounds: 5, seconds: 4, careful: true },
            activations: 50,
            starts: 20,
            choice: Choice::default(),
        }
    }
}

impl Options {
    pub(super) fn parts(&self) -> Vec<Part> {
        all().filter(|part| self.choice.has_part(part.name())).collect()
    }

    /// The proxies that are to be measured in a part.
    pub(super) fn targets(&self, part: Part) -> Vec<&'static Target> {
        part.targets().iter().filter(|target| self.choice.has_proxy(target.name)).collect()
    }
}

pub(crate) fn options(arguments: &[String]) -> Result<Options, Failed> {
    let mut options = Options::default();
    let parts: Vec<&str> = all().map(Part::name).collect();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| Failed::usage(format!("{word} needs a value")));
        match word.as_str() {
            "--quick" => {
                options.effort = Effort { rounds: 1, seconds: 1, careful: false };
                (options.activations, options.starts, options.choice.write) = (3, 3, false);
            }
            "--rounds" => options.effort.rounds = number(word, value()?, 100)?,
            "--seconds" => options.effort.seconds = number(word, value()?, 600)? as u32,
            "--activations" => options.activations = number(word, value()?, 1000)?,
            _ => options.choice.take("bench", word, value, &parts)?,
        }
    }
    Ok(options)
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
            choice: Choice { write: false, ..Choice::default() },
        };
        check(&[], Some(Options::default()));
        check(&["--quick"], Some(quick()));
        let two = vec!["swap".to_string(), "plain".to_string()];
        let only = |two: &[String]| Options { choice: Choice { only: two.to_vec(), ..quick().choice }, ..quick() };
        check(&["--quick", "--only", "swap,plain"], Some(only(&two)));
        let long = Options { effort: Effort { rounds: 9, seconds: 8, careful: true }, ..Options::default() };
        check(&["--rounds", "9", "--seconds", "8"], Some(long));
        let some = options(&run::words(&["--proxies", "nginx,no policy", "--only", "policy"])).unwrap_or_default();
        let names: Vec<&str> =
            some.parts().into_iter().flat_map(|part| some.targets(part)).map(|target| target.name).collect();
        assert_eq!(
            (names, some.choice.write),
            (vec!["nginx", "nginx + njs", "nginx + lua", "witgate, no policy"], false)
        );
        for wrong in [&["--rounds"][..], &["--rounds", "0"], &["--seconds", "x"], &["--only", "none"], &["quick"]] {
            check(wrong, None);
        }
        let names: Vec<&str> = only(&two).parts().into_iter().map(Part::name).collect();
        assert_eq!(names, ["plain", "swap"]);
        assert_eq!(quick().parts().len(), all().count());
    }
}
