//! Which route a request takes. Never looks at what the route then does.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use crate::{
    config::{self, Config, HostPattern, PathMatch, ValueMatch},
    request::Head,
};

/// A host longer than this matches only routes without a host: no name in the DNS is longer (RFC 1035 section 2.3.4).
const MAX_HOST: usize = 255;

/// All routes, indexed by listener, host and path.
///
/// The most specific host goes first: exact, then the longest wildcard, then none; within a host file order decides,
/// and the first route whose every condition holds is taken. A request that matches none of the routes of its host
/// goes on to those of the next less specific one.
///
/// Routes that are told apart by exact path or path prefix cost a look-up however many they are: O(log routes) each
/// plus those that share the path. Those with a regex or without a path are tried in order.
#[derive(Debug)]
pub struct RouteTable {
    routes: Vec<Conditions>,
    listeners: Vec<Hosts>,
}

/// What is asked of a route that was found by host and path.
#[derive(Debug)]
struct Conditions {
    path_regex: Option<regex::Regex>,
    methods: Vec<http::Method>,
    headers: Vec<(http::HeaderName, ValueMatch)>,
    cookies: Vec<(String, ValueMatch)>,
    query: Vec<(String, ValueMatch)>,
}

/// The routes of a listener by host.
#[derive(Debug, Default)]
struct Hosts {
    exact: HashMap<String, Paths>,
    /// By the suffix with its leading dot.
    suffix: HashMap<String, Paths>,
    any: Paths,
}

/// The routes of a host by path; indices into `RouteTable::routes`, each list in file order.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<String, Vec<usize>>,
    /// Sorted by prefix, when complete.
    prefixes: Vec<Prefix>,
    /// With a regex or without a path.
    others: Vec<usize>,
}

#[derive(Debug)]
struct Prefix {
    text: String,
    /// The longest other prefix that this one starts with.
    parent: Option<usize>,
    routes: Vec<usize>,
}

impl RouteTable {
    /// Indexes the routes of a configuration.
    pub fn new(config: &Config) -> Self {
        let listeners = config.listeners.iter().map(|listener| {
            let mut hosts = Hosts::default();
            for (index, route) in config.routes.iter().enumerate() {
                if route.listeners.as_ref().is_none_or(|names| names.contains(&listener.name)) {
                    hosts.add(index, route);
                }
            }
            hosts.complete();
            hosts
        });
        Self { listeners: listeners.collect(), routes: config.routes.iter().map(Conditions::new).collect() }
    }

    /// Index in `config.routes` of the route that a request takes, `listener` being an index in `config.listeners`.
    /// Does not allocate where the host came in lower case.
    pub fn find(&self, listener: usize, head: &Head) -> Option<usize> {
        let hosts = self.listeners.get(listener)?;
        let first = |paths: &Paths| paths.first(head.path(), |route| self.routes[route].hold(head));
        if (hosts.exact.is_empty() && hosts.suffix.is_empty()) || head.host().len() > MAX_HOST {
            return first(&hosts.any);
        }
        let host = head.host_lower();
        let exact = hosts.exact.get(&*host).and_then(first);
        exact.or_else(|| hosts.suffixes(&host).find_map(first)).or_else(|| first(&hosts.any))
    }
}

impl Hosts {
    fn add(&mut self, index: usize, route: &config::Route) {
        if route.hosts.is_empty() {
            self.any.add(index, &route.path);
        }
        for host in &route.hosts {
            let paths = match host {
                HostPattern::Exact(name) => self.exact.entry(name.clone()),
                HostPattern::Suffix(suffix) => self.suffix.entry(suffix.clone()),
            };
            paths.or_default().add(index, &route.path);
        }
    }

    fn complete(&mut self) {
        let all = self.exact.values_mut().chain(self.suffix.values_mut()).chain([&mut self.any]);
        all.for_each(Paths::link);
    }

    /// The routes of the wildcards that match a host, longest first.
    fn suffixes<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a Paths> {
        // At least one label stands before the suffix, so a dot at the start begins none.
        let dots = host.match_indices('.').map(|(at, _)| at).filter(|&at| at > 0);
        let dots = dots.take(if self.suffix.is_empty() { 0 } else { MAX_HOST });
        dots.filter_map(|at| self.suffix.get(&host[at..]))
    }
}

