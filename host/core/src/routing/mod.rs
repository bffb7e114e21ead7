//! Which route a request takes. Never looks at what the route then does.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use crate::{
    config::{self, Config, HostPattern, PathMatch, Tcp, ValueMatch},
    request::{Head, lower},
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
    /// None where host and path are all that is asked.
    conditions: Box<[Option<Box<Conditions>>]>,
    listeners: Box<[Hosts]>,
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
#[derive(Debug)]
struct Hosts {
    exact: HashMap<Box<str>, Paths>,
    /// By the suffix with its leading dot.
    suffix: HashMap<Box<str>, Paths>,
    any: Paths,
}

/// Index into `RouteTable::conditions`, and so of a route in the configuration.
type Index = u32;

/// The routes of a host by path, each list in file order. What a look-up reads lies side by side: of ten thousand hosts
/// asked for in turn nothing is in the processor's caches.
#[derive(Debug)]
struct Paths {
    /// None where no path is exact.
    #[expect(clippy::box_collection, reason = "most hosts have none, and all of them have room for it")]
    exact: Option<Box<HashMap<Box<str>, Vec<Index>>>>,
    /// Sorted by their texts.
    prefixes: Box<[Prefix]>,
    /// The prefixes' texts, one behind the other.
    texts: Box<[u8]>,
    /// The prefixes' routes, one list behind the other.
    routes: Box<[Index]>,
    /// With a regex or without a path.
    others: Box<[Index]>,
}

#[derive(Debug)]
struct Prefix {
    text: Range<u32>,
    routes: Range<u32>,
    /// The longest other prefix that this one starts with.
    parent: Option<u32>,
}

impl RouteTable {
    /// Indexes the routes of a configuration.
    pub fn new(config: &Config) -> Self {
        let of = |listener: &config::Listener| {
            let listens =
                |route: &config::Route| route.listeners.as_ref().is_none_or(|names| names.contains(&listener.name));
            Hosts::new((0..).zip(&config.routes).filter(|(_, route)| listens(route)))
        };
        Self {
            listeners: config.listeners.iter().map(of).collect(),
            conditions: config.routes.iter().map(Conditions::new).collect(),
        }
    }

    /// Index in `config.routes` of the route that a request takes, `listener` being an index in `config.listeners`.
    /// Does not allocate where the host came in lower case.
    pub fn find(&self, listener: usize, head: &Head) -> Option<usize> {
        let hosts = self.listeners.get(listener)?;
        let first =
            |paths: &Paths| paths.first(head.path(), |route| self.hold(route, head)).map(|route| route as usize);
        if hosts.exact.is_empty() && hosts.suffix.is_empty() {
            return first(&hosts.any);
        }
        let host = head.host();
        if host.len() > MAX_HOST {
            return first(&hosts.any);
        }
        let host = lower(host);
        let exact = hosts.exact.get(&*host).and_then(first);
        exact.or_else(|| hosts.suffixes(&host).find_map(first)).or_else(|| first(&hosts.any))
    }

    fn hold(&self, route: Index, head: &Head) -> bool {
        self.conditions[route as usize].as_ref().is_none_or(|conditions| conditions.hold(head))
    }
}

