//! Another configuration under a proxy that serves: by the admin API and by its file, in one step or not at all.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use serde_json::Value;
use witgate_tests::{
    origin::Origin,
    proxy::{self, PREAMBLE, Running},
    wait_for,
};

const WEB: &str = "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n";

fn route(name: &str, path: &str, cluster: &str) -> String {
    format!("[[route]]\nname = \"{name}\"\npath_prefix = \"{path}\"\ncluster = \"{cluster}\"\n")
}

fn cluster(name: &str, endpoints: &[&Origin], more: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|o| format!("{{ address = \"{}\" }}", o.address)).collect();
    format!("[[cluster]]\nname = \"{name}\"\nendpoints = [{}]\n{more}", endpoints.join(", "))
}

fn whole(parts: &[&str]) -> String {
    format!("{PREAMBLE}{WEB}{}", parts.concat())
}

fn file(running: &Running) -> std::path::PathBuf {
    running.dir.path().join("test.toml")
}

fn endpoint(running: &Running, cluster: &str) -> Value {
    running.call("GET", &format!("/v1/clusters/{cluster}"), b"").json()["endpoints"][0].clone()
}

#[test]
fn a_configuration_that_is_put_is_live_at_once_and_in_the_file() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let first = [WEB, &route("all", "/", "a"), &cluster("a", &[&a], "")].concat();
    let running = proxy::start(&first);
    let mut client = running.client();
    (0..5).for_each(|_| assert_eq!(client.get("/", "").body, "a"));
    let before = running.call("GET", "/v1/config", b"");
    assert_eq!(before.body, format!("{PREAMBLE}{first}"));
    assert_eq!(before.header("content-type"), Some("application/toml; charset=utf-8"));

    let next = whole(&[
        &route("b", "/b", "b"),
        &route("all", "/", "a"),
        &cluster("b", &[&b], ""),
        &cluster("a", &[&a], "balance = \"maglev\"\n"),
    ]);
    let put = running.call("PUT", "/v1/config", next.as_bytes());
    assert_eq!((put.status, &put.json()["plugins"]), (200, &Value::Array(Vec::new())), "{put:?}");
    assert_eq!(client.get("/b", "").body, "b", "on the connection that was there");
    assert_eq!(client.get("/", "").body, "a");
    assert_eq!(fs::read_to_string(file(&running)).unwrap(), next);
    assert_eq!(running.call("GET", "/v1/config", b"").body, next);
    assert_eq!(endpoint(&running, "a")["requests"], 6, "what stays keeps what is known of it");
    assert_eq!(a.connections(), 1, "and its connections");
    assert!(running.has_metric("witgate_config_reloads_total{outcome=\"applied\"} 1"));
}

#[test]
fn one_with_errors_changes_nothing_and_says_all_of_them() {
    let a = Origin::named("a");
    let running = proxy::start(&[WEB, &route("all", "/", "a"), &cluster("a", &[&a], "")].concat());
    let before = running.call("GET", "/v1/config", b"").body;
    let generation = running.call("GET", "/v1/clusters", b"").json()["generation"].clone();
    let wrong = whole(&[&route("all", "/", "nowhere"), &cluster("a", &[&a], "balance = \"best\"\nsurprise = 1\n")]);
    let refused = running.call("PUT", "/v1/config", wrong.as_bytes());
    let errors = refused.json()["errors"].as_array().cloned().unwrap_or_default();
    let keys: Vec<&str> = errors.iter().filter_map(|e| e["key"].as_str()).collect();
    assert_eq!(refused.status, 422, "{refused:?}");
    assert_eq!(keys, ["route[0].cluster", "cluster[0].balance", "cluster[0].surprise"], "{refused:?}");
    assert!(errors.iter().all(|e| e["line"].as_u64() > Some(0)), "{refused:?}");

    for (what, text) in [
        ("another state", whole(&[]).replace("workers = 2", "workers = 2\nstate_dir = \"other\"")),
        ("other workers", whole(&[]).replace("workers = 2", "workers = 3")),
    ] {
        let refused = running.call("PUT", "/v1/config", text.as_bytes());
        assert_eq!(refused.status, 409, "{what}: {refused:?}");
        assert!(refused.body.contains("takes a restart"), "{what}: {refused:?}");
    }
    assert_eq!(running.call("PUT", "/v1/config", b"\xff").status, 400);
    assert_eq!(running.call("GET", "/v1/config", b"").body, before);
    assert_eq!(fs::read_to_string(file(&running)).unwrap(), before);
    assert_eq!(running.call("GET", "/v1/clusters", b"").json()["generation"], generation);
    assert_eq!(running.client().get("/", "").body, "a");
    assert!(running.has_metric("witgate_config_reloads_total{outcome=\"refused\"} 3"));
}

#[test]
fn what_is_written_to_the_file_becomes_live_and_what_is_wrong_does_not() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let running = proxy::start(&[WEB, &route("all", "/", "c"), &cluster("c", &[&a], "")].concat());
    let text = |origin: &Origin| whole(&[&route("all", "/", "c"), &cluster("c", &[origin], "")]);
    fs::write(file(&running), text(&b)).unwrap();
    let mut client = running.client();
    wait_for("the other origin", || (client.get("/", "").body == "b").then_some(()));
    fs::write(file(&running), "nonsense").unwrap();
    let refused = "witgate_config_reloads_total{outcome=\"refused\"} 1";
    wait_for("a refusal", || running.has_metric(refused).then_some(()));
    assert_eq!(client.get("/", "").body, "b");
    // As editors and Kubernetes do it: another file in its place.
    let beside = running.dir.path().join("next.toml");
    fs::write(&beside, text(&a)).unwrap();
    fs::rename(&beside, file(&running)).unwrap();
    wait_for("the first origin again", || (client.get("/", "").body == "a").then_some(()));
    assert!(running.has_metric(refused), "a refusal is told once");
}

#[test]
fn no_request_fails_while_configurations_come_and_go() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let texts = [&a, &b].map(|origin| {
        let many: String = (0..200).map(|n| format!("{{ address = \"192.0.2.1:{}\" }}, ", n + 1)).collect();
        let other = format!("[[cluster]]\nname = \"many\"\nendpoints = [{many}]\nbalance = \"maglev\"\n");
        whole(&[&route("all", "/", "c"), &cluster("c", &[origin], ""), &other])
    });
    let running = proxy::start(texts[0].strip_prefix(PREAMBLE).unwrap());
    let (done, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (mut client, done, served) = (running.client(), Arc::clone(&done), Arc::clone(&served));
            thread::spawn(move || {
                let mut bodies = [0; 2];
                while !done.load(SeqCst) {
                    let response = client.get("/", "");
                    assert_eq!(response.status, 200, "{response:?}");
                    bodies[usize::from(response.body == "b")] += 1;
                    served.fetch_add(1, SeqCst);
                }
                bodies
            })
        })
        .collect();
    for n in 0..20 {
        let put = running.call("PUT", "/v1/config", texts[(n + 1) % 2].as_bytes());
        assert_eq!(put.status, 200, "{put:?}");
        let before = served.load(SeqCst);
        wait_for("more requests", || (served.load(SeqCst) > before + 50).then_some(()));
    }
    done.store(true, SeqCst);
    let bodies: Vec<[usize; 2]> = clients.into_iter().map(|client| client.join().expect("no request fails")).collect();
    assert!(bodies.iter().all(|[a, b]| *a > 0 && *b > 0), "{bodies:?}");
}
