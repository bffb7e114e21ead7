//! What `cargo xtask soak` is asked for.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::lab::{choice::Choice, number};
use crate::run::Failed;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Options {
    pub(super) minutes: usize,
    /// Requests a second; connections that last come beside those.
    pub(super) rate: usize,
    /// What the faults' times are drawn from; another one each time where none is named.
    pub(super) seed: Option<usize>,
    pub(super) choice: Choice,
}

impl Default for Options {
    fn default() -> Self {
        Options { minutes: 30, rate: 1_000, seed: None, choice: Choice::default() }
    }
}

impl Options {
    pub(super) fn seed(&self) -> u64 {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
        self.seed.map_or_else(now, |seed| seed as u64)
    }
}

pub(super) fn options(arguments: &[String]) -> Result<Options, Failed> {
    let mut options = Options::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| Failed::usage(format!("{word} needs a value")));
        match word.as_str() {
            "--minutes" => options.minutes = number(word, value()?, 7 * 24 * 60)?,
            "--rate" => options.rate = number(word, value()?, 100_000)?,
            "--seed" => options.seed = Some(number(word, value()?, u32::MAX as usize)?),
            "--binary" | "--no-write" => options.choice.take("soak", word, value, &[])?,
            _ => return Err(Failed::usage(format!("soak does not know `{word}`"))),
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
        check(&[], Some(Options::default()));
        check(&["--minutes", "1", "--seed", "7"], Some(Options { minutes: 1, seed: Some(7), ..Options::default() }));
        for wrong in [&["--minutes"][..], &["--minutes", "0"], &["--only", "kill"], &["kill"], &["--proxies", "envoy"]]
        {
            check(wrong, None);
        }
    }
}
