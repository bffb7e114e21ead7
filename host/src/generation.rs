//! The immutable world of a request, and the one place where the next world replaces the present one.
//!
//! A request takes one [`Generation`] and never looks again. Long-lived facts (endpoints, cursors, counters) are shared
//! between generations by identity; nothing in here is ever changed after it was published.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use http::{HeaderValue, StatusCode};
use tokio::sync::{Notify, watch};
use witgate_core::{
    affinity::StickyCookie,
    balance::{Cursor, Picker},
    config::{self, Config, HeaderRules, Key, OnError},
    endpoint::{ClusterLoad, Endpoint},
    limits::{RateLimiter, Retries},
    rewrite::Rewrite,
    routing::RouteTable,
    split,
};
use witgate_policy::Plugin;

use crate::{
    sockets::Bound,
    telemetry::{RouteMetrics, access_log::AccessLog, traces::Traces},
    tls::{self, Tls},
    upstream::Circuit,
};

/// Everything that decides about a request.
#[derive(Clone)]
pub struct Generation {
    /// Rises by one with each publication.
    pub serial: u64,
    /// Rises when more than weight tables changed.
    pub config_serial: u64,
    /// What the operator asked for.
    pub config: Arc<Config>,
    /// Compiled routes.
    pub routes: Arc<Routes>,
    /// Clusters in the order of the configuration.
    pub clusters: Arc<[Arc<Cluster>]>,
    /// Index of each cluster by its name.
    pub by_name: Arc<HashMap<String, usize>>,
    /// The plugins by name, with the version that is live.
    pub plugins: Arc<BTreeMap<String, Slot>>,
    /// What is listened on. Connections know theirs by its index, which is nobody else's while they are there.
    pub sockets: Arc<[Socket]>,
    /// What is spoken below HTTP, by listener in the order of the configuration; none: nothing.
    pub servers: Arc<[Option<Arc<tls::Server>>]>,
    /// The same by name, with that of clusters: what the next generation may keep.
    pub tls: Arc<Tls>,
    /// Where a line is written for each request; none where there is no such log.
    pub access_log: Option<Arc<AccessLog>>,
    /// Where spans of requests go; none where they go nowhere.
    pub traces: Option<Arc<Traces>>,
}

/// A socket of every worker.
#[derive(Clone)]
pub struct Socket {
    /// Where, and for how many connections.
    pub bound: Arc<Bound>,
    /// Whose it is.
    pub owner: Owner,
}

/// Who says how the connections of a socket are served.
#[derive(Clone)]
pub enum Owner {
    /// Index into the configuration's listeners.
    Listener(usize),
    /// No listener any more: it is closed, and its connections finish under the last generation that had one. That is held
    /// by who ends them.
    Past(Weak<Generation>),
}

/// Compiled routes.
pub struct Routes {
    /// Finds the index into `plans`.
    pub table: RouteTable,
    /// In the order of the configuration.
    pub plans: Box<[RoutePlan]>,
}

/// One route, with every name resolved. What few routes have is on the heap, so that the others are small: of ten thousand
/// asked for in turn none is in the processor's caches.
pub struct RoutePlan {
    /// The route's name.
    pub name: Arc<str>,
    /// What happens without a plugin.
    pub action: Action,
    /// Native affinity.
    pub affinity: Option<Box<Affinity>>,
    /// Whole response; none is no limit.
    pub timeout: Option<Duration>,
    /// How a request is delivered; none where nothing was said.
    pub delivery: Option<Box<Delivery>>,
    /// Asked which cluster.
    pub router: Option<PluginRef>,
    /// Asked which choice of the split.
    pub splitter: Option<PluginRef>,
    /// Asked for the affinity key.
    pub affinity_plugin: Option<PluginRef>,
    /// What few routes have; none where this one has nothing of it.
    pub extras: Option<Box<Extras>>,
    /// Carried across generations by the route's name.
    pub metrics: Arc<RouteMetrics>,
}

/// What few routes have, at least one of it.
pub struct Extras {
    /// How often the route is taken. Carried across generations by the route's name, while its settings are the same.
    pub limiter: Option<Arc<RateLimiter>>,
    /// What is changed of requests before they are sent.
    pub rewrite: Option<Rewrite>,
    /// What is changed of responses.
    pub response_headers: HeaderRules,
}

/// What a route says of how its requests are delivered.
#[derive(Default)]
pub struct Delivery {
    /// What is tried again; none where nothing was said.
    pub retry: Option<config::Retry>,
    /// Where copies go.
    pub mirror: Option<Mirror>,
}

/// Where copies of a route's requests go.
#[derive(Clone, Copy)]
pub struct Mirror {
    /// Index into [`Generation::clusters`].
    pub cluster: usize,
    /// Part of the requests, 0 to 1.
    pub share: f64,
    /// For a copy, from its begin to the end of its response.
    pub timeout: Duration,
}

/// A route's native action.
pub enum Action {
    /// Index into [`Generation::clusters`].
    Cluster(usize),
    /// Weighted clusters.
    Split(Box<Split>),
    /// Answered by the proxy itself.
    Reply(Box<Reply>),
}

