//! Picking an endpoint among few and many, and what a request leaves behind at one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use witgate_core::{
    balance::{Cursor, Picker},
    config::{self, Algorithm},
    eligible::Rules,
    endpoint::{Endpoint, InFlight, Outcome},
};

use crate::{
    inputs::{cycle, random},
    operation::{Operation, ROUNDS},
};

const ALGORITHMS: [(&str, Algorithm); 6] = [
    ("round-robin", Algorithm::RoundRobin),
    ("random", Algorithm::Random),
    ("least-request", Algorithm::LeastRequest),
    ("peak-ewma", Algorithm::PeakEwma),
    ("ring-hash", Algorithm::RingHash),
    ("maglev", Algorithm::Maglev),
];

pub(crate) fn operations() -> Vec<Operation> {
    let mut all = Vec::new();
    for (name, algorithm) in ALGORITHMS {
        all.extend(
            [2, 64, 10_000]
                .map(|count| pick(format!("pick {name}, {count}"), move || Cluster::new(algorithm, count, |_| 1))),
        );
    }
    for (name, algorithm) in &ALGORITHMS[..4] {
        all.push(pick(format!("pick {name}, 64 weighted"), || Cluster::new(*algorithm, 64, |n| 1 + n % 5)));
    }
    let algorithm = Algorithm::LeastRequest;
    all.push(pick("pick by scores, 64", move || Cluster::new(algorithm, 64, |_| 1).scored()));
    all.push(pick("pick another after a failed one, 64", move || Cluster::new(algorithm, 64, |_| 1).tried()));
    all.extend([rescore(), request(), record("busy", 1), record("idle", 250)]);
    all
}

/// A cluster under load, and how requests come to it.
struct Cluster {
    picker: Picker,
    has_hash: bool,
    tried: &'static [u32],
    /// When requests come: after what is known of endpoints, by as much in each run.
    now: Instant,
    /// Requests that stay for as long as it is measured.
    _in_flight: Vec<InFlight>,
}

impl Cluster {
    fn new(algorithm: Algorithm, count: u32, weight: fn(u32) -> u32) -> Self {
        let now = Instant::now();
        let endpoints: Arc<[Arc<Endpoint>]> = (0..count).map(|n| endpoint(n, weight(n), now)).collect();
        let in_flight = endpoints.iter().zip(0u32..).flat_map(|(e, n)| (0..n * 7 % 4).map(|_| e.begin())).collect();
        if algorithm == Algorithm::PeakEwma {
            for (n, endpoint) in endpoints.iter().enumerate() {
                endpoint.measure_cost(true);
                endpoint.record(now, Some(Duration::from_millis(1 + n as u64 % 3)), Outcome::Success);
            }
        }
        Self {
            picker: Picker::new(endpoints, algorithm, Rules::default(), now),
            has_hash: matches!(algorithm, Algorithm::RingHash | Algorithm::Maglev),
            tried: &[],
            now: now + Duration::from_millis(50),
            _in_flight: in_flight,
        }
    }

    fn scored(mut self) -> Self {
        self.picker = self.picker.rescore(Some(&scores(self.picker.eligible_count()).into()));
        self
    }

    fn tried(mut self) -> Self {
        self.tried = &[5];
        self
    }
}

fn pick(name: impl Into<String>, cluster: impl FnOnce() -> Cluster + 'static) -> Operation {
    Operation::new(name, ROUNDS, || {
        let cluster = cluster();
        let (cursor, mut bits, now) = (Cursor::default(), random(2), cluster.now);
        let work = move |hash: u64| {
            let hash = cluster.has_hash.then_some(hash);
            cluster.picker.pick(&cursor, hash, cluster.tried, now, &mut bits)
        };
        (random(1), work)
    })
}

/// Off the request path, ten times a second for each cluster that a plugin weighs.
fn rescore() -> Operation {
    Operation::new("take new scores, 64", ROUNDS / 16, || {
        let picker = Cluster::new(Algorithm::LeastRequest, 64, |_| 1).picker;
        let scores = scores(64).into();
        (|| (), move |()| picker.rescore(Some(&scores)))
    })
}

fn scores(count: usize) -> Vec<f32> {
    (0..count).map(|n| 0.2 + (n * 7 % 10) as f32 / 10.0).collect()
}

fn request() -> Operation {
    Operation::new("count a request in flight", ROUNDS, || {
        let endpoint = endpoint(0, 1, Instant::now());
        (|| (), move |()| drop(endpoint.begin()))
    })
}

/// Outcomes so many milliseconds apart, one of a hundred a failure.
fn record(what: &str, apart: u64) -> Operation {
    Operation::new(format!("record an outcome, {what}"), ROUNDS, move || {
        let start = Instant::now();
        let endpoint = endpoint(0, 1, start);
        let mut time = start;
        let mut numbers = cycle(100);
        let input = move || {
            time += Duration::from_millis(apart);
            (time, numbers())
        };
        let work = move |(now, n): (Instant, usize)| {
            let outcome = if n > 0 { Outcome::Success } else { Outcome::ServerError };
            endpoint.record(now, Some(Duration::from_micros(800 + 13 * n as u64)), outcome);
        };
        (input, work)
    })
}

fn endpoint(n: u32, weight: u32, now: Instant) -> Arc<Endpoint> {
    let address = format!("10.{}.{}.{}:8080", n >> 16, n >> 8 & 0xff, n & 0xff);
    Arc::new(Endpoint::new(&config::Endpoint { address, weight, zone: None, priority: 0 }, now))
}
