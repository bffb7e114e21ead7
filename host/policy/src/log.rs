//! The plugin's way into the proxy's log: bounded lines at a bounded rate. It must never block or fail a plugin.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tracing::{debug, error, info, trace, warn};

use crate::bindings::host::Level;

/// Bytes of a line that are kept; wit/host.wit says so to authors.
pub(crate) const LINE_BYTES: usize = 1024;
/// Lines of one plugin that are written in a second. Enough to debug with, too few to fill a disk or to cost a
/// worker more than a few percent.
const LINES_PER_SECOND: u64 = 100;

/// One plugin version's log. Shared by all of its instances, without a lock.
#[derive(Debug)]
pub(crate) struct Log {
    plugin: String,
    version: u32,
    start: Instant,
    lines: Window,
    /// Apart from `lines`, so that a plugin cannot talk its own failures out of the log.
    failures: Window,
}

/// Second since the log's start in the high half, lines offered in that second in the low half.
#[derive(Debug, Default)]
struct Window(AtomicU64);

impl Log {
    pub(crate) fn new(plugin: &str, version: u32) -> Self {
        let (lines, failures) = Default::default();
        Self { plugin: plugin.to_owned(), version, start: Instant::now(), lines, failures }
    }

    /// A line that the plugin wrote.
    pub(crate) fn line(&self, level: Level, text: &str) {
        if !self.admit(&self.lines) {
            return;
        }
        let (plugin, version, text) = (self.plugin.as_str(), self.version, clean(text));
        match level {
            Level::Trace => trace!(target: "witgate::plugin", plugin, version, "{text}"),
            Level::Debug => debug!(target: "witgate::plugin", plugin, version, "{text}"),
            Level::Info => info!(target: "witgate::plugin", plugin, version, "{text}"),
            Level::Warn => warn!(target: "witgate::plugin", plugin, version, "{text}"),
            Level::Error => error!(target: "witgate::plugin", plugin, version, "{text}"),
        }
    }

    /// A failure that the host saw.
    pub(crate) fn failure(&self, what: &str, why: &dyn std::fmt::Display) {
        if self.admit(&self.failures) {
            let (plugin, version) = (self.plugin.as_str(), self.version);
            warn!(target: "witgate::plugin", plugin, version, "{what}: {why}");
        }
    }

    /// Counts the line; says how many were dropped when a new second begins.
    fn admit(&self, window: &Window) -> bool {
        let second = self.start.elapsed().as_secs() & 0xffff_ffff;
        let next = |now: u64| if now >> 32 == second { now.saturating_add(1) } else { second << 32 | 1 };
        let before = window.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(next(now))).unwrap_or(0);
        let dropped = (before & 0xffff_ffff).saturating_sub(LINES_PER_SECOND);
        if before >> 32 != second && dropped > 0 {
            warn!(target: "witgate::plugin", plugin = self.plugin, version = self.version, dropped, "log lines dropped");
        }
        next(before) & 0xffff_ffff <= LINES_PER_SECOND
    }
}

/// Cut to [`LINE_BYTES`]; control characters are escaped so that a plugin cannot forge a line of the log.
fn clean(text: &str) -> String {
    let cut = &text[..text.floor_char_boundary(LINE_BYTES)];
    if cut.contains(char::is_control) { cut.escape_debug().to_string() } else { cut.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_a_character_and_cannot_forge_lines() {
        assert_eq!(clean("a\nb\tc"), "a\\nb\\tc");
        let long = "ä".repeat(LINE_BYTES);
        assert_eq!(clean(&long).len(), LINE_BYTES);
        assert_eq!(clean("plain"), "plain");
    }

    #[test]
    fn only_so_many_lines_a_second() {
        let log = Log::new("p", 1);
        let admitted = (0..1000).filter(|_| log.admit(&log.lines)).count();
        // The second may turn over while the test runs.
        assert!((100..=200).contains(&admitted), "{admitted}");
        assert!(log.admit(&log.failures), "what the host says is counted apart");
    }
}
