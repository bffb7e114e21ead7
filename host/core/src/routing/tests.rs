use http::{HeaderName, Method, StatusCode};

use super::*;
use crate::{
    config::{Action, HeaderRules, Listener, ListenerLimits, ProxyProtocol, Route, RoutePlugins, Service},
    seeded::XorShift,
};

fn regex(text: &str) -> regex::Regex {
    regex::Regex::new(text).unwrap()
}

fn route(hosts: &[&str], path: PathMatch) -> Route {
    let host = |h: &&str| match h.strip_prefix('*') {
        Some(suffix) => HostPattern::Suffix(suffix.into()),
        None => HostPattern::Exact((*h).into()),
    };
    Route {
        name: String::new(),
        listeners: None,
        hosts: hosts.iter().map(host).collect(),
        path,
        methods: vec![],
        headers: vec![],
        cookies: vec![],
        query: vec![],
        action: Action::Respond { status: StatusCode::OK, body: String::new() },
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

fn any(hosts: &[&str]) -> Route {
    route(hosts, PathMatch::Any)
}

fn exact(path: &str) -> Route {
    route(&[], PathMatch::Exact(path.into()))
}

fn prefix(path: &str) -> Route {
    route(&[], PathMatch::Prefix(path.into()))
}

fn config(routes: Vec<Route>) -> Config {
    let listener = |name: &str| Listener {
        name: name.into(),
        listen: ([127, 0, 0, 1], 0).into(),
        trusted_proxies: vec![],
        service: Service::default(),
        proxy_protocol: ProxyProtocol::default(),
        tls: None,
        limits: ListenerLimits::default(),
    };
    Config { routes, listeners: vec![listener("web"), listener("internal")], ..Config::default() }
}

fn head(host: &str, uri: &str, headers: &[(&str, &str)]) -> Head {
    let mut head = Head { uri: uri.parse().unwrap(), ..Head::default() };
    for (name, value) in [("host", host)].iter().chain(headers) {
        head.headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    head
}

/// `requests` are (host, uri, headers, index of the route).
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], Option<usize>);

#[track_caller]
fn check(routes: Vec<Route>, requests: &[Case<'_>]) {
    let table = RouteTable::new(&config(routes));
    for &(host, uri, headers, want) in requests {
        let found = table.find(0, &head(host, uri, headers));
        assert_eq!(found, want, "{host} {uri} {headers:?}");
    }
}

#[test]
fn the_most_specific_host_goes_first() {
    check(
        vec![
            any(&[]),
            any(&["*.example.com"]),
            any(&["*.api.example.com"]),
            any(&["v1.api.example.com", "other.org"]),
            any(&["[::1]"]),
        ],
        &[
            ("v1.api.example.com", "/", &[], Some(3)),
            ("V1.API.Example.com:8080", "/", &[], Some(3)),
            ("other.org.", "/", &[], Some(3)),
            ("v2.api.example.com", "/", &[], Some(2)),
            ("a.b.api.example.com", "/", &[], Some(2)),
            ("api.example.com", "/", &[], Some(1)),
            ("example.com", "/", &[], Some(0)),
            (".example.com", "/", &[], Some(0)),
            ("badexample.com", "/", &[], Some(0)),
            ("", "/", &[], Some(0)),
            ("x.other.org", "/", &[], Some(0)),
            ("[::1]:80", "/", &[], Some(4)),
            ("ignored.org", "http://v1.api.example.com/", &[], Some(3)),
        ],
    );
}

#[test]
fn a_host_without_a_matching_route_goes_on_to_the_next() {
    let at = |host: &str, path: &str| route(&[host], PathMatch::Prefix(path.into()));
    check(
        vec![at("a.example.com", "/one"), at("*.example.com", "/two"), prefix("/three")],
        &[
            ("a.example.com", "/one", &[], Some(0)),
            ("a.example.com", "/two", &[], Some(1)),
            ("a.example.com", "/three", &[], Some(2)),
            ("a.example.com", "/four", &[], None),
        ],
    );
}

#[test]
fn within_a_host_file_order_decides() {
    check(
        vec![
            route(&[], PathMatch::Regex(regex("^/v[0-9]+/x$"))),
            prefix("/v1/"),
            exact("/v1/x"),
            exact("/v1"),
            prefix("/v"),
            prefix("/v2/deep/"),
            any(&[]),
            prefix("/late"),
        ],
        &[
            ("h", "/v1/x", &[], Some(0)),
            ("h", "/v1/x?q=1", &[], Some(0)),
            ("h", "/v1/y", &[], Some(1)),
            ("h", "/v1", &[], Some(3)),
            ("h", "/v2/deep/z", &[], Some(4)),
            ("h", "/V1/x", &[], Some(6)),
            ("h", "/late", &[], Some(6)),
            ("h", "/%76", &[], Some(6)),
        ],
    );
}

#[test]
fn every_condition_must_hold() {
    let name = |n: &str| n.parse::<HeaderName>().unwrap();
    let header = |n: &str, want| Route { headers: vec![(name(n), want)], ..any(&[]) };
    let cookie = |n: &str, want| Route { cookies: vec![(n.to_owned(), want)], ..any(&[]) };
    let query = |n: &str, want| Route { query: vec![(n.to_owned(), want)], ..any(&[]) };
    let both = Route {
        headers: vec![(name("x-a"), ValueMatch::Exact("1".into())), (name("x-b"), ValueMatch::Exact("2".into()))],
        ..any(&[])
    };
    check(
        vec![
            both,
            header("x-beta", ValueMatch::Exact("1".into())),
            header("x-user", ValueMatch::Regex(regex("^t-"))),
            header("x-debug", ValueMatch::Present(true)),
            cookie("c", ValueMatch::Exact("v".into())),
            cookie("r", ValueMatch::Regex(regex("x"))),
            query("q", ValueMatch::Exact("a b".into())),
            query("p", ValueMatch::Present(true)),
            header("x-needed", ValueMatch::Present(false)),
        ],
        &[
            ("h", "/", &[("x-a", "1"), ("x-b", "2")], Some(0)),
            ("h", "/", &[("x-a", "1"), ("x-beta", "1")], Some(1)),
            ("h", "/", &[("x-beta", "0"), ("x-beta", "1")], Some(1)),
            ("h", "/", &[("x-beta", "11")], Some(8)),
            ("h", "/", &[("x-user", "t-1")], Some(2)),
            ("h", "/", &[("x-user", "a t-1")], Some(8)),
            ("h", "/", &[("x-debug", "")], Some(3)),
            ("h", "/", &[("cookie", "c=v")], Some(4)),
            ("h", "/", &[("cookie", "r=axb")], Some(5)),
            ("h", "/?q=a%20b", &[], Some(6)),
            ("h", "/?q=a+b", &[], Some(6)),
            ("h", "/?p", &[], Some(7)),
            ("h", "/", &[("x-needed", "")], None),
        ],
    );
}

#[test]
fn methods_and_listeners() {
    let get = Route { methods: vec![Method::GET, Method::HEAD], ..any(&[]) };
    let internal = Route { listeners: Some(vec!["internal".into()]), ..any(&[]) };
    let table = RouteTable::new(&config(vec![get, internal, exact("/x")]));
    let post = Head { method: Method::POST, ..head("h", "/x", &[]) };
    for (listener, head, want) in
        [(0, head("h", "/", &[]), Some(0)), (0, post.clone(), Some(2)), (1, post, Some(1)), (9, Head::default(), None)]
    {
        assert_eq!(table.find(listener, &head), want, "listener {listener}, {} {}", head.method, head.uri);
    }
}

#[test]
fn a_long_host_is_no_host() {
    let routes = vec![any(&["*.b"]), any(&[])];
    check(routes, &[(&format!("{}b", "a.".repeat(40)), "/", &[], Some(0)), (&"a.".repeat(30_000), "/", &[], Some(1))]);
}

/// The index and a plain walk in file order agree on random tables.
#[test]
fn the_index_keeps_file_order() {
    let mut random = XorShift::new(12);
    for _ in 0..200 {
        let paths: Vec<String> = (0..30).map(|_| random_path(&mut random)).collect();
        let routes: Vec<Route> = paths
            .iter()
            .map(|path| {
                let route = match random.below(5) {
                    0 | 1 => exact(path),
                    2 | 3 => prefix(path),
                    _ => route(&[], PathMatch::Regex(regex(&format!("{path}$")))),
                };
                if random.below(3) == 0 { Route { methods: vec![Method::POST], ..route } } else { route }
            })
            .collect();
        let table = RouteTable::new(&config(routes.clone()));
        for _ in 0..60 {
            let path = random_path(&mut random);
            let want = routes.iter().position(|route| {
                route.methods.is_empty()
                    && match &route.path {
                        PathMatch::Any => true,
                        PathMatch::Exact(text) => path == *text,
                        PathMatch::Prefix(text) => path.starts_with(text),
                        PathMatch::Regex(regex) => regex.is_match(&path),
                    }
            });
            let all: Vec<_> = routes.iter().map(|r| (&r.path, &r.methods)).collect();
            assert_eq!(table.find(0, &head("h", &path, &[])), want, "{path} in {all:?}");
        }
    }
}

fn random_path(random: &mut XorShift) -> String {
    (0..1 + random.below(4)).map(|_| ["/a", "/b", "/ab", "/"][random.below(4)]).collect()
}

#[test]
fn ten_thousand_routes_on_a_host() {
    let mut routes: Vec<Route> = (0..10_000).map(|i| prefix(&format!("/tenant-{i:05}/"))).collect();
    routes.push(prefix("/"));
    let table = RouteTable::new(&config(routes));
    for i in 0..10_000 {
        let found = table.find(0, &head("h", &format!("/tenant-{i:05}/x"), &[]));
        assert_eq!(found, Some(i), "tenant {i}");
    }
    assert_eq!(table.find(0, &head("h", "/tenant-0/", &[])), Some(10_000));
}
