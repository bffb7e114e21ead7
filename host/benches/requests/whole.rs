//! Whole requests: the proxy's own code serves one end of a stream in memory, and its pool has connections over others,
//! at whose far ends there are origins. All of it in one thread, without a socket, a timer or a wait.

use std::{
    path::Path,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::duplex,
    runtime::{Builder, LocalOptions, LocalRuntime},
};
use witgate::{
    Control, Source,
    internals::{AccessLogs, Conn, Connection, Drain, Inherited, Sockets, Start, Stream, Tls, Worker, serve},
};
use witgate_core::config;
use witgate_policy::{CacheOptions, Engine, EngineOptions, Store};

use crate::{
    ends::{Client, HOLDS, origin},
    inputs::{request, response},
    operation::Operation,
};

/// Requests of one operation: each takes as many instructions as the last.
const REQUESTS: usize = 512;

/// Larger than most responses, and more than one read.
const LARGE: usize = 64 << 10;
const SMALL: usize = 128;

const PLAIN: &str = r#"
[[route]]
name = "all"
cluster = "stable"
"#;

/// A header forces the canary, else a share of the users by cookie; the one who asks is among them.
const NATIVE: &str = r#"
[[route]]
name = "forced"
headers = { x-canary = "1" }
cluster = "canary"
[[route]]
name = "all"
split = [{ cluster = "stable", weight = 10 }, { cluster = "canary", weight = 90 }]
split_by = [{ cookie = "uid" }]
"#;

/// The same by two plugins; left to the native decision, no user gets the canary.
const ASKED: &str = r#"
[[route]]
name = "all"
split = [{ cluster = "stable", weight = 100 }, { cluster = "canary", weight = 0 }]
plugins = { router = "tenant", splitter = "canary" }
[[plugin]]
name = "tenant"
path = "PLUGINS/tenant.wasm"
config = { rules = [{ header = "x-canary", equals = "1", cluster = "canary" }] }
[[plugin]]
name = "canary"
path = "PLUGINS/canary.wasm"
config = { percent = 90, cluster = "canary" }
"#;

/// Told of in an access log, which a thread of its own writes to nowhere: what it takes is counted too.
const TOLD: &str = r#"
[access_log]
path = "/dev/null"
[[route]]
name = "all"
cluster = "stable"
"#;

const CLUSTERS: &str = r#"
[[listener]]
name = "web"
listen = "127.0.0.1:0"
[[cluster]]
name = "stable"
endpoints = [{ address = "192.0.2.1:80" }]
[[cluster]]
name = "canary"
endpoints = [{ address = "192.0.2.2:80" }]
"#;

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        alone("the two ends alone, 128 bytes", SMALL),
        alone("the two ends alone, 64 KiB", LARGE),
        proxied("a request, 128 bytes", PLAIN, SMALL, b's'),
        proxied("a request, access log", TOLD, SMALL, b's'),
        proxied("a request, 64 KiB", PLAIN, LARGE, b's'),
        proxied("a request, native policy", NATIVE, SMALL, b'c'),
        proxied("a request, router and splitter plugins", ASKED, SMALL, b'c'),
    ]
}

/// Without a driver: nothing here waits for the system, and a connection that is made after all fails.
fn runtime() -> LocalRuntime {
    Builder::new_current_thread().build_local(LocalOptions::default()).expect("a runtime")
}

/// What the client and the origin cost by themselves, which is part of every request's count.
fn alone(name: &str, size: usize) -> Operation {
    Operation::new(name, REQUESTS, move || {
        let runtime = runtime();
        let (near, far) = duplex(HOLDS);
        runtime.spawn_local(origin(far, response(b'.', size)));
        let mut client = runtime.block_on(Client::connect(near, request(), size));
        (|| (), move |()| runtime.block_on(client.ask()))
    })
}

/// A request to a proxy with this configuration, which the cluster that begins with `answers` answers.
fn proxied(name: &str, config: &'static str, size: usize, answers: u8) -> Operation {
    Operation::new(name, REQUESTS, move || {
        let (runtime, control) = (runtime(), control(config));
        let worker =
            Worker::new(0, Arc::clone(&control.live), Arc::clone(&control.telemetry), control.drain.clone(), 7);
        for cluster in control.live.load().clusters.iter() {
            for endpoint in cluster.endpoints.iter() {
                let (near, far) = duplex(HOLDS);
                let limits = cluster.config.pool.clone();
                let connection = Connection::new(Stream::Memory(near), Arc::clone(endpoint), limits, Instant::now());
                worker.upstreams.give_back(Box::new(connection));
                runtime.spawn_local(origin(far, response(cluster.config.name.as_bytes()[0], size)));
            }
        }
        let (near, far) = duplex(HOLDS);
        let header_bytes = control.live.load().config.listeners[0].limits.header_bytes;
        let conn = Conn::new(0, "203.0.113.7:40000".parse().expect("an address"), false, header_bytes);
        let serving = Rc::clone(&worker);
        runtime.spawn_local(async move { serve(&serving, &conn, far).await });
        let mut client = runtime.block_on(Client::connect(near, request(), size));
        let ask = move |()| {
            let answered = runtime.block_on(client.ask());
            assert_eq!(answered, Some(answers), "by another cluster");
        };
        (|| (), ask)
    })
}

/// The control plane of a proxy whose listeners nobody serves.
fn control(text: &str) -> Arc<Control> {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/plugins");
    let text = format!("{CLUSTERS}{text}").replace("PLUGINS", &plugins.to_string_lossy());
    let state = tempfile::tempdir().expect("a directory");
    let parsed = config::parse(&text, "bench.toml", state.path()).unwrap_or_else(|wrong| panic!("{wrong}"));
    let mut config = parsed.config;
    for plugin in &mut config.plugins {
        // Under a counter, a first call takes longer than a budget allows.
        plugin.budget.time = Duration::from_secs(10);
    }
    // Under a counter, compiling takes ten seconds a plugin: the next run is spared it.
    let cache = CacheOptions { dir: Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"), key: [7; 32] };
    // A counter leaves a process little address space.
    let options = EngineOptions { memory_ceiling: 16 << 20, max_instances: 16, cache: Some(cache) };
    let engine = Engine::new(options).expect("an engine");
    let store = Store::open(&state.path().join("state")).expect("a store");
    let sockets = Sockets::bind(&config, None, 1, &mut Inherited::default()).expect("a port that is free");
    let tls = Tls::default();
    let orders = vec![tokio::sync::mpsc::unbounded_channel().0];
    let access_logs = AccessLogs::default();
    let access_log = access_logs.next(config.access_log.as_ref(), None).expect("it can be opened");
    let (control, _opening) = Control::start(Start {
        config: Arc::new(config),
        source: Source::default(),
        engine,
        store,
        cookie_secret: [7; 32],
        sockets,
        tls,
        orders,
        access_logs,
        access_log,
        spans: Arc::default(),
        traces: None,
        drain: Drain::default(),
        is_successor: false,
    });
    control
}
