//! Signals of a serving process: the first SIGTERM or SIGINT drains, the second one ends it at once.

use std::{io, process, sync::Arc, thread};

use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};

use super::show::warn_line;
use crate::{Control, Phase};

/// Watches from a thread of its own, until the process ends.
///
/// # Errors
/// The system lets no handler be installed, or no thread be started.
pub(super) fn watch(control: &Arc<Control>) -> io::Result<()> {
    let control = Arc::clone(control);
    let runtime = Builder::new_current_thread().enable_io().build()?;
    // Installed before this returns: a signal that comes a moment later must not kill the process.
    let (terminate, interrupt, hang_up) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?)
    };
    thread::Builder::new().name("witgate-signals".to_owned()).spawn(move || {
        runtime.block_on(follow(&control, terminate, interrupt, hang_up));
    })?;
    Ok(())
}

async fn follow(control: &Control, mut terminate: Signal, mut interrupt: Signal, mut hang_up: Signal) {
    let mut asked = false;
    loop {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            _ = hang_up.recv() => {
                tracing::warn!("SIGHUP: reload is not supported yet; the configuration stays as it is");
                continue;
            }
        };
        if asked {
            warn_line(format_args!("witgate: a second {name}: ending at once, requests in flight are cut"));
            process::exit(1);
        }
        asked = true;
        tracing::info!(signal = name, "draining");
        control.drain.advance(Phase::Drain);
    }
}
