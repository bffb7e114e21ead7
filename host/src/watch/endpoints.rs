//! Follows what is observed of endpoints: ejects those that passive health finds out, takes them back, and has every picker
//! made anew whose candidates or weights have changed. Never on a worker, and never asks an endpoint anything.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::pending,
    sync::Arc,
    time::{Duration, Instant},
};

use witgate_core::{
    config::{Cluster as Config, Outlier},
    eligible,
    endpoint::{Cause, Endpoint, Latencies},
    outlier::{self, Interval},
};

use crate::{
    control::Control,
    drain::Phase,
    generation::{Cluster, Generation, Live},
};

/// Rest after each look, so that what changes together is published together.
const SETTLE: Duration = Duration::from_millis(2);

/// Runs until the proxy stops.
pub async fn run(control: Arc<Control>) {
    let mut phase = control.drain.watch();
    let mut configured = control.live.subscribe_config();
    let mut ejector = Ejector::default();
    loop {
        configured.borrow_and_update();
        let now = Instant::now();
        let due = ejector.look(&control.live.load(), now);
        let step = renew(&control.live, now).map(|step| now + step);
        let next = due.into_iter().chain(step).min();
        tokio::select! {
            () = control.live.observed() => {}
            () = until(next) => {}
            _ = configured.changed() => {}
            _ = phase.wait_for(|p| *p >= Phase::Stop) => return,
        }
        tokio::time::sleep(SETTLE).await;
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => pending().await,
    }
}

/// Publishes new pickers where what they were made of has changed. How long the present ones may then be kept; none where
/// time changes nothing about them.
fn renew(live: &Live, now: Instant) -> Option<Duration> {
    let next = |present: &Generation| {
        let renewed = present.clusters.iter().enumerate().filter_map(|(index, cluster)| {
            let native = cluster.native.renewed(now)?;
            tell_panic(cluster, native.is_panicking());
            Some((index, Arc::new(Cluster::clone(cluster).with_native(native))))
        });
        let renewed: Vec<(usize, Arc<Cluster>)> = renewed.collect();
        if renewed.is_empty() {
            return Ok::<_, Infallible>(None);
        }
        let mut clusters = present.clusters.to_vec();
        renewed.into_iter().for_each(|(index, cluster)| clusters[index] = cluster);
        Ok(Some(Generation { clusters: clusters.into(), ..present.clone() }))
    };
    let Ok(_published) = live.publish(next);
    let clusters = &live.load().clusters;
    clusters.iter().filter_map(|c| eligible::step(&c.endpoints, c.native.rules(), now)).min()
}

fn tell_panic(cluster: &Cluster, panics: bool) {
    let name = &cluster.config.name;
    match (cluster.native.is_panicking(), panics) {
        (false, true) => tracing::warn!(
            cluster = name,
            "too few endpoints are available: requests go to all of them, unhealthy and ejected ones too"
        ),
        (true, false) => tracing::info!(cluster = name, "enough endpoints are available again"),
        _ => {}
    }
}

/// Passive health of all clusters.
#[derive(Default)]
struct Ejector {
    clusters: HashMap<String, Rounds>,
}

/// What is remembered of a cluster between two looks.
struct Rounds {
    /// When rates are looked at next.
    due: Instant,
    /// What every endpoint had done by the last look, by its id.
    done: HashMap<u64, Done>,
}

/// What an endpoint has done since it exists.
struct Done {
    requests: u64,
    failures: u64,
    /// None where nobody judges by them.
    latencies: Option<Latencies>,
}

impl Ejector {
    /// Ejects and takes back. When it is to look again, observed or not; none where no cluster has passive health.
    fn look(&mut self, generation: &Generation, now: Instant) -> Option<Instant> {
        self.clusters.retain(|name, _| generation.cluster_index(name).is_some());
        let mut next = None;
        for cluster in generation.clusters.iter() {
            let Some(rules) = cluster.config.outlier.as_deref() else {
                self.clusters.remove(&cluster.config.name);
                continue;
            };
            let rounds = self
                .clusters
                .entry(cluster.config.name.clone())
                .or_insert_with(|| Rounds { due: now + rules.interval, done: done(&cluster.endpoints) });
            let ends = look(cluster, rules, rounds, now);
            next = next.into_iter().chain(ends).chain([rounds.due]).min();
        }
        next
    }
}

