//! A configuration and the present generation to the next one. Carries live endpoints, cursors and counters over by
//! identity; copies none of them.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use http::HeaderValue;
use witgate_core::{
    affinity::{StickyCookie, hash_key},
    balance::{Cursor, Picker},
    config::{self, Algorithm, Balance, Config},
    eligible::Rules,
    endpoint::{Endpoint, Health},
    limits::RateLimiter,
    rewrite::Rewrite,
    routing::RouteTable,
    split::Splitter,
};

use crate::{
    generation::{
        Action, Affinity, Cluster, Delivery, Extras, Generation, Mirror, PluginRef, Reply, RoutePlan, Routes, Scorer,
        Slot, Socket, Split,
    },
    telemetry::{RouteMetrics, access_log::AccessLog, traces::Traces},
    tls::Tls,
    upstream::{
        Circuit,
        dns::{self, Names},
    },
};

/// What assembling needs beside the configuration.
pub struct Parts<'a> {
    /// The generation that is live now.
    pub present: Option<&'a Generation>,
    /// The plugins that shall be live.
    pub plugins: Arc<BTreeMap<String, Slot>>,
    /// What the names of endpoints stand for; those of which nothing is known have no endpoints yet.
    pub names: Arc<Names>,
    /// What is listened on.
    pub sockets: Arc<[Socket]>,
    /// What is spoken below HTTP.
    pub tls: Arc<Tls>,
    /// What is told of each request.
    pub access_log: Option<Arc<AccessLog>>,
    /// Where spans go.
    pub traces: Option<Arc<Traces>>,
    /// How many workers there are.
    pub workers: usize,
    /// Authenticates sticky cookies.
    pub cookie_secret: [u8; 32],
    /// For endpoints and rate limits that are new.
    pub now: Instant,
    /// 64 bits that clients do not know: where the keys of new rate limits lie.
    pub seed: u64,
}

/// The next generation.
pub fn assemble(config: Arc<Config>, parts: &Parts<'_>) -> Generation {
    let before = Before::of(parts.present);
    let clusters: Arc<[Arc<Cluster>]> = config
        .clusters
        .iter()
        .map(|c| Arc::new(cluster(c, parts, before.clusters.get(c.name.as_str()).copied())))
        .collect();
    let by_name: HashMap<String, usize> =
        config.clusters.iter().enumerate().map(|(index, cluster)| (cluster.name.clone(), index)).collect();
    prepare_affinity(&config, &by_name, &clusters);
    let plans = config.routes.iter().map(|route| plan(route, &by_name, parts, &before)).collect();
    let table = RouteTable::new(&config);
    Generation {
        serial: 0,
        config_serial: parts.present.map_or(0, |present| present.config_serial + 1),
        routes: Arc::new(Routes { table, plans }),
        clusters,
        by_name: Arc::new(by_name),
        plugins: Arc::clone(&parts.plugins),
        sockets: Arc::clone(&parts.sockets),
        servers: config.listeners.iter().map(|listener| parts.tls.servers.get(&listener.name).cloned()).collect(),
        tls: Arc::clone(&parts.tls),
        access_log: parts.access_log.clone(),
        traces: parts.traces.clone(),
        config,
    }
}

/// Has the tables for affinity made now, for clusters that a route with affinity leads to, so that no request pays for
/// them. A cluster that only a router plugin leads there makes its own with its first request.
fn prepare_affinity(config: &Config, by_name: &HashMap<String, usize>, clusters: &[Arc<Cluster>]) {
    for route in config.routes.iter().filter(|r| r.affinity.is_some() || r.plugins.affinity.is_some()) {
        let names: Vec<&str> = match &route.action {
            config::Action::Cluster(name) => vec![name],
            config::Action::Split(split) => split.choices.iter().map(|c| c.cluster.as_str()).collect(),
            _ => Vec::new(),
        };
        for index in names.into_iter().filter_map(|name| by_name.get(name)) {
            clusters[*index].native.prepare_affinity();
        }
    }
}

/// What the present generation has, by name: what stays is carried over.
#[derive(Default)]
struct Before<'a> {
    clusters: HashMap<&'a str, &'a Arc<Cluster>>,
    routes: HashMap<&'a str, &'a RoutePlan>,
}

impl<'a> Before<'a> {
    fn of(present: Option<&'a Generation>) -> Self {
        let Some(present) = present else { return Self::default() };
        Self {
            clusters: present.clusters.iter().map(|c| (c.config.name.as_str(), c)).collect(),
            routes: present.routes.plans.iter().map(|plan| (&*plan.name, plan)).collect(),
        }
    }
}

