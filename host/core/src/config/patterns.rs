//! The regular expressions of one file, within a room that they share: compiled, a few bytes of text may take megabytes,
//! and there is one of each for as long as the configuration lives. Never compiles what there is no room for.

use std::cell::Cell;

use regex::{Regex, RegexBuilder};

use super::value::Bad;

/// Regular expressions in a file. Routes that have one are tried in order, so that a request may meet them all.
const MOST: usize = 10_000;
/// Bytes of one's text: before its compiled size can be known, its parsed form takes some thousand times as much.
const TEXT: usize = 16 << 10;
/// Bytes that one may take compiled: the default of the `regex` crate.
const ONE: usize = 10 << 20;
/// Bytes that all of them may take compiled.
const ALL: usize = 64 << 20;
/// Bytes that one is taken for at the least.
const LEAST: usize = 1 << 10;

/// What is left of the room.
pub(super) struct Patterns {
    count: Cell<usize>,
    bytes: Cell<usize>,
    /// Whether it was said that there is no room: once is enough.
    told: Cell<bool>,
}

impl Default for Patterns {
    fn default() -> Self {
        Self { count: Cell::new(MOST), bytes: Cell::new(ALL), told: Cell::new(false) }
    }
}

impl Patterns {
    /// Compiles one. None where there is no room, which was said of the first that there was none for.
    pub(super) fn compile(&self, text: &str) -> Result<Option<Regex>, Bad> {
        let (count, room) = (self.count.get(), self.bytes.get());
        if self.told.get() {
            return Ok(None);
        }
        let Some(count) = count.checked_sub(1) else {
            return Err(self.used_up(
                &format!("the file has more than {MOST} regular expressions"),
                "match with `path`, `path_prefix` or exact values, which cost a look-up however many there are",
            ));
        };
        self.count.set(count);
        if text.len() > TEXT {
            let help = format!("at most {TEXT} bytes; share it out over several routes");
            return Err(Bad::new(format!("it is {} bytes long", text.len())).help(help));
        }
        // The crate says whether a limit was kept, not what was taken: the smallest of doubled limits that is kept
        // is at most twice of that.
        let mut limit = LEAST.max(text.len().next_power_of_two());
        loop {
            limit = limit.min(ONE).min(room);
            match RegexBuilder::new(text).size_limit(limit).build() {
                Ok(regex) => {
                    self.bytes.set(room - limit);
                    return Ok(Some(regex));
                }
                Err(regex::Error::CompiledTooBig(_)) if limit == room.min(ONE) => return Err(self.too_big(room)),
                Err(regex::Error::CompiledTooBig(_)) => limit *= 2,
                Err(error) => return Err(reason(&error)),
            }
        }
    }

    fn too_big(&self, room: usize) -> Bad {
        const HELP: &str =
            "repetitions such as {1,500} and classes such as \\w and \\d multiply; [A-Za-z0-9_] is smaller";
        if room < ONE {
            let message = format!("with it, the file's regular expressions take more than {} MiB compiled", ALL >> 20);
            return self.used_up(&message, HELP);
        }
        // It has taken the time of one that fits.
        self.bytes.set(room - ONE);
        Bad::new(format!("it takes more than {} MiB compiled", ONE >> 20)).help(HELP)
    }

    fn used_up(&self, message: &str, help: &str) -> Bad {
        self.told.set(true);
        Bad::new(message).help(help)
    }
}

fn reason(error: &regex::Error) -> Bad {
    let error = error.to_string();
    // The crate prints the pattern and a caret, then the reason in the last line.
    let reason = error.lines().last().unwrap_or_default();
    Bad::new(reason.strip_prefix("error: ").unwrap_or(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(patterns: &Patterns, text: &str) -> String {
        patterns.compile(text).expect_err("refused").message
    }

    #[test]
    fn what_is_common_takes_little() {
        for (text, most) in [("^/v[0-9]+/x$", 8 << 10), ("^t-", 2 << 10), (r"^/\w+/\d{4}$", 128 << 10)] {
            let patterns = Patterns::default();
            let _ = patterns.compile(text).unwrap().unwrap();
            let taken = ALL - patterns.bytes.get();
            assert!(taken <= most, "{text} takes {taken}");
        }
    }

    #[test]
    fn one_that_is_too_large_is_refused_and_the_next_is_not() {
        let patterns = Patterns::default();
        assert_eq!(message(&patterns, r"\w{1000}"), "it takes more than 10 MiB compiled");
        assert_eq!(message(&patterns, &"x".repeat(TEXT + 1)), "it is 16385 bytes long");
        assert!(patterns.compile("x").unwrap().is_some());
    }

    #[test]
    fn together_they_have_a_limit_that_is_told_once() {
        let patterns = Patterns::default();
        let large = (0..100).find(|_| patterns.compile(r"\w{100}").is_err());
        assert!(large.is_some_and(|n| n == 8), "{large:?}");
        assert!(patterns.compile("x").unwrap().is_none(), "it is not told again");

        let patterns = Patterns { count: Cell::new(1), ..Patterns::default() };
        assert!(patterns.compile("x").unwrap().is_some());
        assert_eq!(message(&patterns, "x"), "the file has more than 10000 regular expressions");
        assert!(patterns.compile("x").unwrap().is_none());
    }
}
