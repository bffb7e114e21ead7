//! What an operator relies on: the first matching rule decides, and no client can name its own tenant.

use tenant::Tenant;
use witgate_sdk::Decision;
use witgate_sdk::testing::{Harness, Request, Value, json};

fn config() -> Value {
    json!({ "header": "x-tenant", "rules": [
        { "path_prefix": "/internal/", "deny": "not from outside" },
        { "host": "old.example.com", "redirect": "https://new.example.com{path}" },
        { "host": "moved.example.com", "path_prefix": "/a", "redirect": "/b" },
        { "host": "Acme.example.com", "cluster": "acme-cluster", "tenant": "acme" },
        { "host": "*.beta.example.com", "cluster": "beta" },
        { "header": "x-api-tenant", "clusters": { "acme": "acme-cluster", "globex": "globex-cluster" } },
        { "cookie": "preview", "equals": "on", "cluster": "preview" },
        { "query": "debug", "cluster": "debug" },
        { "path_prefix": "/globex/", "cluster": "globex-cluster", "tenant": "globex" },
    ] })
}

#[test]
fn the_first_rule_that_matches_decides() {
    let to = |cluster: &str, tenant: &str| Decision::cluster(cluster).set_header("x-tenant", tenant);
    let nobody = || Decision::pass().remove_header("x-tenant");
    let get = Request::get;
    check(&get("/"), nobody());
    check(&get("/").header("x-tenant", "acme"), nobody());
    check(&get("/").host("acme.example.com"), to("acme-cluster", "acme"));
    check(&get("/").host("acme.example.com").header("x-tenant", "globex"), to("acme-cluster", "acme"));
    check(&get("/").host("a.b.beta.example.com"), to("beta", "beta"));
    check(&get("/").host("beta.example.com"), nobody());
    check(&get("/").header("X-Api-Tenant", "globex"), to("globex-cluster", "globex"));
    check(&get("/").header("x-api-tenant", "unknown"), nobody());
    check(&get("/globex/").header("x-api-tenant", "unknown"), to("globex-cluster", "globex"));
    check(&get("/globex/").header("x-api-tenant", "acme"), to("acme-cluster", "acme"));
    check(&get("/").cookie("preview", "on"), to("preview", "preview"));
    check(&get("/").cookie("preview", "off"), nobody());
    check(&get("/?debug"), to("debug", "debug"));
    check(&get("/internal/x").host("acme.example.com"), Decision::respond(403, "not from outside"));
}

#[test]
fn redirects_keep_path_and_query_and_stay_on_the_operators_host() {
    let old = |target: &str| Request::get(target).host("old.example.com");
    let new = |path: &str| Decision::redirect(308, format!("https://new.example.com{path}"));
    check(&old("/a/b?c=d"), new("/a/b?c=d"));
    check(&old("//evil.example"), new("//evil.example"));
    check(&Request::new("OPTIONS", "*").host("old.example.com"), new("/"));
    check(&old("@evil.example"), new("/"));
    check(&Request::get("/a").host("moved.example.com"), Decision::redirect(308, "/b"));
}

fn check(request: &Request, expected: Decision) {
    let mut plugin = Harness::<Tenant>::new(config()).expect("accepted");
    assert_eq!(plugin.route(request), expected, "{request:?}");
    assert_eq!(plugin.host_calls(), 0, "{request:?} was read beyond {:?}", plugin.declared());
}

#[test]
fn without_a_header_to_set_none_is_touched() {
    let mut plugin = Harness::<Tenant>::new(json!({ "rules": [{ "path_prefix": "/a", "cluster": "a" }] })).unwrap();
    assert_eq!(plugin.route(&Request::get("/a")), Decision::cluster("a"));
    assert_eq!(plugin.route(&Request::get("/b")), Decision::pass());
}

#[test]
fn mistakes_are_named() {
    for (config, expected) in [
        (json!({ "header": "x tenant" }), "header: must name a request header"),
        (json!({ "header": "Host" }), "header: must name a request header"),
        (json!({ "rules": [{ "host": "*example.com", "deny": "" }] }), "rules[0].host: a wildcard is"),
        (json!({ "rules": [{ "cluster": "é" }] }), "rules[0].tenant: must be printable"),
        (json!({ "rules": [{ "deny": "x".repeat(65_537) }] }), "rules[0].deny: at most 64 KiB"),
        (json!({ "rules": [{ "hots": "a" }] }), "rules[0].hots: unknown field `hots`, expected one of"),
        (json!({ "rules": [{ "host": "a" }] }), "rules[0].cluster: say exactly one of"),
        (json!({ "rules": [{ "cluster": "a", "deny": "b" }] }), "rules[0].cluster: say exactly one of"),
        (json!({ "rules": [{ "deny": "a" }, { "clusters": {} }] }), "rules[1].clusters: needs the header"),
        (json!({ "rules": [{ "equals": "a", "deny": "b" }] }), "rules[0].equals: needs the header"),
        (json!({ "rules": [{ "header": "a", "equals": "a", "clusters": {} }] }), "rules[0].equals: has no use"),
        (json!({ "rules": [{ "header": "a", "cookie": "b", "deny": "c" }] }), "rules[0].header: name one of"),
        (json!({ "rules": [{ "deny": "a", "tenant": "b" }] }), "rules[0].tenant: goes with cluster only"),
        (json!({ "rules": [{ "cluster": "a", "tenant": "b\r\nc" }] }), "rules[0].tenant: must be printable"),
        (json!({ "rules": [{ "header": "a", "clusters": { "é": "b" } }] }), "rules[0].clusters: \"é\" must be"),
        (json!({ "rules": [{ "redirect": "/{path}" }] }), "rules[0].redirect: must be an http(s) URL"),
        (json!({ "rules": [{ "redirect": "https://{path}" }] }), "rules[0].redirect: must be an http(s) URL"),
        (json!({ "rules": [{ "redirect": "https://a.example{path}" }, {}] }), "rules[1].cluster: say exactly one of"),
    ] {
        let error = Harness::<Tenant>::new(config.clone()).err().unwrap_or_default();
        assert!(error.starts_with(expected), "{config} gave {error:?}, expected {expected:?}");
    }
}