/// The present generation with other endpoints in the cluster with this index: all else is shared with it.
pub fn with_endpoints(
    present: &Generation,
    index: usize,
    endpoints: Vec<config::Endpoint>,
    parts: &Parts<'_>,
) -> Option<Generation> {
    let before = present.clusters.get(index)?;
    let mut config = Config::clone(&present.config);
    config.clusters.get_mut(index)?.endpoints = endpoints;
    let next = cluster(config.clusters.get(index)?, parts, Some(before));
    if before.native.is_prepared_for_affinity() {
        next.native.prepare_affinity();
    }
    let config_serial = present.config_serial + 1;
    Some(Generation { config: Arc::new(config), config_serial, ..present.with_cluster(index, next) })
}

fn cluster(config: &config::Cluster, parts: &Parts<'_>, before: Option<&Arc<Cluster>>) -> Cluster {
    let known: HashMap<&str, &Arc<Endpoint>> =
        before.iter().flat_map(|b| b.endpoints.iter()).map(|e| (e.address(), e)).collect();
    let mut seen = HashSet::new();
    let endpoints: Arc<[Arc<Endpoint>]> = config
        .endpoints
        .iter()
        .flat_map(|wanted| addresses(wanted, &parts.names).map(move |address| (address, wanted)))
        .filter(|(address, _)| seen.insert(address.clone()))
        .map(|(address, wanted)| match known.get(&*address) {
            Some(endpoint) if endpoint.authority() == wanted.address => {
                endpoint.configure(wanted);
                unjudge(endpoint, config, parts.now);
                Arc::clone(endpoint)
            }
            _ => {
                let endpoint = Endpoint::at(address.into_owned(), wanted, parts.now);
                if before.is_some() {
                    endpoint.join(parts.now, config.health.is_some());
                }
                Arc::new(endpoint)
            }
        })
        .collect();
    let (algorithm, mut scorer) = match &config.balance {
        Balance::Native(algorithm) => (*algorithm, None),
        Balance::Plugin { plugin, mode, fallback } => {
            let plugin = plugin_ref(plugin, parts, |exports| exports.scorer);
            (
                *fallback,
                Some(Scorer { plugin, mode: mode.clone(), salt: hash_key(config.name.as_bytes()), table: None }),
            )
        }
    };
    if config.outlier.as_ref().is_some_and(|outlier| outlier.latency.is_some()) {
        endpoints.iter().for_each(|endpoint| endpoint.count_latencies());
    }
    let rules = Rules::from(config);
    let load = before.map_or_else(Arc::default, |b| Arc::clone(&b.load));
    for endpoint in endpoints.iter() {
        endpoint.measure_cost(algorithm == Algorithm::PeakEwma);
        if rules.hash_balance_factor.is_some() {
            endpoint.count_in(&load);
        }
    }
    let cursor = before.map_or_else(|| Arc::new(Cursor::default()), |b| Arc::clone(&b.cursor));
    let retries = before.map_or_else(Arc::default, |b| Arc::clone(&b.retries));
    let carried = before.filter(|b| b.config.circuit == config.circuit);
    let circuit = carried.map_or_else(|| Circuit::new(config.circuit), |b| b.circuit.clone());
    let tls = parts.tls.clients.get(&config.name).cloned();
    let config = Arc::new(config.clone());
    // Where nothing changed that picking depends on, tables are kept as well: most publications swap a plugin only.
    if let Some(before) = before.filter(|b| b.config.endpoints == config.endpoints && same(&b.endpoints, &endpoints)) {
        if let (Some(new), Some(old)) = (&mut scorer, &before.scorer)
            && same_plugin(&new.plugin, &old.plugin)
        {
            new.table.clone_from(&old.table);
        }
        let unchanged = algorithm == before.native.algorithm() && rules == *before.native.rules();
        let native = if unchanged {
            Arc::clone(&before.native)
        } else {
            Arc::new(Picker::new(Arc::clone(&before.endpoints), algorithm, rules, parts.now))
        };
        let endpoints = Arc::clone(&before.endpoints);
        let cluster = Cluster { config, endpoints, cursor, retries, circuit, load, native, scorer, tls };
        // A state is the endpoint's own and no part of what is configured: the picker follows it here.
        return match cluster.native.renewed(parts.now) {
            Some(native) => cluster.with_native(native),
            None => cluster,
        };
    }
    let native = Arc::new(Picker::new(Arc::clone(&endpoints), algorithm, rules, parts.now));
    Cluster { config, endpoints, cursor, retries, circuit, load, native, scorer, tls }
}

/// Where an endpoint is: at its address, or at those that its name stands for.
fn addresses<'a>(wanted: &'a config::Endpoint, names: &'a Names) -> impl Iterator<Item = Cow<'a, str>> {
    let named = dns::name_of(&wanted.address);
    let literal = named.is_none().then_some(Cow::Borrowed(wanted.address.as_str()));
    let found = named.into_iter().flat_map(|(name, port)| {
        let addresses = names.get(name).map_or(&[][..], Vec::as_slice);
        addresses.iter().map(move |ip| Cow::Owned(SocketAddr::new(*ip, port).to_string()))
    });
    literal.into_iter().chain(found)
}

