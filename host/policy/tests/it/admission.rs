//! Modules that must not be admitted, each refused at its stage and with a reason that helps.

use crate::common::fixtures::{self as f, Fixture};
use crate::common::{admit, engine};
use witgate_core::config::{Budget, Isolation};
use witgate_policy::{Settings, Stage};

/// Admits the bytes and expects a refusal at the stage, with a reason that contains the text.
#[track_caller]
fn refused(bytes: &[u8], settings: Settings, stage: Stage, says: &str) {
    match admit(&engine(), bytes, settings) {
        Ok(plugin) => panic!("admitted {plugin:?}; expected a refusal at {stage} that says {says:?}"),
        Err(refused) => {
            assert!(
                refused.stage == stage && refused.reason.contains(says),
                "expected {stage} / {says:?}, got: {refused}"
            );
        }
    }
}

#[track_caller]
fn check(bytes: &[u8], stage: Stage, says: &str) {
    refused(bytes, Settings::default(), stage, says);
}

fn text(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).expect("valid text")
}

#[test]
fn what_is_not_wasm() {
    check(b"", Stage::Wrap, "empty");
    check(b"#!/bin/sh\n", Stage::Wrap, "not WebAssembly: it begins with \"#!/bin/s\"");
    check(b"(module)", Stage::Wrap, "WebAssembly text");
    check(b"\0asm", Stage::Wrap, "damaged or cut short");
    check(b"\0asm\x63\0\0\0", Stage::Wrap, "damaged or cut short");
}

#[test]
fn what_is_cut_short() {
    let whole = Fixture::new(&["splitter"]).build();
    for len in [9, 20, whole.len() / 2, whole.len() - 1] {
        let refusal = admit(&engine(), &whole[..len], Settings::default()).expect_err("cut short");
        assert_eq!(refusal.stage, Stage::Wrap, "{len} bytes: {refusal}");
    }
}

#[test]
fn a_flipped_bit_never_does_harm() {
    let whole = Fixture::new(&["splitter"]).build();
    let engine = engine();
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        // Admitted or refused: both are fine, a crash is not.
        let _ = admit(&engine, &bytes, Settings::default());
    }
}

#[test]
fn what_is_no_plugin() {
    check(&text("(module)"), Stage::Wrap, "without an embedded component type");
    check(
        &text("(component)"),
        Stage::Inspect,
        "does not export witgate:policy/lifecycle, which every plugin does; it exports nothing",
    );
    check(&Fixture::new(&[]).build(), Stage::Inspect, "so there is nothing to ask it");
    let lacks_memory = text(
        "(component (core module $m (func (export \"f\") (drop (memory.size)))))"
            .replace("(drop (memory.size))", "")
            .as_str(),
    );
    check(&lacks_memory, Stage::Inspect, "it exports nothing");
    check(
        &text("(component (import \"evil:net/sockets@1.0.0\" (instance)))"),
        Stage::Inspect,
        "it imports `evil:net/sockets@1.0.0`; a plugin may import only",
    );
    check(
        &text("(component (import \"wasi:http/outgoing-handler@0.3.0\" (instance)))"),
        Stage::Inspect,
        "WASI at 0.2.x",
    );
}

#[test]
fn what_imports_more_than_there_is() {
    let unknown = "(component (import \"wasi:nn/graph@0.2.0\" (instance (export \"load\" (func)))))";
    check(&text(unknown), Stage::Inspect, "does not export");
    let both = "package witgate:policy@0.1.0; \
        interface types { type values = list<option<string>>; } \
        interface host { shutdown: func(); } \
        interface lifecycle { configure: func(config: string) -> result<list<u8>, string>; } \
        world fixture { import host; export lifecycle; }";
    let mut importing = Fixture::new(&[]).contract(both);
    importing = importing.always("configure", f::TRAP);
    // The core module does not import it, so it is not in the component either.
    check(&importing.build(), Stage::Inspect, "`configure` of its `witgate:policy/lifecycle@0.1.0` has another type");
}

