//! Who drains an endpoint. Keeps what they want; never wants anything.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Who may drain an endpoint. It is active where none of them does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Drainer {
    /// Whoever asked the admin API for it.
    Operator = 1,
    /// The endpoint, by its answer to a check.
    Endpoint = 2,
}

impl Drainer {
    const ALL: [Self; 2] = [Self::Operator, Self::Endpoint];

    /// As operators see it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Endpoint => "endpoint",
        }
    }
}

/// Those who drain, in one word: who changes their mind never changes another's.
#[derive(Debug, Default)]
pub(super) struct Draining(AtomicU8);

/// What a change of mind came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// One more drains, or one of several no longer does.
    Other,
    /// Nobody drains any more.
    Ended,
}

impl Draining {
    pub(super) fn set(&self, by: Drainer, drains: bool) -> Change {
        let bit = by as u8;
        let before = if drains { self.0.fetch_or(bit, Relaxed) } else { self.0.fetch_and(!bit, Relaxed) };
        match (before & bit != 0, drains) {
            (true, false) if before == bit => Change::Ended,
            (was, is) if was != is => Change::Other,
            _ => Change::None,
        }
    }

    pub(super) fn any(&self) -> bool {
        self.0.load(Relaxed) != 0
    }

    pub(super) fn by(&self) -> impl Iterator<Item = Drainer> + use<> {
        let word = self.0.load(Relaxed);
        Drainer::ALL.into_iter().filter(move |by| word & *by as u8 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_when_nobody_wants_it_any_more() {
        use Drainer::{Endpoint, Operator};
        let draining = Draining::default();
        for (by, drains, change, left) in [
            (Operator, false, Change::None, &[][..]),
            (Operator, true, Change::Other, &[Operator]),
            (Operator, true, Change::None, &[Operator]),
            (Endpoint, true, Change::Other, &[Operator, Endpoint]),
            (Operator, false, Change::Other, &[Endpoint]),
            (Endpoint, false, Change::Ended, &[]),
            (Endpoint, false, Change::None, &[]),
        ] {
            assert_eq!(draining.set(by, drains), change, "{by:?} {drains}");
            assert_eq!((draining.by().collect::<Vec<_>>().as_slice(), draining.any()), (left, !left.is_empty()));
        }
    }
}
