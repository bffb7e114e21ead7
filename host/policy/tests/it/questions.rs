//! What questions answer, what hostile plugins cost while they run, and what happens to them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::fixtures::{self as f, Fixture};
use crate::common::{admit, ask, columns, engine, head, patient, until};
use witgate_core::config::{Budget, Isolation, Quarantine};
use witgate_core::rollout::CircuitState;
use witgate_policy::{Engine, Failure, Instances, Plugin, Question, Settings};

/// The function behind a question, and its interface.
fn function(question: Question) -> (&'static str, &'static str) {
    match question {
        Question::Router => ("router", "route"),
        Question::Splitter => ("splitter", "split"),
        Question::Affinity => ("affinity", "stick"),
        Question::Pick => ("scorer", "pick"),
        Question::Weigh => ("scorer", "weigh"),
    }
}

/// A plugin that behaves in the rehearsal and misbehaves on live requests.
fn hostile(engine: &Arc<Engine>, question: Question, body: &'static str, settings: Settings) -> Arc<Plugin> {
    let (interface, function) = function(question);
    let module = Fixture::new(&[interface]).live(function, body).build();
    admit(engine, &module, settings).unwrap_or_else(|e| panic!("{question}: {e}"))
}

#[test]
fn honest_answers() {
    let engine = engine();
    for isolation in [Isolation::Worker, Isolation::Request] {
        let settings = Settings { isolation, ..patient() };
        let plugin = admit(&engine, &Fixture::every().build(), settings).expect("admitted");
        let (mut on, now) = (Instances::new(), Instant::now());
        for _ in 0..100 {
            let answers = Question::ALL.map(|q| ask(&plugin, &mut on, q, now).unwrap_or_else(|e| panic!("{q}: {e}")));
            assert!(answers[0].contains("Pass"), "{answers:?}");
            assert_eq!(answers[1..], ["Some(0)", "None", "[1.0, 1.0, 1.0]", "[1.0, 1.0, 1.0]"], "{isolation:?}");
        }
        for question in Question::ALL {
            let stats = plugin.stats().question(question);
            assert_eq!((stats.calls, stats.all_fallbacks()), (100, 0), "{question}");
            assert!(stats.quantile(0.5) > Duration::ZERO);
        }
        assert!(plugin.stats().memory() >= 65536);
    }
}

#[test]
fn a_question_that_is_not_exported_is_an_error() {
    let plugin = admit(&engine(), &Fixture::new(&["splitter"]).build(), patient()).expect("admitted");
    let failure = ask(&plugin, &mut Instances::new(), Question::Router, Instant::now());
    assert!(matches!(&failure, Err(Failure::Malformed(text)) if text.contains("does not export")), "{failure:?}");
}

#[test]
fn every_misbehaviour_costs_one_failure_each_and_no_more() {
    let engine = engine();
    type Expected = fn(&Failure) -> bool;
    let kinds: [(&str, Expected); 6] = [
        (f::LOOP, |e| *e == Failure::Overrun),
        (f::RECURSE, |e| *e == Failure::Trap("call stack exhausted".to_owned())),
        (f::EXHAUST, |e| *e == Failure::Memory),
        (f::TRAP, |e| matches!(e, Failure::Trap(why) if why.contains("unreachable"))),
        (f::WILD, |e| matches!(e, Failure::Malformed(_))),
        (f::NONSENSE, |e| matches!(e, Failure::Malformed(_))),
    ];
    for question in Question::ALL {
        for (body, expected) in &kinds {
            let settings = if *body == f::LOOP { Settings::default() } else { patient() };
            let plugin = hostile(&engine, question, body, settings);
            let (mut on, now) = (Instances::new(), Instant::now());
            let failure = ask(&plugin, &mut on, question, now).expect_err("misbehaves on live requests");
            assert!(expected(&failure), "{question}, {body}: {failure}");
            assert_eq!(on.held(), 0, "{question}, {body}: the instance is discarded");
            // A new one is made off this thread, and behaves where the request lets it.
            until("a new spare", || plugin.spares() == 1);
            let mut good = head("/rehearsal");
            match question {
                Question::Router => drop(plugin.route(&mut on, &mut good, now).expect("answers")),
                Question::Affinity => drop(plugin.stick(&mut on, &mut good, now).expect("answers")),
                Question::Pick => drop(plugin.pick(&mut on, &mut good, &columns(2), now).expect("answers")),
                Question::Weigh => drop(plugin.weigh(&mut on, 1, &columns(2), now).expect("answers")),
                Question::Splitter => {
                    let clusters: Arc<[String]> = ["a".to_owned()].into();
                    plugin.split(&mut on, &mut good, 1, &[1], &clusters, now).expect("answers");
                }
            }
            let stats = plugin.stats().question(question);
            assert_eq!((stats.calls, stats.all_fallbacks()), (2, 1), "{question}, {body}");
        }
    }
}

