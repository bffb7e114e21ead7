//! Starts and stops the whole: state, sockets, one thread a worker, one thread for control.

use std::{
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Weak},
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use tokio::{
    runtime::{Builder, LocalOptions, LocalRuntime},
    sync::mpsc::{self, UnboundedReceiver},
};
use witgate_core::config::Config;
use witgate_policy::{CacheOptions, Engine, EngineOptions, Store, StoreError};

use crate::{
    admin::{self, Access, Admin, AdminAddress, SocketFile},
    control::{self, Control, Order, Sockets, Source, Start, Started},
    drain::{Drain, Phase},
    inherited::{HandOverError, Inherited},
    listen,
    secrets::{self, SecretError},
    sockets::BindError,
    telemetry::{
        access_log::{AccessLogs, OpenError},
        traces::{Traces, TracesError},
    },
    tls::{Tls, TlsRefused},
    upgrade::Upgrade,
    watch,
    worker::{Worker, conn::Signal},
};

/// A running proxy. Dropping it cuts whatever is in flight; [`Proxy::drain`] and [`Proxy::wait`] end it gracefully.
pub struct Proxy {
    control: Arc<Control>,
    admin: AdminAddress,
    socket_file: Weak<SocketFile>,
    token: String,
    upgrade: Arc<Upgrade>,
    workers: Vec<JoinHandle<()>>,
    controller: Option<JoinHandle<()>>,
}

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address.
    #[error("{0}")]
    Bind(#[from] BindError),
    /// Certificates and keys.
    #[error("{0}")]
    Tls(#[from] TlsRefused),
    /// The admin API's address.
    #[error("the admin API cannot listen on {address}: {source}")]
    Admin {
        /// As configured.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The access log.
    #[error("{0}")]
    AccessLog(#[from] OpenError),
    /// The collector of spans.
    #[error("{0}")]
    Traces(#[from] TracesError),
    /// The token's file or a key's.
    #[error("{0}")]
    Secret(#[from] SecretError),
    /// The state directory.
    #[error("{0}")]
    State(#[from] StoreError),
    /// The Wasm engine.
    #[error("{0}")]
    Engine(String),
    /// Another process' place.
    #[error("{0}")]
    HandOver(#[from] HandOverError),
    /// Threads and runtimes.
    #[error("cannot start a worker: {0}")]
    Thread(#[from] io::Error),
}

/// Plugin instances that may be alive at once, at the least; 32 a thread that asks where that is more. Room for old and
/// new generations of some ten plugins while a swap is under way.
const MIN_INSTANCES: u32 = 128;

impl Proxy {
    /// Starts everything, or nothing: sockets are bound and the state is opened before the first thread.
    ///
    /// # Errors
    /// An address is taken, the state directory is in use by another process, a secret's file is open to others …
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_from(config, Source::default())
    }

    /// The same with where the configuration came from, so that it can be replaced.
    ///
    /// # Errors
    /// As [`Proxy::start`].
    pub fn start_from(config: Config, source: Source) -> Result<Self, StartError> {
        Self::start_with(config, source, Drain::default(), Inherited::default())
    }

    /// The same with a token of the caller's, as a drain may begin before the start has ended, and then follows on it; and
    /// with what the process has inherited.
    pub(crate) fn start_with(
        config: Config,
        source: Source,
        drain: Drain,
        mut inherited: Inherited,
    ) -> Result<Self, StartError> {
        let workers = match config.runtime.workers {
            0 => thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let state = config.runtime.state_dir.clone();
        let token = secrets::text(&config.admin.token_file)?;
        let read_token =
            config.admin.read_token_file.as_deref().map(|file| secrets::other_text(file, &token)).transpose()?;
        let store = match inherited.lock.take() {
            Some(lock) => Store::open_lent(&state, lock)?,
            None => Store::open(&state)?,
        };
        for note in store.notes() {
            tracing::warn!(%note, "the plugin store was mended");
        }
        let cookie_secret = secrets::key(&state.join("cookie.key"))?;
        // Nothing hangs on it but artefacts, which are compiled anew.
        let artefact_key = secrets::replaceable_key(&state.join("artifact.key"))?;
        let (tls, _) = Tls::load(&config, &Tls::default())?;
        tls.warnings(SystemTime::now()).iter().for_each(|warning| tracing::warn!("{warning}"));
        let access_logs = AccessLogs::default();
        let access_log = access_logs.next(config.access_log.as_ref(), None)?;
        let spans = Arc::default();
        let traces = Traces::next(config.traces.as_ref(), None, &spans)?;
        let sockets = Sockets::bind(&config, None, workers, &mut inherited)?;
        let access = Access::new(&config.admin, &token, read_token.as_deref(), tls.admin.clone());
        let admin = admin::bind(&config.admin, inherited.take_admin(&config.admin.listen))
            .map_err(|source| StartError::Admin { address: admin::show(&config.admin.listen), source })?;
        let taken = inherited.close_rest();
        let predecessor = inherited.predecessor;
        let cache = CacheOptions { dir: state.join("cache"), key: artefact_key };
        let engine = Engine::new(EngineOptions {
            memory_ceiling: config.plugin_bounds.memory_ceiling,
            max_instances: MIN_INSTANCES.max(u32::try_from(workers + 1).unwrap_or(u32::MAX).saturating_mul(32)),
            cache: Some(cache),
        })
        .map_err(|error| StartError::Engine(error.to_string()))?;
        let (address, socket_file) = (admin.address().clone(), admin.socket_file());
        let (lent, listen) = (admin.lend()?, admin::show(&config.admin.listen));
        // Before plugins are compiled, which may take long: who asks whether the process lives is answered meanwhile, unless
        // a predecessor answers better.
        let (open, started) = tokio::sync::watch::channel(None);
        let first = if predecessor.is_some() { First::Started } else { First::Listen };
        let controller = Some(start_control((admin, first), access, drain.clone(), started)?);
        let (orders, obeying) = (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
        let config = Arc::new(config);
        let (control, opening) = Control::start(Start {
            config,
            source,
            engine,
            store,
            cookie_secret,
            sockets,
            tls,
            orders,
            access_logs,
            access_log,
            spans,
            traces,
            drain,
            is_successor: predecessor.is_some(),
        });
        for (listener, address) in control.live.load().listeners() {
            tracing::info!(listener = listener.name, %address, "listening");
        }
        // Dropped where workers cannot be started, which ends what was.
        let upgrade = Arc::new(Upgrade::new(&control, lent, listen, Weak::clone(&socket_file)));
        let mut proxy = Self { control, admin: address, socket_file, token, upgrade, workers: Vec::new(), controller };
        proxy.workers = start_workers(&proxy.control, obeying)?;
        if let Some(predecessor) = predecessor {
            // Up to here this may fail, and the predecessor serves on with all that it had.
            predecessor.wait_for_turn(taken)?;
            if let Some(file) = proxy.socket_file.upgrade() {
                file.own();
            }
        }
        proxy.control.open(opening);
        open.send_replace(Some(Arc::clone(&proxy.control)));
        if let Some(predecessor) = predecessor {
            predecessor.tell_serving();
        }
        Ok(proxy)
    }

    /// Every listener's name and the address it was given.
    pub fn listeners(&self) -> Vec<(String, SocketAddr)> {
        self.control.live.load().listeners().map(|(listener, address)| (listener.name.clone(), address)).collect()
    }

    /// The address of one listener.
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        self.listeners().into_iter().find(|(n, _)| n == name).map(|(_, address)| address)
    }

    /// Where the admin API listens.
    pub fn admin(&self) -> &AdminAddress {
        &self.admin
    }

    /// What is to be removed where the process ends without dropping this.
    pub(crate) fn socket_file(&self) -> Weak<SocketFile> {
        self.socket_file.clone()
    }

    /// What hands this one's place over to another process.
    pub(crate) fn upgrade(&self) -> &Arc<Upgrade> {
        &self.upgrade
    }

    /// What the admin API asks for.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The control plane, for those who embed the proxy.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Has the access log's file opened anew: for who has moved it away, as logrotate does.
    pub fn reopen_access_log(&self) {
        self.control.access_logs.reopen();
    }

    /// Begins a graceful shutdown: not ready, no new connections, requests in flight finish within `drain_timeout`.
    pub fn drain(&self) {
        self.control.drain.advance(Phase::Drain);
    }

    /// Waits until a drain has ended, whoever began it.
    pub fn wait(mut self) {
        self.join();
    }

    fn join(&mut self) {
        for worker in self.workers.drain(..) {
            // A worker that panicked has said so on stderr; the others are still to be waited for.
            let _ = worker.join();
        }
        // What they have logged is handed over by now.
        self.control.access_logs.finish();
        if let Some(traces) = &self.control.live.load().traces {
            traces.finish();
        }
        self.control.drain.advance(Phase::Stop);
        if let Some(controller) = self.controller.take() {
            let _ = controller.join();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.control.drain.advance(Phase::Stop);
        self.join();
    }
}

fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
}

fn start_workers(
    control: &Arc<Control>,
    obeying: Vec<UnboundedReceiver<Order>>,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let mut threads = Vec::with_capacity(obeying.len());
    let (started, all_started) = std::sync::mpsc::channel();
    for (id, orders) in obeying.into_iter().enumerate() {
        let (live, telemetry) = (Arc::clone(&control.live), Arc::clone(&control.telemetry));
        let drain = control.drain.clone();
        let started = started.clone();
        let seed = u64::from_le_bytes(random_bytes()?);
        threads.push(thread::Builder::new().name(format!("witgate-{id}")).spawn(move || {
            let runtime = match runtime() {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            let _ = started.send(Ok(()));
            runtime.block_on(async {
                let worker = Worker::new(id, live, telemetry, drain, seed);
                work(worker, orders).await;
            });
        })?);
    }
    for _ in &threads {
        if let Ok(Err(error)) = all_started.recv() {
            control.drain.advance(Phase::Stop);
            return Err(StartError::Thread(error));
        }
    }
    Ok(threads)
}

fn random_bytes() -> io::Result<[u8; 8]> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

/// One worker's life: accept until the drain, then let connections finish until the timeout.
async fn work(worker: Rc<Worker>, orders: UnboundedReceiver<Order>) {
    let accepting = tokio::task::spawn_local(listen::obey(Rc::clone(&worker), orders));
    tokio::task::spawn_local(Rc::clone(&worker).follow_generations());
    tokio::task::spawn_local(Rc::clone(&worker).sweep());
    tokio::task::spawn_local(Rc::clone(&worker).make_room());
    tokio::task::spawn_local(Rc::clone(&worker).hand_over_lines());
    tokio::task::spawn_local(Rc::clone(&worker.deadlines).run());
    worker.drain.reached(Phase::Drain).await;
    let drain_timeout = worker.live.load().config.runtime.drain_timeout;
    worker.connections.each(|conn| conn.ask(Signal::Finish));
    let finished = async {
        // It does not panic; if it did, there is nothing left to wait for.
        let _ = accepting.await;
        worker.connections.emptied().await;
    };
    tokio::select! {
        () = finished => {}
        () = tokio::time::sleep(drain_timeout) => {
            tracing::warn!(worker = worker.id, connections = worker.connections.len(), "drain timeout: cutting what is left");
        }
        () = worker.drain.reached(Phase::Stop) => {}
    }
    worker.connections.each(|conn| conn.ask(Signal::Kill));
    // Those that are cut say so, which an end of the process would not.
    let _ = tokio::time::timeout(LAST_TURN, worker.connections.emptied()).await;
}

/// How long connections that are cut may take for it.
const LAST_TURN: Duration = Duration::from_millis(500);

/// What the admin API waits for before it listens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    Listen,
    Started,
}

fn start_control(
    (admin, first): (Admin, First),
    access: Access,
    drain: Drain,
    started: Started,
) -> Result<JoinHandle<()>, StartError> {
    let (stop, handed) = (drain.clone(), drain.clone());
    let serve = move || -> io::Result<()> {
        let runtime = runtime()?;
        runtime.block_on(async {
            let asked = started.clone();
            tokio::task::spawn_local(async move {
                if first == First::Started {
                    control::started(asked.clone()).await;
                }
                // Where another process has the socket, it alone is to answer.
                tokio::select! {
                    () = admin.serve(asked, access) => {}
                    () = handed.handed_over() => {}
                }
            });
            tokio::task::spawn_local(async move {
                if let Some(control) = control::started(started).await {
                    tokio::task::spawn_local(watch::health::run(Arc::clone(&control)));
                    tokio::task::spawn_local(watch::endpoints::run(Arc::clone(&control)));
                    tokio::task::spawn_local(watch::config::run(Arc::clone(&control)));
                    tokio::task::spawn_local(watch::tls::run(Arc::clone(&control)));
                    tokio::task::spawn_local(watch::dns::run(Arc::clone(&control)));
                    watch::scores::run(control).await;
                }
            });
            stop.reached(Phase::Stop).await;
        });
        // An upload that is still compiling must not hold up the end.
        runtime.shutdown_background();
        Ok(())
    };
    Ok(thread::Builder::new().name("witgate-control".to_owned()).spawn(move || {
        if let Err(error) = serve() {
            tracing::error!(%error, "the control thread cannot start");
            drain.advance(Phase::Drain);
        }
    })?)
}