const _: () = assert!(size_of::<RoutePlan>() <= 128, "a route is two cache lines");

/// A response that the proxy makes.
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Of a redirect.
    pub location: Option<HeaderValue>,
    /// Of a response.
    pub body: bytes::Bytes,
}

/// A compiled split.
pub struct Split {
    /// Chooses natively.
    pub native: split::Splitter,
    /// Index into [`Generation::clusters`], choice by choice.
    pub clusters: Box<[usize]>,
    /// Names, choice by choice.
    pub names: Arc<[String]>,
    /// Weights, choice by choice.
    pub weights: Box<[u32]>,
    /// Identifies names and order.
    pub offer: u64,
}

/// A route's native affinity.
pub enum Affinity {
    /// Consistent hash of the first key present.
    By(Vec<Key>),
    /// A cookie of the proxy's own.
    Cookie(StickyCookie),
}

/// A plugin that a route or a cluster asks. None where no version is live: the native decision stands.
#[derive(Clone)]
pub struct PluginRef {
    /// The live version.
    pub plugin: Option<Arc<Plugin>>,
    /// What a failed call costs.
    pub on_error: OnError,
}

/// A plugin's name with the version that is live.
#[derive(Clone)]
pub struct Slot {
    /// None where nothing was activated, or what was cannot be used.
    pub live: Option<Arc<Plugin>>,
    /// Why nothing is live although something is active.
    pub broken: Option<Arc<str>>,
    /// What the configuration says of it.
    pub settings: Arc<config::Plugin>,
}

/// One cluster as a request sees it.
#[derive(Clone)]
pub struct Cluster {
    /// Its configuration.
    pub config: Arc<config::Cluster>,
    /// All its endpoints, in the order of the configuration.
    pub endpoints: Arc<[Arc<Endpoint>]>,
    /// Round-robin's place, carried across generations.
    pub cursor: Arc<Cursor>,
    /// Retries under way, carried across generations.
    pub retries: Arc<Retries>,
    /// What is refused where too much is going on; none where nothing is limited. Carried across generations while the
    /// limits stay: with others, counting begins anew.
    pub circuit: Option<Arc<Circuit>>,
    /// Requests in flight where loads are bounded, carried across generations.
    pub load: Arc<ClusterLoad>,
    /// The native algorithm (a plugin's fallback where a plugin scores).
    pub native: Arc<Picker>,
    /// A plugin that scores.
    pub scorer: Option<Scorer>,
    /// What is spoken to endpoints below HTTP; none: nothing.
    pub tls: Option<Arc<tls::Client>>,
}

/// A cluster's scoring plugin.
#[derive(Clone)]
pub struct Scorer {
    /// Who is asked.
    pub plugin: PluginRef,
    /// How.
    pub mode: config::ScoreMode,
    /// Tells the cluster's endpoints from those of other clusters.
    pub salt: u64,
    /// The newest weight table and when it was made (weigh mode).
    pub table: Option<(Arc<Picker>, Instant)>,
}

impl Cluster {
    /// The picker that stands now: the plugin's table while it is fresh, else the native algorithm.
    pub fn picker(&self, now: Instant) -> &Picker {
        if let Some(Scorer { mode: config::ScoreMode::Weigh { stale_after, .. }, table: Some((table, made)), .. }) =
            &self.scorer
            && now.saturating_duration_since(*made) <= *stale_after
        {
            return table;
        }
        &self.native
    }

    /// The same cluster with another picker, and the scores that it has.
    #[must_use]
    pub fn with_native(mut self, native: Picker) -> Self {
        if let Some((table, _)) = self.scorer.as_mut().and_then(|scorer| scorer.table.as_mut()) {
            *table = Arc::new(native.rescore(table.scores()));
        }
        self.native = Arc::new(native);
        self
    }
}

impl Generation {
    /// The same with this cluster in place of the one with this index.
    #[must_use]
    pub fn with_cluster(&self, index: usize, cluster: Cluster) -> Self {
        let mut clusters = self.clusters.to_vec();
        clusters[index] = Arc::new(cluster);
        Self { clusters: clusters.into(), ..self.clone() }
    }

    /// Index of a cluster by name.
    ///
    /// # Errors
    /// There is none of that name: which there are, in words.
    pub fn find_cluster(&self, name: &str) -> Result<usize, String> {
        self.cluster_index(name).ok_or_else(|| {
            let known: Vec<&str> = self.clusters.iter().map(|c| c.config.name.as_str()).collect();
            format!("there is no cluster {name:?}; there are: {}", known.join(", "))
        })
    }

    /// Index in the configuration of the listener whose socket this is; none where there is none any more.
    #[inline]
    pub fn listener_index(&self, socket: usize) -> Option<usize> {
        match self.sockets.get(socket)?.owner {
            Owner::Listener(index) => Some(index),
            Owner::Past(_) => None,
        }
    }

