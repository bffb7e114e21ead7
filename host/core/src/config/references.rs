//! What only the whole file can tell: names that are taken twice, references to nothing, bounds set elsewhere.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    net::SocketAddr,
};

use super::{
    model::{Action, AdminListen, Config, Route, Service},
    reader::Spot,
    sink::{Finding, Sink},
    value::{quoted, show_size},
};

/// Most rate limits that count by key: their tables take 1 GiB.
const MAX_RATE_TABLES: usize = 1_000;

/// Names and uses of names, with the places where they stand, gathered while the file is decoded.
#[derive(Default)]
pub(super) struct References<'t> {
    pub(super) listeners: Kind<'t>,
    pub(super) routes: Kind<'t>,
    pub(super) clusters: Kind<'t>,
    pub(super) plugins: Kind<'t>,
    /// Addresses of listeners.
    pub(super) addresses: Vec<(SocketAddr, Spot<'t>)>,
    /// `listen` of `[admin]`, where it is named.
    pub(super) admin: Option<Spot<'t>>,
    /// Memory budgets that are named.
    pub(super) memory: Vec<(u64, Spot<'t>)>,
    /// Clusters with `proxy_protocol`, which is named there.
    pub(super) proxied: Vec<(String, Spot<'t>)>,
    /// `by` of rate limits: each has a table of its own.
    pub(super) rate_tables: Vec<Spot<'t>>,
}

/// One kind of named thing.
#[derive(Default)]
pub(super) struct Kind<'t> {
    /// Where each is defined.
    pub(super) names: Vec<(String, Spot<'t>)>,
    /// Where one is referred to.
    pub(super) uses: Vec<(String, Spot<'t>)>,
}

impl References<'_> {
    /// Reports whatever does not hold together.
    pub(super) fn check(&self, sink: &Sink<'_>, config: &Config) {
        for (word, kind) in [
            ("listener", &self.listeners),
            ("route", &self.routes),
            ("cluster", &self.clusters),
            ("plugin", &self.plugins),
        ] {
            report_repeats(sink, &kind.names, |name| format!("another {word} has the name {}", quoted(name)));
        }
        dangling(sink, "listener", &self.listeners);
        dangling(sink, "cluster", &self.clusters);
        let is_tcp =
            |name: &str| config.listeners.iter().any(|l| l.name == name && matches!(l.service, Service::Tcp(_)));
        for (name, spot) in self.listeners.uses.iter().filter(|(name, _)| is_tcp(name)) {
            let finding = Finding::error(spot, format!("the listener {} serves no requests", quoted(name)));
            sink.report(finding.expected("one with `protocol = \"http\"`"));
        }
        misspelt_plugins(sink, &self.plugins);
        self.check_addresses(sink, config);
        self.check_proxied(sink, config);
        if let Some(spot) = self.rate_tables.get(MAX_RATE_TABLES) {
            let message = format!("{} rate limits count by key, and each takes 1MiB", self.rate_tables.len());
            sink.report(Finding::error(spot, message).expected(format!("at most {MAX_RATE_TABLES} with `by`")));
        }
        let ceiling = config.plugin_bounds.memory_ceiling;
        for (memory, spot) in self.memory.iter().filter(|(memory, _)| *memory > ceiling) {
            let message = format!("{} is more than `plugins.memory_ceiling` allows", show_size(*memory));
            sink.report(Finding::error(spot, message).expected(format!("at most {}", show_size(ceiling))));
        }
    }

    /// Connections that requests share are no one client's.
    fn check_proxied(&self, sink: &Sink<'_>, config: &Config) {
        let takes = |route: &Route, name: &str| match &route.action {
            Action::Cluster(cluster) => cluster == name,
            Action::Split(split) => split.choices.iter().any(|choice| choice.cluster == name),
            Action::Respond { .. } | Action::Redirect { .. } => false,
        };
        for (name, spot) in &self.proxied {
            if let Some(route) = config.routes.iter().find(|route| takes(route, name)) {
                let message = format!(
                    "a header names one client, and the requests of all clients of route {} share connections",
                    quoted(&route.name)
                );
                sink.report(Finding::error(spot, message).expected("a cluster of listeners for TCP only"));
            }
        }
    }

    /// Two sockets cannot listen on one address, except where the system picks the port.
    fn check_addresses(&self, sink: &Sink<'_>, config: &Config) {
        let fixed: Vec<_> = self.addresses.iter().filter(|(address, _)| address.port() != 0).cloned().collect();
        report_repeats(sink, &fixed, |address| format!("another listener listens on {address}"));
        let AdminListen::Tcp(admin) = config.admin.listen else {
            return;
        };
        for (_, spot) in fixed.iter().filter(|(address, _)| *address == admin) {
            let finding = Finding::error(spot, format!("the admin API listens on {admin}"));
            sink.report(match &self.admin {
                Some(other) => finding.first_at(other),
                None => finding.help("that is its default: set `admin.listen` to move it"),
            });
        }
    }
}

/// Reports everything that was there before.
pub(super) fn report_repeats<T: Eq + Hash>(sink: &Sink<'_>, items: &[(T, Spot<'_>)], message: impl Fn(&T) -> String) {
    let mut seen: HashMap<&T, &Spot<'_>> = HashMap::new();
    for (item, spot) in items {
        if let Some(first) = seen.get(item) {
            sink.report(Finding::error(spot, message(item)).first_at(first));
        } else {
            seen.insert(item, spot);
        }
    }
}

fn dangling(sink: &Sink<'_>, word: &str, kind: &Kind<'_>) {
    let names: HashSet<&str> = kind.names.iter().map(|(name, _)| name.as_str()).collect();
    for (name, spot) in kind.uses.iter().filter(|(name, _)| !names.contains(name.as_str())) {
        let near = sink.nearest(name, kind.names.iter().map(|(name, _)| name.as_str()));
        let finding = Finding::absence(spot, format!("there is no {word} {}", quoted(name)));
        sink.report(finding.expected(format!("the name of a [[{word}]]")).did_you_mean(near));
    }
}

/// A plugin may arrive by upload alone, so a name that no `[[plugin]]` has is fine, unless it looks like a slip.
fn misspelt_plugins(sink: &Sink<'_>, plugins: &Kind<'_>) {
    let names: HashSet<&str> = plugins.names.iter().map(|(name, _)| name.as_str()).collect();
    for (name, spot) in plugins.uses.iter().filter(|(name, _)| !names.contains(name.as_str())) {
        if let Some(near) = sink.nearest(name, plugins.names.iter().map(|(name, _)| name.as_str())) {
            let message = format!("no [[plugin]] has the name {}: it must arrive by upload", quoted(name));
            sink.report(Finding::warning(spot, message).did_you_mean(Some(near)));
        }
    }
}
