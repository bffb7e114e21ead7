//! How small the process is, with everything loaded that is shipped.

use witgate_tests::origin::Origin;

use crate::process::{PREAMBLE, Room};

/// KiB resident: the promise is for the release profile, in which alone it is held.
const PROMISED: u64 = 40 << 10;

#[test]
fn one_worker_with_the_four_shipped_plugins_is_small() {
    let origin = Origin::named("origin");
    let plugins: String = ["canary", "tenant", "session", "latency"]
        .map(|name| {
            // Says how to build it where it is not there.
            let _ = witgate_tests::plugin(name);
            let path = witgate_tests::root().join("target/plugins").join(format!("{name}.wasm"));
            format!("[[plugin]]\nname = \"{name}\"\npath = \"{}\"\n", path.display())
        })
        .concat();
    let room = Room::with(&format!(
        "{PREAMBLE}[[route]]\nname = \"r\"\n\
         split = [{{ cluster = \"c\", weight = 90 }}, {{ cluster = \"canary\", weight = 10 }}]\n\
         plugins = {{ router = \"tenant\", splitter = \"canary\", affinity = \"session\" }}\n\
         [[cluster]]\nname = \"c\"\nbalance = {{ plugin = \"latency\" }}\nendpoints = [{{ address = \"{0}\" }}]\n\
         [[cluster]]\nname = \"canary\"\nendpoints = [{{ address = \"{0}\" }}]\n{plugins}",
        origin.address
    ));
    // The first start compiles, and keeps what it compiled.
    room.start().end();
    room.forget();
    let serving = room.start();
    let mut client = serving.client();
    for user in 0..500 {
        let response = client.get("/", &format!("cookie: uid=u{user}\r\n"));
        assert_eq!(response.status, 200, "{response:?}\n{}", room.log());
    }
    let shown = serving.call("GET", "/v1/plugins", b"").json();
    let live = shown["plugins"].as_array().expect("a list").iter().filter(|plugin| !plugin["live"].is_null());
    assert_eq!(live.count(), 4, "{shown}\n{}", room.log());
    let resident = serving.resident_kib();
    eprintln!("resident with one worker and four plugins: {:.1} MiB", resident as f64 / 1024.0);
    if !cfg!(debug_assertions) {
        assert!(resident < PROMISED, "{resident} KiB, promised are less than {PROMISED}");
    }
}
