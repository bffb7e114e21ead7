//! Signals of a serving process: the first SIGTERM or SIGINT drains, the second one ends it at once; SIGHUP has the
//! configuration read again, SIGUSR1 the access log opened anew, SIGUSR2 the binary started anew in this process' place.

use std::{
    io, process,
    sync::{Arc, OnceLock, Weak},
    thread,
};

use sd_notify::NotifyState;
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};

use witgate_core::config::Config;

use super::{Failed, Outcome, logging, replacement, show::warn_line, supervisor};
use crate::{
    Proxy,
    admin::SocketFile,
    control::{Control, Source},
    drain::{Drain, Phase},
    inherited::Inherited,
    upgrade::Upgrade,
};

/// What signals mean something to, once it has started.
#[derive(Default)]
struct Left {
    /// The admin API's socket: a process that ends at once takes it with it.
    socket: OnceLock<Weak<SocketFile>>,
    control: OnceLock<Weak<Control>>,
    upgrade: OnceLock<Weak<Upgrade>>,
}

/// Starts a proxy that obeys signals from the first moment on: one that comes before it serves drains it then, so that
/// no connection that the kernel has taken is lost. One that does not ask what it has inherited cannot be upgraded either.
pub(super) fn start(config: Config, source: Source, inherited: Option<Inherited>) -> Outcome<Proxy> {
    let inherits = inherited.is_some();
    let (drain, left) = (Drain::default(), Arc::<Left>::default());
    watch(drain.clone(), Arc::clone(&left)).map_err(|error| Failed::new(format!("cannot watch signals: {error}")))?;
    let proxy = Proxy::start_with(config, source, drain, inherited.unwrap_or_default()).map_err(Failed::new)?;
    // Nobody else sets them.
    let _ = left.socket.set(proxy.socket_file());
    let _ = left.control.set(Arc::downgrade(proxy.control()));
    if inherits {
        let _ = left.upgrade.set(Arc::downgrade(proxy.upgrade()));
    }
    Ok(proxy)
}

/// Watches from a thread of its own, until the process ends.
fn watch(drain: Drain, left: Arc<Left>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    // Installed before this returns: a signal that comes a moment later must not kill the process.
    let signals = {
        let _inside = runtime.enter();
        Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        }
    };
    thread::Builder::new().name("witgate-signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            let told = async {
                drain.reached(Phase::Drain).await;
                // Of a service that goes on by another process nobody is told that it stops.
                if !drain.is_handed_over() {
                    supervisor::tell(NotifyState::Stopping);
                }
            };
            tokio::join!(told, follow(&drain, &left, signals));
        });
    })?;
    Ok(())
}

/// Those that are watched.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user1: Signal,
    user2: Signal,
}

async fn follow(drain: &Drain, left: &Left, mut signals: Signals) {
    let mut asked = false;
    loop {
        let name = tokio::select! {
            _ = signals.terminate.recv() => "SIGTERM",
            _ = signals.interrupt.recv() => "SIGINT",
            _ = signals.user1.recv() => {
                // Before it has started there is nothing to be opened anew.
                if let Some(control) = left.control.get().and_then(Weak::upgrade) {
                    control.access_logs.reopen();
                }
                continue;
            }
            _ = signals.user2.recv() => {
                match left.upgrade.get().and_then(Weak::upgrade) {
                    Some(upgrade) => replacement::begin(upgrade),
                    None => tracing::warn!("SIGUSR2: no upgrade, as the proxy is starting, or is not that of `witgate run`"),
                }
                continue;
            }
            _ = signals.hang_up.recv() => {
                match left.control.get().and_then(Weak::upgrade) {
                    Some(control) => {
                        tracing::info!("SIGHUP: the configuration is read again");
                        control.reload_wanted.notify_one();
                    }
                    None => tracing::warn!("SIGHUP: not yet, the proxy is starting"),
                }
                continue;
            }
        };
        if asked {
            warn_line(format_args!("witgate: a second {name}: ending at once, requests in flight are cut"));
            if let Some(file) = left.socket.get().and_then(Weak::upgrade) {
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
