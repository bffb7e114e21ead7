//! Tests through the real binary: what an operator sees when it starts, fails, is drained, killed and damaged. One
//! binary, so that it links once.

mod access_log;
mod activation;
mod admin;
mod commands;
mod crash;
mod demo;
mod exhausted;
#[path = "../../../tests/fixtures/mod.rs"]
mod fixtures;
mod hostile;
mod in_flight;
mod log;
mod manifests;
mod memory;
mod mended;
mod process;
mod shutdown;
mod startup;
mod upgrade;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held by tests that keep a core busy or measure time, so that they do not measure each other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
