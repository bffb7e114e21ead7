//! The example configurations, as their walk-through in `examples/README.md` says: each is started as it stands, except
//! for its addresses, and the commands of its section are run and their output compared.

use std::{collections::BTreeMap, fs, process::Command, time::Duration};

use witgate_core::config::{AdminListen, Config};
use witgate_tests::{
    origin::{Origin, respond},
    proxy::Running,
    root, wait_for,
};

/// Where every example listens.
const WEB: &str = "127.0.0.1:8080";

/// Every example, and what runs it.
const RUNS: [(&str, fn()); 6] = [
    ("canary.toml", canary_splits_users_and_obeys_the_header),
    ("javascript.toml", javascript_routes_tenants),
    ("latency.toml", latency_prefers_the_fast_and_starves_nobody),
    ("static.toml", static_routes_answer_without_plugins),
    ("sticky.toml", sticky_clients_stay),
    ("tenant.toml", tenant_routes_denies_and_redirects),
];

#[test]
fn every_example_is_run_and_walked_through() {
    let dir = root().join("examples");
    let mut files: Vec<String> = fs::read_dir(&dir)
        .expect("the examples are there")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    files.sort();
    let run: Vec<&str> = RUNS.iter().map(|(name, _)| *name).collect();
    assert_eq!(files, run, "examples/*.toml on the left, those that RUNS in this file runs on the right");
    for file in files {
        section(&file);
    }
}

#[test]
fn canary_splits_users_and_obeys_the_header() {
    walk_through(&Example::start("canary.toml"));
}

#[test]
fn tenant_routes_denies_and_redirects() {
    walk_through(&Example::start("tenant.toml"));
}

#[test]
fn sticky_clients_stay() {
    walk_through(&Example::start("sticky.toml"));
}

#[test]
fn static_routes_answer_without_plugins() {
    walk_through(&Example::start("static.toml"));
}

#[test]
fn javascript_routes_tenants() {
    if !root().join("target/plugins/router-js.wasm").exists() {
        println!("skipped: router-js.wasm is not there; examples/javascript/build.sh makes it");
        return;
    }
    walk_through(&Example::start("javascript.toml"));
}

/// The shares of this one are not the same twice.
#[test]
fn latency_prefers_the_fast_and_starves_nobody() {
    let example = Example::start("latency.toml");
    let mut client = example.running.client();
    for path in ["/", "/pick/"] {
        let mut counts = BTreeMap::<String, u32>::new();
        let mut round = || {
            for _ in 0..60 {
                let response = client.get(path, "");
                assert_eq!(response.status, 200, "{path}: {response:?}");
                *counts.entry(response.body).or_default() += 1;
            }
            std::mem::take(&mut counts)
        };
        let slow = |counts: &BTreeMap<String, u32>| counts.get("9003\n").copied().unwrap_or(0);
        let fair = wait_for(&format!("{path}: less than a quarter of its fair share for the slow endpoint"), || {
            let counts = round();
            (slow(&counts) * 12 < 60).then_some(counts)
        });
        assert!(fair.contains_key("9001\n") && fair.contains_key("9002\n"), "{path}: {fair:?}");
        wait_for(&format!("{path}: a request for the slow endpoint all the same"), || {
            (slow(&round()) > 0).then_some(())
        });
    }
}

/// An example that runs.
struct Example {
    name: &'static str,
    running: Running,
    /// By the port that the file names.
    _origins: BTreeMap<u16, Origin>,
}

