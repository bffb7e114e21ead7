//! What a question costs, on the shipped plugins and on a module without any logic. Prints p50 and p99 in nanoseconds
//! of single calls; the clock's own cost, which the first row shows, is part of each. `cargo bench -p witgate-policy`,
//! with `-- tenant` only the rows with that in their name; plugins that were not built are left out. Started with
//! `--instructions` it only asks each question so many times, for `cargo xtask instructions` to count under callgrind.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "figures are what a bench is for")]

#[path = "../../../tests/counting/mod.rs"]
mod counting;
#[path = "../../../tests/fixtures/mod.rs"]
mod fixtures;

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fixtures::Fixture;
use http::HeaderValue;
use witgate_core::config::{Budget, Isolation};
use witgate_core::request::Head;
use witgate_policy::{Columns, Engine, EngineOptions, Instances, Plugin, Settings};

const ROUNDS: usize = 50_000;
/// Rounds to count: each takes as many instructions as the last.
const COUNTED: usize = 1000;

struct Bench {
    engine: Arc<Engine>,
    clusters: Arc<[String]>,
    /// Those of one worker, as long as it runs.
    on: Instances,
    /// A request reads the clock once, whatever it asks.
    now: Instant,
}

fn main() {
    let mut bench = Bench {
        // A counter leaves a process little address space.
        engine: Engine::new(EngineOptions { memory_ceiling: 16 << 20, max_instances: 16, cache: None })
            .expect("an engine"),
        clusters: ["stable".to_owned(), "canary".to_owned()].into(),
        on: Instances::new(),
        now: Instant::now(),
    };
    if !counting() {
        println!("{:<44} {:>9} {:>9}", "call", "p50 ns", "p99 ns");
        report("nothing: the clock", || true);
    }
    bench.plugins_without_logic();
    bench.shipped();
}

impl Bench {
    fn plugins_without_logic(&mut self) {
        // With room for arguments as the SDK has it.
        let module = Fixture::every().pages(2).room(64 << 10, 4096).build();
        let plugin = self.admit(&module, "{}", Isolation::Worker);
        self.requests("no logic, one field", &plugin);
        for n in [2, 64, 512] {
            self.scores(&format!("no logic, {n} endpoints"), &plugin, n);
        }
        let fresh = self.admit(&module, "{}", Isolation::Request);
        self.split("no logic, fresh instance: split", &fresh);
        let waiting = Fixture::new(&["splitter"]).with_wasi().live("split", fixtures::PRINT).build();
        // Prints a line, which the log drops: what WASI's streams cost.
        let waiting = self.admit(&waiting, "{}", Isolation::Worker);
        self.split("no logic, a line to stdout: split", &waiting);
    }