impl Paths {
    fn add(&mut self, index: usize, path: &PathMatch) {
        let list = match path {
            PathMatch::Any | PathMatch::Regex(_) => &mut self.others,
            PathMatch::Exact(path) => self.exact.entry(path.clone()).or_default(),
            PathMatch::Prefix(text) => {
                self.prefixes.push(Prefix { text: text.clone(), parent: None, routes: vec![index] });
                return;
            }
        };
        // A route may name a host twice.
        if list.last() != Some(&index) {
            list.push(index);
        }
    }

    /// Sorts the prefixes, joins equal ones and links each to the longest that it starts with.
    fn link(&mut self) {
        self.prefixes.sort_by(|a, b| a.text.cmp(&b.text));
        self.prefixes.dedup_by(|later, kept| {
            let same = later.text == kept.text;
            if same {
                kept.routes.append(&mut later.routes);
            }
            same
        });
        for i in 1..self.prefixes.len() {
            // What a text starts with sorts before it, and is the text before it or one of that one's parents.
            let mut candidate = Some(i - 1);
            while let Some(at) = candidate
                && !self.prefixes[i].text.starts_with(&self.prefixes[at].text)
            {
                candidate = self.prefixes[at].parent;
            }
            self.prefixes[i].parent = candidate;
        }
    }

    /// The first route in file order whose path matches and whose conditions hold.
    fn first(&self, path: &str, hold: impl Fn(usize) -> bool) -> Option<usize> {
        let mut best = None;
        let exact = self.exact.get(path).into_iter();
        for list in exact.chain(self.prefixes_of(path)).chain([&self.others]) {
            // Only what stands before the best so far can still win.
            let earlier = list.iter().take_while(|&&route| best.is_none_or(|best| route < best));
            best = earlier.copied().find(|&route| hold(route)).or(best);
        }
        best
    }

    /// The lists of all prefixes that a path starts with.
    fn prefixes_of(&self, path: &str) -> impl Iterator<Item = &Vec<usize>> {
        let last = self.prefixes.partition_point(|prefix| prefix.text.as_str() <= path).checked_sub(1);
        let chain = std::iter::successors(last, |&at| self.prefixes[at].parent);
        chain.map(|at| &self.prefixes[at]).filter(move |p| path.starts_with(&p.text)).map(|p| &p.routes)
    }
}

impl Conditions {
    fn new(route: &config::Route) -> Self {
        let path_regex = match &route.path {
            PathMatch::Regex(regex) => Some(regex.clone()),
            PathMatch::Any | PathMatch::Exact(_) | PathMatch::Prefix(_) => None,
        };
        Self {
            path_regex,
            methods: route.methods.clone(),
            headers: route.headers.clone(),
            cookies: route.cookies.clone(),
            query: route.query.clone(),
        }
    }

    fn hold(&self, head: &Head) -> bool {
        (self.methods.is_empty() || self.methods.contains(&head.method))
            && self.path_regex.as_ref().is_none_or(|regex| regex.is_match(head.path()))
            && self.headers.iter().all(|(name, want)| header_matches(want, head, name))
            && self.cookies.iter().all(|(name, want)| value_matches(want, head.cookie(name)))
            && self.query.iter().all(|(name, want)| value_matches(want, head.query(name).as_deref()))
    }
}

/// Any value of a repeated header may match.
fn header_matches(want: &ValueMatch, head: &Head, name: &http::HeaderName) -> bool {
    let mut values = head.headers.get_all(name).iter().map(|value| value.as_bytes());
    match want {
        ValueMatch::Exact(text) => values.any(|value| value == text.as_bytes()),
        ValueMatch::Regex(regex) => values.any(|value| regex.is_match(&String::from_utf8_lossy(value))),
        ValueMatch::Present(present) => values.next().is_some() == *present,
    }
}

fn value_matches(want: &ValueMatch, value: Option<&str>) -> bool {
    match want {
        ValueMatch::Exact(text) => value == Some(text),
        ValueMatch::Regex(regex) => value.is_some_and(|value| regex.is_match(value)),
        ValueMatch::Present(present) => value.is_some() == *present,
    }
}