    /// The listener whose socket this is.
    #[inline]
    pub fn listener(&self, socket: usize) -> Option<&config::Listener> {
        self.config.listeners.get(self.listener_index(socket)?)
    }

    /// Every listener with the address that it was given.
    pub fn listeners(&self) -> impl Iterator<Item = (&config::Listener, SocketAddr)> {
        self.config.listeners.iter().enumerate().map(|(index, listener)| {
            let is_its = |socket: &&Socket| matches!(socket.owner, Owner::Listener(of) if of == index);
            let address = self.sockets.iter().find(is_its).map_or(listener.listen, |socket| socket.bound.address);
            (listener, address)
        })
    }

    /// Index of a cluster by name.
    pub fn cluster_index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

/// The one swappable pointer of the data path.
pub struct Live {
    current: ArcSwap<Generation>,
    /// Serialises publications: each next generation is computed from the present one.
    publishing: Mutex<()>,
    /// Wakes whoever must let go of an old generation.
    changed: watch::Sender<u64>,
    /// Wakes whoever follows what is configured: not with each table of weights.
    configured: watch::Sender<u64>,
    /// Wakes who ejects endpoints and makes pickers anew.
    observed: Notify,
    /// Wakes workers that may have idle connections for whose places somebody waits.
    crowded: watch::Sender<()>,
}

impl Live {
    /// Starts with a first generation.
    pub fn new(first: Generation) -> Arc<Self> {
        let (changed, configured) = (watch::channel(first.serial).0, watch::channel(first.config_serial).0);
        Arc::new(Self {
            current: ArcSwap::from_pointee(first),
            publishing: Mutex::new(()),
            changed,
            configured,
            observed: Notify::new(),
            crowded: watch::channel(()).0,
        })
    }

    /// The present generation.
    pub fn load(&self) -> Arc<Generation> {
        self.current.load_full()
    }

    /// Publishes what `next` makes of the present generation, in one step for every worker. Nothing changes where it
    /// returns none.
    ///
    /// # Errors
    /// What `next` returns.
    pub fn publish<E>(&self, next: impl FnOnce(&Generation) -> Result<Option<Generation>, E>) -> Result<bool, E> {
        let _turn = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.current.load_full();
        let Some(mut generation) = next(&present)? else { return Ok(false) };
        generation.serial = present.serial + 1;
        let (serial, config_serial) = (generation.serial, generation.config_serial);
        self.current.store(Arc::new(generation));
        self.changed.send_replace(serial);
        self.configured.send_if_modified(|known| std::mem::replace(known, config_serial) != config_serial);
        Ok(true)
    }

    /// Something was observed of an endpoint that may change who is picked.
    pub fn note_observed(&self) {
        self.observed.notify_one();
    }

    /// Waits until something was observed since this was last waited for. For one who waits.
    pub async fn observed(&self) {
        self.observed.notified().await;
    }

    /// Somebody waits for a connection that another worker could make room for.
    pub fn note_crowded(&self) {
        self.crowded.send_replace(());
    }

    /// Wakes when somebody does.
    pub fn subscribe_crowded(&self) -> watch::Receiver<()> {
        self.crowded.subscribe()
    }

    /// Wakes with each publication that changes more than weight tables.
    pub fn subscribe_config(&self) -> watch::Receiver<u64> {
        self.configured.subscribe()
    }

    /// Wakes with each publication.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// A worker's own view of [`Live`]: the reference count that requests touch belongs to the worker alone.
pub struct LocalLive {
    live: Arc<Live>,
    held: RefCell<Rc<Held>>,
}

/// A generation in the hands of one worker.
pub struct Held(Arc<Generation>);

impl std::ops::Deref for Held {
    type Target = Generation;
    fn deref(&self) -> &Generation {
        &self.0
    }
}

impl LocalLive {
    /// A view for one worker.
    pub fn new(live: Arc<Live>) -> Self {
        let held = RefCell::new(Rc::new(Held(live.load())));
        Self { live, held }
    }

    /// The present generation. Costs one atomic load while nothing changed.
    pub fn load(&self) -> Rc<Held> {
        let present = self.live.current.load();
        let mut held = self.held.borrow_mut();
        if !Arc::ptr_eq(&present, &held.0) {
            *held = Rc::new(Held(Arc::clone(&present)));
        }
        Rc::clone(&held)
    }

    /// The generation that decides about the requests of connections that came by this socket: the present one, or where
    /// the socket is closed the last before that.
    #[inline]
    pub fn load_for(&self, socket: usize) -> Rc<Held> {
        let present = self.load();
        match present.sockets.get(socket) {
            Some(Socket { owner: Owner::Past(past), .. }) => Self::held(past).unwrap_or(present),
            _ => present,
        }
    }

    /// None where its time is over, and so is that of who came by the socket.
    #[cold]
    fn held(past: &Weak<Generation>) -> Option<Rc<Held>> {
        Some(Rc::new(Held(past.upgrade()?)))
    }

    /// The shared pointer behind this view.
    pub fn shared(&self) -> &Arc<Live> {
        &self.live
    }
}
