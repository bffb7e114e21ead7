//! What an operator may change while traffic flows: plugin versions, endpoints, the configuration. Every change is checked
//! first, made durable second, and published last, in one step; a change that fails leaves what was there.

mod bring_up;
mod endpoints;
mod error;
mod hand_over;
mod listeners;
mod names;
mod reload;
mod uses;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Instant,
};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use witgate_core::config::{self, Config};
use witgate_policy::{Code, Engine, Plugin, Stage, Store, Stored};

use crate::{
    assemble::{self, Parts},
    drain::Drain,
    files,
    generation::{Generation, Live, Slot, Socket},
    telemetry::{
        Telemetry,
        access_log::{AccessLog, AccessLogs},
        traces::{Counts, Traces},
    },
    tls::Tls,
    upstream::dns::{self, Names},
};
use bring_up::Taken;
pub use bring_up::try_file;
pub use endpoints::EndpointChange;
pub use error::ControlError;
pub use hand_over::{LendError, Lent};
use listeners::Orders;
pub use listeners::{Lenders, Order, Sockets};
pub use reload::{Reloaded, Reloads, Source};
use uses::{tell_unanswered, unanswered, users_of};

/// Where the control plane is handed to who answers for it, once it has started.
pub type Started = watch::Receiver<Option<Arc<Control>>>;

/// The control plane, once it has started; none where it never does.
pub async fn started(mut started: Started) -> Option<Arc<Control>> {
    started.wait_for(Option::is_some).await.ok()?.clone()
}

/// The control plane's hands. One a proxy.
pub struct Control {
    /// The generation that is live.
    pub live: Arc<Live>,
    /// Counters.
    pub telemetry: Arc<Telemetry>,
    /// The way down.
    pub drain: Drain,
    /// Where the configuration came from.
    pub source: Source,
    /// How often another one was wanted.
    pub reloads: Reloads,
    /// Wakes who reads the file again.
    pub reload_wanted: Notify,
    /// What is told of each request.
    pub access_logs: AccessLogs,
    /// What became of spans.
    pub spans: Arc<Counts>,
    /// What names stand for.
    names: ArcSwap<Names>,
    /// Of the live configuration.
    text: ArcSwap<String>,
    engine: Arc<Engine>,
    store: Store,
    /// Serialises what is made durable and then published, so that disk and memory agree on who was last.
    changing: Mutex<()>,
    /// Whether the state is about to be another process'. Set only in turn.
    frozen: AtomicBool,
    /// Tells the workers what to listen on.
    orders: Orders,
    cookie_secret: [u8; 32],
}

/// All that a start has made ready, handed over once.
pub struct Start {
    /// What was asked for.
    pub config: Arc<Config>,
    /// Where that came from.
    pub source: Source,
    /// Runs plugins.
    pub engine: Arc<Engine>,
    /// Has their code.
    pub store: Store,
    /// Authenticates sticky cookies.
    pub cookie_secret: [u8; 32],
    /// What is listened on.
    pub sockets: Sockets,
    /// What is spoken below HTTP.
    pub tls: Tls,
    /// How each worker is told what to listen on.
    pub orders: Orders,
    /// Opens access logs.
    pub access_logs: AccessLogs,
    /// The first of them, where there is one.
    pub access_log: Option<Arc<AccessLog>>,
    /// Counts spans.
    pub spans: Arc<Counts>,
    /// Where the first of them go, where they do.
    pub traces: Option<Arc<Traces>>,
    /// The way down.
    pub drain: Drain,
    /// Whether the state is still another process', so that nothing may be written before [`Control::open`].
    pub is_successor: bool,
}

/// What is left to be done when it is this process' turn.
pub struct Opening {
    sockets: Sockets,
    taken: Vec<Taken>,
}

/// What an operator decides of a generation.
struct Basis {
    config: Arc<Config>,
    plugins: Arc<BTreeMap<String, Slot>>,
    sockets: Arc<[Socket]>,
    tls: Arc<Tls>,
    access_log: Option<Arc<AccessLog>>,
    traces: Option<Arc<Traces>>,
}

impl Basis {
    /// That of one that is there.
    fn of(present: &Generation) -> Self {
        let Generation { config, plugins, sockets, tls, access_log, traces, .. } = present;
        Self {
            config: Arc::clone(config),
            plugins: Arc::clone(plugins),
            sockets: Arc::clone(sockets),
            tls: Arc::clone(tls),
            access_log: access_log.clone(),
            traces: traces.clone(),
        }
    }
}

