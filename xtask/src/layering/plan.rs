//! The house plan, as tables: crates and what each must not know, floors of the host, things with one room. Nothing else.

use std::fs;

use crate::run;

/// A crate, and the paths (of other crates, or of the standard library) that it must not name, each with the rule.
pub(super) struct Crate {
    /// As code spells it.
    pub(super) name: &'static str,
    /// From the root.
    pub(super) folder: String,
    pub(super) forbidden: Vec<(&'static [&'static str], &'static str)>,
    /// Whether its modules stand on [`HOST_FLOORS`].
    pub(super) has_floors: bool,
    /// Whether its modules must not import each other in a circle.
    pub(super) no_circles: bool,
}

impl Crate {
    /// The rule that this path goes against, if any.
    pub(super) fn rule_against(&self, path: &str) -> Option<&'static str> {
        let hit = |things: &[&str]| things.iter().any(|thing| super::covers(thing, path));
        self.forbidden.iter().find(|(things, _)| hit(things)).map(|(_, rule)| *rule)
    }
}

const HTTP: &[&str] = &["hyper", "hyper_util", "rustls", "tokio_rustls"];
/// Not the whole of tokio: the asynchronous half of Wasm's system interface needs a runtime to stand on, and only that.
const SOCKETS: &[&str] = &[
    "tokio::net",
    "socket2",
    "mio",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "std::os::unix::net",
];
const TASKS: &[&str] = &["tokio", "futures", "futures_util"];
const WASM: &[&str] = &["wasmtime", "wasmtime_wasi", "wasmtime_environ", "wit_component", "wit_parser", "wasmparser"];
const CLOCK: &[&str] = &["std::time::Instant::now", "std::time::SystemTime::now", "std::thread::sleep"];
const RANDOMNESS: &[&str] = &["rand", "getrandom", "fastrand", "std::hash::RandomState"];
const MACHINE: &[&str] = &["std::fs", "std::env", "std::process", "std::thread", "rustix", "libc"];

/// The crates of the workspace that the plan speaks of.
pub(super) fn crates() -> Vec<Crate> {
    let mut crates = vec![
        Crate {
            name: "witgate_core",
            folder: "host/core".to_string(),
            forbidden: vec![
                (HTTP, "core speaks no HTTP: `host` moves bytes"),
                (SOCKETS, "core has no sockets: `host` moves bytes"),
                (TASKS, "core has no tasks: `host` moves bytes"),
                (WASM, "core knows no Wasm: `policy` asks"),
                (CLOCK, "deciding code has no clock: the time is an argument"),
                (RANDOMNESS, "deciding code has no randomness: the random bits are an argument"),
                (MACHINE, "core is pure: files, processes and threads are the host's"),
                (&["witgate", "witgate_policy"], "imports go down: core stands below policy and host"),
            ],
            has_floors: false,
            no_circles: true,
        },
        Crate {
            name: "witgate_policy",
            folder: "host/policy".to_string(),
            forbidden: vec![
                (HTTP, "policy is a Wasm host that knows nothing of HTTP"),
                (SOCKETS, "policy is a Wasm host that knows nothing of sockets"),
                (&["witgate"], "imports go down: policy stands below host"),
            ],
            has_floors: false,
            no_circles: false,
        },
        Crate {
            name: "witgate",
            folder: "host".to_string(),
            forbidden: vec![(WASM, "host asks policy and never Wasm itself")],
            has_floors: true,
            no_circles: true,
        },
        guest("witgate_sdk", "sdk".to_string()),
    ];
    crates.extend(plugins().into_iter().map(|folder| guest("", folder)));
    crates
}

/// What runs inside of Wasm, and is tested natively: it sees the contract, never the proxy behind it.
fn guest(name: &'static str, folder: String) -> Crate {
    let forbidden: Vec<(&'static [&'static str], &'static str)> = vec![
        (
            &["witgate", "witgate_core", "witgate_policy"],
            "plugins and their SDK know the contract (wit/), not the proxy",
        ),
        (HTTP, "plugins speak no HTTP"),
        (SOCKETS, "plugins have no sockets"),
        (TASKS, "plugins are asked and answer; they run no tasks"),
        (WASM, "plugins run inside of Wasm; they do not host it"),
    ];
    Crate { name, folder, forbidden, has_floors: false, no_circles: false }
}

fn plugins() -> Vec<String> {
    let entries = fs::read_dir(run::root().join("plugins")).into_iter().flatten().flatten();
    entries.map(|entry| format!("plugins/{}", entry.file_name().to_string_lossy())).collect()
}

/// The modules of `host/src`, top floor first. A module may import from its own floor and from those below it, in no circle.
/// `lib.rs` and `main.rs` stand above all of them.
pub(super) const HOST_FLOORS: &[&[&str]] = &[
    &["cli", "internals"],
    &["run", "upgrade"],
    &["admin", "listen", "watch"],
    &["control"],
    &["proxy"],
    &["worker"],
    &["generation", "assemble", "upstream", "scores"],
    &["telemetry", "drain", "reason", "secrets", "memory", "sockets", "tls", "relay"],
    &["files", "clients", "inherited"],
];

/// Something that only some files may name.
pub(super) struct Room {
    pub(super) things: &'static [&'static str],
    pub(super) files: &'static [&'static str],
    pub(super) rule: &'static str,
}

pub(super) const ROOMS: &[Room] = &[
    Room {
        things: &[
            "wasmtime::Config",
            "wasmtime::PoolingAllocationConfig",
            "wasmtime::Engine::new",
            "wasmtime::Engine::default",
        ],
        files: &["host/policy/src/engine.rs"],
        rule: "wasmtime is configured in host/policy/src/engine.rs only, with a reason beside each number",
    },
    Room {
        things: &["bindgen!"],
        files: &["host/policy/src/bindings.rs"],
        rule: "the host's side of the contract is generated in host/policy/src/bindings.rs only",
    },
    Room {
        things: &["wit_bindgen"],
        files: &["sdk/src/component/mod.rs"],
        rule: "the guest's side of the contract is generated in sdk/src/component/mod.rs only",
    },
];

/// A file in which the `unsafe_code` lint may be relaxed.
pub(super) struct UnsafeRoom {
    pub(super) file: &'static str,
    /// Whether `unsafe` may be written there, or only come out of a macro.
    pub(super) written: bool,
}

pub(super) const UNSAFE_ROOMS: &[UnsafeRoom] = &[
    // The allocator has no safe function to be told to give back.
    UnsafeRoom { file: "host/src/main.rs", written: true },
    // Loading a compiled artefact back is unsafe by nature; the argument stands beside it.
    UnsafeRoom { file: "host/policy/src/artifact.rs", written: true },
    // wasmtime's bindgen! writes `unsafe impl`s of Lift and Lower.
    UnsafeRoom { file: "host/policy/src/bindings.rs", written: false },
    // The trait of allocators is unsafe; what it is worth stands beside it.
    UnsafeRoom { file: "sdk/src/allocator.rs", written: true },
    // wit-bindgen's generate! writes the raw imports and exports of a component.
    UnsafeRoom { file: "sdk/src/component/mod.rs", written: false },
    // A question's arguments lie where the host has put them; why they are not left to the generated code stands there.
    UnsafeRoom { file: "sdk/src/component/arguments.rs", written: true },
    UnsafeRoom { file: "sdk/src/component/questions.rs", written: true },
];
