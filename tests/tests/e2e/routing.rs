//! The route table, splits and affinity, natively, through the proxy.

use std::collections::BTreeMap;

use witgate_tests::{client, origin::Origin, proxy};

#[test]
fn the_most_specific_route_wins_and_no_route_is_404() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let running = proxy::start(&format!(
        r#"
[[listener]]
name = "web"
listen = "127.0.0.1:0"
[[route]]
name = "fallback"
path_prefix = "/any/"
cluster = "b"
[[route]]
name = "wild"
hosts = ["*.example.com"]
cluster = "b"
[[route]]
name = "exact"
hosts = ["api.example.com"]
path_prefix = "/v1/"
cluster = "a"
[[route]]
name = "beta"
hosts = ["beta.test"]
headers = {{ x-beta = "1", x-user = {{ regex = "^t-" }}, x-debug = {{ present = false }} }}
cookies = {{ group = "b" }}
query = {{ q = "a b" }}
methods = ["GET"]
cluster = "a"
[[route]]
name = "closed"
hosts = ["closed.test"]
respond = {{ status = 403, body = "no" }}
[[route]]
name = "moved"
hosts = ["moved.test"]
redirect = {{ status = 308, location = "https://new.test/" }}
[[cluster]]
name = "a"
endpoints = [{{ address = "{}" }}]
[[cluster]]
name = "b"
endpoints = [{{ address = "{}" }}]
"#,
        a.address, b.address
    ));
    let beta = "x-beta: 1\r\nx-user: t-1\r\ncookie: x=1; group=b\r\n";
    let cases: [(&str, &str, &str, u16, &str); 11] = [
        ("/v1/x", "api.example.com", "", 200, "a"),
        ("/v1/x", "API.Example.Com:8080", "", 200, "a"),
        ("/v2/x", "api.example.com", "", 200, "b"),
        ("/v1/x", "other.example.com", "", 200, "b"),
        ("/any/x", "nobody.test", "", 200, "b"),
        ("/nothing", "nobody.test", "", 404, "no-route"),
        ("/?q=a+b", "beta.test", beta, 200, "a"),
        ("/?q=a%20b", "beta.test", "x-debug: 1\r\nx-beta: 1\r\nx-user: t-1\r\ncookie: group=b\r\n", 404, "no-route"),
        ("/?q=other", "beta.test", beta, 404, "no-route"),
        ("/", "closed.test", "", 403, "no"),
        ("/", "moved.test", "", 308, ""),
    ];
    for (path, host, headers, status, body) in cases {
        let response =
            client::Client::connect(running.web()).ask(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n"));
        assert_eq!(response.status, status, "{path} at {host}: {response:?}");
        match status {
            404 => assert_eq!(response.header("x-witgate-error"), Some(body), "{path} at {host}: {response:?}"),
            308 => assert_eq!(response.header("location"), Some("https://new.test/")),
            _ => assert_eq!(response.body, body, "{path} at {host}: {response:?}"),
        }
    }
}

fn split(by: &str, affinity: &str, origins: &[Origin]) -> proxy::Running {
    let endpoints: Vec<String> = origins[2..].iter().map(|o| format!("{{ address = \"{}\" }}", o.address)).collect();
    proxy::start(&format!(
        r#"
[[listener]]
name = "web"
listen = "127.0.0.1:0"
[[route]]
name = "split"
path_prefix = "/split"
split = [{{ cluster = "stable", weight = 90 }}, {{ cluster = "canary", weight = 10 }}]
{by}
[[route]]
name = "sticky"
path_prefix = "/sticky"
cluster = "many"
{affinity}
[[cluster]]
name = "stable"
endpoints = [{{ address = "{}" }}]
[[cluster]]
name = "canary"
endpoints = [{{ address = "{}" }}]
[[cluster]]
name = "many"
endpoints = [{}]
"#,
        origins[0].address,
        origins[1].address,
        endpoints.join(", ")
    ))
}

fn origins() -> Vec<Origin> {
    ["stable", "canary", "e1", "e2", "e3", "e4"].into_iter().map(Origin::named).collect()
}

#[test]
fn a_split_by_cookie_keeps_its_shares_and_every_user() {
    let origins = origins();
    let running = split("split_by = [{ cookie = \"uid\" }]", "", &origins);
    let mut client = running.client();
    let mut first = BTreeMap::new();
    for user in 0..2000 {
        first.insert(user, client.get("/split", &format!("cookie: uid=u{user}\r\n")).body);
    }
    let canary = first.values().filter(|body| *body == "canary").count();
    assert!((160..=240).contains(&canary), "{canary} of 2000 for 10 %");
    for (user, body) in first {
        assert_eq!(client.get("/split", &format!("cookie: uid=u{user}\r\n")).body, body, "user {user} moved");
    }
}

#[test]
fn affinity_by_header_and_by_cookie_keeps_the_endpoint() {
    let origins = origins();
    let running = split("", "affinity = { by = [{ header = \"x-session\" }] }", &origins);
    let mut used = BTreeMap::<String, usize>::new();
    for session in 0..64 {
        let header = format!("x-session: s{session}\r\n");
        let first = client::get(running.web(), "/sticky", &header).body;
        for _ in 0..3 {
            assert_eq!(client::get(running.web(), "/sticky", &header).body, first, "session {session} moved");
        }
        *used.entry(first).or_default() += 1;
    }
    assert_eq!(used.len(), 4, "{used:?}");

    let running = split("", "affinity = { cookie = { name = \"wg\", ttl = \"1h\" } }", &origins);
    for _ in 0..16 {
        let first = client::get(running.web(), "/sticky", "");
        let cookie = first.header("set-cookie").unwrap_or_else(|| panic!("no cookie: {first:?}")).to_owned();
        let pair = cookie.split(';').next().unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("Max-Age=3600"), "{cookie}");
        for _ in 0..3 {
            let again = client::get(running.web(), "/sticky", &format!("cookie: {pair}\r\n"));
            assert_eq!(again.body, first.body);
            assert_eq!(again.header("set-cookie"), None, "the cookie is not issued again: {again:?}");
        }
        let forged = format!("cookie: {}x\r\n", pair);
        assert!(
            client::get(running.web(), "/sticky", &forged).header("set-cookie").is_some(),
            "a forged cookie counts for nothing"
        );
    }
}

#[test]
fn a_cluster_without_endpoints_answers_503() {
    let running = proxy::start(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n[[route]]\nname = \"r\"\ncluster = \"c\"\n[[cluster]]\nname = \"c\"\nendpoints = []\n",
    );
    let response = running.client().get("/", "");
    assert_eq!(
        (response.status, response.header("x-witgate-error")),
        (503, Some("no-healthy-endpoint")),
        "{response:?}"
    );
}
