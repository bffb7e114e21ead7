//! What a route changes on the way: path and host, and headers both ways, as the origin and the client saw them.

use witgate_tests::{
    client::Response,
    h2,
    origin::{Origin, Seen, respond},
    proxy::{Running, start, start_before},
    wait_for,
};

/// Answers with headers that rules are about.
fn origin() -> Origin {
    let headers = [("x-gone", "1"), ("x-gone", "2"), ("x-set", "0"), ("x-add", "0"), ("server", "origin")];
    Origin::scripted(move |_, stream| respond(stream, 200, &headers, b"ok"))
}

/// What the origin saw of this request, and what the client got.
#[track_caller]
fn ask(running: &Running, origin: &Origin, request: &str) -> (Seen, Response) {
    let response = running.client().ask(request);
    assert_eq!(response.status, 200, "{request:?}: {response:?}");
    (origin.seen().pop().expect("a request"), response)
}

#[test]
fn what_was_matched_of_the_path_is_replaced() {
    let origin = origin();
    for (route, by, target, want) in [
        ("path_prefix = \"/api/\"", "/", "/api/x?q=1", "/x?q=1"),
        ("path_prefix = \"/api\"", "/", "/api/x", "/x"),
        ("path_prefix = \"/api\"", "/", "/api", "/"),
        ("path_prefix = \"/api\"", "/v2", "/api/%2F/y/?", "/v2/%2F/y/?"),
        ("path_prefix = \"/api/\"", "/v2/", "http://other.test/api/x", "/v2/x"),
        ("path = \"/old\"", "/new/place", "/old?q=/old", "/new/place?q=/old"),
    ] {
        let running = start_before(&[&origin], &format!("{route}\nrewrite = {{ path_prefix = \"{by}\" }}"), "");
        let (seen, _) = ask(&running, &origin, &format!("GET {target} HTTP/1.1\r\nhost: a.test\r\n\r\n"));
        assert_eq!(seen.line, format!("GET {want} HTTP/1.1"), "{target} by {route} and {by:?}");
    }
    let long = format!("path_prefix = \"/a\"\nrewrite = {{ path_prefix = \"/{}\" }}", "b".repeat(40_000));
    let running = start_before(&[&origin], &long, "");
    let response = running.client().get(&format!("/a{}", "c".repeat(30_000)), "");
    assert_eq!((response.status, response.header("x-witgate-error")), (414, Some("uri-too-long")), "{response:?}");
}

#[test]
fn the_host_is_replaced_and_the_clients_is_told_beside_it() {
    let origin = origin();
    let running = start_before(&[&origin], "rewrite = { host = \"inner.test:81\" }", "");
    for request in [
        "GET /x HTTP/1.1\r\nhost: outer.test\r\n\r\n",
        "GET http://outer.test/x HTTP/1.1\r\nhost: other.test\r\n\r\n",
        "GET /x HTTP/1.0\r\nhost: outer.test\r\n\r\n",
    ] {
        let (seen, _) = ask(&running, &origin, request);
        assert_eq!(seen.line, "GET /x HTTP/1.1", "{request:?}");
        assert_eq!(seen.all("host"), ["inner.test:81"], "{request:?}");
        assert_eq!(seen.all("x-forwarded-host"), ["outer.test"], "{request:?}");
    }
}

#[test]
fn over_http2_it_is_the_same() {
    let origin = origin();
    let rules = "path_prefix = \"/api\"\nrewrite = { path_prefix = \"/\", host = \"inner.test\" }";
    let running = start_before(&[&origin], rules, "");
    let mut client = running.client();
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "outer.test"), (":path", "/api/x?q")];
    client.send(h2::hello()).unwrap();
    client.send(h2::headers(1, &fields, true)).unwrap();
    let seen = wait_for("a request at the origin", || origin.seen().pop());
    assert_eq!(seen.line, "GET /x?q HTTP/1.1");
    assert_eq!((seen.all("host"), seen.all("x-forwarded-host")), (vec!["inner.test"], vec!["outer.test"]));
}

