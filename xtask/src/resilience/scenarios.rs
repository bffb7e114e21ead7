//! What goes wrong, for whom, and what Witgate is held to. Does nothing.

use super::made::Ill;
use crate::lab::peers::Peer;

/// One fault and the proxies that live through it.
pub(super) struct Scenario {
    /// Its name on the command line and in the document's markers.
    pub(super) part: &'static str,
    pub(super) title: &'static str,
    pub(super) fault: Fault,
    /// Tries after the first.
    pub(super) retries: u32,
    pub(super) rows: &'static [Row],
    /// What is asked of Witgate.
    pub(super) bars: &'static [Bar],
}

/// What is done to the origins while requests come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    /// SIGKILL of the first so many; started again later.
    Kill(usize),
    /// SIGSTOP of one, later SIGCONT.
    Hang,
    /// Packets of one are dropped.
    BlackHole,
    /// One of the origins of this process is ill.
    Ill(Ill),
    /// Each is taken out, restarted and taken back.
    Rolling,
    /// None, but the configuration is replaced again and again.
    Reload,
    /// SIGKILL of the DNS server that knows the origins' name; started again later.
    NoDns,
}

impl Fault {
    /// Whether it shows in the bad origin's requests when it is taken out.
    pub(super) fn is_ejected(self) -> bool {
        matches!(self, Fault::Ill(Ill::Half503 | Ill::Resets))
    }
}

/// One proxy, configured.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) peer: Peer,
    pub(super) template: &'static str,
    /// The word for how it balances.
    pub(super) balance: &'static str,
}

impl Row {
    /// Whether it is this repository's.
    pub(super) fn is_own(&self) -> bool {
        self.peer == Peer::Witgate
    }
}

/// A goal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bar {
    /// Requests that fail, in percent of all.
    Failed(f64),
    /// The slowest request, in milliseconds.
    Slowest(f64),
    /// Requests at the origins for each of the clients'.
    Amplified(f64),
    /// Milliseconds until the bad origin gets nothing any more.
    OutAfter(f64),
    /// Witgate's p99 while it lasts as a multiple of that before.
    P99Before(f64),
    /// p99 of the one row as a multiple of that of the other.
    P99(&'static str, &'static str, f64),
}

const fn witgate(name: &'static str, balance: &'static str) -> Row {
    Row { name, peer: Peer::Witgate, template: "witgate.toml", balance }
}

const fn haproxy(name: &'static str, balance: &'static str) -> Row {
    Row { name, peer: Peer::Haproxy, template: "haproxy.cfg", balance }
}

const fn envoy(name: &'static str, balance: &'static str) -> Row {
    Row { name, peer: Peer::Envoy, template: "envoy.yaml", balance }
}

/// Round robin, so that each origin has a quarter of the requests, whatever becomes of them.
const THREE: &[Row] =
    &[witgate("witgate", "round-robin"), haproxy("haproxy", "roundrobin"), envoy("envoy", "ROUND_ROBIN")];

const ROUND_ROBIN: &str = "witgate, round-robin";
const LEAST_REQUEST: &str = "witgate, least-request";
const PEAK_EWMA: &str = "witgate, peak-ewma";

/// A try's time, its back-off, and a tenth of a second for a machine that does something else.
const ONE_TRY_MORE: f64 = 500.0 + 25.0 + 100.0;

pub(super) const ALL: [Scenario; 10] = [
    Scenario {
        part: "kill",
        title: "One of four origins is killed, and started again later",
        fault: Fault::Kill(1),
        retries: 1,
        rows: THREE,
        bars: &[Bar::Failed(0.0)],
    },
    Scenario {
        part: "hung",
        title: "One of four origins hangs: the kernel still takes connections for it, and nothing comes back",
        fault: Fault::Hang,
        retries: 1,
        rows: THREE,
        bars: &[Bar::Failed(0.0), Bar::Slowest(ONE_TRY_MORE)],
    },
    Scenario {
        part: "black-hole",
        title: "All packets to and from one of four origins are dropped",
        fault: Fault::BlackHole,
        retries: 1,
        rows: THREE,
        bars: &[Bar::Failed(0.0), Bar::Slowest(ONE_TRY_MORE)],
    },
    Scenario {
        part: "half-503",
        title: "One of four origins answers 503 to a random half of its requests; its checks succeed",
        fault: Fault::Ill(Ill::Half503),
        retries: 1,
        rows: THREE,
        bars: &[Bar::Failed(0.1), Bar::OutAfter(2_000.0)],
    },
    Scenario {
        part: "resets",
        title: "One of four origins closes the connection on which a request comes; its checks succeed",
        fault: Fault::Ill(Ill::Resets),
        retries: 1,
        rows: THREE,
        bars: &[Bar::Failed(0.0), Bar::OutAfter(2_000.0)],
    },
    Scenario {
        part: "rolling",
        title: "All four origins are restarted, one after the other, each taken out before and back afterwards",
        fault: Fault::Rolling,
        retries: 1,
        rows: THREE,
        bars: &[Bar::Failed(0.0)],
    },
    Scenario {
        part: "slow",
        title: "One of four origins takes ten times as long for each request",
        fault: Fault::Ill(Ill::Slow),
        retries: 1,
        rows: &[
            witgate(ROUND_ROBIN, "round-robin"),
            witgate(LEAST_REQUEST, "least-request"),
            witgate(PEAK_EWMA, "peak-ewma"),
            haproxy("haproxy, roundrobin", "roundrobin"),
            haproxy("haproxy, leastconn", "leastconn"),
            envoy("envoy, ROUND_ROBIN", "ROUND_ROBIN"),
            envoy("envoy, LEAST_REQUEST", "LEAST_REQUEST"),
        ],
        bars: &[Bar::P99(LEAST_REQUEST, ROUND_ROBIN, 0.4), Bar::P99(PEAK_EWMA, ROUND_ROBIN, 0.4)],
    },
    Scenario {
        part: "half-gone",
        title: "Two of four origins are killed at once",
        fault: Fault::Kill(2),
        retries: 2,
        rows: THREE,
        bars: &[Bar::Failed(0.0), Bar::Amplified(1.2)],
    },
    Scenario {
        part: "dns",
        title: "The origins are one name, and its DNS server is killed, and started again later",
        fault: Fault::NoDns,
        retries: 1,
        rows: &[Row { name: "witgate", peer: Peer::Witgate, template: "witgate-dns.toml", balance: "round-robin" }],
        bars: &[Bar::Failed(0.0)],
    },
    Scenario {
        part: "reload",
        title: "A configuration with 10,000 endpoints is replaced once a second",
        fault: Fault::Reload,
        retries: 1,
        rows: &[Row { name: "witgate", peer: Peer::Witgate, template: "witgate-reload.toml", balance: "round-robin" }],
        bars: &[Bar::Failed(0.0), Bar::P99Before(1.5)],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_of_rows_that_are_there() {
        for scenario in &ALL {
            for bar in scenario.bars {
                if let Bar::P99(own, other, _) = bar {
                    let has = |name: &str| scenario.rows.iter().any(|row| row.name == name);
                    assert!(has(own) && has(other), "{}: {own}, {other}", scenario.part);
                }
            }
        }
    }
}
