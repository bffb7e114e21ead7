//! The harness: the proxy in process on port 0, origins that say what they got, clients that say what they want byte by
//! byte, and waiting for conditions instead of for time.

pub mod client;
pub mod origin;
pub mod proxy;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// How long a condition may take on a machine that is busy with other things. Tests that pass never wait this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `look` finds something, and fails the test with `what` where it never does.
///
/// # Panics
/// When [`PATIENCE`] is over.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < give_up, "waited {PATIENCE:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap_or_default()
}

/// A shipped plugin, as `cargo xtask plugins` built it.
///
/// # Panics
/// When it was not built.
pub fn plugin(name: &str) -> Vec<u8> {
    let path = root().join("target/plugins").join(format!("{name}.wasm"));
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; build it with `cargo xtask plugins`", path.display()))
}
