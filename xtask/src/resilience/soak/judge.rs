//! Which failures were lost requests, and which no proxy could have kept from its clients. Pure.

use std::collections::BTreeMap;

use super::sets::Set;

/// What happened to an origin, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Struck {
    pub(super) set: Set,
    pub(super) number: usize,
    pub(super) how: How,
    /// Of a kill, just before and just after it.
    pub(super) from: u128,
    pub(super) until: u128,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum How {
    Killed,
    Hung,
}

/// A failure, or a request that was sent again, as the clients tell it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) again: bool,
    pub(super) kind: String,
    pub(super) began: u128,
    pub(super) ended: u128,
    /// The origin that answered, where that is known.
    origin: Option<usize>,
    pub(super) what: String,
}

/// A kind's totals, as the clients tell them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Kind {
    pub(super) name: String,
    pub(super) well: usize,
    pub(super) failed: usize,
    pub(super) gone: usize,
    pub(super) skipped: usize,
    /// p50, p99 and the longest of those that went well, in milliseconds.
    pub(super) took: [f64; 3],
    pub(super) again: usize,
    /// Failures that were not to be avoided, by why.
    pub(super) unavoidable: BTreeMap<&'static str, usize>,
    pub(super) lost: Vec<Told>,
}

pub(super) const POST_KILLED: &str = "POST at an origin that was killed";
pub(super) const POST_HUNG: &str = "POST at an origin that hung";
pub(super) const CUT: &str = "answer or connection of an origin that was killed";
pub(super) const CLOSED: &str = "POST on a kept connection as an upgrade closed it";

/// A clock of another process, and what was on its way.
const SLACK: u128 = 250;

/// What became of all requests. `handovers` are from the signal to the end of the old process.
pub(super) fn kinds(log: &str, struck: &[Struck], handovers: &[(u128, u128)]) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = log.lines().filter_map(total).collect();
    for told in log.lines().filter_map(told) {
        let Some(kind) = kinds.iter_mut().find(|kind| kind.name == told.kind) else { continue };
        let within = |(from, until): &(u128, u128)| *from <= told.ended && told.began <= until + SLACK;
        let closing = handovers.iter().any(within);
        match why(&told, struck, closing) {
            // The connection ended before anything was said of the request, as it may (RFC 9112, 9.3.1 and 9.5).
            _ if told.again && closing => kind.again += 1,
            Some(why) if !told.again => *kind.unavoidable.entry(why).or_insert(0) += 1,
            _ => kind.lost.push(told),
        }
    }
    kinds
}

/// Why a failure was not to be avoided.
fn why(told: &Told, struck: &[Struck], closing: bool) -> Option<&'static str> {
    let set = set_of(&told.kind);
    let met = |how: How| {
        struck.iter().any(|struck| {
            let is_it = told.origin.is_none_or(|origin| origin == struck.number);
            let at_once = struck.from <= told.ended + SLACK && told.began <= struck.until.saturating_add(SLACK);
            struck.set == set && struck.how == how && is_it && at_once
        })
    };
    // What is not idempotent may have been done: it must not be sent again (RFC 9110, 9.2.2).
    let is_post = told.kind.starts_with("POST");
    let reset = told.what.starts_with("502 upstream-reset");
    match () {
        () if is_post && reset && met(How::Killed) => Some(POST_KILLED),
        () if is_post && (reset || told.what.starts_with("504 timeout")) && met(How::Hung) => Some(POST_HUNG),
        () if told.what.starts_with("cut") && met(How::Killed) => Some(CUT),
        () if is_post && told.what.starts_with("no answer") && closing => Some(CLOSED),
        () => None,
    }
}

/// Which origins requests of a kind go to.
fn set_of(kind: &str) -> Set {
    match kind {
        kind if kind.contains("HTTP/2 origins") => Set::H2,
        "connection of TCP" | "upgrade" => Set::Echo,
        _ => Set::App,
    }
}

fn told(line: &str) -> Option<Told> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [first @ ("failed" | "again"), kind, began, ended, origin, what] = fields[..] else { return None };
    let (began, ended) = (began.parse().ok()?, ended.parse().ok()?);
    let (kind, what) = (kind.to_string(), what.to_string());
    Some(Told { again: first == "again", kind, began, ended, origin: origin.parse().ok(), what })
}

fn total(line: &str) -> Option<Kind> {
    let fields: Vec<&str> = line.strip_prefix("kind\t")?.split('\t').collect();
    let [name, ref numbers @ ..] = fields[..] else { return None };
    let numbers: Vec<usize> = numbers.iter().map_while(|number| number.parse().ok()).collect();
    let [well, failed, gone, skipped, p50, p99, max] = numbers[..] else { return None };
    let took = [p50, p99, max].map(|tenths| tenths as f64 / 10.0);
    Some(Kind { name: name.to_string(), well, failed, gone, skipped, took, ..Kind::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRUCK: [Struck; 3] = [
        Struck { set: Set::App, number: 1, how: How::Killed, from: 10_000, until: 10_002 },
        Struck { set: Set::App, number: 2, how: How::Hung, from: 20_000, until: 23_000 },
        Struck { set: Set::Echo, number: 3, how: How::Killed, from: 30_000, until: 30_002 },
    ];
    const TOTALS: &str =
        "kind\tGET\t9\t1\t0\t0\t10\t20\t35\nkind\tPOST\t9\t1\t0\t0\t1\t2\t3\nkind\tupgrade\t9\t1\t0\t0\t1\t2\t3\n";

    /// What a line is taken for: sent again, lost, or why not.
    fn check(line: &str, expected: &str) {
        let kinds = kinds(&format!("{TOTALS}{line}\n"), &STRUCK, &[(40_000, 41_000)]);
        let again = kinds.iter().filter(|kind| kind.again > 0).map(|_| "again");
        let lost = kinds.iter().filter(|kind| !kind.lost.is_empty()).map(|_| "lost");
        let why = kinds.iter().flat_map(|kind| kind.unavoidable.keys().copied());
        assert_eq!(again.chain(lost).chain(why).collect::<Vec<_>>(), [expected], "{line}");
    }

    #[test]
    fn what_a_failure_is() {
        check("failed\tPOST\t9990\t10010\t-\t502 upstream-reset", POST_KILLED);
        check("failed\tPOST\t11000\t11010\t-\t502 upstream-reset", "lost");
        check("failed\tPOST\t9990\t10010\t-\t502 connect-failure", "lost");
        check("failed\tGET\t9990\t10010\t-\t502 upstream-reset", "lost");
        check("failed\tPOST\t21000\t21500\t-\t504 timeout", POST_HUNG);
        check("failed\tGET\t9900\t10050\t1\tcut: closed", CUT);
        check("failed\tGET\t9900\t10050\t2\tcut: closed", "lost");
        check("failed\tGET\t20900\t21050\t2\tcut: closed", "lost");
        check("failed\tupgrade\t29000\t30010\t3\tcut: closed", CUT);
        check("failed\tupgrade\t9990\t10010\t1\tcut: closed", "lost");
        check("again\tGET\t40500\t40501\t-\tclosed", "again");
        check("again\tGET\t50000\t50001\t-\tclosed", "lost");
        check("failed\tPOST\t40500\t40501\t-\tno answer: closed", CLOSED);
        check("failed\tGET\t40500\t40501\t-\tno answer: closed", "lost");
    }

    #[test]
    fn totals() {
        let kinds = kinds(TOTALS, &STRUCK, &[]);
        assert_eq!((kinds.len(), kinds[0].well, kinds[0].failed, kinds[0].took), (3, 9, 1, [1.0, 2.0, 3.5]));
    }
}
