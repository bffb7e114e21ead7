//! The binary started anew in this process' place: found where this one was, with the same arguments.

use std::{
    env,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::Arc,
    thread,
};

use sd_notify::NotifyState;

use super::supervisor;
use crate::upgrade::{Upgrade, UpgradeError};

/// Begins an upgrade, on a thread of its own: it takes as long as a start.
pub(super) fn begin(upgrade: Arc<Upgrade>) {
    let began = thread::Builder::new().name("witgate-upgrade".to_owned()).spawn(move || run(&upgrade));
    if let Err(error) = began {
        tracing::error!(%error, "SIGUSR2: no upgrade, this process serves on");
    }
}

fn run(upgrade: &Upgrade) {
    // The end of that process ends all others there, the new one as well.
    if process::id() == 1 {
        return tracing::warn!(
            "SIGUSR2: no upgrade, as this is the first process of a container: start another container"
        );
    }
    let program = program();
    let path = program.get_program().display().to_string();
    tracing::info!(program = path, "SIGUSR2: starting a process that takes the place of this one");
    match upgrade.run(program) {
        Ok(successor) => {
            // Before this process ends, as only the one that is known already is believed.
            supervisor::tell(NotifyState::MainPid(successor.pid));
            tracing::info!(pid = successor.pid, "another process serves in the place of this one, which drains");
            successor.take_leave();
        }
        Err(error @ (UpgradeError::Running | UpgradeError::Draining)) => {
            tracing::warn!(%error, "SIGUSR2: no upgrade");
        }
        Err(error) => tracing::error!(program = path, %error, "no upgrade, this process serves on"),
    }
}

/// What this process was started by, which by now may be another file: the path it was called by is not resolved, and
/// `/proc/self/exe` would be the old one.
fn program() -> Command {
    let mut arguments = env::args_os();
    let name = arguments.next().map(PathBuf::from).filter(|name| !name.as_os_str().is_empty());
    // A bare name is looked up in PATH once more.
    let program = name.or_else(|| env::current_exe().ok()).unwrap_or_else(|| Path::new("witgate").to_owned());
    let mut command = Command::new(program);
    command.args(arguments);
    // Of what this process itself was given.
    for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
        command.env_remove(name);
    }
    command
}
