//! Limits of rate and of connections: who is refused, how, and what a limit survives. Tokens come back once an hour, so that no
//! test waits for one.

use witgate_tests::{
    client::{self, Client, Response},
    h2,
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

#[test]
fn a_body_that_comes_too_slowly_is_refused_and_its_endpoint_not_blamed() {
    let origin = Origin::named("a");
    let running = start(&format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\nlimits = {{ body_rate = \"1KiB\" }}\n\
         [[route]]\nname = \"all\"\ncluster = \"c\"\ntimeout = \"0s\"\n\
         [[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{}\" }}]\npanic_percent = 0\n\
         outlier = {{ consecutive_local = 1, max_ejection_percent = 100 }}\n",
        origin.address
    ));
    let mut client = running.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nslow").expect("it is taken");
    let refused = client.response(false).expect("a response");
    assert_eq!((refused.status, refused.header("x-witgate-error")), (408, Some("body-too-slow")), "{refused:?}");
    assert!(client.closed());
    // One that is fast enough is none of this rule's.
    let whole = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n{}", "x".repeat(100_000));
    assert_eq!(running.client().ask(whole).status, 200);
}

#[test]
fn streams_beyond_the_limit_are_refused_by_http_2() {
    let origin = Origin::scripted(|_, stream| {
        // Until the test ends.
        std::io::Read::read(stream, &mut [0]).is_ok()
    });
    let running = start(&format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\nlimits = {{ concurrent_streams = 2 }}\n\
         [[route]]\nname = \"all\"\ncluster = \"c\"\n[[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{}\" }}]\n",
        origin.address
    ));
    let mut client = running.client();
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
    let asked = [1, 3, 5].map(|stream| h2::headers(stream, &fields, true)).concat();
    client.send([h2::hello(), asked].concat()).expect("it is taken");
    // RST_STREAM of the third, with REFUSED_STREAM.
    let refusal = h2::frame(3, 0, 5, &7_u32.to_be_bytes());
    let mut read = Vec::new();
    while !read.windows(refusal.len()).any(|window| window == refusal) {
        read.extend(client.exactly(1));
    }
    wait_for("the others to be there", || (origin.seen().len() == 2).then_some(()));
}

#[test]
fn a_worker_that_is_behind_refuses_what_is_new_until_it_is_not() {
    let origin = Origin::named("a");
    // The preamble ends with `[runtime]`.
    let running = start(&format!(
        "overload_delay = \"20ms\"\n[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n\
             [[plugin]]\nname = \"slow\"\nbudget = {{ time = \"100ms\" }}\nquarantine = {{ failures = 1000000 }}\n\
             [[route]]\nname = \"slow\"\npath = \"/slow\"\ncluster = \"c\"\nplugins = {{ router = \"slow\" }}\n\
             [[route]]\nname = \"all\"\ncluster = \"c\"\n[[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{}\" }}]\n",
        origin.address
    ));
    // Each question takes all of its budget, on the worker's own thread.
    let module = Fixture::new(&["router"]).live("route", crate::fixtures::LOOP).build();
    assert_eq!(running.upload("slow", &module).status, 201);
    let web = running.web();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::SeqCst) {
                    let answer = client::get(web, "/slow", "");
                    assert!(matches!(answer.status, 200 | 503), "{answer:?}");
                }
            });
        }
        let refused = wait_for("a refusal", || Some(client::get(web, "/", "")).filter(|answer| answer.status == 503));
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        let told = (refused.header("x-witgate-error"), refused.header("retry-after"));
        assert_eq!(told, (Some("overloaded"), Some("1")), "{refused:?}");
        assert_eq!(running.call("GET", "/v1/routes", b"").status, 200, "the admin API goes on");
    });
    wait_for("all to be well again", || (client::get(web, "/", "").status == 200).then_some(()));
}