impl Hosts {
    fn new<'a>(routes: impl Iterator<Item = (Index, &'a config::Route)>) -> Self {
        let (mut exact, mut suffix, mut any) = (HashMap::new(), HashMap::new(), Vec::new());
        for (index, route) in routes {
            if route.hosts.is_empty() {
                any.push((index, &route.path));
            }
            for host in &route.hosts {
                let (hosts, name) = match host {
                    HostPattern::Exact(name) => (&mut exact, name),
                    HostPattern::Suffix(suffix_of) => (&mut suffix, suffix_of),
                };
                hosts.entry(name.as_str()).or_insert_with(Vec::new).push((index, &route.path));
            }
        }
        let complete = |hosts: HashMap<&str, Vec<(Index, &PathMatch)>>| {
            hosts.into_iter().map(|(name, routes)| (name.into(), Paths::new(routes))).collect()
        };
        Self { exact: complete(exact), suffix: complete(suffix), any: Paths::new(any) }
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
    /// Of routes in file order.
    fn new(mut routes: Vec<(Index, &PathMatch)>) -> Self {
        // A route may name a host twice.
        routes.dedup_by_key(|(index, _)| *index);
        let mut exact = HashMap::<Box<str>, Vec<Index>>::new();
        let mut prefixes = BTreeMap::<&str, Vec<Index>>::new();
        let mut others = Vec::new();
        for (index, path) in routes {
            match path {
                PathMatch::Any | PathMatch::Regex(_) => others.push(index),
                PathMatch::Exact(path) => exact.entry(path.as_str().into()).or_default().push(index),
                PathMatch::Prefix(text) => prefixes.entry(text).or_default().push(index),
            }
        }
        Self {
            exact: (!exact.is_empty()).then(|| Box::new(exact)),
            prefixes: linked(&prefixes),
            texts: prefixes.keys().flat_map(|text| text.bytes()).collect(),
            routes: prefixes.values().flatten().copied().collect(),
            others: others.into(),
        }
    }

    /// The first route in file order whose path matches and whose conditions hold.
    fn first(&self, path: &str, hold: impl Fn(Index) -> bool) -> Option<Index> {
        let mut best = None;
        let exact = self.exact.as_ref().and_then(|exact| exact.get(path)).map(Vec::as_slice).into_iter();
        for list in exact.chain(self.prefixes_of(path)).chain([&*self.others]) {
            // Only what stands before the best so far can still win.
            let earlier = list.iter().take_while(|&&route| best.is_none_or(|best| route < best));
            best = earlier.copied().find(|&route| hold(route)).or(best);
        }
        best
    }

    /// The lists of all prefixes that a path starts with.
    fn prefixes_of(&self, path: &str) -> impl Iterator<Item = &[Index]> {
        let path = path.as_bytes();
        let text = |prefix: &Prefix| &self.texts[prefix.text.start as usize..prefix.text.end as usize];
        let last = self.prefixes.partition_point(|prefix| text(prefix) <= path).checked_sub(1);
        let last = last.map(|at| &self.prefixes[at]);
        let chain = std::iter::successors(last, |prefix| prefix.parent.map(|parent| &self.prefixes[parent as usize]));
        let matching = chain.filter(move |prefix| path.starts_with(text(prefix)));
        matching.map(|prefix| &self.routes[prefix.routes.start as usize..prefix.routes.end as usize])
    }
}

/// Prefixes in the order of their texts, each linked to the longest that it starts with.
fn linked(sorted: &BTreeMap<&str, Vec<Index>>) -> Box<[Prefix]> {
    let texts: Vec<&str> = sorted.keys().copied().collect();
    let mut prefixes = Vec::<Prefix>::with_capacity(texts.len());
    let (mut text_start, mut routes_start) = (0, 0);
    for (at, (text, routes)) in (0..).zip(sorted) {
        // What a text starts with sorts before it, and is the text before it or one of that one's parents.
        let mut parent = u32::checked_sub(at, 1);
        while let Some(candidate) = parent
            && !text.starts_with(texts[candidate as usize])
        {
            parent = prefixes[candidate as usize].parent;
        }
        let (text_end, routes_end) = (text_start + text.len() as u32, routes_start + routes.len() as u32);
        prefixes.push(Prefix { text: text_start..text_end, routes: routes_start..routes_end, parent });
        (text_start, routes_start) = (text_end, routes_end);
    }
    prefixes.into()
}

impl Conditions {
    /// None where a route asks for nothing but host and path.
    fn new(route: &config::Route) -> Option<Box<Self>> {
        let path_regex = match &route.path {
            PathMatch::Regex(regex) => Some(regex.clone()),
            PathMatch::Any | PathMatch::Exact(_) | PathMatch::Prefix(_) => None,
        };
        let config::Route { methods, headers, cookies, query, .. } = route;
        let nothing = methods.is_empty() && headers.is_empty() && cookies.is_empty() && query.is_empty();
        (path_regex.is_some() || !nothing).then(|| {
            Box::new(Self {
                path_regex,
                methods: methods.clone(),
                headers: headers.clone(),
                cookies: cookies.clone(),
                query: query.clone(),
            })
        })
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

/// The cluster that a connection goes to whose client asks for `name`, if for any.
pub fn cluster_for<'a>(to: &'a Tcp, name: Option<&str>) -> Option<&'a str> {
    let is_for = |host: &HostPattern, name: &str| match host {
        HostPattern::Exact(exact) => exact.eq_ignore_ascii_case(name),
        HostPattern::Suffix(suffix) => {
            name.len() > suffix.len()
                && name.is_char_boundary(name.len() - suffix.len())
                && name[name.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
        }
    };
    let named = name.and_then(|name| to.sni.iter().find(|route| route.hosts.iter().any(|host| is_for(host, name))));
    named.map(|route| route.cluster.as_str()).or(to.cluster.as_deref())
}
