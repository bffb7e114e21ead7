//! What a valid `[[cluster]]` says, as plain types.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use http::Method;

use super::ClientTls;

/// `panic_percent` where the file is silent.
pub const DEFAULT_PANIC_PERCENT: u32 = 50;

/// `overprovisioning` where the file is silent: Envoy's.
pub const DEFAULT_OVERPROVISIONING: f64 = 1.4;

/// `proxy_protocol` of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// `protocol` of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: by ALPN over TLS, else with prior knowledge.
    Http2,
    /// Whichever of both an endpoint chooses by ALPN, HTTP/2 where it may be either. HTTP/1.1 without TLS.
    Auto,
}

/// `[[cluster]]`.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Unique.
    pub name: String,
    /// May be empty: every request then gets 503.
    pub endpoints: Vec<Endpoint>,
    /// How an endpoint is picked.
    pub balance: Balance,
    /// What is spoken to endpoints; default HTTP/1.1.
    pub protocol: Protocol,
    /// Default 5 s.
    pub connect_timeout: Duration,
    /// Idle upstream connections.
    pub pool: Pool,
    /// Active health checks; none where the file is silent.
    pub health: Option<Arc<Health>>,
    /// Passive health; none where the file is silent.
    pub outlier: Option<Arc<Outlier>>,
    /// How endpoints that come to a cluster warm up; none where the file is silent.
    pub slow_start: Option<SlowStart>,
    /// Where fewer of the endpoints than this are healthy and not ejected, all are picked (0: never). Default 50.
    pub panic_percent: u32,
    /// What an endpoint can carry, as a multiple of its part of the traffic; default 1.4.
    pub overprovisioning: f64,
    /// This proxy's own zone, whose endpoints are picked from first; none: zones do not matter.
    pub zone: Option<String>,
    /// Zones in the order in which they are picked from after the own one; the others come last, together.
    pub zone_failover: Vec<String>,
    /// Requests in flight at an endpoint, in percent of its part of the cluster's, above which keys go elsewhere; none:
    /// never.
    pub hash_balance_factor: Option<u32>,
    /// How many requests may be tried again at once.
    pub retry_budget: RetryBudget,
    /// What is refused where too much is going on.
    pub circuit: Circuit,
    /// What is spoken to endpoints below HTTP; none: nothing.
    pub tls: Option<Arc<ClientTls>>,
    /// Whether endpoints are told whom a connection is from, before anything else, and how; none: not so.
    pub proxy_protocol: Option<ProxyVersion>,
}

/// `max_connections`, `max_pending`, `max_requests` and `max_retries` of `pool`: what may be going on in the cluster at
/// once, over all workers (Envoy's circuit breakers). Each is off where the file is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circuit {
    /// Connections to the cluster's endpoints, idle ones included.
    pub max_connections: Option<u32>,
    /// Requests that wait for one of these connections; default [`DEFAULT_MAX_PENDING`]. Means nothing without
    /// `max_connections`.
    pub max_pending: u32,
    /// Requests in flight.
    pub max_requests: Option<u32>,
    /// Retries under way, whatever the budget allows.
    pub max_retries: Option<u32>,
}

/// `max_pending` where the file is silent: Envoy's `max_pending_requests`.
pub const DEFAULT_MAX_PENDING: u32 = 1024;

/// `retry_budget`: as many retries at once as the percentage of the requests in flight, or as `min`, whichever is more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    /// Default 20.
    pub percent: u32,
    /// Default 3.
    pub min: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, min: 3 }
    }
}

/// `health`: active checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What is asked of an endpoint.
    pub probe: Probe,
    /// From the end of one check to the next; default 2 s.
    pub interval: Duration,
    /// Time that a check may take; default 1 s.
    pub timeout: Duration,
    /// Successes in a row that make an unhealthy endpoint healthy; default 2.
    pub rise: u32,
    /// Failures in a row that make a healthy endpoint unhealthy; default 3.
    pub fall: u32,
    /// In place of `interval` while the last result contradicts the endpoint's state; default `interval`.
    pub fast_interval: Duration,
    /// In place of `interval` while the endpoint is unhealthy; default `interval`.
    pub down_interval: Duration,
    /// Each interval is up to this much shorter or longer, at random; default 10.
    pub jitter_percent: u32,
}

impl Health {
    /// Whether an answer may mean that the endpoint takes no new requests.
    pub fn may_drain(&self) -> bool {
        matches!(&self.probe, Probe::Http(probe) if !probe.drain.is_empty())
    }
}

/// What a health check asks of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// `http`: a request over HTTP/1.1.
    Http(HttpProbe),
    /// `tcp`: a connection.
    Tcp {
        /// Sent once connected.
        send: Option<String>,
        /// Must be in what comes back; none is content with the connection.
        expect: Option<String>,
    },
    /// `grpc`: the standard health service, over cleartext HTTP/2.
    Grpc(GrpcProbe),
}

/// `http` of a health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    /// Default `GET`.
    pub method: Method,
    /// Default `/`.
    pub path: String,
    /// Value of the `Host` header; default the endpoint's address.
    pub host: Option<String>,
    /// Statuses of a healthy endpoint; default 200 to 299.
    pub expect: Vec<RangeInclusive<u16>>,
    /// Statuses of an endpoint that is alive and takes no new requests; none of `expect`. Default none.
    pub drain: Vec<RangeInclusive<u16>>,
    /// Must be in the first 64 KiB of the body.
    pub expect_body: Option<String>,
}

