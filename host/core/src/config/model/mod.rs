//! What a valid configuration says, as plain types with every default filled in. Knows nothing of TOML.

mod access_log;
mod admin;
mod cluster;
mod rules;
mod tls;
mod traces;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use http::{HeaderName, Method, StatusCode};
use ipnet::IpNet;

pub use access_log::*;
pub use admin::*;
pub use cluster::*;
pub use rules::*;
pub use tls::*;
pub use traces::*;

/// A whole configuration file. Names are unique within their list and every reference between them resolves.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// `[admin]`.
    pub admin: Admin,
    /// `[runtime]`.
    pub runtime: Runtime,
    /// `[plugins]`: bounds for all of them.
    pub plugin_bounds: PluginBounds,
    /// `[access_log]`; none where there is no such table.
    pub access_log: Option<AccessLog>,
    /// `[traces]`; none where there is no such table.
    pub traces: Option<Traces>,
    /// `[[listener]]`, in file order.
    pub listeners: Vec<Listener>,
    /// `[[route]]`, in file order.
    pub routes: Vec<Route>,
    /// `[[cluster]]`, in file order.
    pub clusters: Vec<Cluster>,
    /// `[[plugin]]`, in file order.
    pub plugins: Vec<Plugin>,
}

/// `[runtime]`.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// 0: one per core.
    pub workers: usize,
    /// Default `state`. Relative paths are relative to the configuration file's directory.
    pub state_dir: PathBuf,
    /// Default 30 s.
    pub drain_timeout: Duration,
    /// How far a worker may be behind before it refuses new requests; none: it never does. Default 1 s.
    pub overload_delay: Option<Duration>,
    /// Default 60 s.
    pub upgrade_timeout: Duration,
    /// Name servers; empty: those of the system.
    pub resolvers: Vec<SocketAddr>,
}

/// `[plugins]`.
#[derive(Debug, Clone)]
pub struct PluginBounds {
    /// Bytes; default 64 MiB.
    pub max_upload: u64,
    /// Bytes; default 256 MiB.
    pub memory_ceiling: u64,
}

/// `[[listener]]`.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Unique.
    pub name: String,
    /// Port 0 picks a free one.
    pub listen: SocketAddr,
    /// What is done with what comes; default HTTP.
    pub service: Service,
    /// Peers whose `X-Forwarded-*` is kept.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether a proxy before this one says whom it speaks for.
    pub proxy_protocol: ProxyProtocol,
    /// What is spoken below HTTP; none: nothing.
    pub tls: Option<ServerTls>,
    /// Bounds on what a client may take.
    pub limits: ListenerLimits,
}

/// `protocol` of a listener, with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Service {
    /// Requests, each to where its route says.
    #[default]
    Http,
    /// Connections, each as a whole.
    Tcp(Arc<Tcp>),
}

/// Where the connections of a listener go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tcp {
    /// By the name that a client of TLS asks for; the first that matches.
    pub sni: Vec<SniRoute>,
    /// A cluster's name, for all others; none: they are closed.
    pub cluster: Option<String>,
}

/// One element of `sni`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SniRoute {
    /// At least one.
    pub hosts: Vec<HostPattern>,
    /// A cluster's name.
    pub cluster: String,
}

/// `proxy_protocol` of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyProtocol {
    /// No connection begins with a header.
    #[default]
    Off,
    /// Those of trusted proxies may.
    Accept,
    /// Each does.
    Require,
}

/// `limits` of a listener.
#[derive(Debug, Clone)]
pub struct ListenerLimits {
    /// Connections at once; default 10,000.
    pub connections: usize,
    /// Those of one client's address; none is unlimited.
    pub connections_per_client: Option<u32>,
    /// Bytes of a request's head; default 64 KiB.
    pub header_bytes: usize,
    /// Header fields of a request; default 100.
    pub headers: usize,
    /// Time to read a whole head; default 10 s.
    pub header_timeout: Duration,
    /// Time a keep-alive connection may be silent between requests; default 60 s.
    pub idle_timeout: Duration,
    /// Bytes of a request's body; none is unlimited.
    pub body: Option<u64>,
    /// Bytes of a request's body that must come in a second, while they are waited for; none is unlimited.
    pub body_rate: Option<u64>,
    /// Streams of HTTP/2 that a connection may have open; default 256.
    pub concurrent_streams: u32,
    /// Requests a connection may carry; none is unlimited (0 in the file).
    pub requests_per_connection: Option<u64>,
}

/// `timeout` of a route where the file is silent.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