#[test]
fn headers_are_removed_set_and_added_both_ways() {
    let origin = origin();
    let rules = "{ remove = [\"x-gone\", \"x-request-id\"], set = { x-set = \"1\", server = \"wg\", x-forwarded-proto = \"https\" }, \
                 add = { x-add = \"1\", x-set = \"2\" } }";
    let running = start_before(&[&origin], &format!("request_headers = {rules}\nresponse_headers = {rules}"), "");
    let came = "x-gone: 1\r\nX-Gone: 2\r\nx-set: 0\r\nx-add: 0\r\nx-same: 0\r\n";
    let (seen, response) = ask(&running, &origin, &format!("GET / HTTP/1.1\r\nhost: a.test\r\n{came}\r\n"));
    for (name, want) in [
        ("x-gone", &[][..]),
        ("x-request-id", &[]),
        ("x-set", &["1", "2"]),
        ("x-add", &["0", "1"]),
        ("x-same", &["0"]),
        ("x-forwarded-proto", &["https"]),
        ("host", &["a.test"]),
    ] {
        assert_eq!(seen.all(name), want, "{name}: {seen:?}");
    }
    let all = |name: &str| -> Vec<&str> {
        response.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    };
    for (name, want) in
        [("x-gone", &[][..]), ("x-set", &["1", "2"]), ("x-add", &["0", "1"]), ("server", &["wg"]), ("x-same", &[])]
    {
        assert_eq!(all(name), want, "{name}: {response:?}");
    }
}

#[test]
fn rules_are_for_responses_of_endpoints_and_of_the_route_not_for_errors() {
    let running = start(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"own\"\npath = \"/own\"\nrespond = { status = 200, body = \"{}\" }\n\
         response_headers = { set = { content-type = \"application/json\" }, add = { x-a = \"1\" } }\n\
         [[route]]\nname = \"moved\"\npath = \"/moved\"\nredirect = { location = \"/own\" }\n\
         response_headers = { set = { x-a = \"1\" } }\n\
         [[route]]\nname = \"none\"\ncluster = \"c\"\nresponse_headers = { set = { x-a = \"1\" }, remove = [\"x-witgate-error\"] }\n\
         [[cluster]]\nname = \"c\"\nendpoints = []\n",
    );
    let own = running.client().get("/own", "");
    assert_eq!((own.header("content-type"), own.header("x-a")), (Some("application/json"), Some("1")), "{own:?}");
    let moved = running.client().get("/moved", "");
    assert_eq!((moved.status, moved.header("x-a"), moved.header("location")), (308, Some("1"), Some("/own")));
    let none = running.client().get("/", "");
    assert_eq!((none.header("x-witgate-error"), none.header("x-a")), (Some("no-healthy-endpoint"), None), "{none:?}");
}

#[test]
fn a_cookie_of_the_proxys_own_is_not_what_rules_are_about() {
    let origin = Origin::scripted(|_, stream| respond(stream, 200, &[("set-cookie", "a=1")], b"ok"));
    let route = "affinity = { cookie = { name = \"wg\" } }\nresponse_headers = { remove = [\"set-cookie\"] }";
    let (_, response) = ask(&start_before(&[&origin], route, ""), &origin, "GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    let cookies: Vec<_> = response.headers.iter().filter(|(name, _)| name == "set-cookie").collect();
    assert!(cookies.len() == 1 && cookies[0].1.starts_with("wg="), "{cookies:?}");
}

/// Matching, splits and affinity are about what the client asked.
#[test]
fn what_decides_sees_the_request_as_it_came() {
    let origins = [Origin::named("a"), Origin::named("b")];
    let route = "path_prefix = \"/api\"\naffinity = { by = [{ header = \"x-user\" }] }\nrewrite = { path_prefix = \"/\" }\n\
                 request_headers = { set = { x-user = \"same\" } }";
    let running = start_before(&[&origins[0], &origins[1]], route, "");
    let bodies: Vec<String> =
        (0..32).map(|n| running.client().get("/api/x", &format!("x-user: u{n}\r\n")).body).collect();
    assert!(bodies.contains(&"a".to_owned()) && bodies.contains(&"b".to_owned()), "all went to one: {bodies:?}");
    let seen = origins[0].seen();
    assert!(seen.iter().all(|s| s.line == "GET /x HTTP/1.1" && s.all("x-user") == ["same"]), "{seen:?}");
}