/// The version of a plugin that is admitted to see whether it can be, and asked nothing.
const ONLY_CHECKED: u32 = 0;

/// What was uploaded.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Uploaded {
    /// The plugin's name.
    pub name: String,
    /// Its number: 1, 2, 3 …
    pub version: u32,
    /// Of the bytes as they came, in hexadecimal.
    pub sha256: String,
    /// The questions it answers.
    pub exports: Vec<&'static str>,
    /// Whether it is the live version.
    pub active: bool,
    /// What is wanted of the live version and it does not answer.
    pub warnings: Vec<String>,
    /// Whether the same bytes were there already.
    #[serde(skip)]
    pub existed: bool,
}

/// Versions of one plugin.
#[derive(Clone)]
pub struct Versions {
    /// What the store has; no versions where it has nothing of that name.
    pub stored: Stored,
    /// What is live, if anything is.
    pub slot: Option<Slot>,
    /// What the configuration wants of it and it does not answer.
    pub warnings: Vec<String>,
}

impl Control {
    /// Takes up the work with a store that was just opened. Plugins that cannot be used are reported and left out: one
    /// bad plugin never keeps the rest from serving. Nothing is accepted before [`Control::open`].
    pub fn start(start: Start) -> (Arc<Self>, Opening) {
        let Start {
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
            is_successor,
        } = start;
        let workers = orders.len();
        let telemetry = Telemetry::new(workers);
        let mut later = is_successor.then(Vec::new);
        let (plugins, _failed) =
            bring_up::slots(&engine, &store, &config, &telemetry, &BTreeMap::new(), later.as_mut());
        let (now, seed) = (Instant::now(), seed());
        let names = Arc::new(dns::look_up_all(&config.runtime.resolvers, dns::names_of(&config)));
        let parts = Parts {
            present: None,
            plugins: Arc::new(plugins),
            names: Arc::clone(&names),
            sockets: sockets.all(),
            tls: Arc::new(tls),
            access_log,
            traces,
            workers,
            cookie_secret,
            now,
            seed,
        };
        let live = Live::new(assemble::assemble(config, &parts));
        let control = Arc::new(Self {
            live,
            telemetry,
            drain,
            names: ArcSwap::new(names),
            text: ArcSwap::from_pointee(source.text.clone()),
            source,
            reloads: Reloads::default(),
            reload_wanted: Notify::new(),
            access_logs,
            spans,
            engine,
            store,
            changing: Mutex::new(()),
            frozen: AtomicBool::new(false),
            orders,
            cookie_secret,
        });
        (control, Opening { sockets, taken: later.unwrap_or_default() })
    }