/// `upgrade` of a route where the file is silent: RFC 6455.
pub const DEFAULT_UPGRADE: &str = "websocket";

/// `[[route]]`.
#[derive(Debug, Clone)]
pub struct Route {
    /// Unique.
    pub name: String,
    /// Names of listeners; none is every http listener.
    pub listeners: Option<Vec<String>>,
    /// Empty: any host.
    pub hosts: Vec<HostPattern>,
    /// What the path must be.
    pub path: PathMatch,
    /// Empty: any method.
    pub methods: Vec<Method>,
    /// All must hold.
    pub headers: Vec<(HeaderName, ValueMatch)>,
    /// All must hold.
    pub cookies: Vec<(String, ValueMatch)>,
    /// All must hold.
    pub query: Vec<(String, ValueMatch)>,
    /// What happens to a request that matches.
    pub action: Action,
    /// What keeps a client on one endpoint.
    pub affinity: Option<Affinity>,
    /// Which plugins are asked.
    pub plugins: RoutePlugins,
    /// Whole response; none is no limit ("0s" in the file). Default 15 s.
    pub timeout: Option<Duration>,
    /// What is tried again; none where the file is silent.
    pub retry: Option<Retry>,
    /// How many requests it takes; none is no limit.
    pub rate_limit: Option<RateLimit>,
    /// What is changed of a request's path and host.
    pub rewrite: Option<Rewrite>,
    /// What is changed of a request's headers.
    pub request_headers: HeaderRules,
    /// What is changed of a response's headers.
    pub response_headers: HeaderRules,
    /// Where copies of requests go; none where the file is silent.
    pub mirror: Option<Mirror>,
    /// Protocols that a connection may switch to, in lower case; default [`DEFAULT_UPGRADE`] alone, empty forbids all.
    pub upgrade: Vec<String>,
}

/// `mirror`: copies of requests to another cluster, whose answers nobody sees.
#[derive(Debug, Clone, PartialEq)]
pub struct Mirror {
    /// A cluster's name.
    pub cluster: String,
    /// Part of the requests, at random; default 1.
    pub percent: f64,
}

/// `retry`: what is tried again, and how often. The default is what the file's silence means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Tries after the first; default 1.
    pub attempts: u32,
    /// After which failures; default those that brought no response.
    pub on: RetryOn,
    /// Time for a response's head, each try; none: only the route's timeout.
    pub per_try_timeout: Option<Duration>,
    /// The longest wait before the second try, twice that before the third, and so on up to ten times; default 25 ms.
    pub backoff: Duration,
    /// A try whose time is over goes on beside the next one; only with `per_try_timeout`. Default false.
    pub hedge: bool,
}

/// `on` of a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetryOn {
    /// No connection could be made.
    pub connect_failure: bool,
    /// The endpoint refused the stream before it did anything (HTTP/2).
    pub refused_stream: bool,
    /// The connection ended before a response, or the try's time was over.
    pub reset: bool,
    /// A response with a status of 500 to 599.
    pub server_error: bool,
    /// A response with 502, 503 or 504.
    pub gateway_error: bool,
}

impl Default for Retry {
    fn default() -> Self {
        let on = RetryOn { connect_failure: true, refused_stream: true, reset: true, ..RetryOn::default() };
        Self { attempts: 1, on, per_try_timeout: None, backoff: Duration::from_millis(25), hedge: false }
    }
}

/// One element of `hosts`, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// `api.example.com`.
    Exact(String),
    /// `*.example.com`, kept as `.example.com`: one or more labels before it.
    Suffix(String),
}

/// What the path (without the query) must be.
#[derive(Debug, Clone)]
pub enum PathMatch {
    /// Nothing was said.
    Any,
    /// `path`.
    Exact(String),
    /// `path_prefix`, compared byte by byte.
    Prefix(String),
    /// `path_regex`, found anywhere unless anchored.
    Regex(regex::Regex),
}

/// What a header, cookie or query parameter must be.
#[derive(Debug, Clone)]
pub enum ValueMatch {
    /// `"text"`.
    Exact(String),
    /// `{ regex = "…" }`.
    Regex(regex::Regex),
    /// `{ present = true | false }`.
    Present(bool),
}

