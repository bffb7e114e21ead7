//! Start-up, memory and size of the proxy with four plugins.

use std::fs;

use super::check;
use super::load;
use super::site::Site;
use super::targets::FULL;
use crate::lab::stats::{median, percentile};
use crate::run::Failed;

/// Small: how long it takes to start, and what it takes up.
pub(super) struct Small {
    /// From the start of the process to `/readyz` 200, in milliseconds: everything is compiled.
    pub(super) cold: f64,
    pub(super) starts: usize,
    /// The same with compiled plugins in the cache.
    pub(super) warm: f64,
    pub(super) warm_max: f64,
    /// Resident memory in MB once ready, and after load.
    pub(super) idle_mb: f64,
    pub(super) loaded_mb: f64,
    /// The binary, in MB.
    pub(super) binary_mb: f64,
    /// Answers that were none, while memory was measured.
    pub(super) failures: u64,
}

/// Starts it `starts` times, and once for `seconds` of load.
pub(super) fn measure(site: &Site, starts: usize, seconds: u32) -> Result<Small, Failed> {
    // Whoever used this configuration before has filled the cache.
    let state = site.scratch.path("full.state");
    if state.exists() {
        fs::remove_dir_all(&state).map_err(|error| Failed::new(format!("{}: {error}", state.display())))?;
    }
    let milliseconds = || site.start(&FULL).map(|proxy| proxy.ready_after.as_secs_f64() * 1e3);
    let cold = milliseconds()?;
    let warm = (0..starts).map(|_| milliseconds()).collect::<Result<Vec<f64>, Failed>>()?;
    let proxy = site.start(&FULL)?;
    let idle_mb = proxy.process.resident_kib()? as f64 / 1024.0;
    check::check(&FULL, &load::USERS, proxy.port)?;
    let load = load::start(&load::USERS, proxy.port, seconds, &site.scratch)?.finish()?;
    let loaded_mb = proxy.process.resident_kib()? as f64 / 1024.0;
    let witgate = site.program(FULL.peer)?;
    let size = fs::metadata(witgate).map_err(|error| Failed::new(format!("{}: {error}", witgate.display())))?;
    Ok(Small {
        cold,
        starts,
        warm: median(warm.iter().copied()),
        warm_max: percentile(warm, 1.0),
        idle_mb,
        loaded_mb,
        binary_mb: size.len() as f64 / 1e6,
        failures: load.failures,
    })
}