#[test]
fn an_answer_of_terabytes_is_not_copied() {
    let engine = engine();
    let plugin = hostile(&engine, Question::Router, f::BOMB, patient());
    let failure = ask(&plugin, &mut Instances::new(), Question::Router, Instant::now());
    assert!(matches!(failure, Err(Failure::Malformed(_))), "{failure:?}");
}

#[test]
fn a_loop_is_cut_near_its_budget() {
    let engine = engine();
    for millis in [1, 5, 20] {
        let budget = Budget { time: Duration::from_millis(millis), ..Budget::default() };
        let plugin = hostile(&engine, Question::Splitter, f::LOOP, Settings { budget, ..Settings::default() });
        let mut on = Instances::new();
        let near = budget.time * 5 + Duration::from_millis(100);
        let mut times = Vec::new();
        // Once is enough: a machine that is busy with others makes some calls late, and a cut that is late makes all.
        while times.last().is_none_or(|&took| took > near) && times.len() < 20 {
            until("a spare", || plugin.spares() > 0);
            let start = Instant::now();
            assert_eq!(ask(&plugin, &mut on, Question::Splitter, start), Err(Failure::Overrun));
            times.push(start.elapsed());
        }
        assert!(times.iter().all(|&took| took >= budget.time), "{millis} ms: {times:?}");
        assert!(times.iter().any(|&took| took <= near), "{millis} ms: {times:?}");
    }
}

/// Fills 64 MiB, which is one instruction: nothing cuts it, and it takes many times a budget of 1 ms.
const FILL: &str = "(memory.fill (i32.const 65536) (i32.const 1) (i32.const 0x4000000))";

#[test]
fn a_call_that_ends_by_itself_after_its_budget_is_an_overrun() {
    let engine = engine();
    let budget = Budget { time: Duration::from_millis(1), memory: 128 << 20 };
    for isolation in [Isolation::Worker, Isolation::Request] {
        let module = Fixture::new(&["splitter"]).pages(1025).live("split", FILL).build();
        let settings = Settings { isolation, budget, ..Settings::default() };
        let plugin = admit(&engine, &module, settings).unwrap_or_else(|e| panic!("{e}"));
        let (mut on, now) = (Instances::new(), Instant::now());
        let mut outcomes = Vec::new();
        while outcomes.last() != Some(&Err(Failure::Quarantined)) && outcomes.len() < 20 {
            until("a spare", || isolation == Isolation::Request || plugin.spares() + on.held() > 0);
            outcomes.push(ask(&plugin, &mut on, Question::Splitter, now));
        }
        // Of the first nothing need be known. Five failures are a quarantine.
        let overruns = outcomes.iter().filter(|o| **o == Err(Failure::Overrun)).count();
        let answers = outcomes.iter().filter(|o| o.is_ok()).count();
        assert!(overruns == 5 && answers <= 1, "{isolation:?}: {outcomes:?}");
        assert_eq!(plugin.stats().question(Question::Splitter).fallbacks[Failure::Overrun.kind()], 5);
    }
}

#[test]
fn a_call_that_was_kept_from_its_core_is_none() {
    let engine = engine();
    let module = Fixture::new(&["splitter"]).with_host().live("split", f::LOG).build();
    let settings =
        Settings { budget: Budget { time: Duration::from_millis(1), ..Budget::default() }, ..Settings::default() };
    let plugin = admit(&engine, &module, settings).expect("admitted");
    let (mut on, now) = (Instances::new(), Instant::now());
    // As far as the clocks can tell, a thread that sleeps in the host is one that another thread keeps from its core.
    let slow = tracing_subscriber::fmt().with_writer(|| {
        std::thread::sleep(Duration::from_millis(10));
        std::io::sink()
    });
    tracing::subscriber::with_default(slow.finish(), || {
        for _ in 0..20 {
            assert_eq!(ask(&plugin, &mut on, Question::Splitter, now), Ok("Some(0)".to_owned()));
        }
    });
    let stats = plugin.stats().question(Question::Splitter);
    assert!(stats.quantile(0.25) > Duration::from_millis(8) && stats.all_fallbacks() == 0, "{stats:?}");
}

