//! `[runtime]` and `[plugins]`. Never invents a default: those are the model's.

use std::path::Path;

use super::{
    super::{
        model::{PluginBounds, Runtime},
        reader::Table,
        value,
    },
    ANY_TIME, SOME_TIME, duration, file_path, size,
};

/// Name servers: as many as the system's own resolver would ask, and a few more.
const MAX_RESOLVERS: usize = 8;

pub(super) fn runtime(table: Option<Table<'_>>, base_dir: &Path) -> Runtime {
    let mut runtime = Runtime::default();
    runtime.state_dir = base_dir.join(&runtime.state_dir);
    let Some(table) = table else {
        return runtime;
    };
    if let Some(workers) = table.take("workers").and_then(|value| value.integer(0..=1_024_u16)) {
        runtime.workers = workers.into();
    }
    if let Some(path) = table.take("state_dir").and_then(|value| file_path(&value, base_dir)) {
        runtime.state_dir = path;
    }
    if let Some(timeout) = table.take("drain_timeout").and_then(|value| duration(&value, ANY_TIME)) {
        runtime.drain_timeout = timeout;
    }
    if let Some(delay) = table.take("overload_delay").and_then(|value| duration(&value, ANY_TIME)) {
        runtime.overload_delay = Some(delay).filter(|delay| !delay.is_zero());
    }
    if let Some(timeout) = table.take("upgrade_timeout").and_then(|value| duration(&value, SOME_TIME)) {
        runtime.upgrade_timeout = timeout;
    }
    if let Some(value) = table.take("resolvers") {
        let expected = "addresses of name servers, such as [\"10.0.0.2:53\"]";
        let servers = value.array(MAX_RESOLVERS, expected).unwrap_or_default();
        runtime.resolvers = servers.iter().filter_map(|server| server.parse(expected, value::socket_address)).collect();
    }
    table.finish();
    runtime
}

pub(super) fn plugin_bounds(table: Option<Table<'_>>) -> PluginBounds {
    let mut bounds = PluginBounds::default();
    let Some(table) = table else {
        return bounds;
    };
    table.later(&["gate", "trusted_keys"]);
    if let Some(bytes) = table.take("max_upload").and_then(|value| size(&value, 1 << 10..=1 << 30)) {
        bounds.max_upload = bytes;
    }
    // From one page to all that 32 bits can address.
    if let Some(bytes) = table.take("memory_ceiling").and_then(|value| size(&value, 64 << 10..=4 << 30)) {
        bounds.memory_ceiling = bytes;
    }
    table.finish();
    bounds
}
