//! What the demo shows, and what it holds to be true: every claim is printed with whether it holds, and one that does
//! not makes the command fail.

use std::fmt;

use super::{
    super::{
        Failed,
        show::{Paint, Table, count, say},
    },
    Outcome,
};

/// Collects claims and requests over all phases.
pub(super) struct Report {
    pub(super) paint: Paint,
    chapters: u32,
    claims: u32,
    broken: u32,
    requests: u64,
    failures: u64,
    /// Why the first request failed, of this chapter.
    reason: Option<String>,
    /// `failures` when this chapter began.
    failures_before: u64,
}

impl Report {
    pub(super) fn new() -> Self {
        Self {
            paint: Paint::stdout(),
            chapters: 0,
            claims: 0,
            broken: 0,
            requests: 0,
            failures: 0,
            reason: None,
            failures_before: 0,
        }
    }

    /// A new phase.
    pub(super) fn chapter(&mut self, title: &str, text: &str) {
        self.chapters += 1;
        self.reason = None;
        self.failures_before = self.failures;
        say!();
        say!("{} {}", self.paint.cyan(format_args!("{}.", self.chapters)), self.paint.bold(title));
        for line in text.lines() {
            say!("   {}", self.paint.dim(line));
        }
        say!();
    }

    pub(super) fn table(&self, table: &Table) {
        say!("{}", table.render(self.paint));
    }

    /// Says whether something holds.
    pub(super) fn claim(&mut self, holds: bool, text: impl fmt::Display) {
        self.claims += 1;
        if holds {
            say!("   {} {text}", self.paint.green("✓"));
        } else {
            self.broken += 1;
            say!("   {} {text}", self.paint.red("✗"));
        }
    }

    /// Counts a request; none where it failed.
    pub(super) fn request<T>(&mut self, outcome: Result<T, impl Into<String>>) -> Option<T> {
        self.requests += 1;
        outcome
            .map_err(|reason| {
                self.failures += 1;
                self.reason.get_or_insert_with(|| reason.into());
            })
            .ok()
    }

    /// The claim that no request of this chapter failed.
    pub(super) fn claim_none_failed(&mut self) {
        let failures = self.failures - self.failures_before;
        match self.reason.take() {
            Some(reason) => self.claim(false, format_args!("{} requests failed, the first: {reason}", count(failures))),
            None => self.claim(true, "0 requests failed"),
        }
    }

    /// The last word.
    pub(super) fn end(&self) -> Outcome {
        let Self { claims, broken, requests, failures, paint, .. } = self;
        say!();
        if *broken == 0 && *failures == 0 {
            let all = format!("All {claims} claims hold: {} requests, 0 failed.", count(*requests));
            say!("{}", paint.bold(paint.green(all)));
            return Ok(());
        }
        Err(Failed::new(format!(
            "{broken} of {claims} claims do not hold; {} of {} requests failed",
            count(*failures),
            count(*requests)
        )))
    }
}

/// A share in percent.
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}