/// `grpc` of a health check: `grpc.health.v1.Health/Check`
/// ([protocol](https://github.com/grpc/grpc/blob/master/doc/health-checking.md)).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GrpcProbe {
    /// Whose health is asked for; empty is that of the whole server, and the default.
    pub service: String,
    /// Value of `:authority`; default the endpoint's address.
    pub authority: Option<String>,
}

/// `outlier`: passive health. What is 0 or none is off.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlier {
    /// Responses in a row with a status of 500 to 599; default 5.
    pub consecutive_5xx: u32,
    /// Responses in a row with 502, 503 or 504; default 0.
    pub consecutive_gateway: u32,
    /// Tries in a row that brought no response: not connected, reset, malformed, timed out; default 5.
    pub consecutive_local: u32,
    /// How often rates are looked at; default 10 s.
    pub interval: Duration,
    /// How long the first ejection lasts, the second twice as long, and so on; default 30 s.
    pub base_ejection: Duration,
    /// How long an ejection lasts at the most; default 300 s.
    pub max_ejection: Duration,
    /// Part of the endpoints that may be ejected at once, those that are about to be included; default 10.
    pub max_ejection_percent: u32,
    /// `success_rate`: endpoints whose success rate is far below the others'.
    pub success_rate: Option<SuccessRate>,
    /// `failure_percentage`: endpoints that fail too often, whatever the others do.
    pub failure_percentage: Option<FailurePercentage>,
    /// `latency`: endpoints that answer too slowly, and far more slowly than the others.
    pub latency: Option<Latency>,
}

/// `success_rate` of outlier detection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SuccessRate {
    /// Ejected below the mean of the rates less this many standard deviations; default 1.9.
    pub stdev_factor: f64,
    /// Endpoints that must have had enough requests in the interval; default 5.
    pub min_hosts: u32,
    /// How many requests are enough; default 100.
    pub min_requests: u32,
}

/// `failure_percentage` of outlier detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailurePercentage {
    /// Ejected from this percentage of failures on; default 85.
    pub threshold: u32,
    /// As in [`SuccessRate`]; default 5.
    pub min_hosts: u32,
    /// As in [`SuccessRate`]; default 50.
    pub min_requests: u32,
}

/// `latency` of outlier detection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// Ejected above this 99th percentile of the time to the response's head, in an interval.
    pub p99: Duration,
    /// And above this many times the median of the others' and its own; default 3.
    pub factor: f64,
    /// As in [`SuccessRate`]; default 5.
    pub min_hosts: u32,
    /// Responses in the interval that are enough to be judged and to count; default 100.
    pub min_requests: u32,
}

/// `slow_start`: the weight of an endpoint that came `t` ago is multiplied by
/// `max(min_weight_percent / 100, (t / window) ^ (1 / aggression))`, as in Envoy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowStart {
    /// How long it lasts.
    pub window: Duration,
    /// 1: linear; above: faster at the begin; default 1.
    pub aggression: f64,
    /// Default 10.
    pub min_weight_percent: u32,
}

/// One element of `endpoints`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port`, where host is an IP address or a DNS name. Unique within the cluster.
    pub address: String,
    /// Default 1; 0 takes no new traffic. At most 65,535.
    pub weight: u32,
    /// Any word.
    pub zone: Option<String>,
    /// Default 0, which is picked from first. At most 127.
    pub priority: u32,
}

/// `pool`.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Idle connections kept per endpoint and worker; default 32.
    pub idle: usize,
    /// Default 60 s.
    pub idle_timeout: Duration,
}

/// A native balancing algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// Smooth weighted round-robin.
    RoundRobin,
    /// Power of two choices by weight / (in-flight + 1).
    #[default]
    LeastRequest,
    /// Power of two choices by latency × (in-flight + 1) / weight, with a penalty for failures.
    PeakEwma,
    /// Weighted random.
    Random,
    /// Consistent hash of the affinity key on a ring.
    RingHash,
    /// Consistent hash of the affinity key in a Maglev table.
    Maglev,
}

/// `balance`.
#[derive(Debug, Clone)]
pub enum Balance {
    /// A word.
    Native(Algorithm),
    /// `{ plugin = "cost", … }`.
    Plugin {
        /// The plugin's name.
        plugin: String,
        /// `mode = "weigh"` (default) or `"pick"`.
        mode: ScoreMode,
        /// `fallback`: the algorithm in the plugin's place; default least-request.
        fallback: Algorithm,
    },
}

/// How a scorer is asked.
#[derive(Debug, Clone)]
pub enum ScoreMode {
    /// The whole cluster, off the request path.
    Weigh {
        /// Default 100 ms.
        interval: Duration,
        /// A table older than this is not used; default 1 s.
        stale_after: Duration,
    },
    /// A few drawn endpoints, per request.
    Pick {
        /// 2 to 8; default 2.
        choices: usize,
    },
}

impl Default for Circuit {
    fn default() -> Self {
        Self { max_connections: None, max_pending: DEFAULT_MAX_PENDING, max_requests: None, max_retries: None }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self { idle: 32, idle_timeout: Duration::from_secs(60) }
    }
}
