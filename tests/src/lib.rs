//! The harness: the proxy in process on port 0, origins that say what they got, clients that say what they want byte by
//! byte, and waiting for conditions instead of for time.

pub mod client;
#[path = "../../fuzz/driver.rs"]
pub mod fuzz;
pub mod grpc;
pub mod h2;
pub mod http2;
pub mod origin;
pub mod proxy;
pub mod tls;
pub mod wire;

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

/// A directory that goes with the test. In memory where the machine has such a place: what is stored is synced to disk, and
/// a disk that is busy with something else would be what the test waits for.
///
/// # Panics
/// When none can be made.
pub fn scratch() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::tempdir_in(place).expect("a temporary directory")
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
