//! Events to stderr. The one place that installs a subscriber: a process has one. Nobody who logs waits for whoever reads
//! the log, and no log that cannot be written ends anything.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal, Write},
    panic::{self, PanicHookInfo},
    sync::{OnceLock, atomic::Ordering::Relaxed},
    thread,
};

use tracing_subscriber::EnvFilter;

use super::{
    Failed, Outcome,
    lines::{Lines, Losses},
    show::Paint,
};
use crate::telemetry;

static LOG: OnceLock<Lines> = OnceLock::new();

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Installs it. What is written, `WITGATE_LOG` says, or `RUST_LOG`, or `otherwise`.
pub(super) fn start(format: Format, otherwise: &str) -> Outcome {
    let filter = filter(|name| std::env::var(name).ok(), otherwise)?;
    let lines = Lines::to(io::stderr(), "witgate-log", Counted)
        .map_err(|error| Failed::new(format!("cannot write to stderr: {error}")))?;
    let lines = LOG.get_or_init(|| lines);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Event(lines));
    match format {
        Format::Text => builder.with_ansi(io::stderr().is_terminal() && Paint::stderr().is_on()).init(),
        Format::Json => builder.json().flatten_event(true).init(),
    }
    // The standard library's hook writes to stderr itself, and waits for it.
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// The log's lines, once it is started.
pub(super) fn lines() -> Option<&'static Lines> {
    LOG.get()
}

/// Waits until what was logged so far is written, if somebody takes it.
pub(super) fn finish() {
    if let Some(lines) = lines() {
        lines.finish();
    }
}

/// Finishes the log where the process is about to end, in whatever way.
pub(super) struct End;

impl Drop for End {
    fn drop(&mut self) {
        finish();
    }
}

/// One event, which the subscriber writes whole.
struct Event(&'static Lines);

impl Write for Event {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.say(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lost lines are counted, and said once they can be.
struct Counted;

impl Losses for Counted {
    fn lost(&self) {
        telemetry::LOG_LINES_DROPPED.fetch_add(1, Relaxed);
    }

    fn recovered(&self, lines: u64) {
        tracing::warn!(lines, "log lines were lost: whoever reads stderr was too slow, or it could not be written");
    }
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let (thread, location) = (thread.name().unwrap_or("unnamed"), info.location().map(ToString::to_string));
    let message = info.payload_as_str().unwrap_or("no message");
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(thread, location, backtrace, "panicked: {message}");
}

fn filter(env: impl Fn(&str) -> Option<String>, otherwise: &str) -> Outcome<EnvFilter> {
    let found = ["WITGATE_LOG", "RUST_LOG"].into_iter().find_map(|name| {
        let value = env(name).filter(|value| !value.trim().is_empty())?;
        Some((name, value))
    });
    let Some((name, value)) = found else { return Ok(EnvFilter::new(otherwise)) };
    let bad = |why: String| {
        Failed::new(format!("{name}=\"{value}\" is no filter ({why}); one would be \"info\" or \"warn,witgate=debug\""))
    };
    // RUST_LOG is not only ours: what it names may be another program's.
    if name == "WITGATE_LOG"
        && let Some(word) = value.split(',').map(str::trim).find(|word| !is_known(word))
    {
        let levels = LEVELS.join(", ");
        return Err(bad(format!("\"{word}\" is neither a level, which are {levels}, nor a part of Witgate")));
    }
    EnvFilter::try_new(&value).map_err(|error| bad(error.to_string()))
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Whether a part of a filter is not just a word, or is one that says something: a level, or where our events come from.
fn is_known(word: &str) -> bool {
    let is_word = word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':'));
    let is_level =
        LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word)) || matches!(word.as_bytes(), [b'0'..=b'5']);
    let krate = word.split("::").next().unwrap_or_default();
    !is_word || word.is_empty() || is_level || matches!(krate, "witgate" | "audit") || krate.starts_with("witgate_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(env: &[(&str, &str)], want: Result<&str, &str>) {
        let found = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        let got = filter(found, "info").map(|filter| filter.to_string()).map_err(|failed| failed.message);
        match want {
            Ok(want) => assert_eq!(got.as_deref(), Ok(want), "{env:?}"),
            Err(part) => assert!(got.as_ref().is_err_and(|error| error.contains(part)), "{env:?}: {got:?}"),
        }
    }

    #[test]
    fn the_environment_says_what_is_logged() {
        check(&[], Ok("info"));
        check(&[("RUST_LOG", "debug")], Ok("debug"));
        check(&[("RUST_LOG", "debug"), ("WITGATE_LOG", "warn")], Ok("warn"));
        check(&[("RUST_LOG", "")], Ok("info"));
        check(&[("WITGATE_LOG", "witgate=loud")], Err("WITGATE_LOG"));
        check(&[("WITGATE_LOG", "loud")], Err("\"loud\" is neither a level"));
        check(&[("WITGATE_LOG", "warn, verbose")], Err("\"verbose\" is neither a level"));
        check(&[("RUST_LOG", "hyper")], Ok("hyper=trace"));
        for known in ["INFO", "3", "audit", "warn,audit=info", "witgate_policy", "warn,hyper=debug", "warn,"] {
            let found = |name: &str| (name == "WITGATE_LOG").then(|| known.to_owned());
            assert!(filter(found, "info").is_ok(), "{known}");
        }
    }
}
