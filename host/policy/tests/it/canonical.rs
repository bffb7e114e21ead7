//! A core module is asked directly and as a component, with a room for arguments and without: whatever lies in its memory,
//! all ways must say the same.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use crate::common::fixtures::{self as f, Fixture};
use crate::common::{admit, ask, engine, head, patient};
use witgate_core::config::{Isolation, Quarantine};
use witgate_policy::{Engine, Failure, Instances, Plugin, Question, Settings};

/// Answers with what the path says: two letters from `a` to `p` for each byte.
const ECHO: &str = "(local $i i32) (local $n i32) (local $at i32) \
     (local.set $at (i32.add (i32.load offset=4 (local.get $p0)) (i32.const 1))) \
     (local.set $n (i32.shr_u (i32.load offset=8 (local.get $p0)) (i32.const 1))) \
     (block $done (loop $next (br_if $done (i32.ge_u (local.get $i) (local.get $n))) \
       (i32.store8 (i32.add (i32.const 2048) (local.get $i)) (i32.add \
         (i32.shl (i32.sub (i32.load8_u (local.get $at)) (i32.const 97)) (i32.const 4)) \
         (i32.sub (i32.load8_u offset=1 (local.get $at)) (i32.const 97)))) \
       (local.set $at (i32.add (local.get $at) (i32.const 2))) (local.set $i (i32.add (local.get $i) (i32.const 1))) \
       (br $next))) \
     (return (i32.const 2048))";

/// The same plugin: as a module, as one with a room, and as a component.
fn all(engine: &Arc<Engine>, fixture: &Fixture, settings: &Settings) -> [Arc<Plugin>; 3] {
    let (at, len) = f::ROOM;
    [fixture.build(), fixture.clone().room(at, len).build(), fixture.component()]
        .map(|bytes| admit(engine, &bytes, settings.clone()).unwrap_or_else(|e| panic!("{e}")))
}

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Memory as an answer could be, or nearly: small discriminants, lengths, and pointers into itself.
fn memory(state: &mut u64) -> Vec<u8> {
    (0..24)
        .flat_map(|_| {
            let r = random(state);
            let small = |n: u64| (r >> 32) % n;
            let word = match r % 32 {
                0..20 => small(3),
                20..29 => 2048 + small(24) * 4,
                29 => 2048 + small(96),
                30 => u64::from(u32::from_le_bytes(*b"ab\xc3\xa9")),
                _ => r >> 32,
            };
            u32::try_from(word).unwrap_or(0).to_le_bytes()
        })
        .collect()
}

fn path(memory: &[u8]) -> String {
    memory.iter().fold("/".to_owned(), |mut path, byte| {
        let letter = |nibble: u8| char::from(b'a' + nibble);
        let _ = write!(path, "{}{}", letter(byte >> 4), letter(byte & 15));
        path
    })
}

/// The answer, or the kind of failure: the words are each way's own.
fn outcome<T: std::fmt::Debug>(answer: Result<T, Failure>) -> Result<String, &'static str> {
    answer.map(|answer| format!("{answer:?}")).map_err(|failure| Failure::KINDS[failure.kind()])
}

/// Asks again while instances that failed are still being taken down, on another thread, and the pool has no room.
fn with_room<T>(mut ask: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    loop {
        match ask() {
            Err(Failure::Malformed(reason)) if reason.contains("limit of") => std::thread::yield_now(),
            answer => return answer,
        }
    }
}

#[test]
fn random_memory_reads_the_same_both_ways() {
    let engine = engine();
    let fixture = Fixture::new(&["router", "affinity"]).live("route", ECHO).live("stick", ECHO);
    // A fresh instance each time, so that neither sees what an answer before left.
    let settings = Settings {
        isolation: Isolation::Request,
        quarantine: Quarantine { failures: u32::MAX, ..Quarantine::default() },
        ..patient()
    };
    // Long answers reach to where the arguments are, which a room would change.
    let [direct, _, component] = all(&engine, &fixture, &settings);
    let plugins = [direct, component];
    let (mut state, mut read) = (7, 0);
    for round in 0..3000 {
        let memory = memory(&mut state);
        let [direct, component] = plugins.each_ref().map(|plugin| {
            let (mut on, now, uri) = (Instances::new(), Instant::now(), path(&memory));
            let route = with_room(|| plugin.route(&mut on, &mut head(&uri), now));
            let stick = with_room(|| plugin.stick(&mut on, &mut head(&uri), now));
            (outcome(route), outcome(stick))
        });
        read += u32::from(direct.0.is_ok()) + u32::from(direct.1.is_ok());
        assert_eq!(direct, component, "round {round}: {memory:?}");
    }
    assert!(read > 600, "only {read} of 6000 answers could be read, so little was compared");
}

#[test]
fn every_question_and_misbehaviour_is_the_same_as_a_component() {
    let engine = engine();
    for question in Question::ALL {
        let (interface, function) = match question {
            Question::Router => ("router", "route"),
            Question::Splitter => ("splitter", "split"),
            Question::Affinity => ("affinity", "stick"),
            Question::Pick => ("scorer", "pick"),
            Question::Weigh => ("scorer", "weigh"),
        };
        for body in ["", f::LOOP, f::RECURSE, f::EXHAUST, f::TRAP, f::WILD, f::NONSENSE] {
            let fixture = Fixture::new(&[interface]);
            let fixture = if body.is_empty() { fixture } else { fixture.live(function, body) };
            let settings = if body == f::LOOP { Settings::default() } else { patient() };
            let [direct, with_a_room, component] = all(&engine, &fixture, &settings)
                .map(|plugin| outcome(ask(&plugin, &mut Instances::new(), question, Instant::now())));
            assert_eq!(direct, component, "{question}, {body}");
            assert_eq!(with_a_room, component, "{question}, {body}, with a room");
        }
    }
}

#[test]
fn the_host_answers_the_same() {
    let engine = engine();
    let fixture = Fixture::every().with_host().always("stick", f::KEY_IS_PATH).always("split", f::LAST_CLUSTER);
    for plugin in all(&engine, &fixture, &patient()) {
        let (mut on, now) = (Instances::new(), Instant::now());
        let stick = plugin.stick(&mut on, &mut head("/some/path"), now).expect("answers").expect("an opinion");
        assert_eq!(stick.key, "/some/path");
        assert_eq!(ask(&plugin, &mut on, Question::Splitter, now), Ok("Some(1)".to_owned()));
    }
}

#[test]
fn a_room_outside_of_the_memory_is_refused() {
    let engine = engine();
    for (at, len) in [(65_536, 1), (65_000, 1000), (u32::MAX, 1), (1, u32::MAX)] {
        let refused = admit(&engine, &Fixture::every().room(at, len).build(), Settings::default());
        let text = refused.map(|_| ()).expect_err("a wild room").to_string();
        assert!(text.contains("a pointer leads out of the memory"), "{at}, {len}: {text}");
    }
}