fn same(a: &[Arc<Endpoint>], b: &[Arc<Endpoint>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

fn same_plugin(a: &PluginRef, b: &PluginRef) -> bool {
    match (&a.plugin, &b.plugin) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}

/// What nobody judges any more counts no longer.
fn unjudge(endpoint: &Endpoint, config: &config::Cluster, now: Instant) {
    if config.health.is_none() {
        endpoint.set_health(Health::Unchecked, now);
    }
    if config.health.as_ref().is_none_or(|health| !health.may_drain()) {
        endpoint.set_leaving(false, now);
    }
    if config.outlier.is_none() {
        endpoint.readmit(now);
    }
}

/// What few routes have.
fn extras(route: &config::Route, parts: &Parts<'_>, before: Option<&RoutePlan>) -> Option<Box<Extras>> {
    let limiter = route.rate_limit.as_ref().map(|settings| {
        let known = before.and_then(|plan| plan.extras.as_deref()?.limiter.as_ref());
        match known.filter(|limiter| limiter.settings() == settings) {
            Some(limiter) => Arc::clone(limiter),
            None => Arc::new(RateLimiter::new(settings, parts.now, parts.seed)),
        }
    });
    let (rewrite, response_headers) = (Rewrite::of(route), route.response_headers.clone());
    let any = limiter.is_some() || rewrite.is_some() || !response_headers.is_empty();
    any.then(|| Box::new(Extras { limiter, rewrite, response_headers }))
}

fn plan(route: &config::Route, by_name: &HashMap<String, usize>, parts: &Parts<'_>, before: &Before<'_>) -> RoutePlan {
    // The configuration was checked: every name resolves. An index out of range would be answered with 503.
    let index = |name: &str| by_name.get(name).copied().unwrap_or(usize::MAX);
    let action = match &route.action {
        config::Action::Cluster(name) => Action::Cluster(index(name)),
        config::Action::Split(split) => {
            let names: Arc<[String]> = split.choices.iter().map(|c| c.cluster.clone()).collect();
            Action::Split(Box::new(Split {
                native: Splitter::new(split),
                clusters: names.iter().map(|name| index(name)).collect(),
                offer: hash_key(names.join("\n").as_bytes()),
                names,
                weights: split.choices.iter().map(|c| c.weight).collect(),
            }))
        }
        config::Action::Respond { status, body } => {
            Action::Reply(Box::new(Reply { status: *status, location: None, body: Bytes::from(body.clone()) }))
        }
        config::Action::Redirect { status, location } => {
            let location = HeaderValue::try_from(location).ok();
            Action::Reply(Box::new(Reply { status: *status, location, body: Bytes::new() }))
        }
    };
    let affinity = route.affinity.as_ref().map(|affinity| match affinity {
        config::Affinity::By(keys) => Affinity::By(keys.clone()),
        config::Affinity::Cookie { name, ttl } => {
            Affinity::Cookie(StickyCookie::new(name.clone(), *ttl, parts.cookie_secret))
        }
    });
    let before = before.routes.get(route.name.as_str()).copied();
    RoutePlan {
        name: Arc::from(route.name.as_str()),
        action,
        affinity: affinity.map(Box::new),
        timeout: route.timeout,
        delivery: delivery(route, index),
        router: route.plugins.router.as_deref().map(|name| plugin_ref(name, parts, |e| e.router)),
        splitter: route.plugins.splitter.as_deref().map(|name| plugin_ref(name, parts, |e| e.splitter)),
        affinity_plugin: route.plugins.affinity.as_deref().map(|name| plugin_ref(name, parts, |e| e.affinity)),
        extras: extras(route, parts, before),
        metrics: before.map_or_else(
            || RouteMetrics::new(Arc::from(route.name.as_str()), parts.workers),
            |plan| Arc::clone(&plan.metrics),
        ),
    }
}

/// What the route says of how its requests are delivered; none where it says nothing.
fn delivery(route: &config::Route, index: impl Fn(&str) -> usize) -> Option<Box<Delivery>> {
    let mirror = route.mirror.as_ref().map(|mirror| Mirror {
        cluster: index(&mirror.cluster),
        share: mirror.percent / 100.0,
        // A copy that nobody waits for does not take for ever.
        timeout: route.timeout.unwrap_or(config::DEFAULT_TIMEOUT),
    });
    let delivery = Delivery { retry: route.retry, mirror };
    (delivery.retry.is_some() || delivery.mirror.is_some()).then(|| Box::new(delivery))
}

/// The live version behind a name, if it answers the question it is wanted for.
fn plugin_ref(name: &str, parts: &Parts<'_>, answers: impl Fn(&witgate_policy::Exports) -> bool) -> PluginRef {
    let Some(slot) = parts.plugins.get(name) else {
        return PluginRef { plugin: None, on_error: config::OnError::default() };
    };
    let plugin = slot.live.clone().filter(|plugin| answers(&plugin.exports()));
    PluginRef { plugin, on_error: slot.settings.on_error }
}
