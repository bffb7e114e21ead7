//! `witgate run`: everything or nothing is started; the first lines on stdout say where, for scripts that chose port 0.

use std::{io, path::PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;

use super::{
    Failed, Outcome,
    lines::Lines,
    load,
    logging::{self, Format},
    signals, supervisor,
};
use crate::{Proxy, inherited::Inherited, sockets};

/// Serve traffic until SIGTERM, which drains.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file [default: witgate.toml]
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
    /// The same
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How events are written to stderr; which ones, WITGATE_LOG or RUST_LOG says
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    log: Format,
}

/// Serves until a drain has ended, whoever began it.
pub(super) fn command(arguments: Arguments) -> Outcome {
    logging::start(arguments.log, "info")?;
    let inherited = Inherited::from_environment().map_err(Failed::new)?;
    let predecessor = inherited.predecessor;
    let proxy = start(arguments, inherited).inspect_err(|failed| {
        if let Some(predecessor) = predecessor {
            predecessor.tell_failed(&failed.message);
        }
    })?;
    // What was said of the start is in the log before anybody is told that it has ended.
    logging::finish();
    // Whoever reads these lines may be gone, or busy: that is no reason not to serve, nor to stay.
    let stdout = Lines::to(io::stdout(), "witgate-stdout", ())
        .map_err(|error| Failed::new(format!("cannot write to stdout: {error}")))?;
    let listening = proxy.listeners().into_iter().map(|(name, address)| format!("listening {name} {address}\n"));
    stdout.say(listening.chain([format!("admin {}\n", proxy.admin())]).collect::<String>());
    // In an upgrade the service is ready already, and hears of its new process by the one that it knows.
    if predecessor.is_none() {
        supervisor::tell(NotifyState::Ready);
    }
    proxy.wait();
    tracing::info!("drained");
    stdout.finish();
    Ok(())
}

fn start(arguments: Arguments, inherited: Inherited) -> Outcome<Proxy> {
    let (parsed, source) = match arguments.config.or(arguments.file) {
        Some(file) => load::with_source(&file)?,
        None => load::default_with_source()?,
    };
    for warning in &parsed.warnings {
        let (file, line, key) = (&warning.file, warning.line, &warning.key);
        tracing::warn!(file, line, key, "{}", warning.message);
    }
    raise_file_limit();
    sockets::warn_of_few_files(&parsed.config);
    signals::start(parsed.config, source, Some(inherited))
}

/// Each connection is a file descriptor, and the soft limit is often 1,024 for the sake of programs that use `select`.
fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        tracing::warn!(?current, ?maximum, "the limit on open files cannot be raised");
    }
}
