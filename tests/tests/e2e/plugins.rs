//! Plugins on live requests: what they decide, what a swap costs, and what a hostile one costs.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use witgate_tests::{
    client::{self, Client},
    origin::Origin,
    plugin,
    proxy::{self, Running},
    wait_for,
};

use crate::fixtures::{self, Fixture};

const SPLIT: &str = r#"
[[route]]
name = "native"
path_prefix = "/native"
cluster = "stable"
[[route]]
name = "split"
split = [{ cluster = "stable", weight = 90 }, { cluster = "canary", weight = 10 }]
split_by = [{ cookie = "uid" }]
plugins = { router = "tenant", splitter = "canary", affinity = "session" }
[[plugin]]
name = "canary"
config = { percent = 30, cluster = "canary", force = { header = "x-canary" } }
budget = { time = "5ms" }
[[plugin]]
name = "tenant"
config = { header = "x-tenant", rules = [{ header = "x-org", clusters = { acme = "acme" } }, { path_prefix = "/admin", deny = "no" }, { host = "old.test", redirect = "https://new.test{path}" }] }
[[plugin]]
name = "session"
"#;

fn start(more: &str, origins: &BTreeMap<&str, Vec<Origin>>) -> Running {
    let mut config = format!("[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n{more}");
    for (cluster, origins) in origins {
        let endpoints: Vec<String> = origins.iter().map(|o| format!("{{ address = \"{}\" }}", o.address)).collect();
        config.push_str(&format!("[[cluster]]\nname = \"{cluster}\"\nendpoints = [{}]\n", endpoints.join(", ")));
    }
    proxy::start(&config)
}

fn origins() -> BTreeMap<&'static str, Vec<Origin>> {
    let many = |name: &str, n: usize| (0..n).map(|i| Origin::named(&format!("{name}-{i}"))).collect::<Vec<_>>();
    BTreeMap::from([("stable", many("stable", 3)), ("canary", many("canary", 1)), ("acme", many("acme", 1))])
}

fn bucket(body: &str) -> &str {
    body.split('-').next().unwrap_or_default()
}

/// A plugin that is live and does not export what it is asked for counts as not live there.
#[test]
fn a_question_that_the_live_version_does_not_export_fails_as_configured() {
    let origins = origins();
    let routes = r#"
[[route]]
name = "strict"
path_prefix = "/strict"
cluster = "stable"
plugins = { router = "strict" }
[[route]]
name = "lax"
cluster = "stable"
plugins = { affinity = "lax" }
[[plugin]]
name = "strict"
on_error = "reject"
config = { percent = 30, cluster = "canary" }
[[plugin]]
name = "lax"
config = { percent = 30, cluster = "canary" }
"#;
    let running = start(routes, &origins);
    let check = |path: &str, status: u16, why: &str| {
        assert_eq!(running.client().get(path, "").status, status, "{path}");
        let wanted = format!("{{\"path\": \"{path}\"}}");
        let shown = running.call("POST", "/v1/explain", wanted.as_bytes()).json();
        assert_eq!(shown["questions"][0]["fallback"], why, "{shown}");
        assert_eq!(shown["questions"].as_array().map(Vec::len), Some(1), "{shown}");
    };
    check("/strict", 503, "no version is live");
    check("/lax", 200, "no version is live");
    for name in ["strict", "lax"] {
        let uploaded = running.upload(name, &plugin("canary"));
        assert_eq!(uploaded.status, 201);
        let warnings = uploaded.json()["warnings"].clone();
        assert!(warnings[0].as_str().is_some_and(|w| w.contains("version 1 does not export that")), "{warnings}");
    }
    check("/strict", 503, "the live version does not export this");
    check("/lax", 200, "the live version does not export this");
}

