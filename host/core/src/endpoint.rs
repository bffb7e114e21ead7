//! An endpoint: who it is and what was observed of it. Shared by identity across generations, never copied; never
//! decides whether it is picked.

mod average;
mod draining;
mod latencies;
mod peak;
mod standing;
mod streaks;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use xxhash_rust::xxh3::xxh3_64;

use crate::config;
use average::Average;
pub use average::DECAY;
pub use draining::Drainer;
use draining::{Change, Draining};
use latencies::Histogram;
pub use latencies::Latencies;
use peak::Peak;
pub use standing::{Cause, Checked, Health};
use standing::{Charge, Standing};
use streaks::Streaks;
pub use streaks::{Counts, Outcome};

/// Whether an endpoint takes new requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does.
    Active,
    /// It finishes what it has.
    Draining,
}

/// One endpoint of a cluster. All methods are lock-free and may be called from every worker.
#[derive(Debug)]
pub struct Endpoint {
    address: String,
    authority: String,
    id: u64,
    zone: ArcSwapOption<String>,
    /// What all times below count from.
    born: Instant,
    weight: AtomicU32,
    priority: AtomicU32,
    draining: Draining,
    /// Milliseconds since `born`.
    available_since: AtomicU64,
    standing: Standing,
    /// Made once somebody judges by it: others pay for a look at whether it is there.
    latencies: OnceLock<Box<Histogram>>,
    observed: Observed,
}

/// What every request writes, on cache lines of its own so that reading an address or a weight never waits for it.
/// 128 bytes because processors fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Observed {
    in_flight: AtomicU32,
    /// Where somebody asks what all endpoints of the cluster have in flight together.
    cluster: OnceLock<Arc<ClusterLoad>>,
    peak: Peak,
    latency_ms: Average,
    success: Average,
    requests: AtomicU64,
    failures: AtomicU64,
    streaks: Streaks,
    charge: Charge,
}

/// Requests in flight in a cluster, over all workers: at those of its endpoints that [count there](Endpoint::count_in).
#[derive(Debug, Default)]
pub struct ClusterLoad(AtomicU32);

