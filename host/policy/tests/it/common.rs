//! What the tests of this crate share.
#[path = "../../../../tests/fixtures/mod.rs"]
pub(crate) mod fixtures;

use std::sync::Arc;
use std::time::{Duration, Instant};

use witgate_core::config::Budget;
use witgate_core::request::Head;
use witgate_policy::{Columns, Engine, EngineOptions, Failure, Instances, Plugin, Question, Refused, Settings};

/// An engine without a cache.
pub(crate) fn engine() -> Arc<Engine> {
    Engine::new(EngineOptions { max_instances: 32, ..EngineOptions::default() }).expect("an engine")
}

/// A budget that no answer overruns that ends by itself, however slow the machine is.
pub(crate) fn patient() -> Settings {
    let budget = Budget { time: Duration::from_secs(10), ..Budget::default() };
    Settings { budget, ..Settings::default() }
}

/// Loads and admits.
pub(crate) fn admit(engine: &Arc<Engine>, bytes: &[u8], settings: Settings) -> Result<Arc<Plugin>, Refused> {
    engine.load(bytes, &|_| ()).and_then(|code| Plugin::admit(engine, code, settings, &|_| ()))
}

/// A live request's head.
pub(crate) fn head(uri: &str) -> Box<Head> {
    Box::new(Head { uri: uri.parse().expect("a URI"), ..Head::default() })
}

/// As many endpoints, all alike.
pub(crate) fn columns(n: u32) -> Columns {
    let each = n as usize;
    Columns {
        id: (0..u64::from(n)).collect(),
        in_flight: vec![0; each],
        latency_ms: vec![1.0; each],
        success_rate: vec![1.0; each],
        request_rate: vec![1.0; each],
        weight: vec![1; each],
        zone: vec![0; each],
        age_s: vec![60.0; each],
    }
}

/// Asks one question of a live request; the answer as text.
pub(crate) fn ask(plugin: &Plugin, on: &mut Instances, question: Question, now: Instant) -> Result<String, Failure> {
    let mut head = head("/live");
    let clusters: Arc<[String]> = ["a".to_owned(), "b".to_owned()].into();
    let answer = match question {
        Question::Router => plugin.route(on, &mut head, now).map(|a| format!("{a:?}")),
        Question::Splitter => plugin.split(on, &mut head, 1, &[1, 1], &clusters, now).map(|a| format!("{a:?}")),
        Question::Affinity => plugin.stick(on, &mut head, now).map(|a| format!("{a:?}")),
        Question::Pick => plugin.pick(on, &mut head, &columns(3), now).map(|a| format!("{a:?}")),
        Question::Weigh => plugin.weigh(on, 1, &columns(3), now).map(|a| format!("{a:?}")),
    };
    assert_eq!(head.path(), "/live", "the request is back after {question}");
    answer
}

/// Waits for something that another thread does.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::yield_now();
    }
}
