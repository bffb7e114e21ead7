//! Which route a request takes. Each line but the last is a route: `HOST path PATH`, `HOST prefix PATH`, with `-` for any host or
//! path. The last one is a request: `HOST TARGET`. The table finds what a reader finds that tries all of them.

use std::{fmt::Write, path::Path};

use http::{HeaderValue, header};
use witgate_core::{
    config::{self, HostPattern, PathMatch},
    request::Head,
    routing::RouteTable,
};

pub fn check(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let lines: Vec<&str> = text.lines().collect();
    let Some((request, routes)) = lines.split_last().filter(|(_, routes)| routes.len() <= 30) else { return false };
    let Some((host, target)) = request.split_once(' ') else { return false };
    let (Ok(host), Ok(uri)) = (HeaderValue::from_str(host), target.parse()) else { return false };
    let Ok(parsed) = config::parse(&configuration(routes), "fuzz.toml", Path::new("/")) else { return false };
    let mut head = Head { uri, ..Head::default() };
    head.headers.insert(header::HOST, host);
    let table = RouteTable::new(&parsed.config);
    assert_eq!(table.find(0, &head), simple(&parsed.config, &head), "{text}");
    true
}

fn configuration(routes: &[&str]) -> String {
    let mut text = "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n".to_owned();
    for (n, route) in routes.iter().enumerate() {
        let mut words = route.splitn(3, ' ');
        let [host, kind, path] = [(); 3].map(|()| words.next().unwrap_or("-"));
        let mut key = |key: &str, value: &str| {
            if value != "-" {
                let _ = writeln!(text, "{key} = {}", toml::Value::from(value));
            }
        };
        key("[[route]]\nname", &format!("r{n}"));
        if kind == "prefix" {
            key("path_prefix", path)
        } else {
            key("path", path)
        }
        if host != "-" {
            let _ = writeln!(text, "hosts = [{}]", toml::Value::from(host));
        }
        text.push_str("respond = { status = 200 }\n");
    }
    text
}

/// The most specific host goes first, then the order of the file.
fn simple(config: &config::Config, head: &Head) -> Option<usize> {
    let host = head.host().to_ascii_lowercase();
    let rank = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(name) => (*name == host).then_some(usize::MAX),
        HostPattern::Suffix(suffix) => {
            let is_below = host.len() > suffix.len() && host.ends_with(suffix.as_str());
            is_below.then_some(suffix.len())
        }
    };
    let routes = config.routes.iter().enumerate().filter_map(|(index, route)| {
        let path = match &route.path {
            PathMatch::Any => true,
            PathMatch::Exact(path) => head.path() == path,
            PathMatch::Prefix(path) => head.path().starts_with(path.as_str()),
            PathMatch::Regex(regex) => regex.is_match(head.path()),
        };
        let host = if route.hosts.is_empty() { Some(0) } else { route.hosts.iter().filter_map(rank).max() };
        host.filter(|_| path).map(|rank| (std::cmp::Reverse(rank), index))
    });
    routes.min().map(|(_, index)| index)
}
