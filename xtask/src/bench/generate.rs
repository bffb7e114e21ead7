//! The long lists of the scale scenario, for Witgate, nginx and the origins alike. Route `r` is host `r / 10` with path
//! `r % 10`, which `scale.lua` asks for, and goes to cluster `r % 100`; endpoint `e` is of cluster `e / 10` and an address
//! of its own, on which the origins listen in turn.

use std::fmt::Write as _;

pub(super) const ROUTES: usize = 10_000;
const PATHS: usize = 10;
const CLUSTERS: usize = 100;
const ENDPOINTS: usize = 1_000;

/// What a template calls by `@GENERATE NAME@`; none where nothing is called so.
pub(super) fn list(name: &str) -> Option<String> {
    Some(match name {
        "witgate-routes" => each(0..ROUTES, |route| witgate_route(route, &cluster(route))),
        "witgate-routes-to-stable" => each(0..ROUTES, |route| witgate_route(route, "stable")),
        "witgate-clusters" => each(0..CLUSTERS, witgate_cluster),
        "nginx-servers" => each(0..ROUTES / PATHS, nginx_server),
        "nginx-upstreams" => each(0..CLUSTERS, nginx_upstream),
        "origin-1-listens" => each((0..ENDPOINTS).filter(|endpoint| endpoint % 2 == 0), origin_listen),
        "origin-2-listens" => each((0..ENDPOINTS).filter(|endpoint| endpoint % 2 == 1), origin_listen),
        _ => return None,
    })
}

/// What a request for a route names.
pub(super) fn host(route: usize) -> String {
    format!("h{}.example", route / PATHS)
}

/// Under which a route's paths are.
pub(super) fn prefix(route: usize) -> String {
    format!("/p{}/", route % PATHS)
}

fn each(numbers: impl Iterator<Item = usize>, one: impl Fn(usize) -> String) -> String {
    numbers.fold(String::new(), |mut text, number| {
        let _ = writeln!(text, "{}", one(number));
        text
    })
}

fn cluster(route: usize) -> String {
    format!("c{}", route % CLUSTERS)
}

fn address(endpoint: usize) -> String {
    format!("127.1.{}.{}:@ORIGIN{}@", endpoint / 250, endpoint % 250 + 1, endpoint % 2 + 1)
}

fn addresses(cluster: usize) -> impl Iterator<Item = String> {
    let size = ENDPOINTS / CLUSTERS;
    (cluster * size..(cluster + 1) * size).map(address)
}

fn witgate_route(route: usize, cluster: &str) -> String {
    let (host, prefix) = (host(route), prefix(route));
    format!(
        "[[route]]\nname = \"r{route}\"\nhosts = [\"{host}\"]\npath_prefix = \"{prefix}\"\ncluster = \"{cluster}\"\n"
    )
}

fn witgate_cluster(number: usize) -> String {
    let endpoints: Vec<String> = addresses(number).map(|address| format!("{{ address = \"{address}\" }}")).collect();
    format!(
        "[[cluster]]\nname = \"c{number}\"\nbalance = \"round-robin\"\nendpoints = [{}]\npool = {{ idle = 256 }}\n",
        endpoints.join(", ")
    )
}

fn nginx_server(host_number: usize) -> String {
    let routes = host_number * PATHS..(host_number + 1) * PATHS;
    let location = |route| format!("    location {} {{ proxy_pass http://{}; }}\n", prefix(route), cluster(route));
    let locations: String = routes.clone().map(location).collect();
    let name = host(routes.start);
    format!("  server {{\n    listen 127.0.0.1:@PROXY@;\n    server_name {name};\n{locations}  }}")
}

fn nginx_upstream(number: usize) -> String {
    let servers: String = addresses(number).map(|address| format!("server {address}; ")).collect();
    let keep = "keepalive 256; keepalive_requests 1000000000; keepalive_timeout 600s;";
    format!("  upstream c{number} {{ {servers}{keep} }}")
}

fn origin_listen(endpoint: usize) -> String {
    format!("    listen {};", address(endpoint))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn as_many_as_told() {
        let count = |list_name: &str, word: &str| list(list_name).unwrap().matches(word).count();
        assert_eq!(count("witgate-routes", "[[route]]"), ROUTES);
        assert_eq!(count("witgate-routes-to-stable", "cluster = \"stable\""), ROUTES);
        assert_eq!(count("witgate-clusters", "address ="), ENDPOINTS);
        assert_eq!(count("nginx-servers", "location "), ROUTES);
        assert_eq!(count("nginx-upstreams", "server "), ENDPOINTS);
        assert_eq!(count("origin-1-listens", "listen ") + count("origin-2-listens", "listen "), ENDPOINTS);
        assert_eq!(list("nothing"), None);
    }

    #[test]
    fn endpoints_are_apart_and_heard() {
        let all: BTreeSet<String> = (0..ENDPOINTS).map(address).collect();
        assert_eq!(all.len(), ENDPOINTS);
        let heard = list("origin-1-listens").unwrap() + &list("origin-2-listens").unwrap();
        assert!(addresses(99).all(|address| heard.contains(&format!("listen {address};"))));
    }

    #[test]
    fn lists_are_what_programs_read() {
        let text = list("witgate-routes").unwrap() + &list("witgate-clusters").unwrap();
        let table: toml::Table = text.parse().unwrap();
        let route = &table["route"][1234];
        assert_eq!(route["hosts"][0].as_str(), Some("h123.example"));
        assert_eq!((route["path_prefix"].as_str(), route["cluster"].as_str()), (Some("/p4/"), Some("c34")));
        assert!(nginx_server(123).contains("server_name h123.example;\n    location /p0/ { proxy_pass http://c30; }"));
    }
}
