use super::*;

fn file(path: &str, text: &str) -> File {
    File { path: path.to_string(), text: text.to_string() }
}

/// One file breaks exactly one rule, whose text contains `expected`; or none, where `expected` is "".
#[track_caller]
fn check(path: &str, text: &str, expected: &str) {
    let broken = judge(&[file(path, text)]);
    match expected {
        "" => assert_eq!(broken, Vec::<String>::new(), "{path}: {text}"),
        _ => assert!(broken.len() == 1 && broken[0].contains(expected), "{path}: {text}\ngave {broken:#?}"),
    }
}

#[test]
fn the_project_keeps_to_its_plan() {
    let broken = judge(&sources(&run::root()).unwrap());
    assert!(broken.is_empty(), "the house plan is broken:\n{}", broken.join("\n"));
}

#[test]
fn core_is_pure() {
    let check = |text, expected| check("host/core/src/split.rs", text, expected);
    check("use tokio::sync::Mutex;", "core has no tasks");
    check("use hyper::Request;", "core speaks no HTTP");
    check("use std::{io, net::{IpAddr, TcpStream}};", "core has no sockets");
    check("use std::net::IpAddr; use std::time::Instant; fn f(now: Instant) {}", "");
    check("fn f() { std::time::Instant::now(); }", "no clock");
    check("use std::time as t; fn f() { t::SystemTime::now(); }", "no clock");
    check(
        "use std::time::Instant;\nfn f() {\n Instant::now();\n}",
        "split.rs:3: std::time::Instant::now: deciding code has no clock",
    );
    check("#[cfg(test)] mod tests { fn f() { std::time::Instant::now(); } }", "");
    check("fn f() -> u64 { rand::random() }", "no randomness");
    check("use witgate_policy::Engine;", "imports go down");
    check("use wasmtime::component::Component;", "core knows no Wasm");
    check("use std::fs::File;", "core is pure");
    check("/// Unlike tokio::time, this is pure.\nfn f() { \"hyper::x\"; }", "");
}

#[test]
fn policy_knows_no_sockets_and_host_no_wasm() {
    check("host/policy/src/call.rs", "use hyper::Request;", "nothing of HTTP");
    check("host/policy/src/call.rs", "use tokio::net::TcpStream;", "nothing of sockets");
    check("host/policy/src/call.rs", "use wasmtime::Store; use tokio::runtime::Builder;", "");
    check("host/policy/src/call.rs", "use witgate::Proxy;", "policy stands below host");
    check("host/src/proxy/ask.rs", "use wasmtime::Store;", "never Wasm itself");
    check("host/src/proxy/ask.rs", "use witgate_policy::Plugin; use hyper::Request;", "");
    check("sdk/src/lib.rs", "use witgate_core::config;", "not the proxy");
    check("plugins/canary/src/lib.rs", "use witgate_core::config;", "not the proxy");
}

#[test]
fn imports_inside_the_host_go_down() {
    check("host/src/proxy/mod.rs", "use crate::generation::Generation;", "");
    check("host/src/proxy/decide.rs", "use super::ask; use crate::proxy::reply::x;", "");
    check("host/src/generation.rs", "use crate::proxy::handle;", "`generation` may not import `proxy`");
    check("host/src/upstream/connect.rs", "fn f() { crate::admin::token() }", "`upstream` may not import `admin`");
    check("host/src/listen/http.rs", "use crate::cli::Options;", "`listen` may not import `cli`");
    check("host/src/cellar.rs", "use crate::generation::Generation;", "`cellar` has no floor yet");
    check("host/src/lib.rs", "use crate::cli::Options; pub use proxy::x;", "");
    check("host/src/main.rs", "use witgate::cli::run;", "");
}

#[test]
fn modules_form_no_circle() {
    let two = [file("host/core/src/a.rs", "use crate::b::X;"), file("host/core/src/b.rs", "use super::a::Y;")];
    let broken = judge(&two);
    assert!(broken.len() == 1 && broken[0].contains("a → b; b → a"), "{broken:?}");
    let tree = [
        file("host/core/src/a.rs", "use crate::b::X;"),
        file("host/core/src/b.rs", "use crate::c::Y;"),
        file("host/core/src/c.rs", "#[cfg(test)] mod tests { use crate::a::Z; }"),
    ];
    assert_eq!(judge(&tree), Vec::<String>::new());
}

#[test]
fn some_things_have_one_room() {
    check("host/policy/src/engine.rs", "use wasmtime::{Config, Engine}; fn f() { Engine::new(&Config::new()); }", "");
    check(
        "host/policy/src/call.rs",
        "use wasmtime::Engine; fn f() { Engine::default(); }",
        "configured in host/policy/src/engine.rs",
    );
    check("host/policy/src/call.rs", "wasmtime::component::bindgen!({ path: \"wit\" });", "bindings.rs only");
    check("host/policy/src/bindings.rs", "wasmtime::component::bindgen!({ path: \"wit\" });", "");
    check("sdk/src/lib.rs", "wit_bindgen::generate!({});", "component/mod.rs only");
}

#[test]
fn unsafe_has_its_rooms() {
    check("host/policy/src/artifact.rs", "#[expect(unsafe_code)] fn f() { unsafe { g() } }", "");
    check("host/policy/src/call.rs", "fn f() { unsafe { g() } }", "`unsafe` has its rooms");
    check("host/policy/src/call.rs", "#![allow(unsafe_code)]", "`unsafe` has its rooms");
    check("host/policy/src/bindings.rs", "#[allow(unsafe_code)] mod generated {}", "");
    check("host/policy/src/bindings.rs", "fn f() { unsafe { g() } }", "`unsafe` has its rooms");
    check("host/src/lib.rs", "#[cfg(test)] mod tests { fn f() { unsafe { g() } } }", "`unsafe` has its rooms");
    check("tests/src/lib.rs", "// unsafe\nconst X: &str = \"unsafe\";", "");
}

#[test]
fn manifests_keep_to_the_plan() {
    check(
        "host/core/Cargo.toml",
        "[dependencies]\nhttp = '1'\ntokio.workspace = true",
        "[dependencies] tokio: core has no tasks",
    );
    check("host/core/Cargo.toml", "[dependencies]\nhyper-util = '1'", "core speaks no HTTP");
    check("host/core/Cargo.toml", "[dev-dependencies]\ntempfile = '1'", "");
    check("host/policy/Cargo.toml", "[dependencies]\nhyper = '1'", "nothing of HTTP");
    check("host/Cargo.toml", "[dependencies]\nwasmtime = '1'", "never Wasm itself");
    check("host/Cargo.toml", "[dependencies]\nwitgate-core.workspace = true", "");
}