impl ClusterLoad {
    /// How many.
    pub fn in_flight(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

impl Endpoint {
    /// An active endpoint that nothing was observed of, available since `now` and warm.
    pub fn new(config: &config::Endpoint, now: Instant) -> Self {
        Self::at(config.address.clone(), config, now)
    }

    /// One at an address that the configured one stands for: of the addresses of a DNS name.
    pub fn at(address: String, config: &config::Endpoint, now: Instant) -> Self {
        Self {
            authority: config.address.clone(),
            id: xxh3_64(address.as_bytes()),
            address,
            zone: ArcSwapOption::from_pointee(config.zone.clone()),
            born: now,
            weight: AtomicU32::new(config.weight),
            priority: AtomicU32::new(config.priority),
            draining: Draining::default(),
            available_since: AtomicU64::new(0),
            standing: Standing::default(),
            latencies: OnceLock::new(),
            observed: Observed {
                in_flight: AtomicU32::new(0),
                cluster: OnceLock::new(),
                peak: Peak::unmeasured(),
                latency_ms: Average::unmeasured(),
                success: Average::unmeasured(),
                requests: AtomicU64::new(0),
                failures: AtomicU64::new(0),
                streaks: Streaks::default(),
                charge: Charge::default(),
            },
        }
    }

    /// `host:port`, where host is an IP address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `host:port` as configured, which may be a DNS name: what it is called where it is asked.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Stable identity: the hash of the address.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The configured zone.
    pub fn zone(&self) -> Option<Arc<String>> {
        self.zone.load_full()
    }

    /// The configured priority: 0 is the first that is picked from.
    pub fn priority(&self) -> u32 {
        self.priority.load(Relaxed)
    }

    /// Changes what is configured of it. Takes effect with the next `Picker`.
    pub fn configure(&self, config: &config::Endpoint) {
        self.weight.store(config.weight, Relaxed);
        self.priority.store(config.priority, Relaxed);
        if self.zone().as_deref() != config.zone.as_ref() {
            self.zone.store(config.zone.clone().map(Arc::new));
        }
    }

    /// The configured weight; 0 takes no new requests.
    pub fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    /// Changes the configured weight. Takes effect with the next `Picker`.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Relaxed);
    }

    /// Whether it takes new requests.
    pub fn state(&self) -> State {
        if self.draining.any() { State::Draining } else { State::Active }
    }

    /// Whether it is one of those that share the cluster's requests, available or not: active, with a weight.
    pub fn is_member(&self) -> bool {
        self.weight() > 0 && self.state() == State::Active
    }

    /// Who drains it; nobody where it is active.
    pub fn drained_by(&self) -> impl Iterator<Item = Drainer> + use<> {
        self.draining.by()
    }

    /// What the operator wants of it. It is active again where it no longer wants to leave either, and available since
    /// `now`. Takes effect with the next `Picker`.
    pub fn set_state(&self, state: State, now: Instant) {
        self.drain(Drainer::Operator, state == State::Draining, now);
    }

    /// Whether it says itself that it takes no new requests; whether that changed anything. It is active again where the
    /// operator does not drain it either, and available since `now`. Takes effect with the next `Picker`.
    pub fn set_leaving(&self, leaving: bool, now: Instant) -> bool {
        self.drain(Drainer::Endpoint, leaving, now)
    }

    fn drain(&self, by: Drainer, drains: bool, now: Instant) -> bool {
        let change = self.draining.set(by, drains);
        if change == Change::Ended {
            self.became_available(now, false);
        }
        change != Change::None
    }

    /// It comes to a cluster that was there before: it warms up, and where endpoints are checked it waits for its first
    /// check. To be called before the endpoint is shared.
    pub fn join(&self, now: Instant, checked: bool) {
        if checked {
            self.standing.set_health(Health::Waiting);
        }
        self.became_available(now, false);
    }

    /// What active checks say.
    pub fn health(&self) -> Health {
        self.standing.health()
    }

    /// Sets what active checks say; whether that changed anything. Who becomes healthy is available since `now`. Takes
    /// effect with the next `Picker`.
    pub fn set_health(&self, health: Health, now: Instant) -> bool {
        let before = self.standing.set_health(health);
        if health.is_up() && !before.is_up() {
            self.became_available(now, false);
        }
        before != health
    }

    /// Notes that a check ended, and what there is to say about it.
    pub fn checked(&self, checked: Checked, complaint: Option<String>) {
        self.standing.checked(checked, complaint);
    }

    /// Checks that ended, and those of them that failed.
    pub fn checks(&self) -> (u64, u64) {
        self.standing.checks()
    }

    /// What the last check found wrong, or why it is to take no new requests.
    pub fn complaint(&self) -> Option<String> {
        self.standing.complaint()
    }

    /// Ejects it. Takes effect with the next `Picker`, and lasts until it is readmitted.
    pub fn eject(&self, cause: Cause, until: Instant) {
        self.standing.eject(cause, until.saturating_duration_since(self.born));
        self.observed.streaks.reset();
    }

    /// Why it is ejected, or was when it last was.
    pub fn ejection_cause(&self) -> Option<Cause> {
        self.standing.cause()
    }

    /// Until when it is ejected; none where it is not.
    pub fn ejected_until(&self) -> Option<Instant> {
        self.standing.ejected_until().and_then(|until| self.born.checked_add(until))
    }

    /// Ends an ejection: it is available since `now`. Takes effect with the next `Picker`.
    pub fn readmit(&self, now: Instant) {
        if self.standing.readmit() {
            self.became_available(now, true);
        }
    }

    /// Ejections since the endpoint exists.
    pub fn ejections(&self) -> u64 {
        self.standing.ejections()
    }

    /// Ejections that make the next one longer.
    pub fn severity(&self) -> u32 {
        self.standing.severity()
    }

    /// One of them counts no longer.
    pub fn forgive(&self) {
        self.standing.forgive();
    }

    /// Whether nothing that was judged of it keeps it from being picked.
    pub fn is_available(&self) -> bool {
        self.health().is_up() && self.standing.ejected_until().is_none()
    }

    /// Since when it warms up, and whether because an ejection ended; none where it was there from the start.
    pub fn warming_since(&self) -> Option<(Instant, bool)> {
        let (since, returned) = self.standing.warming_since()?;
        Some((self.born.checked_add(since)?, returned))
    }

    /// Notes that it failed too often; whether that is news.
    pub fn accuse(&self, cause: Cause) -> bool {
        self.observed.charge.set(cause)
    }

    /// Why it was accused since this was last asked.
    pub fn take_accusation(&self) -> Option<Cause> {
        self.observed.charge.take()
    }

    fn became_available(&self, now: Instant, returned: bool) {
        self.available_since.store(self.millis(now), Relaxed);
        self.standing.warm_up(now.saturating_duration_since(self.born), returned);
    }

    /// When it last became available.
    pub fn available_since(&self) -> Instant {
        self.born + Duration::from_millis(self.available_since.load(Relaxed))
    }

    /// Requests in flight now, over all workers.
    pub fn in_flight(&self) -> u32 {
        self.observed.in_flight.load(Relaxed)
    }

    /// Moving average of the time to the response's head, in milliseconds; 0 where nothing was measured yet.
    ///
    /// A sample x that comes Δt after the previous one moves the average a to `a·w + x·(1 - w)` with
    /// `w = exp(-Δt / 10 s)`: the decay of Finagle's peak-EWMA (linkerd `tower-balance`), without its jump to peaks,
    /// so that it is an average. The first sample is the average. Δt counts as at least 1 ms: above 1,000 samples a
    /// second the average spans the last 10,000 samples instead of 10 s.
    pub fn latency_ms(&self) -> f32 {
        self.observed.latency_ms.value().unwrap_or(0.0)
    }

    /// Counts the times to responses' heads from now on, and for as long as the endpoint exists.
    pub fn count_latencies(&self) {
        self.latencies.get_or_init(|| Box::new(Histogram::new()));
    }

    /// Those counted so far; none where nobody wants them counted.
    pub fn latencies(&self) -> Option<Latencies> {
        self.latencies.get().map(|histogram| histogram.counts())
    }

    /// Moving average of the share of requests that did not fail, 0 to 1, decayed as
    /// [`latency_ms`](Self::latency_ms); 1 where nothing was measured yet.
    pub fn success_rate(&self) -> f32 {
        self.observed.success.value().unwrap_or(1.0)
    }

    /// Requests recorded since the endpoint exists.
    pub fn requests(&self) -> u64 {
        self.observed.requests.load(Relaxed)
    }

    /// Failures among them.
    pub fn failures(&self) -> u64 {
        self.observed.failures.load(Relaxed)
    }

    /// Counts a request in flight until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.observed.in_flight.fetch_add(1, Relaxed);
        let cluster = self.observed.cluster.get();
        if let Some(cluster) = cluster {
            cluster.0.fetch_add(1, Relaxed);
        }
        InFlight { endpoint: Arc::clone(self), counts_in_cluster: cluster.is_some() }
    }