/// Exactly one of `cluster`, `split`, `respond`, `redirect`.
#[derive(Debug, Clone)]
pub enum Action {
    /// A cluster's name.
    Cluster(String),
    /// Weighted clusters.
    Split(Split),
    /// A fixed response.
    Respond {
        /// 200 to 599.
        status: StatusCode,
        /// Default empty.
        body: String,
    },
    /// A fixed redirect.
    Redirect {
        /// 301, 302, 303, 307 or 308; default 308.
        status: StatusCode,
        /// Sent as `Location`.
        location: String,
    },
}

/// `split` and `split_by`.
#[derive(Debug, Clone)]
pub struct Split {
    /// At least one has a weight above 0.
    pub choices: Vec<WeightedCluster>,
    /// The first one present is hashed; none present: random per request.
    pub by: Vec<Key>,
}

/// One element of `split`.
#[derive(Debug, Clone)]
pub struct WeightedCluster {
    /// A cluster's name.
    pub cluster: String,
    /// Relative; 0 takes no traffic.
    pub weight: u32,
}

/// Something about a request that can be hashed: `{ cookie = "uid" }`, `{ header = "x-user" }`, `{ query = "q" }`,
/// `"client-address"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// A cookie's name.
    Cookie(String),
    /// A header's name.
    Header(HeaderName),
    /// A query parameter's name.
    Query(String),
    /// The client's IP address.
    ClientAddress,
}

/// `affinity`.
#[derive(Debug, Clone)]
pub enum Affinity {
    /// `{ by = […] }`: consistent hash of the first key present.
    By(Vec<Key>),
    /// `{ cookie = { name, ttl } }`: the proxy issues an opaque, authenticated cookie that names the endpoint.
    Cookie {
        /// The cookie's name.
        name: String,
        /// None makes a session cookie.
        ttl: Option<Duration>,
    },
}

/// `plugins` of a route: a plugin's name for each question.
#[derive(Debug, Clone, Default)]
pub struct RoutePlugins {
    /// Which cluster.
    pub router: Option<String>,
    /// Which choice of the split.
    pub splitter: Option<String>,
    /// Which key.
    pub affinity: Option<String>,
}

/// `[[plugin]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// Unique.
    pub name: String,
    /// The module's file, relative to the configuration file's directory; none where the code arrives by upload.
    pub path: Option<PathBuf>,
    /// Any TOML table, as JSON.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// What a call may take.
    pub budget: Budget,
    /// What a failed call costs.
    pub on_error: OnError,
    /// How instances are reused.
    pub isolation: Isolation,
    /// When a failing version is cut off.
    pub quarantine: Quarantine,
}

/// `budget` of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Wall time of one call; default 2 ms.
    pub time: Duration,
    /// Bytes of linear memory of one instance; default 16 MiB, at most `memory_ceiling`.
    pub memory: u64,
}

/// `on_error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// The native decision.
    #[default]
    Fallback,
    /// 503.
    Reject,
}

/// `isolation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// An instance per worker is reused.
    #[default]
    Worker,
    /// A fresh instance for each call.
    Request,
}

/// `quarantine`: when a failing version is cut off, and when it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quarantine {
    /// Failures within the window that open the circuit; default 5.
    pub failures: u32,
    /// Default 10 s.
    pub window: Duration,
    /// First time to the trial call; default 1 s. Doubles with each failed trial.
    pub back_off: Duration,
    /// Default 60 s.
    pub max_back_off: Duration,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            workers: 0,
            state_dir: "state".into(),
            drain_timeout: Duration::from_secs(30),
            overload_delay: Some(Duration::from_secs(1)),
            upgrade_timeout: Duration::from_secs(60),
            resolvers: Vec::new(),
        }
    }
}

impl Default for PluginBounds {
    fn default() -> Self {
        Self { max_upload: 64 << 20, memory_ceiling: 256 << 20 }
    }
}

/// `idle_timeout` of a listener for TCP where the file is silent: Envoy's. Databases' clients are silent for long.
pub const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_client: None,
            header_bytes: 64 << 10,
            headers: 100,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            body: None,
            body_rate: None,
            concurrent_streams: 256,
            requests_per_connection: None,
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { time: Duration::from_millis(2), memory: 16 << 20 }
    }
}

impl Default for Quarantine {
    fn default() -> Self {
        Self {
            failures: 5,
            window: Duration::from_secs(10),
            back_off: Duration::from_secs(1),
            max_back_off: Duration::from_secs(60),
        }
    }
}

impl Plugin {
    /// A plugin of which the configuration says nothing.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            path: None,
            config: serde_json::Map::new(),
            budget: Budget::default(),
            on_error: OnError::default(),
            isolation: Isolation::default(),
            quarantine: Quarantine::default(),
        }
    }
}
