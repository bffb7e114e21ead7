//! What became of each request: failures as lines at once, the rest counted until the end. Judges nothing.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// How a request failed, and which origin answered as far as that is known.
#[derive(Debug)]
pub(crate) struct Bad {
    pub(crate) what: String,
    pub(crate) origin: Option<String>,
}

impl Bad {
    pub(crate) fn new(what: impl Into<String>) -> Bad {
        Bad { what: what.into(), origin: None }
    }
}

#[derive(Default)]
pub(crate) struct Ledger {
    kinds: RefCell<BTreeMap<&'static str, Kind>>,
    pub(crate) open: Cell<usize>,
}

#[derive(Default)]
struct Kind {
    failed: usize,
    /// Sent, and nothing is to be said of what became of them: their clients went away.
    gone: usize,
    /// Not sent, as too many were without an answer.
    skipped: usize,
    /// Of those that went well, in tenths of a millisecond.
    took: Vec<u32>,
}

/// Milliseconds since 1970: xtask's clock as well.
pub(crate) fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

impl Ledger {
    pub(crate) fn well(&self, kind: &'static str, since: Instant) {
        let tenths = u32::try_from(since.elapsed().as_micros() / 100).unwrap_or(u32::MAX);
        self.kinds.borrow_mut().entry(kind).or_default().took.push(tenths);
    }

    pub(crate) fn gone(&self, kind: &'static str) {
        self.kinds.borrow_mut().entry(kind).or_default().gone += 1;
    }

    pub(crate) fn skipped(&self, kind: &'static str) {
        self.kinds.borrow_mut().entry(kind).or_default().skipped += 1;
    }

    pub(crate) fn failed(&self, kind: &'static str, began: u128, bad: &Bad) {
        self.kinds.borrow_mut().entry(kind).or_default().failed += 1;
        let origin = bad.origin.as_deref().unwrap_or("-");
        println!("failed\t{kind}\t{began}\t{}\t{origin}\t{}", now(), bad.what);
    }

    /// A kept connection ended without a byte of the answer, and the request went once more over another.
    pub(crate) fn again(&self, kind: &'static str, began: u128, what: &str) {
        println!("again\t{kind}\t{began}\t{}\t-\t{what}", now());
    }

    /// A line a kind: its name, well, failed, gone, skipped; p50, p99 and the longest in tenths of a millisecond.
    pub(crate) fn close(&self) {
        for (name, kind) in &mut *self.kinds.borrow_mut() {
            kind.took.sort_unstable();
            let at = |percent: usize| {
                let rank = (kind.took.len() * percent).div_ceil(100).saturating_sub(1);
                kind.took.get(rank).copied().unwrap_or(0)
            };
            let (well, times) = (kind.took.len(), [at(50), at(99), at(100)]);
            let Kind { failed, gone, skipped, .. } = kind;
            println!("kind\t{name}\t{well}\t{failed}\t{gone}\t{skipped}\t{}\t{}\t{}", times[0], times[1], times[2]);
        }
    }
}