    /// The turn of who changes what a process keeps from its predecessor.
    ///
    /// # Errors
    /// The next process has it already.
    fn turn(&self) -> Result<MutexGuard<'_, ()>, ControlError> {
        let turn = self.any_turn();
        if self.is_frozen() { Err(ControlError::Upgrading) } else { Ok(turn) }
    }

    fn any_turn(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every plugin that is stored or configured, by name.
    pub fn plugins(&self) -> BTreeMap<String, Versions> {
        let generation = self.live.load();
        let slot = |name: &str| generation.plugins.get(name).cloned();
        let nothing = |name: &str| Stored {
            name: name.to_owned(),
            versions: Vec::new(),
            active: witgate_policy::Active::default(),
            from_file: None,
        };
        let known = generation.plugins.keys().map(|name| (name.clone(), nothing(name)));
        let stored = self.store.list().into_iter().map(|stored| (stored.name.clone(), stored));
        let all: BTreeMap<String, Stored> = known.chain(stored).collect();
        all.into_iter()
            .map(|(name, stored)| {
                (name.clone(), Versions { stored, slot: slot(&name), warnings: self.warnings(&name) })
            })
            .collect()
    }

    /// What the configuration wants of a plugin and it does not answer.
    fn warnings(&self, name: &str) -> Vec<String> {
        let generation = self.live.load();
        let live = generation.plugins.get(name).and_then(|slot| slot.live.as_deref());
        unanswered(&generation.config, live, &settings_of(&generation.config, name))
    }

    /// Checks, compiles and stores a module; makes it live where `activate` says so. Blocks for as long as compiling
    /// takes: call it off the workers.
    ///
    /// # Errors
    /// The module is refused or cannot be stored. The live version is then what it was.
    pub fn upload(
        &self,
        name: &str,
        bytes: &[u8],
        activate: bool,
        progress: &dyn Fn(Stage),
    ) -> Result<Uploaded, ControlError> {
        witgate_policy::check_name(name)?;
        let code = self.engine.load(bytes, progress)?;
        let version = if activate { self.store.number(name, &code.hex()) } else { ONLY_CHECKED };
        let plugin = self.admit(name, version, Arc::clone(&code), progress)?;
        progress(Stage::Store);
        // Stored and made live in one turn: a removal comes before both or after both, never in between.
        let turn = self.turn()?;
        let put = self.store.put(name, bytes)?;
        if activate {
            // Another change may have taken the number since. Rare, so that the turn may be held for a little longer.
            let plugin = match put.version {
                version if version == plugin.version() => plugin,
                version => self.admit(name, version, Arc::clone(&code), &|_| {})?,
            };
            self.make_live(&turn, plugin)?;
        }
        let active = self.active(name) == Some(put.version);
        drop(turn);
        let warnings = if active { self.warnings(name) } else { Vec::new() };
        Ok(Uploaded {
            name: name.to_owned(),
            version: put.version,
            sha256: put.sha256,
            exports: code.exports.names(),
            active,
            warnings,
            existed: put.existed,
        })
    }

    /// Makes a stored version live: durable first, then published in one step.
    ///
    /// # Errors
    /// There is no such version, it is refused (a configuration it does not accept, for one), or the store cannot be
    /// written. The live version is then what it was.
    pub fn activate(&self, name: &str, version: u32) -> Result<(), ControlError> {
        let plugin = self.ready(name, version)?;
        self.make_live(&self.turn()?, plugin)
    }

    /// Durable first, then published.
    fn make_live(&self, _turn: &MutexGuard<'_, ()>, plugin: Arc<Plugin>) -> Result<(), ControlError> {
        let (name, version) = (plugin.name().to_owned(), plugin.version());
        // A plugin that is removed and uploaded anew counts from 1 again: the number alone does not say which bytes.
        let versions = self.store.plugin(&name).map(|stored| stored.versions).unwrap_or_default();
        if versions.iter().any(|v| v.version == version && v.sha256 != plugin.code().hex()) {
            return Err(changed(&format!("version {version} of plugin \"{name}\"")));
        }
        self.store.activate(&name, version)?;
        self.publish_plugin(&name, Some(Arc::clone(&plugin)));
        tracing::info!(plugin = name, version, "activated");
        let config = Arc::clone(&self.live.load().config);
        tell_unanswered(&config, Some(&plugin), &settings_of(&config, &name));
        Ok(())
    }

    /// Makes the version live that was live before. Returns its number.
    ///
    /// # Errors
    /// There is nothing to go back to, another call changed what is live, or as for [`Control::activate`].
    pub fn rollback(&self, name: &str) -> Result<u32, ControlError> {
        let active = self.stored(name)?.active;
        let Some(previous) = active.previous else {
            return Err(ControlError::Conflict(format!("plugin \"{name}\" has no earlier version to go back to")));
        };
        let plugin = self.ready(name, previous)?;
        let turn = self.turn()?;
        // Otherwise it would go back from a version that is not live any more.
        if self.stored(name)?.active != active {
            return Err(changed(&format!("the live version of plugin \"{name}\"")));
        }
        self.make_live(&turn, plugin)?;
        Ok(previous)
    }

    /// Removes a plugin with all its versions.
    ///
    /// # Errors
    /// There is none of that name, or the configuration uses it and `force` is not set.
    pub fn remove(&self, name: &str, force: bool) -> Result<(), ControlError> {
        self.stored(name)?;
        let users = users_of(&self.live.load().config, name);
        if !users.is_empty() && !force {
            return Err(ControlError::Conflict(format!(
                "plugin \"{name}\" is used by {}; take it out of the configuration, or repeat with ?force=true to fall \
                 back to native decisions there",
                users.join(", ")
            )));
        }
        let _turn = self.turn()?;
        self.store.remove(name)?;
        self.publish_plugin(name, None);
        tracing::info!(plugin = name, "removed");
        Ok(())
    }

    /// The stored bytes of a version.
    ///
    /// # Errors
    /// There is no such version.
    pub fn bytes(&self, name: &str, version: u32) -> Result<Vec<u8>, ControlError> {
        Ok(self.store.bytes(name, version)?)
    }

    fn active(&self, name: &str) -> Option<u32> {
        self.store.plugin(name)?.active.version
    }

    fn stored(&self, name: &str) -> Result<Stored, ControlError> {
        self.store.plugin(name).ok_or_else(|| {
            let known: Vec<String> = self.store.list().into_iter().map(|stored| stored.name).collect();
            let known = if known.is_empty() { "none is".to_owned() } else { format!("stored: {}", known.join(", ")) };
            ControlError::NotFound(format!("no plugin \"{name}\" is stored; {known}"))
        })
    }

    fn ready(&self, name: &str, version: u32) -> Result<Arc<Plugin>, ControlError> {
        let bytes = self.store.bytes(name, version)?;
        let code = self.engine.load(&bytes, &|_| {})?;
        self.admit(name, version, code, &|_| {})
    }

    fn admit(
        &self,
        name: &str,
        version: u32,
        code: Arc<Code>,
        progress: &dyn Fn(Stage),
    ) -> Result<Arc<Plugin>, ControlError> {
        let settings = settings_of(&self.live.load().config, name);
        Ok(bring_up::admit(&self.engine, &settings, version, code, &self.telemetry, progress)?)
    }

    /// What the generation after `present` is assembled of.
    fn parts<'a>(&self, present: &'a Generation, basis: &Basis) -> Parts<'a> {
        Parts {
            present: Some(present),
            plugins: Arc::clone(&basis.plugins),
            names: self.names.load_full(),
            sockets: Arc::clone(&basis.sockets),
            tls: Arc::clone(&basis.tls),
            access_log: basis.access_log.clone(),
            traces: basis.traces.clone(),
            workers: self.orders.len(),
            cookie_secret: self.cookie_secret,
            now: Instant::now(),
            seed: seed(),
        }
    }

    /// Publishes what is assembled of another basis than that of the present generation.
    fn publish_assembled(&self, of: impl FnOnce(&Generation) -> Basis) {
        let next = |present: &Generation| {
            let basis = of(present);
            let parts = self.parts(present, &basis);
            Ok::<_, Infallible>(Some(assemble::assemble(basis.config, &parts)))
        };
        let Ok(_published) = self.live.publish(next);
    }

    /// The one way by which a plugin becomes live or goes.
    fn publish_plugin(&self, name: &str, plugin: Option<Arc<Plugin>>) {
        self.publish_assembled(|present| {
            let mut slots = BTreeMap::clone(&present.plugins);
            let settings = settings_of(&present.config, name);
            let configured = present.config.plugins.iter().any(|p| p.name == name);
            if plugin.is_some() || configured {
                slots.insert(name.to_owned(), Slot { live: plugin, broken: None, settings });
            } else {
                slots.remove(name);
            }
            Basis { plugins: Arc::new(slots), ..Basis::of(present) }
        });
    }
}

/// Bits that no client knows. They only keep clients from choosing keys that share a rate limit's bucket: where the system
/// has none, there was no key for cookies either.
fn seed() -> u64 {
    getrandom::u64().unwrap_or(0)
}

fn changed(what: &str) -> ControlError {
    ControlError::Conflict(format!("{what} was changed by another call at the same moment; look again, and repeat"))
}

/// How large a plugin's file may be.
pub fn largest_upload(config: &Config) -> files::Limit {
    files::Limit { bytes: config.plugin_bounds.max_upload, of: "[plugins] max_upload" }
}

/// What the configuration says of a plugin; the defaults where it says nothing.
fn settings_of(config: &Config, name: &str) -> Arc<config::Plugin> {
    Arc::new(config.plugins.iter().find(|p| p.name == name).cloned().unwrap_or_else(|| config::Plugin::named(name)))
}

fn plugin_names(config: &Config, store: &Store) -> BTreeSet<String> {
    let configured = config.plugins.iter().map(|p| p.name.clone());
    store.list().into_iter().map(|stored| stored.name).chain(configured).collect()
}
