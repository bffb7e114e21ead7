//! Routers that were not written in Rust answer through the same door, and say what a call of theirs costs.
//!
//! The components come from `examples/*/build.sh`, which need npm and PyPI: where one was not built, its test prints
//! how to build it and passes.
#![expect(clippy::print_stdout, reason = "the figures are half of what these tests are for")]

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderName, HeaderValue};
use witgate_core::{
    answer::{RawAction, RawRoute},
    config::Budget,
    request::Head,
};
use witgate_policy::{Code, Engine, EngineOptions, Instances, Plugin, Refused, Settings};

const CONFIG: &str = r#"{
    "header": "X-Tenant",
    "clusters": { "acme": "acme", "globex": "big", "kölle": "alaaf" },
    "deny": ["mallory"],
    "set_header": "x-who"
}"#;

/// Far above what a call takes, so that a slow or busy machine does not turn a test of meaning into one of speed.
const TIME: Duration = Duration::from_secs(1);

/// Instances of a plugin that are made ready.
const SPARES: usize = 8;

#[test]
fn javascript_answers_router() {
    check("javascript", "router-js", 16 << 20);
}

#[test]
fn python_answers_router() {
    check("python", "router-py", 32 << 20);
}

/// Admits `target/plugins/<module>.wasm` with `memory` bytes an instance, and asks it about every kind of tenant.
fn check(language: &str, module: &str, memory: u64) {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let Ok(bytes) = std::fs::read(root.join(format!("target/plugins/{module}.wasm"))) else {
        println!("skipped: {module}.wasm is not there; examples/{language}/build.sh makes it");
        return;
    };

    let options = EngineOptions { memory_ceiling: 256 << 20, max_instances: 128, cache: None };
    let engine = Engine::new(options).expect("an engine");
    let started = Instant::now();
    let code = engine.load(&bytes, &|_| {}).unwrap_or_else(|refused| panic!("{module} is refused: {refused}"));
    let loaded = started.elapsed();
    assert!(code.exports.router && !code.exports.splitter, "{module}: {:?}", code.exports);

    let started = Instant::now();
    let plugin =
        admit(&engine, &code, CONFIG, memory).unwrap_or_else(|refused| panic!("{module} is refused: {refused}"));
    let admitted = started.elapsed();

    let mut instances = Instances::default();
    for (tenant, expected) in answers() {
        let answer = ask(&plugin, &mut instances, tenant);
        assert_eq!(answer, expected, "{module}: tenant {tenant:?}");
    }
    let refused = admit(&engine, &code, r#"{"header": "x-tenant", "cluster": {}}"#, memory).err();
    let reason = refused.map_or_else(|| "nothing".into(), |refused| refused.to_string());
    assert!(reason.contains("`cluster`: unknown key"), "{module}: a wrong config is refused with {reason:?}");

    let (p50, p99) = latency(&plugin, &mut instances);
    let resident = resident_instance(|| admit(&engine, &code, CONFIG, memory));
    println!(
        "{module}: {} KiB of Wasm, {} imports; load {loaded:.0?}, admit with {SPARES} spares {admitted:.1?}; \
         call p50 {p50:.1?}, p99 {p99:.1?}; an instance: {} KiB of linear memory, {resident} KiB resident",
        bytes.len() / 1024,
        code.imports.len(),
        plugin.stats().memory() / 1024,
    );
}

fn admit(engine: &Arc<Engine>, code: &Arc<Code>, config: &str, memory: u64) -> Result<Arc<Plugin>, Refused> {
    let settings = Settings {
        config: config.into(),
        budget: Budget { time: TIME, memory },
        instances: SPARES,
        ..Settings::default()
    };
    Plugin::admit(engine, Arc::clone(code), settings, &|_| ())
}

/// Tenants and what the configuration above says of them.
fn answers() -> Vec<(Option<&'static str>, RawRoute)> {
    let told = |who: &str, action: RawAction| RawRoute {
        action,
        set_headers: vec![("x-who".into(), who.into())],
        remove_headers: vec!["x-who".into()],
    };
    let denied = RawAction::Respond {
        status: 403,
        headers: vec![("content-type".into(), "text/plain".into())],
        body: "tenant mallory is blocked\n".into(),
    };
    let unknown = || told("unknown", RawAction::Pass);
    vec![
        (Some("acme"), told("acme", RawAction::Cluster("acme".into()))),
        (Some("globex"), told("globex", RawAction::Cluster("big".into()))),
        (Some("kölle"), told("kölle", RawAction::Cluster("alaaf".into()))),
        (Some("mallory"), told("mallory", denied)),
        (Some("someone else"), unknown()),
        (Some(""), unknown()),
        (None, unknown()),
    ]
}

fn ask(plugin: &Arc<Plugin>, instances: &mut Instances, tenant: Option<&str>) -> RawRoute {
    let mut head = Box::new(head(tenant));
    let answer = plugin.route(instances, &mut head, Instant::now());
    answer.unwrap_or_else(|failure| panic!("tenant {tenant:?}: {failure:?}"))
}

fn head(tenant: Option<&str>) -> Head {
    let mut head = Head::default();
    if let Some(tenant) = tenant {
        let value = HeaderValue::from_bytes(tenant.as_bytes()).expect("a header value");
        head.headers.insert(HeaderName::from_static("x-tenant"), value);
    }
    head
}

/// p50 and p99 of a call through a reused instance.
fn latency(plugin: &Arc<Plugin>, instances: &mut Instances) -> (Duration, Duration) {
    let mut head = Box::new(head(Some("acme")));
    let mut times: Vec<Duration> = (0..10_000)
        .map(|_| {
            let started = Instant::now();
            plugin.route(instances, &mut head, started).expect("an answer");
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// KiB of private memory that an instance keeps once it is configured. 0 where the system does not tell.
fn resident_instance(admit: impl Fn() -> Result<Arc<Plugin>, Refused>) -> u64 {
    let first = admit(); // Warms what one more plugin shares with it.
    let before = anonymous_kib();
    let second = admit();
    let kib = anonymous_kib().saturating_sub(before) / SPARES as u64;
    drop((first, second));
    kib
}

fn anonymous_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