#[test]
fn a_start_and_a_configure_that_end_by_themselves_after_their_budget_are_refused() {
    let engine = engine();
    let budget = Budget { time: Duration::from_millis(1), memory: 128 << 20 };
    let module = Fixture::new(&["splitter"]).pages(1025);
    let configure = format!(
        "{FILL} (i64.store (i32.const 2048) (i64.const 0)) (i64.store (i32.const 2056) (i64.const 0)) (i32.const 2048)"
    )
    .leak();
    for module in [module.clone().start(FILL), module.always("configure", configure)] {
        let settings = Settings { isolation: Isolation::Request, budget, ..Settings::default() };
        let refused = admit(&engine, &module.build(), settings).expect_err("too slow for each call");
        assert!(refused.reason.contains("did not end within 1ms"), "{refused}");
    }
}

#[test]
fn waiting_is_a_failure_on_any_thread() {
    let engine = engine();
    let module = Fixture::new(&["splitter"]).with_wasi().live("split", f::SLEEP).build();
    let plugin = admit(&engine, &module, Settings { instances: 2, ..patient() }).expect("admitted");
    let wait = || ask(&plugin, &mut Instances::new(), Question::Splitter, Instant::now());
    assert_eq!(wait(), Err(Failure::Waited), "on a plain thread");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    assert_eq!(runtime.block_on(async { wait() }), Err(Failure::Waited), "on a tokio worker");
    // The engine goes away on a worker, too.
    runtime.block_on(async move { drop((plugin, engine)) });
}

/// Fails until the circuit opens, with instances refilled in between.
fn fail_until_quarantined(plugin: &Plugin, on: &mut Instances, now: Instant) -> u32 {
    for made in 0..100 {
        match ask(plugin, on, Question::Splitter, now) {
            Err(Failure::Quarantined) => return made,
            Err(Failure::NoInstance) => panic!("waited for a spare, and yet none"),
            other => assert!(other.is_err(), "{other:?}"),
        }
        until("a new spare", || plugin.spares() > 0);
    }
    panic!("never quarantined: {:?}", plugin.circuit_state());
}

#[test]
fn five_failures_are_a_quarantine_that_costs_nothing() {
    let engine = engine();
    let plugin = hostile(&engine, Question::Splitter, f::LOOP, Settings::default());
    let (mut on, now) = (Instances::new(), Instant::now());
    assert_eq!(fail_until_quarantined(&plugin, &mut on, now), 5);
    assert!(matches!(plugin.circuit_state(), CircuitState::Open { .. }), "{:?}", plugin.circuit_state());
    until("the last spare", || plugin.spares() == 1);
    for _ in 0..10_000 {
        assert_eq!(ask(&plugin, &mut on, Question::Splitter, now), Err(Failure::Quarantined));
    }
    let stats = plugin.stats().question(Question::Splitter);
    assert_eq!((stats.calls, stats.fallbacks[0]), (5, 10_001), "none of them called the plugin");
    assert_eq!((plugin.spares(), on.held()), (1, 0), "none of them took an instance");
}

/// Otherwise the next question would begin when an earlier request's ended: it would be late before it was asked, and the
/// ticker would sleep through an endless loop.
#[test]
fn a_question_begins_when_it_is_said_to_and_no_call_leaves_no_end() {
    let engine = engine();
    let good = admit(&engine, &Fixture::every().build(), patient()).expect("admitted");
    let bad = hostile(&engine, Question::Splitter, f::TRAP, patient());
    let (mut on, now) = (Instances::new(), Instant::now());
    fail_until_quarantined(&bad, &mut on, now);
    let total = || good.stats().question(Question::Router).total;
    // How long a question is said to take, and how long it took from here.
    let timed = |on: &mut Instances| {
        let (before, begun) = (total(), Instant::now());
        ask(&good, on, Question::Router, now).expect("an answer");
        (total() - before, begun, begun.elapsed())
    };
    timed(&mut on);
    let ended = on.ended().expect("a call was made");

    // Where nothing is said, a clock is read.
    let (took, _, at_most) = timed(&mut on);
    assert!(took <= at_most, "{took:?} of {at_most:?}");

    // What is said holds for one question.
    on.begin_at(ended);
    let (took, begun, _) = timed(&mut on);
    assert!(took >= begun - ended, "{took:?} since {:?}", begun - ended);
    let (took, _, at_most) = timed(&mut on);
    assert!(took <= at_most, "{took:?} of {at_most:?}");

    // Also where it made no call.
    on.begin_at(ended);
    assert_eq!(ask(&bad, &mut on, Question::Splitter, now), Err(Failure::Quarantined));
    assert_eq!(on.ended(), None);
    let (took, _, at_most) = timed(&mut on);
    assert!(took <= at_most, "{took:?} of {at_most:?}");
}

