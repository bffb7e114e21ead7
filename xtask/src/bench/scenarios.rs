//! What is measured: the same work for several proxies. The letters are those of docs/performance.md.

use super::load::{self, Work};
use super::targets::{self, HAPROXY, NGINX, NO_POLICY, ONE_ROUTE, Target};

/// The same requests, sent to several proxies.
pub(super) struct Scenario {
    /// Its name on the command line, in the document's markers, and of its picture.
    pub(super) part: &'static str,
    pub(super) title: &'static str,
    /// The title of its picture.
    pub(super) short: &'static str,
    pub(super) work: Work,
    pub(super) targets: &'static [Target],
    /// Those that cannot take part, and why.
    pub(super) absent: &'static [(&'static str, &'static str)],
    /// Targets that the others are compared with.
    pub(super) baselines: &'static [&'static str],
    pub(super) per: Per,
}

/// What CPU time is divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Per {
    Request,
    /// 2^20 bytes of response bodies.
    Megabyte,
}

impl Per {
    pub(super) fn unit(self) -> &'static str {
        match self {
            Per::Request => "µs/request",
            Per::Megabyte => "µs/MB",
        }
    }

    /// How many requests that is.
    pub(super) fn requests(self, work: &Work) -> f64 {
        match self {
            Per::Request => 1.0,
            Per::Megabyte => f64::from(1 << 20) / work.body as f64,
        }
    }
}

pub(super) const PLAIN: Scenario = Scenario {
    part: "plain",
    title: "Plain HTTP/1.1, 128-byte bodies, round robin over two origins",
    short: "A. Plain HTTP/1.1",
    work: load::SMALL,
    targets: targets::PLAIN,
    absent: &[],
    baselines: &[NGINX],
    per: Per::Request,
};

pub(super) const POLICY: Scenario = Scenario {
    part: "policy",
    title: "Policy: a header forces the canary, else 10 % of the users by cookie",
    short: "B. Policy for each request",
    work: load::USERS,
    targets: targets::POLICY,
    absent: &[],
    baselines: &[NGINX, NO_POLICY],
    per: Per::Request,
};

pub(super) const TLS: Scenario = Scenario {
    part: "tls",
    title: "TLS in (ECDSA P-256, kept connections), HTTP/1.1 to the origins",
    short: "C. TLS",
    work: load::ENCRYPTED,
    targets: targets::TLS,
    absent: &[],
    baselines: &[NGINX],
    per: Per::Request,
};

pub(super) const HANDSHAKES: Scenario = Scenario {
    part: "handshakes",
    title: "TLS in (ECDSA P-256), a connection and a full handshake for each request",
    short: "C. A handshake for each request",
    work: load::SHAKING,
    targets: targets::TLS,
    absent: &[],
    baselines: &[NGINX],
    per: Per::Request,
};

pub(super) const TCP: Scenario = Scenario {
    part: "tcp",
    title: "TCP passed on; in it HTTP/1.1 on kept connections",
    short: "TCP",
    work: load::SMALL,
    targets: targets::TCP,
    absent: &[
        (targets::NGINX, "its stream module is a package of its own, and the bar is HAProxy"),
        (targets::PINGORA, "it is a program, and none is written for this"),
    ],
    baselines: &[HAPROXY],
    per: Per::Request,
};

pub(super) const HTTP2: Scenario = Scenario {
    part: "http2",
    title: "HTTP/2 in (cleartext, prior knowledge; 8 connections of 16 streams), HTTP/1.1 to the origins",
    short: "D. HTTP/2",
    work: load::STREAMS,
    targets: targets::HTTP2,
    absent: &[],
    baselines: &[NGINX],
    per: Per::Request,
};

pub(super) const BODIES: Scenario = Scenario {
    part: "bodies",
    title: "Bodies of 64 KiB",
    short: "F. Bodies of 64 KiB",
    work: load::LARGE,
    targets: targets::BODIES,
    absent: &[],
    baselines: &[NGINX],
    per: Per::Megabyte,
};

pub(super) const CHURN: Scenario = Scenario {
    part: "churn",
    title: "A connection for each request",
    short: "G. A connection for each request",
    work: load::CLOSING,
    targets: targets::PLAIN,
    absent: &[],
    baselines: &[NGINX],
    per: Per::Request,
};

pub(super) const SCALE: Scenario = Scenario {
    part: "scale",
    title: "10,000 routes (1,000 hosts of 10 paths) and 1,000 endpoints in 100 clusters",
    short: "H. 10,000 routes, 1,000 endpoints",
    work: load::ROUTED,
    targets: targets::SCALE,
    absent: &[
        (targets::HAPROXY, "no equivalent is written: this compares a proxy with itself"),
        (targets::PINGORA, "its routes are a program"),
        (targets::ENVOY, "no equivalent is written: this compares a proxy with itself"),
    ],
    baselines: &[NGINX, ONE_ROUTE],
    per: Per::Request,
};

pub(super) const BUSY: Scenario = Scenario {
    part: "busy",
    title: "The same configurations, all requests for one of the routes, which has ten endpoints",
    short: "H. One busy route of 10,000",
    work: load::BUSY,
    targets: targets::BUSY,
    absent: &[],
    baselines: &[NGINX, ONE_ROUTE],
    per: Per::Request,
};

/// All of them, in the document's order.
pub(super) const ALL: [&Scenario; 10] =
    [&PLAIN, &POLICY, &TLS, &HANDSHAKES, &TCP, &HTTP2, &BODIES, &CHURN, &SCALE, &BUSY];

#[cfg(test)]
mod tests {
    use super::super::templates;
    use super::*;

    #[test]
    fn baselines_and_files_are_there() {
        for scenario in ALL {
            for baseline in scenario.baselines {
                assert!(scenario.targets.iter().any(|target| target.name == *baseline), "{baseline}");
            }
            let templates = scenario.targets.iter().map(|target| target.template).chain(scenario.work.script);
            for file in templates.chain([targets::FULL.template]) {
                assert!(templates::dir().join(file).is_file(), "{file}");
            }
        }
    }

    #[test]
    fn templates_are_complete() {
        let names = ["PROXY", "ADMIN", "ORIGIN1", "ORIGIN2", "CANARY", "RUN", "PLUGINS", "TEMPLATES", "FILTER"];
        let values: Vec<_> = names.iter().chain(&["NGINX_MODULES"]).map(|name| (*name, "7".to_string())).collect();
        for target in ALL.iter().flat_map(|scenario| scenario.targets).chain([&targets::FULL]) {
            let text = templates::fill(target.template, &values).unwrap();
            if target.template.ends_with(".toml") {
                text.parse::<toml::Table>().unwrap_or_else(|error| panic!("{}: {error}", target.template));
            }
        }
    }

    #[test]
    fn megabytes() {
        assert_eq!(Per::Megabyte.requests(&load::LARGE), 16.0);
        assert_eq!(Per::Request.requests(&load::LARGE), 1.0);
    }
}
