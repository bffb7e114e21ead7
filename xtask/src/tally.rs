//! Counting what passed and what failed, and the closing line. Runs nothing.

/// The outcome of all checks so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    passed: usize,
    failed: usize,
    /// What to read again before the closing line.
    failures: Vec<String>,
}

impl Tally {
    /// A check that is one thing: it holds or not.
    pub(crate) fn check(&mut self, name: &str, outcome: &Result<(), String>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(reason) => {
                self.failed += 1;
                self.failures.push(if reason.is_empty() { name.to_string() } else { format!("{name}: {reason}") });
            }
        }
    }

    /// A run of cargo test. One that failed without a failing test (it did not compile, or a test binary died) counts as one.
    pub(crate) fn tests(&mut self, step: &str, counted: &Counted, succeeded: bool) {
        self.passed += counted.passed;
        self.failed += counted.failed;
        self.failures.extend(counted.names.iter().map(|name| format!("{step}: {name}")));
        if !succeeded && counted.failed == 0 {
            self.failed += 1;
            self.failures.push(format!("{step}: did not compile, or a test program ended early (see above)"));
        }
    }

    /// Whether everything that was counted passed, and something was.
    pub(crate) fn is_green(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    /// The failures, then the line that says it all, which is the last.
    pub(crate) fn closing(&self) -> String {
        let failures: String = self.failures.iter().map(|failure| format!("FAILED {failure}\n")).collect();
        format!("{failures}{} passed, {} failed", self.passed, self.failed)
    }
}

/// What cargo test printed, as numbers.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Counted {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// Of the tests that failed.
    pub(crate) names: Vec<String>,
}

impl Counted {
    /// Takes in one line of cargo test's output.
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            let number = |what: &str| {
                let word = counts.split(['.', ';']).find_map(|part| part.trim().strip_suffix(what));
                word.and_then(|word| word.trim().parse::<usize>().ok()).unwrap_or(0)
            };
            self.passed += number("passed");
            self.failed += number("failed");
        } else if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.names.push(name.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_cargos_output() {
        let mut counted = Counted::default();
        for line in [
            "running 3 tests",
            "test split::stable ... ok",
            "test routing::wild ... FAILED",
            "test src/lib.rs - (line 3) ... FAILED",
            "test result: FAILED. 1 passed; 2 failed; 4 ignored; 0 measured; 5 filtered out; finished in 0.1s",
            "test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s",
        ] {
            counted.line(line);
        }
        let names = vec!["routing::wild".to_string(), "src/lib.rs - (line 3)".to_string()];
        assert_eq!(counted, Counted { passed: 41, failed: 2, names });
    }

    #[test]
    fn closes_with_one_line() {
        let mut tally = Tally::default();
        assert!(!tally.is_green(), "nothing counted is not a success");
        tally.check("format", &Ok(()));
        tally.tests("core", &Counted { passed: 3, ..Counted::default() }, true);
        assert_eq!(tally.closing(), "4 passed, 0 failed");
        assert!(tally.is_green());
        tally.tests("rest", &Counted::default(), false);
        tally.check("clippy", &Err("exit code 1".to_string()));
        let closing = tally.closing();
        assert!(closing.ends_with("\nFAILED clippy: exit code 1\n4 passed, 2 failed"), "{closing}");
        assert!(!tally.is_green());
    }
}
