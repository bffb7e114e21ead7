//! One plugin version with one configuration: its code, its manifest, its counters, its circuit and its spare
//! instances. It must never make an instance on a worker, except where isolation asks for one each call.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use witgate_core::config::{Budget, Isolation, Quarantine};
use witgate_core::request::FieldName;
use witgate_core::rollout::CircuitState;

use crate::admission;
use crate::breaker::Breaker;
use crate::engine::{self, Code, Engine};
use crate::guest::{Deadline, Ended};
use crate::instances::{Caller, Instance};
use crate::log::Log;
use crate::stats::Stats;
use crate::{Exports, Failure, Refused, Stage};

/// What is configured of a plugin.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The plugin's name, for messages.
    pub name: String,
    /// The version's number, for messages.
    pub version: u32,
    /// The plugin's `config` table as a JSON object.
    pub config: String,
    /// Time and memory.
    pub budget: Budget,
    /// How instances are reused.
    pub isolation: Isolation,
    /// When the version is cut off.
    pub quarantine: Quarantine,
    /// Spare instances to hold ready: one for each thread that asks.
    pub instances: usize,
    /// What is counted goes here: on top of what others count, where they share it.
    pub stats: Arc<Stats>,
}

impl Default for Settings {
    /// What the file's silence means, with one instance.
    fn default() -> Self {
        Self {
            name: "plugin".to_owned(),
            version: 1,
            config: "{}".to_owned(),
            budget: Budget::default(),
            isolation: Isolation::default(),
            quarantine: Quarantine::default(),
            instances: 1,
            stats: Arc::default(),
        }
    }
}

/// An admitted plugin. Questions are its methods, in `call.rs`.
pub struct Plugin {
    pub(crate) id: u64,
    pub(crate) me: Weak<Self>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) settings: Settings,
    pub(crate) manifest: Vec<FieldName>,
    pub(crate) log: Arc<Log>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) breaker: Breaker,
    code: Arc<Code>,
    spares: ArrayQueue<Box<Instance>>,
    /// Refills that were asked for and have not ended.
    refills: AtomicUsize,
    /// Refills that failed in a row.
    refill_failures: AtomicU32,
    made_at: Instant,
    /// Nanosecond since `made_at` before which no refill is asked for: what cannot start must not keep the keeper busy.
    refill_after: AtomicU64,
    /// Nanosecond since `made_at` until which calls are watched; 0 where none was late.
    watched_until: AtomicU64,
}