#[test]
fn the_shipped_plugins_decide_and_without_them_the_native_answers_stand() {
    let origins = origins();
    let running = start(SPLIT, &origins);
    let shares = |running: &Running| {
        let mut client = running.client();
        let mut canary = 0;
        for user in 0..1000 {
            let first = client.get("/", &format!("cookie: uid=u{user}\r\n")).body;
            let again = client.get("/", &format!("cookie: uid=u{user}\r\n")).body;
            assert_eq!(bucket(&first), bucket(&again), "user {user} moved");
            canary += usize::from(bucket(&first) == "canary");
        }
        canary
    };
    let native = shares(&running);
    assert!((60..=140).contains(&native), "{native} of 1000 natively, for 10 %");
    for name in ["canary", "tenant", "session"] {
        let uploaded = running.upload(name, &plugin(name)).json();
        assert_eq!(uploaded["active"], true, "{uploaded}");
    }
    let plugged = shares(&running);
    assert!((250..=350).contains(&plugged), "{plugged} of 1000 with the plugin, for 30 %");

    let mut client = running.client();
    assert_eq!(bucket(&client.get("/", "x-canary: 1\r\ncookie: uid=u1\r\n").body), "canary");
    assert_eq!(bucket(&client.get("/", "x-canary: 0\r\ncookie: uid=u1\r\n").body), "stable");
    assert_eq!(bucket(&client.get("/", "x-org: acme\r\n").body), "acme");
    assert_eq!(origins["acme"][0].seen()[0].all("x-tenant"), ["acme"]);
    let denied = client.get("/admin/x", "");
    assert_eq!(denied.status, 403);
    assert_eq!(denied.headers.iter().filter(|(name, _)| name == "content-type").count(), 1, "{denied:?}");
    let moved = client.ask("GET /a?b=1 HTTP/1.1\r\nhost: old.test\r\n\r\n");
    assert_eq!((moved.status, moved.header("location")), (308, Some("https://new.test/a?b=1")), "{moved:?}");

    // The session plugin issues a cookie, and keeps whoever shows it on one endpoint.
    for _ in 0..8 {
        let first = client::get(running.web(), "/", "x-canary: 0\r\n");
        let cookie = first.header("set-cookie").unwrap_or_else(|| panic!("no cookie: {first:?}")).to_owned();
        let pair = cookie.split(';').next().unwrap();
        for _ in 0..4 {
            let again = client::get(running.web(), "/", &format!("x-canary: 0\r\ncookie: {pair}\r\n"));
            assert_eq!(again.body, first.body, "the session moved");
            assert_eq!(again.header("set-cookie"), None, "the cookie is issued once: {again:?}");
        }
    }
    let canary = running.call("GET", "/v1/plugins/canary", b"").json();
    assert!(canary.to_string().contains("\"splitter\""), "{canary}");
    assert_eq!(running.call("DELETE", "/v1/plugins/canary?force=true", b"").status, 200);
    let native_again = shares(&running);
    assert_eq!(native_again, native, "the native split is what it was");
}

/// A router that answers with a status of its own.
fn answering(status: u16) -> Vec<u8> {
    let body = match status {
        250 => {
            "(i32.store8 (i32.const 2048) (i32.const 2)) (i32.store16 (i32.const 2052) (i32.const 250)) (return (i32.const 2048))"
        }
        _ => {
            "(i32.store8 (i32.const 2048) (i32.const 2)) (i32.store16 (i32.const 2052) (i32.const 251)) (return (i32.const 2048))"
        }
    };
    Fixture::new(&["router"]).always("route", body).marker(u32::from(status)).build()
}

#[test]
fn fifty_activations_under_load_fail_no_request_and_show_at_once() {
    let origins = origins();
    let running = start("[[route]]\nname = \"r\"\ncluster = \"stable\"\nplugins = { router = \"flip\" }\n", &origins);
    let version = |status| running.upload("flip", &answering(status)).json()["version"].as_u64().unwrap();
    let versions = [(version(250), 250), (version(251), 251)];
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicU64::new(0));
    let web = running.web();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            thread::spawn(move || {
                let mut client = Client::connect(web);
                while !stop.load(SeqCst) {
                    let response = client.get("/", "");
                    assert!(matches!(response.status, 250 | 251), "{response:?}");
                    asked.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    let mut client = running.client();
    for round in 0..50 {
        let (version, status) = versions[round % 2];
        let before = asked.load(SeqCst);
        let body = format!("{{\"version\": {version}}}");
        let answer = running.call("POST", "/v1/plugins/flip/activate", body.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        // A request that begins after the answer sees the new version: on this connection and on a new one.
        assert_eq!(client.get("/", "").status, status, "round {round}, a kept connection");
        assert_eq!(client::get(web, "/", "").status, status, "round {round}, a new connection");
        wait_for("the load to go on", || (asked.load(SeqCst) > before).then_some(()));
    }
    stop.store(true, SeqCst);
    for client in clients {
        client.join().expect("no request failed");
    }
}

/// Whatever the order in which the two come, an upload is live when it is answered.
#[test]
fn an_upload_that_a_removal_races_is_live_when_it_is_answered() {
    let origins = origins();
    let running = start("[[route]]\nname = \"r\"\ncluster = \"stable\"\nplugins = { router = \"flip\" }\n", &origins);
    let wasm = answering(250);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(SeqCst) {
                let removed = running.call("DELETE", "/v1/plugins/flip?force=true", b"");
                assert!(matches!(removed.status, 200 | 404), "{removed:?}");
            }
        });
        let answers: Vec<_> = (0..100).map(|_| running.call("PUT", "/v1/plugins/flip?activate=true", &wasm)).collect();
        done.store(true, SeqCst);
        for answer in answers {
            assert!(matches!(answer.status, 200 | 201) && answer.json()["active"] == true, "{answer:?}");
        }
    });
}

