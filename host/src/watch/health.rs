//! Active health checks: one task an endpoint, on the control thread and over connections of its own. Says what it found;
//! who is picked is decided elsewhere.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;
use witgate_core::{
    config,
    endpoint::{Checked, Drainer, Endpoint, Health},
    health::{Checks, first_pause},
};

use crate::{
    control::Control,
    drain::Phase,
    generation::Live,
    upstream::probe::{self, Complaint, Whom},
};

/// The checks of one endpoint of one cluster. They end when it is dropped.
struct Running {
    endpoint: Arc<Endpoint>,
    rules: Arc<config::Health>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// By the cluster's name and the endpoint's.
type All = HashMap<(String, String), Running>;

/// Runs until the proxy stops.
pub async fn run(control: Arc<Control>) {
    let mut phase = control.drain.watch();
    let mut configured = control.live.subscribe_config();
    let mut running = All::new();
    loop {
        configured.borrow_and_update();
        follow(&control.live, &mut running);
        tokio::select! {
            _ = configured.changed() => {}
            _ = phase.wait_for(|p| *p >= Phase::Stop) => return,
        }
    }
}

/// Starts the checks that are missing, and ends those that nobody wants any more.
fn follow(live: &Arc<Live>, running: &mut All) {
    let (generation, mut before) = (live.load(), std::mem::take(running));
    for cluster in generation.clusters.iter() {
        let Some(rules) = &cluster.config.health else { continue };
        for endpoint in cluster.endpoints.iter() {
            let key = (cluster.config.name.clone(), endpoint.address().to_owned());
            let same = |r: &Running| Arc::ptr_eq(&r.endpoint, endpoint) && r.rules == *rules;
            let checks = before.remove(&key).filter(same).unwrap_or_else(|| Running {
                endpoint: Arc::clone(endpoint),
                rules: Arc::clone(rules),
                task: tokio::task::spawn_local(check(
                    Arc::clone(live),
                    key.0.clone(),
                    Arc::clone(endpoint),
                    Arc::clone(rules),
                )),
            });
            running.insert(key, checks);
        }
    }
}

/// The checks of one endpoint. Never returns.
async fn check(live: Arc<Live>, cluster: String, endpoint: Arc<Endpoint>, rules: Arc<config::Health>) {
    let leaving = endpoint.drained_by().any(|by| by == Drainer::Endpoint);
    let mut checks = Checks::new(endpoint.health(), leaving);
    let mut pause = first_pause(&rules, random());
    loop {
        tokio::time::sleep(pause).await;
        let (tls, protocol, proxy_protocol) = {
            let generation = live.load();
            let found = generation.cluster_index(&cluster).and_then(|index| generation.clusters.get(index));
            let config = found.map(|found| &found.config);
            (
                found.and_then(|found| found.tls.clone()),
                config.map(|config| config.protocol).unwrap_or_default(),
                config.and_then(|config| config.proxy_protocol),
            )
        };
        let (address, authority) = (endpoint.address(), endpoint.authority());
        let whom = Whom { address, authority, protocol, tls: tls.as_deref(), proxy_protocol };
        let result = probe::probe(&whom, &rules).await;
        let checked = result.as_ref().map_or_else(Complaint::checked, |()| Checked::Well);
        let complaint = result.err().map(|error| error.to_string());
        let (before, health) = (checks.health(), checks.observe(checked, &rules));
        let now = Instant::now();
        if before != health {
            tell(&cluster, &endpoint, health, complaint.as_deref());
            endpoint.set_health(health, now);
        }
        let moved = endpoint.set_leaving(checks.leaving(), now);
        if moved {
            tell_leaving(&cluster, &endpoint, complaint.as_deref());
        }
        endpoint.checked(checked, complaint);
        if moved || before != health {
            live.note_observed();
        }
        pause = checks.pause(&rules, random()).max(Duration::from_millis(1));
    }
}

fn tell(cluster: &str, endpoint: &Endpoint, health: Health, complaint: Option<&str>) {
    let endpoint = endpoint.address();
    match complaint {
        Some(complaint) if health == Health::Unhealthy => tracing::warn!(cluster, endpoint, complaint, "unhealthy"),
        _ => tracing::info!(cluster, endpoint, "healthy"),
    }
}

fn tell_leaving(cluster: &str, endpoint: &Endpoint, complaint: Option<&str>) {
    let address = endpoint.address();
    match complaint {
        Some(complaint) => tracing::info!(cluster, endpoint = address, complaint, "draining: it says so"),
        None => tracing::info!(cluster, endpoint = address, "takes requests again: it says so"),
    }
}

fn random() -> u64 {
    getrandom::u64().unwrap_or(0) // Only spreads checks.
}
