//! What an operator relies on: a client keeps its key, a new one gets a cookie, and nobody can break the answer.

use std::collections::HashSet;

use session::Session;
use witgate_sdk::testing::{Harness, Request, Value, json};
use witgate_sdk::{Cookie, SameSite};

fn session(config: Value) -> Harness<Session> {
    Harness::new(config.clone()).unwrap_or_else(|error| panic!("{config} was refused: {error}"))
}

#[test]
fn a_key_that_is_there_is_used_in_order_and_issues_nothing() {
    let by = || json!({ "by": [{ "header": "x-session" }, { "query": "sid" }] });
    let get = Request::get;
    check(json!({}), &get("/").cookie("wg-session", "c"), Some("c"));
    check(json!({ "cookie": { "name": "sid" } }), &get("/").cookie("sid", "c"), Some("c"));
    check(by(), &get("/").cookie("wg-session", "c"), Some("c"));
    check(by(), &get("/?sid=q").cookie("wg-session", "c"), Some("q"));
    check(by(), &get("/?sid=q").header("X-Session", "h").cookie("wg-session", "c"), Some("h"));
    check(by(), &get("/?sid=q").header("x-session", ""), Some("q"));
    check(by(), &get("/?sid=q").header("x-session", &"h".repeat(1025)), Some("q"));
    check(json!({ "issue": false }), &get("/").cookie("wg-session", "c"), Some("c"));
    check(json!({ "issue": false }), &get("/"), None);
}

fn check(config: Value, request: &Request, expected: Option<&str>) {
    let mut plugin = session(config.clone());
    let answer = plugin.stick(request);
    assert_eq!(answer.as_ref().map(|sticky| &*sticky.key), expected, "{config} asked about {request:?}");
    assert_eq!(answer.and_then(|sticky| sticky.set_cookie), None, "{config} asked about {request:?}");
    assert_eq!(plugin.host_calls(), 0, "{config} reads fields that it does not declare");
}

#[test]
fn a_new_client_gets_a_cookie_that_brings_it_back() {
    let mut plugin = session(json!({}));
    let first = plugin.stick(&Request::get("/")).expect("a session");
    let cookie = first.set_cookie.expect("a cookie");
    assert_eq!(cookie.value, first.key);
    let again = plugin.stick(&Request::get("/").cookie(&cookie.name, &cookie.value)).expect("the session");
    assert_eq!((again.key, again.set_cookie), (first.key, None));
}

#[test]
fn the_cookie_is_as_configured() {
    let issued = |config| session(config).stick(&Request::get("/")).unwrap().set_cookie.unwrap();
    let with_value = |cookie: &Cookie, expected: Cookie| assert_eq!(cookie, &expected);

    let plain = issued(json!({}));
    with_value(&plain, Cookie { path: Some("/".to_owned()), ..Cookie::new("wg-session", &*plain.value) });

    let full = issued(json!({
        "cookie": { "name": "sid", "ttl": "2h", "path": "/app", "secure": true, "same_site": "none" }
    }));
    with_value(
        &full,
        Cookie {
            max_age: Some(7_200),
            path: Some("/app".to_owned()),
            secure: true,
            same_site: Some(SameSite::None),
            ..Cookie::new("sid", &*full.value)
        },
    );
}

#[test]
fn keys_are_128_bits_in_hexadecimal_and_differ() {
    let mut plugin = session(json!({}));
    let mut seen = HashSet::new();
    for _ in 0..10_000 {
        let key = plugin.stick(&Request::get("/")).unwrap().key;
        assert!(key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
        assert!(seen.insert(key.clone()), "{key} was issued twice");
    }
}

#[test]
fn mistakes_are_named() {
    for (config, expected) in [
        (json!({ "cookie": { "name": "a b" } }), "cookie.name: is not a cookie name"),
        (json!({ "cookie": { "name": "" } }), "cookie.name: is not a cookie name"),
        (json!({ "cookie": { "path": "app" } }), "cookie.path: must begin with /"),
        (json!({ "cookie": { "path": "/;" } }), "cookie.path: must begin with /"),
        (json!({ "cookie": { "ttl": "1 hour" } }), "cookie.ttl: \"1 hour\" is not a duration such as"),
        (json!({ "cookie": { "ttl": "10ms" } }), "cookie.ttl: must be at least"),
        (json!({ "cookie": { "same_site": "none" } }), "cookie.same_site: \"none\" needs secure"),
        (json!({ "cookie": { "same_site": "Lax" } }), "cookie.same_site: unknown variant `Lax`"),
        (json!({ "cokie": {} }), "cokie: unknown field `cokie`, expected one of"),
    ] {
        let error = Harness::<Session>::new(config.clone()).err().unwrap_or_default();
        assert!(error.starts_with(expected), "{config} gave {error:?}, expected {expected:?}");
    }
}