/// Three versions; each round one of them becomes live by an upload of bytes that are known, while the one that is live is
/// rolled back. Whichever comes first, what was live before both is not: it would be the outcome of no order.
#[test]
fn a_rollback_that_an_upload_races_goes_back_from_what_is_live() {
    let origins = origins();
    let running = start("[[route]]\nname = \"r\"\ncluster = \"stable\"\nplugins = { router = \"flip\" }\n", &origins);
    let modules: Vec<_> = (1..=3).map(|marker| Fixture::new(&["router"]).marker(marker).build()).collect();
    modules.iter().for_each(|module| drop(running.upload("flip", module)));
    for round in 0..60 {
        let shown = running.call("GET", "/v1/plugins/flip", b"").json();
        let [live, before] = ["active", "previous"].map(|field| shown[field].as_u64().expect("a version"));
        let other = 6 - live - before;
        let rolled_back = thread::scope(|scope| {
            scope.spawn(|| running.upload("flip", &modules[other as usize - 1]));
            running.call("POST", "/v1/plugins/flip/rollback", b"")
        });
        assert!(matches!(rolled_back.status, 200 | 409), "round {round}: {rolled_back:?}");
        let shown = running.call("GET", "/v1/plugins/flip", b"").json();
        let now = shown["active"].as_u64();
        assert_ne!(now, Some(before), "round {round}: {live} was live, {before} before it: {rolled_back:?}, {shown}");
    }
}

#[test]
fn an_upload_tells_each_step_as_it_begins() {
    let origins = origins();
    let running = start("[[route]]\nname = \"r\"\ncluster = \"stable\"\nplugins = { router = \"flip\" }\n", &origins);
    let told = |wasm: &[u8]| {
        let answer = running.call("PUT", "/v1/plugins/flip?activate=true&progress=true", wasm);
        let lines: Vec<serde_json::Value> =
            answer.body.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        let stages: Vec<String> = lines.iter().filter_map(|line| Some(line["stage"].as_str()?.to_owned())).collect();
        stages.join(" ")
    };
    let all = "hash load-artefact wrap compile inspect configure rehearse store";
    assert_eq!(told(&answering(250)), all);
    assert_eq!(told(&answering(250)), "hash configure rehearse store", "the same bytes are loaded already");
    let bad = Fixture::new(&["router"]).always("route", fixtures::TRAP).build();
    // The last line is the error, which names the step that refuses.
    assert_eq!(told(&bad), all.replace("store", "rehearse"));
}

#[test]
fn counters_of_a_version_that_is_live_again_go_on() {
    let origins = origins();
    let running = start("[[route]]\nname = \"r\"\ncluster = \"stable\"\nplugins = { router = \"flip\" }\n", &origins);
    let calls = |version: u64| {
        let series =
            format!("witgate_plugin_calls_total{{plugin=\"flip\",version=\"{version}\",question=\"router\"}} ");
        let metrics = client::get(running.admin(), "/metrics", "").body;
        metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse::<u64>().ok())
    };
    let mut client = running.client();
    for (round, status) in [250, 251, 250, 250, 251].into_iter().enumerate() {
        let version = u64::from(status - 249);
        let before = calls(version);
        assert_eq!(running.upload("flip", &answering(status)).json()["version"], version, "round {round}");
        for _ in 0..10 {
            assert_eq!(client.get("/", "").status, status);
        }
        let expected = [10, 10, 20, 30, 20][round];
        assert_eq!(calls(version), Some(expected), "round {round}, before it: {before:?}");
    }
}