impl Example {
    /// Starts the file as it stands but for addresses, directories and the time that plugins have: the machine that
    /// tests run on may be slow or busy.
    fn start(name: &'static str) -> Self {
        let directory = root().join("examples");
        let text = fs::read_to_string(directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let parsed = witgate_core::config::parse(&text, name, &directory)
            .unwrap_or_else(|diagnostics| panic!("{name} is refused:\n{diagnostics}"));
        assert!(parsed.warnings.is_empty(), "{name}:\n{}", parsed.warnings);
        let mut config = parsed.config;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let origins = move_to_free_ports(name, &mut config);
        config.admin.token_file = dir.path().join("admin.token");
        config.runtime.state_dir = dir.path().join("state");
        config.runtime.workers = 2;
        for plugin in &mut config.plugins {
            plugin.budget.time = Duration::from_secs(1);
        }
        let plugins: Vec<String> = config.plugins.iter().map(|plugin| plugin.name.clone()).collect();
        let proxy = witgate::Proxy::start(config).unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let running = Running { proxy: Some(proxy), dir };
        for plugin in plugins {
            let live = running.call("GET", &format!("/v1/plugins/{plugin}"), b"").json();
            assert_eq!(
                live["active"], 1,
                "{name}: plugin {plugin} is not live; `cargo xtask plugins` builds it: {live}"
            );
        }
        Self { name, running, _origins: origins }
    }
}

/// Port 0 for whatever listens, and an origin for every endpoint. It answers as `examples/origins.py` does.
fn move_to_free_ports(name: &str, config: &mut Config) -> BTreeMap<u16, Origin> {
    assert_eq!(config.admin.listen, AdminListen::Tcp(([127, 0, 0, 1], 9901).into()), "{name}: its admin address");
    config.admin.listen = AdminListen::Tcp(([127, 0, 0, 1], 0).into());
    for listener in &mut config.listeners {
        assert_eq!(listener.listen.to_string(), WEB, "{name}: the address of its listener");
        listener.listen.set_port(0);
    }
    let mut origins = BTreeMap::new();
    for endpoint in config.clusters.iter_mut().flat_map(|cluster| &mut cluster.endpoints) {
        let port = endpoint.address.strip_prefix("127.0.0.1:").and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("{name}: {} is not on 127.0.0.1", endpoint.address));
        endpoint.address = origins.entry(port).or_insert_with(|| origin(port)).address.to_string();
    }
    origins
}

fn origin(port: u16) -> Origin {
    // `origins.py 9001 9002 9003+50`.
    let delay = Duration::from_millis(if port == 9003 { 50 } else { 0 });
    Origin::scripted(move |seen, stream| {
        std::thread::sleep(delay);
        let body = match seen.header("x-tenant") {
            Some(tenant) => format!("{port} for {tenant}\n"),
            None => format!("{port}\n"),
        };
        respond(stream, 200, &[], body.as_bytes())
    })
}

/// The part of `examples/README.md` about one file.
fn section(name: &str) -> String {
    let readme = fs::read_to_string(root().join("examples/README.md")).expect("the examples have a README");
    let begin = format!("\n## `{name}`\n");
    let rest =
        readme.split_once(&begin).unwrap_or_else(|| panic!("examples/README.md has no section {}", begin.trim())).1;
    rest.split("\n## ").next().unwrap_or_default().to_owned()
}

/// Runs the commands of the example's section, one after another in one directory, and compares what they print.
fn walk_through(example: &Example) {
    let section = section(example.name);
    let blocks = section.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut commands = 0;
    for (command, expected) in blocks.flat_map(steps) {
        let said = shell(example, command);
        assert_eq!(squeezed(&said), squeezed(&expected), "{}: $ {command}", example.name);
        commands += 1;
    }
    assert!(commands > 0, "examples/README.md has no command for {}", example.name);
}

/// Each `$ command` of a block with the lines that follow it.
fn steps(block: &str) -> Vec<(&str, String)> {
    let mut steps: Vec<(&str, String)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push((command, String::new())),
            (None, Some((_, expected))) => expected.push_str(&format!("{line}\n")),
            (None, None) => panic!("output before the first command: {line}"),
        }
    }
    steps
}

fn shell(example: &Example, command: &str) -> String {
    let here = command.replace(WEB, &example.running.web().to_string());
    let output = Command::new("sh")
        .args(["-c", &here])
        .current_dir(example.running.dir.path())
        .output()
        .expect("there is a shell");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Without what `uniq -c` and `wc` pad with, and without carriage returns.
fn squeezed(text: &str) -> String {
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|l| !l.is_empty())
        .collect();
    lines.join("\n")
}