#[test]
fn a_fresh_instance_for_each_call_is_bounded_and_quarantined_too() {
    let engine = engine();
    let settings = Settings { isolation: Isolation::Request, ..Settings::default() };
    let plugin = hostile(&engine, Question::Splitter, f::LOOP, settings);
    let (mut on, now) = (Instances::new(), Instant::now());
    for _ in 0..5 {
        assert_eq!(ask(&plugin, &mut on, Question::Splitter, now), Err(Failure::Overrun));
    }
    assert_eq!(ask(&plugin, &mut on, Question::Splitter, now), Err(Failure::Quarantined));
    assert_eq!((on.held(), plugin.spares()), (0, 0));
}

#[test]
fn one_trial_decides() {
    let engine = engine();
    let plugin = hostile(&engine, Question::Splitter, f::TRAP, patient());
    let (mut on, start) = (Instances::new(), Instant::now());
    fail_until_quarantined(&plugin, &mut on, start);
    let clusters: Arc<[String]> = ["a".to_owned(), "b".to_owned()].into();
    let split = |path: &str, at: Duration, on: &mut Instances| {
        until("a spare or an instance", || plugin.spares() + on.held() > 0);
        plugin.split(on, &mut head(path), 1, &[1, 1], &clusters, start + at)
    };
    let second = Duration::from_secs(1);
    assert_eq!(split("/rehearsal", second / 2, &mut on), Err(Failure::Quarantined));
    // The back-off of 1 s is over: the trial fails, and the back-off doubles.
    assert!(matches!(split("/live", second + second / 10, &mut on), Err(Failure::Trap(_))));
    assert_eq!(split("/rehearsal", 3 * second, &mut on), Err(Failure::Quarantined));
    // It is over again: the trial succeeds, and calls are made.
    assert_eq!(split("/rehearsal", 4 * second, &mut on), Ok(Some(0)));
    assert_eq!(split("/rehearsal", 4 * second, &mut on), Ok(Some(0)));
    assert_eq!(plugin.circuit_state(), CircuitState::Closed);
}

#[test]
fn rejected_answers_are_failures() {
    let engine = engine();
    let plugin = hostile(&engine, Question::Splitter, f::CHOICE_7, patient());
    let (mut on, now) = (Instances::new(), Instant::now());
    for round in 0..5 {
        until("a spare", || plugin.spares() > 0);
        assert_eq!(ask(&plugin, &mut on, Question::Splitter, now), Ok("Some(7)".to_owned()), "round {round}");
        plugin.reject(&mut on, Question::Splitter, "choice 7 was not offered", now);
        assert_eq!(on.held(), 0);
    }
    assert_eq!(ask(&plugin, &mut on, Question::Splitter, now), Err(Failure::Quarantined));
    // A trial whose answer is rejected has failed, so the back-off doubles to 2 s.
    let later = now + Duration::from_millis(1100);
    until("a spare", || plugin.spares() > 0);
    assert!(ask(&plugin, &mut on, Question::Splitter, later).is_ok());
    plugin.reject(&mut on, Question::Splitter, "choice 7 was not offered", later);
    let still = ask(&plugin, &mut on, Question::Splitter, later + Duration::from_millis(1900));
    assert_eq!(still, Err(Failure::Quarantined));
}

#[test]
fn a_worker_without_an_instance_does_not_wait() {
    let engine = engine();
    let plugin = admit(&engine, &Fixture::new(&["splitter"]).build(), patient()).expect("admitted");
    let (mut first, mut second, now) = (Instances::new(), Instances::new(), Instant::now());
    assert!(ask(&plugin, &mut first, Question::Splitter, now).is_ok());
    assert_eq!(ask(&plugin, &mut second, Question::Splitter, now), Err(Failure::NoInstance));
    until("a spare for the second worker", || plugin.spares() > 0);
    assert!(ask(&plugin, &mut second, Question::Splitter, now).is_ok());
    assert_eq!(plugin.circuit_state(), CircuitState::Closed);
}

#[test]
fn instances_go_with_their_plugin() {
    let engine = engine();
    let (module, mut on, now) = (Fixture::new(&["splitter"]).build(), Instances::new(), Instant::now());
    // More than the pool has room for at once: 32.
    for version in 0..200 {
        let settings = Settings { version, instances: 2, ..patient() };
        let made = std::cell::Cell::new(None);
        until("room in the pool", || match admit(&engine, &module, settings.clone()) {
            Ok(plugin) => {
                made.set(Some(plugin));
                true
            }
            Err(refused) => {
                assert!(refused.reason.contains("limit"), "{refused}");
                false
            }
        });
        let plugin = made.take().expect("made");
        assert!(ask(&plugin, &mut on, Question::Splitter, now).is_ok(), "version {version}");
        assert_eq!(on.held(), 1, "the instance of the version before is gone");
    }
    on.sweep();
    assert_eq!(on.held(), 0);
}