/// The contract with one line changed.
fn contract(version: &str, split: &str) -> String {
    format!(
        "package witgate:policy@{version};\n\
         interface types {{ variant field {{ method, path, host, scheme, client-address, query-string, header(string), \
         cookie(string), query(string) }} record manifest {{ fields: list<field> }} type values = list<option<string>>; }}\n\
         interface lifecycle {{ use types.{{manifest}}; configure: func(config: string) -> result<manifest, string>; }}\n\
         interface splitter {{ use types.{{values}}; record offer {{ id: u64, weights: list<u32> }} {split} }}\n\
         world fixture {{ export lifecycle; export splitter; }}"
    )
}

#[test]
fn what_has_other_types_than_the_contract() {
    let other = |split: &str| Fixture::new(&["splitter"]).contract(&contract("0.1.0", split)).build();
    check(
        &other("split: func(request: values, offer: offer) -> option<s32>;"),
        Stage::Inspect,
        "`split` of its `witgate:policy/splitter@0.1.0` has another type than the contract's `func(request: values, offer: offer) -> option<u32>`",
    );
    check(&other("split: func(a: string, b: u64, c: string) -> option<u32>;"), Stage::Inspect, "has another type");
}

#[test]
fn what_lacks_a_function() {
    let wit = contract("0.1.0", "choose: func() -> u32;");
    let module = text(
        "(module (memory (export \"memory\") 1) \
         (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) i32.const 0) \
         (func (export \"witgate:policy/lifecycle@0.1.0#configure\") (param i32 i32) (result i32) i32.const 0) \
         (func (export \"witgate:policy/splitter@0.1.0#choose\") (result i32) i32.const 0))",
    );
    check(&embed(module, &wit), Stage::Inspect, "its `witgate:policy/splitter@0.1.0` lacks the function `split: func(");
}

#[test]
fn what_is_of_another_version_of_the_contract() {
    let wit = contract("0.2.0", "split: func(request: values, offer: offer) -> option<u32>;");
    let module = text(
        "(module (memory (export \"memory\") 1) \
         (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) i32.const 0) \
         (func (export \"witgate:policy/lifecycle@0.2.0#configure\") (param i32 i32) (result i32) i32.const 0) \
         (func (export \"witgate:policy/splitter@0.2.0#split\") (param i32 i32 i64 i32 i32) (result i32) i32.const 0))",
    );
    let says = "made for `witgate:policy/types@0.2.0`; this host asks version 0.1.x of the contract";
    check(&embed(module, &wit), Stage::Inspect, says);
}

fn embed(mut module: Vec<u8>, wit: &str) -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str("fixture.wit", wit).expect("the contract parses");
    let world = resolve.select_world(&[package], Some("fixture")).expect("a world");
    wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8)
        .expect("the type is embedded");
    module
}

#[test]
fn what_does_not_fit_its_own_type() {
    let module = text("(module (memory (export \"memory\") 1))");
    let wit = contract("0.1.0", "split: func(request: values, offer: offer) -> option<u32>;");
    check(&embed(module, &wit), Stage::Wrap, "does not fit its embedded component type");
}

#[test]
fn what_goes_wrong_at_the_start() {
    let start = |body| Fixture::new(&["splitter"]).start(body).build();
    check(&start(f::TRAP), Stage::Configure, "it traps as it starts: wasm `unreachable` instruction executed");
    check(&start(f::RECURSE), Stage::Configure, "call stack exhausted");
    check(&start(f::EXHAUST), Stage::Configure, "needs more than its memory budget of 16 MiB");
    check(&start(f::LOOP), Stage::Configure, "the start of an instance did not end within 5s");
}

#[test]
fn what_wants_too_much_memory() {
    check(&Fixture::new(&["splitter"]).pages(300).build(), Stage::Configure, "memory budget of 16 MiB");
    check(&Fixture::new(&["splitter"]).pages(5000).build(), Stage::Compile, "exceeds the limit of 0x10000000 bytes");
    let budget = Budget { memory: 1 << 30, ..Budget::default() };
    let greedy = Settings { budget, ..Settings::default() };
    refused(&Fixture::new(&["splitter"]).build(), greedy, Stage::Configure, "over the ceiling of 256 MiB");
}

#[test]
fn what_would_take_too_long_to_compile() {
    let greedy = format!("(local {}) (unreachable)", "i64 ".repeat(1000)).leak();
    let fixture = Fixture::new(&["splitter"]).always("split", greedy);
    let says = "has 1005 locals and parameters; the limit is 1000, as compiling it would take too long";
    check(&fixture.build(), Stage::Compile, says);
    check(&fixture.component(), Stage::Compile, &format!("of core module 0 {says}"));
}