impl Plugin {
    /// Makes an instance, configures it, asks each exported question once about a made-up request, and prepares
    /// `settings.instances` fresh spares. Slow: never on a worker. `progress` hears of each step as it begins.
    ///
    /// # Errors
    /// Where any of it fails; the error says what and how.
    pub fn admit(
        engine: &Arc<Engine>,
        code: Arc<Code>,
        settings: Settings,
        progress: &dyn Fn(Stage),
    ) -> Result<Arc<Self>, Refused> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let log = Arc::new(Log::new(&settings.name, settings.version));
        let manifest = admission::examine(engine, &code, &settings, &log, progress)?;
        let plugin = Arc::new_cyclic(|me| Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            me: me.clone(),
            engine: Arc::clone(engine),
            manifest,
            log,
            stats: Arc::clone(&settings.stats),
            breaker: Breaker::new(settings.quarantine, Instant::now()),
            code,
            spares: ArrayQueue::new(settings.instances.max(1)),
            refills: AtomicUsize::new(0),
            refill_failures: AtomicU32::new(0),
            made_at: Instant::now(),
            refill_after: AtomicU64::new(0),
            watched_until: AtomicU64::new(0),
            settings,
        });
        if plugin.settings.isolation == Isolation::Worker {
            while !plugin.spares.is_full() {
                let spare = plugin.make(admission::START, admission::CONFIGURE);
                let spare = spare.map_err(|e| admission::refused_instance(&e, &plugin.settings))?;
                let _ = plugin.spares.push(Box::new(spare));
            }
        }
        Ok(plugin)
    }

    /// The plugin's name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The version's number.
    pub fn version(&self) -> u32 {
        self.settings.version
    }

    /// Its code.
    pub fn code(&self) -> &Arc<Code> {
        &self.code
    }

    /// Which questions it answers.
    pub fn exports(&self) -> Exports {
        self.code.exports
    }

    /// The request fields that it is handed.
    pub fn manifest(&self) -> &[FieldName] {
        &self.manifest
    }

    /// How it was configured.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Where its circuit is.
    pub fn circuit_state(&self) -> CircuitState {
        self.breaker.state()
    }

    /// Spare instances that are ready.
    pub fn spares(&self) -> usize {
        self.spares.len()
    }

    pub(crate) fn caller(&self) -> Caller<'_> {
        Caller {
            engine: &self.engine,
            code: &self.code,
            budget: self.settings.budget.time,
            begun: None,
            watched: false,
        }
    }

    /// A spare; asks for another where there is none.
    pub(crate) fn spare(&self, now: Instant) -> Option<Box<Instance>> {
        let spare = self.spares.pop();
        if spare.is_none() {
            self.ask_refill(now);
        }
        spare
    }

    /// Asks for one more spare, off this thread.
    pub(crate) fn ask_refill(&self, now: Instant) {
        if self.age(now) < self.refill_after.load(Ordering::Relaxed) {
            return;
        }
        let room = |asked: usize| (asked < self.spares.capacity()).then_some(asked + 1);
        if self.refills.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
            && !self.engine.keeper.refill(self.me.clone())
        {
            self.refills.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Makes one spare. Runs on the keeper's thread; a failure is one of the plugin.
    pub(crate) fn refill(&self) {
        if !self.spares.is_full() {
            match self.make(admission::START, admission::CONFIGURE) {
                Ok(instance) => {
                    self.refill_failures.store(0, Ordering::Relaxed);
                    drop(self.spares.push(Box::new(instance))); // Surplus, where another refill was quicker.
                }
                Err(failure) => self.refill_failed(&failure),
            }
        }
        self.refills.fetch_sub(1, Ordering::Relaxed);
    }

    /// Backs off as the circuit does.
    fn refill_failed(&self, failure: &Failure) {
        let now = Instant::now();
        let Quarantine { back_off, max_back_off, .. } = self.settings.quarantine;
        let times = 1 << self.refill_failures.fetch_add(1, Ordering::Relaxed).min(16);
        let wait = back_off.saturating_mul(times).min(max_back_off);
        self.refill_after.store(self.age(now).saturating_add(engine::nanos(wait)), Ordering::Relaxed);
        self.log.failure("no instance could be made", failure);
        self.breaker.failed(now);
    }

    /// Whether the CPU clock is read at the begin of calls made now.
    pub(crate) fn watched(&self, now: Instant) -> bool {
        let until = self.watched_until.load(Ordering::Relaxed);
        until != 0 && self.age(now) < until
    }

    /// What to think of a call that gave an answer. One that was late has those after it watched for as long as the
    /// circuit remembers failures.
    pub(crate) fn in_time(&self, deadline: &Deadline, took: Duration, now: Instant) -> Result<(), Failure> {
        let ended = deadline.ended(took);
        if ended != Ended::InTime {
            let until = self.age(now).saturating_add(engine::nanos(self.settings.quarantine.window));
            self.watched_until.fetch_max(until, Ordering::Relaxed);
        }
        if ended == Ended::Overrun { Err(Failure::Overrun) } else { Ok(()) }
    }

    fn age(&self, now: Instant) -> u64 {
        engine::nanos(now.saturating_duration_since(self.made_at))
    }

    /// A fresh, configured instance.
    pub(crate) fn make(&self, start: Duration, configure: Duration) -> Result<Instance, Failure> {
        let mut instance = Caller { budget: start, ..self.caller() }.start(&self.log, self.settings.budget.memory)?;
        let answer = Caller { budget: configure, ..self.caller() }.configure(&mut instance, &self.settings.config)?;
        match answer.map(admission::manifest) {
            Ok(Ok(manifest)) if manifest == self.manifest => Ok(instance),
            Ok(_) => Err(Failure::Malformed("configure answered another manifest than at admission".to_owned())),
            Err(text) => Err(Failure::Malformed(format!("configure refused what it accepted at admission: {text}"))),
        }
    }
}

impl Drop for Plugin {
    /// The last request of a generation drops its plugins, on a worker: what is slow goes to the keeper.
    fn drop(&mut self) {
        while let Some(spare) = self.spares.pop() {
            self.engine.keeper.discard(spare);
        }
        self.engine.keeper.discard(Box::new(Arc::clone(&self.code)));
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("name", &self.name()).field("version", &self.version()).finish_non_exhaustive()
    }
}
