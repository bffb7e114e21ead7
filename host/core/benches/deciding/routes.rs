//! Finding a request's route among few and many.

use http::{HeaderName, HeaderValue};
use witgate_core::{
    config::{
        Action, Config, HeaderRules, HostPattern, Listener, ListenerLimits, PathMatch, ProxyProtocol, Route,
        RoutePlugins, Service, ValueMatch,
    },
    request::Head,
    routing::RouteTable,
};

use crate::{
    inputs::{REQUESTS, browser, cycle},
    operation::{Operation, ROUNDS},
};

/// Routes that have no path are tried in order: of many of them, fewer rounds take long enough.
const FEW_ROUNDS: usize = 64;

pub(crate) fn operations() -> Vec<Operation> {
    let sizes = [1, 100, 10_000];
    let by_host = sizes.map(|count| find("exact host", count, ROUNDS, by_host, to_host));
    let by_wildcard = sizes.map(|count| find("wildcard host", count, ROUNDS, by_wildcard, below_host));
    let by_prefix = sizes.map(|count| find("path prefix", count, ROUNDS, by_prefix, to_path));
    let by_header = sizes.map(|count| {
        let rounds = if count > 1000 { FEW_ROUNDS } else { ROUNDS };
        find("header", count, rounds, by_header, with_tenant)
    });
    by_host.into_iter().chain(by_wildcard).chain(by_prefix).chain(by_header).collect()
}

/// Looks requests up in a table of `count` routes; both are made from the number of a route.
fn find(
    by: &'static str,
    count: usize,
    rounds: usize,
    route: fn(usize) -> Route,
    request: fn(usize) -> Head,
) -> Operation {
    Operation::new(format!("route by {by}, {count}"), rounds, move || {
        let listener = Listener {
            name: "web".to_owned(),
            listen: ([127, 0, 0, 1], 0).into(),
            service: Service::default(),
            proxy_protocol: ProxyProtocol::default(),
            tls: None,
            trusted_proxies: vec![],
            limits: ListenerLimits::default(),
        };
        let routes = (0..count).map(route).collect();
        let table = RouteTable::new(&Config { routes, listeners: vec![listener], ..Config::default() });
        // Spread over all routes.
        let requests = REQUESTS.min(rounds);
        let heads: Vec<Head> = (0..requests).map(|n| request((2 * n + 1) * count / (2 * requests))).collect();
        assert!(heads.iter().all(|head| table.find(0, head).is_some()), "every request has a route by {by}");
        (cycle(requests), move |n: usize| table.find(0, &heads[n]))
    })
}

fn by_host(n: usize) -> Route {
    Route { hosts: vec![HostPattern::Exact(format!("tenant-{n}.example.com"))], ..any() }
}

fn to_host(n: usize) -> Head {
    browser(&format!("tenant-{n}.example.com"), "/catalogue/shoes?page=2", n)
}

fn by_wildcard(n: usize) -> Route {
    Route { hosts: vec![HostPattern::Suffix(format!(".tenant-{n}.example.com"))], ..any() }
}

/// Two labels below the wildcard, so that it is the second look-up that finds it.
fn below_host(n: usize) -> Head {
    browser(&format!("img.eu.tenant-{n}.example.com"), "/catalogue/shoes?page=2", n)
}

fn by_prefix(n: usize) -> Route {
    Route { path: PathMatch::Prefix(format!("/service-{n}/v1/")), ..any() }
}

fn to_path(n: usize) -> Head {
    browser("www.example.com", &format!("/service-{n}/v1/items/42?page=2"), n)
}

const TENANT: HeaderName = HeaderName::from_static("x-tenant");

fn by_header(n: usize) -> Route {
    Route { headers: vec![(TENANT, ValueMatch::Exact(format!("tenant-{n}")))], ..any() }
}

fn with_tenant(n: usize) -> Head {
    let mut head = browser("www.example.com", "/catalogue/shoes?page=2", n);
    head.headers.insert(TENANT, HeaderValue::from_str(&format!("tenant-{n}")).expect("a header"));
    head
}

fn any() -> Route {
    Route {
        name: String::new(),
        listeners: None,
        hosts: vec![],
        path: PathMatch::Any,
        methods: vec![],
        headers: vec![],
        cookies: vec![],
        query: vec![],
        action: Action::Cluster("web".to_owned()),
        affinity: None,
        plugins: RoutePlugins::default(),
        timeout: None,
        retry: None,
        rate_limit: None,
        rewrite: None,
        request_headers: HeaderRules::default(),
        response_headers: HeaderRules::default(),
        mirror: None,
        upgrade: Vec::new(),
    }
}