    /// Has requests that begin from now on count in `cluster` as well. An endpoint counts in one cluster for all its life.
    pub fn count_in(&self, cluster: &Arc<ClusterLoad>) {
        self.observed.cluster.get_or_init(|| Arc::clone(cluster));
    }

    /// Requests in flight in its cluster, where it [counts there](Self::count_in).
    pub fn cluster_in_flight(&self) -> Option<u32> {
        self.observed.cluster.get().map(|cluster| cluster.in_flight())
    }

    /// Whether what [`cost`](Self::cost) asks for is to be measured.
    pub fn measure_cost(&self, wanted: bool) {
        self.observed.peak.want(wanted);
    }

    /// What one request more would cost here, in milliseconds: what peak-EWMA compares (`Peak::cost` has the formula). 0
    /// where nothing is known and nothing is under way.
    pub fn cost(&self, now: Instant) -> f64 {
        let Observed { peak, streaks, .. } = &self.observed;
        peak.cost(self.millis(now), self.in_flight(), self.success_rate(), streaks.counts())
    }

    /// Records how a try ended, and how many failures have come in a row. `latency` is the time to the response's head,
    /// none where no head came. A request that the client cancelled before the head is not recorded: it says nothing
    /// about the endpoint.
    pub fn record(&self, now: Instant, latency: Option<Duration>, outcome: Outcome) -> Counts {
        let (now, ok) = (self.millis(now), outcome.is_success());
        if let Some(latency) = latency {
            self.observed.latency_ms.add(now, latency.as_secs_f32() * 1e3);
            if let Some(histogram) = self.latencies.get() {
                histogram.add(latency);
            }
        }
        self.observed.success.add(now, if ok { 1.0 } else { 0.0 });
        if self.observed.peak.is_wanted() {
            self.observed.peak.record(now, latency.map(|latency| latency.as_secs_f32() * 1e3), outcome);
        }
        self.observed.requests.fetch_add(1, Relaxed);
        if !ok {
            self.observed.failures.fetch_add(1, Relaxed);
        }
        self.observed.streaks.record(outcome)
    }

    /// A try was given up for a faster one after it had `waited` for the response's head. That is no failure; but it would
    /// have taken longer still, so that it counts as a latency where it is above what is expected.
    pub fn given_up(&self, now: Instant, waited: Duration) {
        let waited = waited.as_secs_f32() * 1e3;
        let now = self.millis(now);
        if waited > self.latency_ms() {
            self.observed.latency_ms.add(now, waited);
        }
        if self.observed.peak.is_wanted() && f64::from(waited) > self.observed.peak.value(now) {
            self.observed.peak.record(now, Some(waited), Outcome::Success);
        }
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.born).as_millis()).unwrap_or(u64::MAX)
    }
}

/// A request in flight at an endpoint, counted until this is dropped.
#[derive(Debug)]
#[must_use = "the request counts only while this lives"]
pub struct InFlight {
    endpoint: Arc<Endpoint>,
    counts_in_cluster: bool,
}

impl InFlight {
    /// Where the request is.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Observed { in_flight, cluster, .. } = &self.endpoint.observed;
        in_flight.fetch_sub(1, Relaxed);
        if let Some(cluster) = cluster.get().filter(|_| self.counts_in_cluster) {
            cluster.0.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
