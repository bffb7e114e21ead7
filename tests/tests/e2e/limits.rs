//! Limits of rate and of connections: who is refused, how, and what a limit survives. Tokens come back once an hour, so that no
//! test waits for one.

use witgate_tests::{
    client::{Client, Response},
    origin::Origin,
    proxy::{Running, start, start_before},
    wait_for,
};

use crate::fixtures::Fixture;

/// Asks with these headers; whether it was let through. Whoever is not is told why, and when to come again.
#[track_caller]
fn passes(running: &Running, headers: &str) -> bool {
    let response = running.client().get("/", headers);
    if response.status == 200 {
        return true;
    }
    check_refused(&response, 1..=3600);
    false
}

#[track_caller]
fn check_refused(response: &Response, seconds: std::ops::RangeInclusive<u64>) {
    assert_eq!((response.status, response.header("x-witgate-error")), (429, Some("rate-limited")), "{response:?}");
    let wait = response.header("retry-after").and_then(|wait| wait.parse::<u64>().ok());
    assert!(wait.is_some_and(|wait| seconds.contains(&wait)), "{response:?}");
}

/// How many of `asked` requests with these headers pass.
#[track_caller]
fn passed(running: &Running, headers: &str, asked: usize) -> usize {
    (0..asked).filter(|_| passes(running, headers)).count()
}

#[test]
fn what_is_over_the_limit_is_refused_with_a_word_and_a_time() {
    let origin = Origin::named("a");
    let running = start_before(&[&origin], "rate_limit = { rate = 2, per = \"2h\", burst = 5 }", "");
    // Over connections of any worker.
    assert_eq!(passed(&running, "", 20), 5);
    assert_eq!(passed(&running, "x-other: client\r\n", 5), 0, "without `by` all are one");
    assert_eq!(origin.seen().len(), 5, "what is refused is not sent");
    check_refused(&running.client().get("/", ""), 3500..=3600);
    assert!(running.has_metric("witgate_errors_total{reason=\"rate-limited\"} 21"), "{}", metrics(&running));
    let line = "witgate_requests_total{route=\"all\",code_class=\"4xx\"} 21";
    assert!(running.has_metric(line), "{}", metrics(&running));
    // The connection is as good as before, and the body of what was refused is not taken for a request.
    let mut client = running.client();
    for _ in 0..2 {
        let post = "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\nhi";
        check_refused(&client.ask(post), 1..=3600);
    }
}

fn metrics(running: &Running) -> String {
    running.call("GET", "/metrics", b"").body
}

#[test]
fn each_key_has_a_bucket_of_its_own() {
    let origin = Origin::named("a");
    let by = "by = [{ header = \"x-user\" }, { cookie = \"uid\" }]";
    let running = start_before(&[&origin], &format!("rate_limit = {{ rate = 1, per = \"1h\", burst = 2, {by} }}"), "");
    for headers in ["x-user: a\r\n", "x-user: b\r\ncookie: uid=a\r\n", "cookie: uid=a\r\n", ""] {
        assert_eq!(passed(&running, headers, 4), 2, "{headers:?}");
    }
    assert_eq!(passed(&running, "x-user:\r\n", 2), 0, "who has none of the keys is one with the others who have not");

    let limit = "rate_limit = { rate = 1, per = \"1h\", by = [\"client-address\"] }";
    let running = start(&format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.1\"]\n[[route]]\nname = \"r\"\n\
         respond = {{ status = 200 }}\n{limit}\n"
    ));
    for (address, passes) in [
        ("192.0.2.1", 1),
        ("192.0.2.2", 1),
        ("192.0.2.1", 0),
        ("2001:db8::1", 1),
        ("2001:db8::2", 0),
        ("2001:db8:0:1::1", 1),
    ] {
        assert_eq!(passed(&running, &format!("x-forwarded-for: {address}\r\n"), 1), passes, "{address}");
    }
}

#[test]
fn a_limit_survives_what_is_published() {
    let origin = Origin::named("a");
    let route = "rate_limit = { rate = 1, per = \"1h\", burst = 3 }\nplugins = { router = \"p\" }";
    let running = start_before(&[&origin], route, "");
    assert_eq!(passed(&running, "", 2), 2);
    let path = format!("/v1/clusters/c/endpoints/{}", origin.address);
    assert_eq!(running.call("PATCH", &path, br#"{"weight": 3}"#).status, 200);
    assert_eq!(passed(&running, "", 2), 1);
    running.upload("p", &Fixture::new(&["router"]).build());
    assert_eq!(passed(&running, "", 2), 0);
}

#[test]
fn who_is_refused_costs_no_plugin_anything_and_to_explain_costs_no_token() {
    let origin = Origin::named("a");
    let route = "rate_limit = { rate = 1, per = \"1h\" }\nplugins = { router = \"p\" }";
    let running = start_before(&[&origin], route, "");
    running.upload("p", &Fixture::new(&["router"]).build());
    let calls = || running.call("GET", "/v1/plugins/p", b"").json()["live"]["calls"].as_u64();
    for _ in 0..3 {
        let shown = running.call("POST", "/v1/explain", br#"{"path": "/"}"#).json();
        assert_eq!(shown["outcome"], "forward", "{shown}");
    }
    assert_eq!(passed(&running, "", 1), 1);
    let before = calls();
    assert_eq!(passed(&running, "", 10), 0);
    assert_eq!(calls(), before);
}

#[test]
fn a_client_has_so_many_connections() {
    let listener = |more: &str| {
        format!(
            "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\nlimits = {{ connections_per_client = 2 }}\n{more}\n\
             [[route]]\nname = \"all\"\nrespond = {{ status = 200 }}\n"
        )
    };
    let running = start(&listener(""));
    let mut held: Vec<Client> = (0..2).map(|_| running.client()).collect();
    assert!(held.iter_mut().all(|client| client.get("/", "").status == 200));
    assert!(running.client().closed());
    assert!(running.has_metric("witgate_downstream_clients_refused_total 1"));
    held.pop();
    wait_for("there is room again", || {
        let mut client = running.client();
        client.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n").ok()?;
        client.response(false).ok()
    });

    // Behind a proxy, its clients have so many each.
    let running = start(&listener("proxy_protocol = \"require\""));
    let mut held: Vec<Client> = Vec::new();
    for client in ["192.0.2.1", "192.0.2.1", "192.0.2.2"] {
        let mut connection = running.client();
        connection.send(format!("PROXY TCP4 {client} 192.0.2.9 1 2\r\n")).expect("it is taken");
        assert_eq!(connection.get("/", "").status, 200, "{client}");
        held.push(connection);
    }
    let mut third = running.client();
    third.send("PROXY TCP4 192.0.2.1 192.0.2.9 1 2\r\n").expect("it is taken");
    assert!(third.closed());
}
