//! Events to stderr. The one place that installs a subscriber: a process has one.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use super::{Failed, Outcome, show::Paint};

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
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        Format::Text => builder.with_ansi(io::stderr().is_terminal() && Paint::stderr().is_on()).init(),
        Format::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

fn filter(env: impl Fn(&str) -> Option<String>, otherwise: &str) -> Outcome<EnvFilter> {
    let found = ["WITGATE_LOG", "RUST_LOG"].into_iter().find_map(|name| {
        let value = env(name).filter(|value| !value.trim().is_empty())?;
        Some((name, value))
    });
    let Some((name, value)) = found else { return Ok(EnvFilter::new(otherwise)) };
    EnvFilter::try_new(&value).map_err(|error| {
        Failed::new(format!(
            "{name}=\"{value}\" is no filter ({error}); one would be \"info\" or \"warn,witgate=debug\""
        ))
    })
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
    }
}
