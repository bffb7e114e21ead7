//! Signals of a serving process: the first SIGTERM or SIGINT drains, the second one ends it at once.

use std::{
    io, process,
    sync::{Arc, OnceLock, Weak},
    thread,
};

use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};

use witgate_core::config::Config;

use super::{Failed, Outcome, logging, show::warn_line};
use crate::{
    Proxy,
    admin::SocketFile,
    drain::{Drain, Phase},
};

/// The admin API's socket, once there is one: a process that ends at once takes it with it.
type Left = OnceLock<Weak<SocketFile>>;

/// Starts a proxy that obeys signals from the first moment on: one that comes before it serves drains it then, so that
/// no connection that the kernel has taken is lost.
pub(super) fn start(config: Config) -> Outcome<Proxy> {
    let (drain, left) = (Drain::default(), Arc::<Left>::default());
    watch(drain.clone(), Arc::clone(&left)).map_err(|error| Failed::new(format!("cannot watch signals: {error}")))?;
    let proxy = Proxy::start_with(config, drain).map_err(Failed::new)?;
    let _ = left.set(proxy.socket_file()); // Nobody else sets it.
    Ok(proxy)
}

/// Watches from a thread of its own, until the process ends.
fn watch(drain: Drain, left: Arc<Left>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    // Installed before this returns: a signal that comes a moment later must not kill the process.
    let (terminate, interrupt, hang_up) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?)
    };
    thread::Builder::new().name("witgate-signals".to_owned()).spawn(move || {
        runtime.block_on(follow(&drain, &left, terminate, interrupt, hang_up));
    })?;
    Ok(())
}

async fn follow(drain: &Drain, left: &Left, mut terminate: Signal, mut interrupt: Signal, mut hang_up: Signal) {
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
            if let Some(file) = left.get().and_then(Weak::upgrade) {
                file.remove();
            }
            logging::finish();
            process::exit(1);
        }
        asked = true;
        tracing::info!(signal = name, "draining");
        drain.advance(Phase::Drain);
    }
}