/// One cluster. When the next ejection ends.
fn look(cluster: &Cluster, rules: &Outlier, rounds: &mut Rounds, now: Instant) -> Option<Instant> {
    for endpoint in cluster.endpoints.iter().filter(|e| e.ejected_until().is_some_and(|until| until <= now)) {
        endpoint.readmit(now);
        tracing::info!(cluster = cluster.config.name, endpoint = endpoint.address(), "no longer ejected");
    }
    for endpoint in cluster.endpoints.iter() {
        if let Some(cause) = endpoint.take_accusation() {
            eject(cluster, rules, endpoint, cause, now);
        }
    }
    if rounds.due <= now {
        rounds.due = now + rules.interval;
        by_interval(cluster, rules, rounds, now);
    }
    cluster.endpoints.iter().filter_map(|e| e.ejected_until()).min()
}

/// Ejects for rates and latencies, and forgives who had no ejection for a whole interval.
fn by_interval(cluster: &Cluster, rules: &Outlier, rounds: &mut Rounds, now: Instant) {
    let before = std::mem::replace(&mut rounds.done, done(&cluster.endpoints));
    let judged: Vec<_> = members(&cluster.endpoints).filter(|e| e.is_available()).collect();
    let intervals: Vec<Interval> = judged
        .iter()
        .map(|endpoint| {
            let (requests, failures) = before.get(&endpoint.id()).map_or((0, 0), |done| (done.requests, done.failures));
            Interval {
                requests: endpoint.requests().saturating_sub(requests),
                failures: endpoint.failures().saturating_sub(failures),
            }
        })
        .collect();
    let slow = match rules.latency {
        Some(_) => outlier::by_latency(rules, &latencies(&judged, &before)),
        None => Vec::new(),
    };
    for (index, cause) in outlier::by_rate(rules, &intervals).into_iter().chain(slow) {
        eject(cluster, rules, judged[index], cause, now);
    }
    for endpoint in cluster.endpoints.iter().filter(|e| e.ejected_until().is_none()) {
        if now.saturating_duration_since(endpoint.available_since()) >= rules.interval {
            endpoint.forgive();
        }
    }
}

fn done(endpoints: &[Arc<Endpoint>]) -> HashMap<u64, Done> {
    let done = |e: &Arc<Endpoint>| Done { requests: e.requests(), failures: e.failures(), latencies: e.latencies() };
    endpoints.iter().map(|e| (e.id(), done(e))).collect()
}

/// What responses' heads took in the interval.
fn latencies(judged: &[&Arc<Endpoint>], before: &HashMap<u64, Done>) -> Vec<Latencies> {
    let of = |endpoint: &&Arc<Endpoint>| {
        let now = endpoint.latencies().unwrap_or_default();
        match before.get(&endpoint.id()).and_then(|done| done.latencies.as_ref()) {
            Some(before) => now.since(before),
            None => now,
        }
    };
    judged.iter().map(of).collect()
}

/// Those of which a part may be ejected.
fn members(endpoints: &[Arc<Endpoint>]) -> impl Iterator<Item = &Arc<Endpoint>> {
    endpoints.iter().filter(|e| e.is_member())
}

fn eject(cluster: &Cluster, rules: &Outlier, endpoint: &Endpoint, cause: Cause, now: Instant) {
    if endpoint.ejected_until().is_some() {
        return;
    }
    let Config { name, .. } = &*cluster.config;
    let all = members(&cluster.endpoints).count();
    let ejected = members(&cluster.endpoints).filter(|e| e.ejected_until().is_some()).count();
    if !outlier::may_eject(rules, all, ejected) {
        let (endpoint, cause, most) = (endpoint.address(), cause.word(), rules.max_ejection_percent);
        tracing::debug!(
            cluster = name,
            endpoint,
            cause,
            ejected,
            max_ejection_percent = most,
            "not ejected: one too many"
        );
        return;
    }
    let random = getrandom::u64().unwrap_or(0); // Only how much longer than configured.
    let lasts = outlier::duration(rules, endpoint.severity(), random);
    endpoint.eject(cause, now + lasts);
    tracing::warn!(cluster = name, endpoint = endpoint.address(), cause = cause.word(), ?lasts, "ejected");
}
