//! What the proxy offers a plugin while it runs. In a component these are host calls; natively they are deterministic
//! stand-ins that [`crate::testing`] steers, so that a plugin's logic is tested without a proxy.

use core::time::Duration;

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For following one request.
    Trace,
    /// For finding a fault.
    Debug,
    /// Worth knowing.
    Info,
    /// Something is off.
    Warn,
    /// Something failed.
    Error,
}

/// Writes a line to the proxy's log under the plugin's name and version. The host keeps at most 1024 bytes of it and
/// limits the rate. [`info!`](crate::info) and its siblings format.
pub fn log(level: Level, message: &str) {
    imp::log(level, message);
}

/// A monotonic clock with an arbitrary start.
pub fn now() -> Duration {
    imp::now()
}

/// 64 random bits from a fast generator. Not for secrets.
pub fn random() -> u64 {
    imp::random()
}

#[cfg(target_arch = "wasm32")]
use crate::component::imports as imp;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod native {
    //! One host for each thread, which is one for each test.

    use core::cell::{Cell, RefCell};
    use core::time::Duration;

    use super::Level;

    thread_local! {
        pub(crate) static SEED: Cell<u64> = const { Cell::new(0) };
        pub(crate) static CLOCK: Cell<Duration> = const { Cell::new(Duration::ZERO) };
        pub(crate) static LOG: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
    }

    pub(crate) fn log(level: Level, message: &str) {
        LOG.with_borrow_mut(|lines| lines.push((level, message.to_owned())));
    }

    pub(crate) fn now() -> Duration {
        CLOCK.get()
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): each step is the next of a fixed, well-mixed sequence.
    pub(crate) fn random() -> u64 {
        let state = SEED.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        SEED.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
#[cfg(not(target_arch = "wasm32"))]
use native as imp;