#[test]
fn workers_ask_at_once() {
    let engine = engine();
    let settings = Settings { instances: 4, ..patient() };
    let plugin = admit(&engine, &Fixture::every().build(), settings).expect("admitted");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut on = Instances::new();
                for _ in 0..500 {
                    for question in Question::ALL {
                        ask(&plugin, &mut on, question, Instant::now()).unwrap_or_else(|e| panic!("{question}: {e}"));
                    }
                }
            });
        }
    });
    let calls: u64 = Question::ALL.iter().map(|&q| plugin.stats().question(q).calls).sum();
    assert_eq!(calls, 4 * 500 * 5);
}

#[test]
fn the_same_bytes_are_loaded_once() {
    let engine = engine();
    let module = Fixture::new(&["splitter"]).build();
    let stages = std::cell::RefCell::new(Vec::new());
    let progress = |stage| stages.borrow_mut().push(stage);
    let first = engine.load(&module, &progress).expect("loads");
    let said = stages.borrow().clone();
    assert_eq!(said.iter().collect::<HashSet<_>>().len(), said.len(), "each stage once: {said:?}");
    assert!(Arc::ptr_eq(&first, &engine.load(&module, &progress).expect("loads")));
    let other = Fixture::new(&["splitter"]).marker(1).build();
    assert!(!Arc::ptr_eq(&first, &engine.load(&other, &progress).expect("loads")));
}

#[test]
fn a_quarantine_is_as_configured() {
    let engine = engine();
    let quarantine = Quarantine { failures: 2, ..Quarantine::default() };
    let plugin = hostile(&engine, Question::Splitter, f::TRAP, Settings { quarantine, ..patient() });
    assert_eq!(fail_until_quarantined(&plugin, &mut Instances::new(), Instant::now()), 2);
}

#[test]
fn the_host_answers_what_the_manifest_did_not_ask_for() {
    let engine = engine();
    let module = Fixture::every()
        .with_host()
        .always("stick", f::KEY_IS_PATH)
        .live("weigh", f::NO_PATH_HERE)
        .always("split", f::LAST_CLUSTER)
        .build();
    let plugin = admit(&engine, &module, patient()).expect("admitted");
    let (mut on, now) = (Instances::new(), Instant::now());
    for path in ["/first", "/second/longer"] {
        let stick = plugin.stick(&mut on, &mut head(path), now).expect("answers").expect("an opinion");
        assert_eq!(stick.key, path);
    }
    assert!(ask(&plugin, &mut on, Question::Weigh, now).is_ok(), "no request stands behind weigh");
    for clusters in [&["a", "b", "c"][..], &["a"]] {
        let names: Arc<[String]> = clusters.iter().map(ToString::to_string).collect();
        let choice = plugin.split(&mut on, &mut head("/"), 1, &vec![1; names.len()], &names, now).expect("answers");
        assert_eq!(choice.map(|c| c as usize + 1), Some(names.len()));
    }
}

#[test]
fn modules_for_wasi_0_1_are_adapted() {
    let engine = engine();
    let module = Fixture::new(&["splitter"]).with_preview1().live("split", f::RANDOM_0_1).build();
    let plugin = admit(&engine, &module, patient()).expect("admitted");
    let mut on = Instances::new();
    for _ in 0..3 {
        assert_eq!(ask(&plugin, &mut on, Question::Splitter, Instant::now()), Ok("Some(0)".to_owned()));
    }
}

/// What is logged while `work` runs.
fn logged(work: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, work);
    String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("text")
}

#[test]
fn what_a_plugin_says_goes_to_the_log_at_a_bounded_rate() {
    let engine = engine();
    for (module, level) in [
        (Fixture::new(&["splitter"]).with_host().live("split", f::LOG), "ERROR"),
        (Fixture::new(&["splitter"]).with_wasi().live("split", f::PRINT), "INFO"),
    ] {
        let settings = Settings { name: "talker".to_owned(), version: 7, ..patient() };
        let plugin = admit(&engine, &module.build(), settings).expect("admitted");
        let mut on = Instances::new();
        let text = logged(|| {
            for _ in 0..1000 {
                ask(&plugin, &mut on, Question::Splitter, Instant::now()).expect("answers");
            }
        });
        let lines = text.lines().filter(|l| l.contains(level) && l.contains("no plugin=\"talker\" version=7")).count();
        assert!((1..=300).contains(&lines), "{lines} lines of {level}: {text}");
    }
}