#[test]
fn what_goes_wrong_in_configure() {
    let configure = |body| Fixture::new(&["splitter"]).always("configure", body).build();
    check(&configure(f::REFUSE), Stage::Configure, "configure refuses its configuration: no");
    check(&configure(f::TWICE), Stage::Configure, "its manifest names header no twice");
    check(&configure(f::TRAP), Stage::Configure, "configure trapped: wasm `unreachable`");
    check(&configure(f::RECURSE), Stage::Configure, "configure trapped: call stack exhausted");
    check(&configure(f::EXHAUST), Stage::Configure, "configure needs more than its memory budget of 16 MiB");
    check(&configure(f::WILD), Stage::Configure, "configure malformed answer");
    check(&configure(f::NONSENSE), Stage::Configure, "configure malformed answer");
    check(&configure(f::LOOP), Stage::Configure, "configure did not end within 1s");
}

#[test]
fn what_goes_wrong_in_the_rehearsal() {
    for (interface, function, question) in [
        ("router", "route", "router"),
        ("splitter", "split", "splitter"),
        ("affinity", "stick", "affinity"),
        ("scorer", "pick", "pick"),
        ("scorer", "weigh", "weigh"),
    ] {
        let with = |body| Fixture::new(&[interface]).always(function, body).build();
        check(&with(f::TRAP), Stage::Rehearse, &format!("{question} trapped: wasm `unreachable`"));
        check(&with(f::LOOP), Stage::Rehearse, &format!("{question} did not end within 50ms"));
        check(&with(f::RECURSE), Stage::Rehearse, &format!("{question} trapped: call stack exhausted"));
        check(&with(f::EXHAUST), Stage::Rehearse, &format!("{question} needs more than its memory budget"));
        check(&with(f::WILD), Stage::Rehearse, &format!("{question} malformed answer"));
        check(&with(f::NONSENSE), Stage::Rehearse, &format!("{question} malformed answer"));
    }
    check(
        &Fixture::new(&["splitter"]).always("split", f::CHOICE_7).build(),
        Stage::Rehearse,
        "choice 7 was not offered",
    );
    check(
        &Fixture::new(&["scorer"]).always("weigh", f::NO_SCORES).build(),
        Stage::Rehearse,
        "0 scores for 2 endpoints",
    );
    check(&Fixture::new(&["router"]).always("route", f::BOMB).build(), Stage::Rehearse, "malformed answer");
}

#[test]
fn what_wants_to_wait() {
    let with = |function| Fixture::new(&["splitter"]).with_wasi().always(function, f::SLEEP).build();
    check(&with("configure"), Stage::Configure, "configure wants to wait");
    check(&with("split"), Stage::Rehearse, "splitter wants to wait");
}

#[test]
fn what_is_too_slow_to_be_made_for_each_call() {
    let settings = Settings { isolation: Isolation::Request, ..Settings::default() };
    admit(&engine(), &Fixture::every().build(), settings).expect("a small plugin is made in time");
}

#[test]
fn the_right_ones_are_admitted() {
    let engine = engine();
    for interface in ["router", "splitter", "affinity", "scorer"] {
        let plugin = admit(&engine, &Fixture::new(&[interface]).build(), Settings::default()).expect("admitted");
        assert_eq!(plugin.exports().names(), [interface]);
        assert_eq!(plugin.manifest(), [witgate_core::request::FieldName::Path]);
    }
    let wasi = Fixture::every().with_wasi().build();
    assert_eq!(admit(&engine, &wasi, Settings::default()).expect("admitted").exports().names().len(), 4);
}

#[test]
fn another_patch_of_the_contract_is_admitted() {
    let wit = contract("0.1.7", "split: func(request: values, offer: offer) -> option<u32>;");
    let module = text(
        "(module (memory (export \"memory\") 1) \
         (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) i32.const 1024) \
         (func (export \"witgate:policy/lifecycle@0.1.7#configure\") (param i32 i32) (result i32) i32.const 0) \
         (func (export \"witgate:policy/splitter@0.1.7#split\") (param i32 i32 i64 i32 i32) (result i32) i32.const 0))",
    );
    admit(&engine(), &embed(module, &wit), Settings::default()).expect("0.1.7 answers what 0.1.0 asks");
}