#[test]
fn a_refused_upload_says_why_and_leaves_the_active_version() {
    let origins = origins();
    let running = start("[[route]]\nname = \"r\"\ncluster = \"stable\"\nplugins = { router = \"flip\" }\n", &origins);
    running.upload("flip", &answering(250));
    let cases: [(&str, Vec<u8>); 5] = [
        ("empty", Vec::new()),
        ("not Wasm", b"hello".to_vec()),
        ("truncated", answering(251)[..200].to_vec()),
        ("traps in its rehearsal", Fixture::new(&["router"]).always("route", fixtures::TRAP).build()),
        ("loops in configure", Fixture::new(&["router"]).always("configure", fixtures::LOOP).build()),
    ];
    for (what, wasm) in cases {
        let answer = running.call("PUT", "/v1/plugins/flip?activate=true", &wasm);
        assert_eq!(answer.status, 422, "{what}: {answer:?}");
        assert!(answer.json()["error"].as_str().is_some_and(|e| e.len() > 20), "{what}: {answer:?}");
        assert_eq!(running.client().get("/", "").status, 250, "{what}");
    }
    assert_eq!(running.call("PUT", "/v1/plugins/..%2Fx?activate=true", b"x").status / 100, 4);
    let same = running.call("PUT", "/v1/plugins/flip", &answering(250));
    assert_eq!((same.status, same.json()["version"].as_u64()), (200, Some(1)), "{same:?}");
}

#[test]
fn a_plugin_that_fails_costs_a_fallback_each_and_is_quarantined() {
    for (what, body) in [
        ("loop", fixtures::LOOP),
        ("trap", fixtures::TRAP),
        ("recursion", fixtures::RECURSE),
        ("memory", fixtures::EXHAUST),
    ] {
        let origins = origins();
        let running = start(
            "[[route]]\nname = \"r\"\ncluster = \"stable\"\nplugins = { router = \"bad\", affinity = \"bad\" }\n\
             [[plugin]]\nname = \"bad\"\nbudget = { time = \"1ms\" }\nquarantine = { failures = 5, back_off = \"60s\" }\n",
            &origins,
        );
        running.upload("bad", &Fixture::new(&["router", "affinity"]).live("route", body).live("stick", body).build());
        let mut client = running.client();
        for n in 0..200 {
            let response = client.get(&format!("/{n}"), "");
            assert_eq!((response.status, bucket(&response.body)), (200, "stable"), "{what}, request {n}: {response:?}");
        }
        let shown = running.call("GET", "/v1/plugins/bad", b"").body;
        let metrics = client::get(running.admin(), "/metrics", "").body;
        assert!(metrics.contains("quarantined"), "{what}: {shown}");
        let quarantined: f64 = metrics
            .lines()
            .filter(|l| l.starts_with("witgate_plugin_fallbacks_total") && l.contains("quarantined"))
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        assert!(quarantined > 300.0, "{what}: {quarantined} of 400 questions were not asked:\n{metrics}");
    }
}

#[test]
fn on_error_reject_answers_503() {
    let origins = origins();
    let running = start(
        "[[route]]\nname = \"r\"\ncluster = \"stable\"\nplugins = { router = \"bad\" }\n[[plugin]]\nname = \"bad\"\non_error = \"reject\"\n",
        &origins,
    );
    let missing = running.client().get("/", "");
    assert_eq!((missing.status, missing.header("x-witgate-error")), (503, Some("plugin-failure")), "nothing is live");
    running.upload("bad", &Fixture::new(&["router"]).build());
    assert_eq!(running.client().get("/", "").status, 200, "no opinion is no failure");
    running.upload("bad", &Fixture::new(&["router"]).live("route", fixtures::TRAP).build());
    let response = running.client().get("/", "");
    assert_eq!((response.status, response.header("x-witgate-error")), (503, Some("plugin-failure")), "{response:?}");
}

#[test]
fn a_weighing_scorer_moves_traffic_to_the_faster_endpoint_and_starves_none() {
    let slow = Origin::scripted(|_, stream| {
        // The time of the origin, not of the test: nothing waits for it but the request itself.
        thread::sleep(Duration::from_millis(15));
        witgate_tests::origin::respond(stream, 200, &[], b"slow")
    });
    let fast = Origin::named("fast");
    let running = proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n[[route]]\nname = \"r\"\ncluster = \"c\"\n\
         [[cluster]]\nname = \"c\"\nbalance = {{ plugin = \"latency\", interval = \"20ms\" }}\n\
         endpoints = [{{ address = \"{}\" }}, {{ address = \"{}\" }}]\n[[plugin]]\nname = \"latency\"\nbudget = {{ time = \"10ms\" }}\n",
        slow.address, fast.address
    ));
    running.upload("latency", &plugin("latency"));
    let mut client = running.client();
    let give_up = Instant::now() + witgate_tests::PATIENCE;
    loop {
        let mut slow_ones = 0;
        for n in 0..100 {
            slow_ones += usize::from(client.get(&format!("/{n}"), "").body == "slow");
        }
        if (1..25).contains(&slow_ones) {
            break;
        }
        assert!(Instant::now() < give_up, "the slow endpoint still has {slow_ones} of 100");
    }
}
