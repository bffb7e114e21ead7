//! The Kubernetes manifests in `examples/` beside the binary: what they mount is a configuration that it takes, what they
//! probe and select is there, and a pod has the time that a drain takes.

use std::{collections::BTreeMap, fs, time::Duration};

use serde_json::Value;
use witgate_core::config::{self, AdminListen, Config};
use yaml_rust2::{Yaml, YamlLoader};

use crate::process::Room;

/// All manifests, by their kind. Each file is one.
fn manifests() -> BTreeMap<String, Value> {
    let folder = witgate_tests::root().join("examples/kubernetes");
    let files = fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("readable").path());
    let parsed = files.map(|file| {
        let text = fs::read_to_string(&file).expect("readable");
        let documents = YamlLoader::load_from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let [manifest] = &documents[..] else { panic!("{}: one manifest a file", file.display()) };
        let manifest = json(manifest);
        (manifest["kind"].as_str().expect("a kind").to_owned(), manifest)
    });
    parsed.collect()
}

fn json(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Hash(all) => {
            all.iter().map(|(key, value)| (key.as_str().expect("a key").to_owned(), json(value))).collect()
        }
        Yaml::Array(all) => all.iter().map(json).collect(),
        Yaml::String(text) => text.as_str().into(),
        Yaml::Integer(number) => (*number).into(),
        Yaml::Boolean(value) => (*value).into(),
        other => panic!("no manifest here has {other:?}"),
    }
}

fn configuration(manifests: &BTreeMap<String, Value>) -> (String, Config) {
    let text = manifests["ConfigMap"]["data"]["witgate.toml"].as_str().expect("the configuration").to_owned();
    let parsed =
        config::parse(&text, "witgate.toml", "/etc/witgate".as_ref()).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(parsed.warnings.is_empty(), "{}", parsed.warnings);
    (text, parsed.config)
}

#[test]
fn there_is_one_of_each_and_they_belong_together() {
    let manifests = manifests();
    let kinds: Vec<&str> = manifests.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["ConfigMap", "Deployment", "PodDisruptionBudget", "Service"]);
    let labels = &manifests["Deployment"]["spec"]["template"]["metadata"]["labels"];
    assert!(labels.as_object().is_some_and(|labels| !labels.is_empty()), "{labels}");
    for (kind, selector) in [
        ("Deployment", "/spec/selector/matchLabels"),
        ("PodDisruptionBudget", "/spec/selector/matchLabels"),
        ("Service", "/spec/selector"),
    ] {
        assert_eq!(manifests[kind].pointer(selector), Some(labels), "{kind}");
    }
    let pod = &manifests["Deployment"]["spec"]["template"]["spec"];
    let volumes = pod["volumes"].as_array().expect("volumes");
    let config = volumes.iter().find(|volume| volume["name"] == "config").expect("the configuration's");
    assert_eq!(config["configMap"]["name"], manifests["ConfigMap"]["metadata"]["name"]);
}

#[test]
fn a_pod_has_the_time_that_a_drain_takes() {
    let manifests = manifests();
    let (_, config) = configuration(&manifests);
    let pod = &manifests["Deployment"]["spec"]["template"]["spec"];
    let seconds = |value: &Value| Duration::from_secs(value.as_u64().expect("seconds"));
    let grace = seconds(&pod["terminationGracePeriodSeconds"]);
    let waits = seconds(&pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]);
    // What is cut has half a second to say so, and the log a second to be read.
    let end = Duration::from_secs(2);
    let needed = waits + config.runtime.drain_timeout + end;
    assert!(grace > needed, "killed after {grace:?}, and a drain may take {needed:?}");
    let budget = manifests["PodDisruptionBudget"]["spec"]["maxUnavailable"].as_u64().expect("a number");
    let replicas = manifests["Deployment"]["spec"]["replicas"].as_u64().expect("a number");
    assert!(budget < replicas, "one has to stay");
}

#[test]
fn what_is_probed_served_and_written_is_there() {
    let manifests = manifests();
    let (text, config) = configuration(&manifests);
    let container = &manifests["Deployment"]["spec"]["template"]["spec"]["containers"][0];
    let ports: BTreeMap<&str, u64> = container["ports"]
        .as_array()
        .expect("ports")
        .iter()
        .map(|port| (port["name"].as_str().expect("a name"), port["containerPort"].as_u64().expect("a number")))
        .collect();
    let AdminListen::Tcp(admin) = config.admin.listen else { panic!("a node cannot probe {:?}", config.admin.listen) };
    assert_eq!((u64::from(admin.port()), admin.ip().is_unspecified()), (ports["admin"], true), "{admin}");
    let web = &config.listeners[0];
    assert_eq!((u64::from(web.listen.port()), web.listen.ip().is_unspecified()), (ports["web"], true));
    assert_eq!(manifests["Service"]["spec"]["ports"][0]["targetPort"], "web");
    for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"], serde_json::json!({ "path": path, "port": "admin" }));
    }
    // All that is written is below the one volume that can be.
    let mounts = container["volumeMounts"].as_array().expect("mounts");
    let state = mounts.iter().find(|mount| mount["name"] == "state").expect("the state's");
    let state = state["mountPath"].as_str().expect("a path");
    assert!(config.runtime.state_dir.starts_with(state) && config.admin.token_file.starts_with(state), "{config:#?}");
    // It is what the arguments name, and the binary takes it.
    let arguments: Vec<&str> = container["args"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(arguments, ["run", "--log", "json", "-c", "/etc/witgate/witgate.toml"]);
    let room = Room::with(&text);
    let file = room.config();
    room.say(&["check", file.to_str().expect("UTF-8")]).check(0, &[]);
}