    fn shipped(&mut self) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/plugins");
        for (plugin_name, what, config) in [
            ("canary", "one field", "{}"),
            ("canary", "one field, a cluster by name", r#"{"cluster":"canary","percent":10}"#),
            ("canary", "two fields", r#"{"force":{"header":"x-canary"}}"#),
            ("tenant", "one field", r#"{"rules":[{"header":"x-tenant","clusters":{"acme":"acme"}}]}"#),
            (
                "tenant",
                "one field that is absent",
                r#"{"rules":[{"header":"x-canary","equals":"1","cluster":"acme"}]}"#,
            ),
            (
                "tenant",
                "two fields, sets a header",
                r#"{"header":"x-tenant","rules":[{"path_prefix":"/api","header":"x-tenant","clusters":{"acme":"acme"}}]}"#,
            ),
            ("session", "two fields", r#"{"by":[{"header":"x-session"}]}"#),
            ("latency", "no field", "{}"),
            ("router-js", "one field", r#"{"header":"x-tenant","clusters":{"acme":"acme"}}"#),
        ] {
            let name = format!("{plugin_name}, {what}");
            // Compiling an interpreter under a counter takes minutes.
            if !wanted(plugin_name) || counting() && plugin_name == "router-js" {
                continue;
            }
            let Ok(bytes) = std::fs::read(folder.join(format!("{plugin_name}.wasm"))) else {
                let what = format!("{name:<44} not built: cargo xtask plugins");
                if counting() {
                    eprintln!("{what}")
                } else {
                    println!("{what}")
                }
                continue;
            };
            let settings = self.settings(config, Isolation::Worker);
            let loaded =
                self.engine.load(&bytes, &|_| ()).and_then(|code| Plugin::admit(&self.engine, code, settings, &|_| ()));
            match loaded {
                Ok(plugin) if plugin.exports().scorer => {
                    [2, 64, 512]
                        .into_iter()
                        .for_each(|n| self.scores(&format!("{plugin_name}, {n} endpoints"), &plugin, n));
                }
                Ok(plugin) => self.requests(&name, &plugin),
                Err(refused) => println!("{name:<44} {refused}"),
            }
        }
    }

    fn admit(&self, module: &[u8], config: &str, isolation: Isolation) -> Arc<Plugin> {
        let code = self.engine.load(module, &|_| ()).expect("loads");
        Plugin::admit(&self.engine, code, self.settings(config, isolation), &|_| ()).expect("admitted")
    }

    fn settings(&self, config: &str, isolation: Isolation) -> Settings {
        // Under a counter, a first call takes longer than a budget allows.
        let budget = Budget { time: Duration::from_secs(10), ..Budget::default() };
        Settings { config: config.to_owned(), isolation, instances: 2, budget, ..Settings::default() }
    }

    fn requests(&mut self, name: &str, plugin: &Plugin) {
        let (exports, mut head, now) = (plugin.exports(), head(), self.now);
        if exports.router {
            let on = &mut self.on;
            report(&format!("{name}: route"), || plugin.route(on, &mut head, now).is_ok());
        }
        if exports.splitter {
            self.split(&format!("{name}: split"), plugin);
        }
        if exports.affinity {
            let on = &mut self.on;
            report(&format!("{name}: stick"), || plugin.stick(on, &mut head, now).is_ok());
        }
    }

    fn split(&mut self, name: &str, plugin: &Plugin) {
        let (on, mut head, now) = (&mut self.on, head(), self.now);
        let clusters = &self.clusters;
        report(name, || plugin.split(on, &mut head, 1, &[95, 5], clusters, now).is_ok());
    }

    fn scores(&mut self, name: &str, plugin: &Plugin, n: u32) {
        let (on, mut head, columns, now) = (&mut self.on, head(), columns(n), self.now);
        if n <= 8 {
            report(&format!("{name}: pick"), || plugin.pick(on, &mut head, &columns, now).is_ok());
        }
        let mut now_ms = 0;
        report(&format!("{name}: weigh"), || {
            now_ms += 1_000; // Of each interval, so that averages move.
            plugin.weigh(on, now_ms, &columns, now).is_ok()
        });
    }
}

/// Whether the command line asks for this row: by a part of its name, or by naming none.
fn wanted(name: &str) -> bool {
    let part = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    part.is_none_or(|part| name.contains(&*part) || part.contains(name))
}

/// Whether a counter counts, and nobody looks at a clock.
fn counting() -> bool {
    counting::asked().is_some()
}

/// Runs it many times, of which a fifth is not counted.
fn report(name: &str, mut call: impl FnMut() -> bool) {
    if !wanted(name) {
        return;
    }
    if counting() {
        let mut all = || assert!((0..COUNTED).all(|_| black_box(call())), "{name}");
        all();
        counting::witgate_mark();
        all();
        counting::witgate_mark();
        counting::tell(COUNTED, name);
        return;
    }
    let mut times: Vec<Duration> = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let answered = black_box(call());
        times.push(start.elapsed());
        assert!(answered, "{name}");
    }
    times.drain(..ROUNDS / 5);
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 100].as_nanos();
    println!("{name:<44} {:>9} {:>9}", at(50), at(99));
}

/// A browser's request, with what the shipped plugins look at.
fn head() -> Box<Head> {
    let mut head = Box::new(Head { uri: "/api/items?page=2".parse().expect("a URI"), ..Head::default() });
    for (name, value) in [
        ("host", "api.example.com"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("accept", "application/json"),
        ("accept-language", "en-GB,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("cookie", "theme=dark; uid=u-18446744; wg=abcdefgh"),
        ("x-tenant", "acme"),
        ("x-session", "s-0123456789"),
    ] {
        head.headers.insert(name, HeaderValue::from_static(value));
    }
    head
}

/// Endpoints no two of which are alike, as those of a cluster never are: what is alike is sorted in no time.
fn columns(n: u32) -> Columns {
    // A stride that shares no factor with the range visits all of it, in an order that goes up and down.
    let spread = |range: u32| (0..n).map(move |at| at.wrapping_mul(7_919) % range);
    Columns {
        id: (0..u64::from(n)).collect(),
        in_flight: spread(10).collect(),
        latency_ms: spread(997).map(|part| 5.0 + part as f32 / 25.0).collect(),
        success_rate: spread(11).map(|part| 1.0 - part as f32 / 100.0).collect(),
        request_rate: vec![100.0; n as usize],
        weight: vec![1; n as usize],
        zone: vec![0; n as usize],
        age_s: vec![600.0; n as usize],
    }
}
