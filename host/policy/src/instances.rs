//! Instances: how one is made, and which ones a worker has. One store an instance, because after a trap nothing in a
//! store can be entered again. It must never make a worker wait for an instance.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use wasmtime::component::{ComponentNamedList, Lift, Lower, TypedFunc};
use wasmtime::{Store, Trap};
use witgate_core::request::{FieldName, Head};

use crate::bindings::{Manifest, Questions};
use crate::compiled::Callee;
use crate::direct;
use crate::engine::{Code, Engine};
use crate::guest::{self, Deadline, Ended, State};
use crate::log::Log;
use crate::plugin::Plugin;
use crate::stats::Shard;
use crate::{Failure, engine};

/// Bytes of one answer, or of one host call's arguments, that are copied out of an instance. The largest honest one is
/// a 64 KiB body, or 10,000 scores; without the limit, overlapping strings in a small memory could stand for terabytes.
pub(crate) const ANSWER: usize = 1 << 20;

/// One instance in its own store.
pub(crate) struct Instance {
    pub(crate) store: Store<State>,
    pub(crate) guest: Guest,
}

/// What is called in the store.
#[expect(clippy::large_enum_variant, reason = "an instance is boxed as a whole, and most are the larger")]
pub(crate) enum Guest {
    Component(Questions),
    Core(direct::Guest),
}

/// How calls into instances of one code are made.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) code: &'a Code,
    /// Time that one call may take.
    pub(crate) budget: Duration,
    /// When the call began, where a clock was read just now: a second reading would cost 5 % of the call.
    pub(crate) begun: Option<Instant>,
    /// Whether the thread's CPU clock is read when the call begins.
    pub(crate) watched: bool,
}

impl Caller<'_> {
    /// Makes an instance: maps its memory and runs its start functions, within the budget.
    pub(crate) fn start(&self, log: &Arc<Log>, memory: u64) -> Result<Instance, Failure> {
        let mut store = Store::new(&self.engine.wasm, State::new(log, memory, guest::seed()));
        store.limiter(|state| &mut state.limits);
        let ticker = Arc::clone(&self.engine.ticker);
        store.epoch_deadline_callback(move |mut cx| Ok(cx.data_mut().deadline.reached(&ticker)));
        store.set_hostcall_fuel(ANSWER);
        // Not the hot path, so that there is no doubt about a start or a `configure` that was late.
        Self { watched: true, ..*self }.arm(&mut store, Instant::now());
        let guest = match &self.code.callee {
            Callee::Core(pre) => pre.instantiate(&mut store).map(Guest::Core),
            Callee::Component { pre, indices, may_wait } => {
                let made = if *may_wait {
                    let _timers = self.engine.enter_timers();
                    at_once(pre.instantiate_async(&mut store)).ok_or(Failure::Waited)?
                } else {
                    pre.instantiate(&mut store)
                };
                made.and_then(|instance| indices.load(&mut store, &instance)).map(Guest::Component)
            }
        };
        match guest {
            Ok(guest) => in_time(&store).map(|()| Instance { store, guest }),
            Err(error) => Err(failure(&error, store.data())),
        }
    }

    /// `lifecycle.configure`. The inner error is the plugin's own.
    pub(crate) fn configure(&self, on: &mut Instance, config: &str) -> Result<Result<Manifest, String>, Failure> {
        let caller = Self { watched: true, ..*self };
        let answer = match &on.guest {
            Guest::Core(guest) => caller.direct(&mut on.store, |store| guest.configure(store, config)),
            Guest::Component(questions) => {
                let func = questions.lifecycle.func_configure();
                caller.call(&mut on.store, func, (config,)).map(|(answer,)| answer)
            }
        }?;
        in_time(&on.store).map(|()| answer)
    }

    /// One call of a core module within the budget. After an error the store must not be used again.
    pub(crate) fn direct<R>(
        &self,
        store: &mut Store<State>,
        call: impl FnOnce(&mut Store<State>) -> wasmtime::Result<R>,
    ) -> Result<R, Failure> {
        self.arm(store, self.begun.unwrap_or_else(Instant::now));
        call(store).map_err(|e| failure(&e, store.data()))
    }

    /// One call of a component within the budget. After an error the store must not be used again.
    pub(crate) fn call<P, R>(&self, store: &mut Store<State>, func: TypedFunc<P, R>, params: P) -> Result<R, Failure>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        self.arm(store, self.begun.unwrap_or_else(Instant::now));
        let result = if matches!(self.code.callee, Callee::Component { may_wait: true, .. }) {
            let _timers = self.engine.enter_timers();
            at_once(func.call_async(&mut *store, params)).ok_or(Failure::Waited)?
        } else {
            func.call(&mut *store, params)
        };
        result.map_err(|e| failure(&e, store.data()))
    }

    fn arm(&self, store: &mut Store<State>, now: Instant) {
        let state = store.data_mut();
        if state.covered.0 != self.budget || state.covered.1 < now {
            state.covered = (self.budget, self.engine.ticker.cover(now, self.budget));
        }
        state.limits.refused = false;
        state.deadline = Deadline::new(now, self.budget, self.watched);
        store.set_epoch_deadline(1); // The next tick, at which the deadline is looked at.
    }
}

/// Whether a watched call that ended by itself kept to its budget.
fn in_time(store: &Store<State>) -> Result<(), Failure> {
    let deadline = &store.data().deadline;
    match deadline.ended(deadline.begun().elapsed()) {
        Ended::Overrun => Err(Failure::Overrun),
        Ended::InTime | Ended::Late | Ended::Suspect => Ok(()),
    }
}

/// Polls once. None where the future would wait: no question may, as its thread serves other requests.
fn at_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn failure(error: &wasmtime::Error, state: &State) -> Failure {
    if state.deadline.overrun {
        return Failure::Overrun;
    }
    if state.limits.refused {
        return Failure::Memory;
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return Failure::Trap(trap.to_string().trim_start_matches("wasm trap: ").to_owned());
    }
    if error.is::<wasmtime_wasi::I32Exit>() {
        return Failure::Trap("called exit".to_owned());
    }
    let text = format!("{error:#}");
    Failure::Malformed(text[..text.floor_char_boundary(300)].to_owned())
}

/// The instances of one worker. Each worker thread has its own, so that no call meets a lock.
#[derive(Default)]
pub struct Instances {
    kept: Vec<Kept>,
    pub(crate) scratch: Scratch,
    pub(crate) ended: Option<Instant>,
    /// When the next one begins, where that is known.
    pub(crate) begun: Option<Instant>,
}

/// What a worker has of one plugin. The list is scanned: a worker serves a handful of plugins.
struct Kept {
    id: u64,
    plugin: Weak<Plugin>,
    engine: Arc<engine::Engine>,
    instance: Option<Box<Instance>>,
    /// Whether the last call was the circuit's trial, whose answer the host may still reject.
    trial: bool,
    /// What it did here, and cost.
    counted: Arc<Shard>,
}

impl std::fmt::Debug for Instances {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instances").field("plugins", &self.kept.len()).finish_non_exhaustive()
    }
}

impl Instances {
    /// Empty: instances are taken from the plugins' spares at first use.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets go of the instances of plugins that are no more. Call it when the generation has changed; a first call to
    /// a new plugin does it too. The instances are taken down on the engine's own thread.
    pub fn sweep(&mut self) {
        for mut gone in self.kept.extract_if(.., |kept| kept.plugin.strong_count() == 0) {
            if let Some(instance) = gone.instance.take() {
                gone.engine.keeper.discard(instance);
            }
        }
    }

    /// Says that the next question begins `at` a time that a clock said just now: it is read once less, which is a tenth of
    /// a short question.
    pub fn begin_at(&mut self, at: Instant) {
        self.begun = Some(at);
    }

    /// When the call of the last question ended; none where it made none.
    pub fn ended(&self) -> Option<Instant> {
        self.ended
    }

    /// Instances that are held now.
    pub fn held(&self) -> usize {
        self.kept.iter().filter(|kept| kept.instance.is_some()).count()
    }

    /// The slot of a plugin, as an index that holds until the next call of this or of `sweep`.
    pub(crate) fn slot(&mut self, plugin: &Plugin) -> usize {
        if let Some(slot) = self.kept.iter().position(|kept| kept.id == plugin.id) {
            return slot;
        }
        self.sweep();
        self.kept.push(Kept {
            id: plugin.id,
            plugin: plugin.me.clone(),
            engine: Arc::clone(&plugin.engine),
            instance: None,
            trial: false,
            counted: plugin.stats.shard(),
        });
        self.kept.len() - 1
    }

    pub(crate) fn take(&mut self, slot: usize) -> Option<Box<Instance>> {
        self.kept[slot].instance.take()
    }

    pub(crate) fn put(&mut self, slot: usize, instance: Box<Instance>) {
        self.kept[slot].instance = Some(instance);
    }

    /// The worker's counters of a plugin.
    pub(crate) fn counted(&self, slot: usize) -> &Shard {
        &self.kept[slot].counted
    }

    /// Sets whether a trial's answer waits for the host's verdict; returns whether one did.
    pub(crate) fn trial(&mut self, slot: usize, trial: bool) -> bool {
        std::mem::replace(&mut self.kept[slot].trial, trial)
    }
}

/// The declared fields of a request as text in one buffer that is used again from call to call: for components, because the
/// request itself stands in the store's data while wasmtime writes the values into the instance.
#[derive(Default)]
pub(crate) struct Scratch {
    text: String,
    ends: SmallVec<[Option<usize>; 8]>,
}

/// Declared values; eight or fewer take no allocation.
pub(crate) type Row<'a> = SmallVec<[Option<&'a str>; 8]>;

impl Scratch {
    pub(crate) fn fill(&mut self, manifest: &[FieldName], head: &Head) -> Row<'_> {
        let Self { text, ends } = self;
        text.clear();
        ends.clear();
        for name in manifest {
            let present = match name {
                FieldName::ClientAddress => {
                    text.push_str(&head.client_text());
                    true
                }
                name => head.field(name).map(|value| text.push_str(&value)).is_some(),
            };
            ends.push(present.then_some(text.len()));
        }
        let mut start = 0;
        let value = |end: &Option<usize>| end.map(|end| &text[std::mem::replace(&mut start, end)..end]);
        ends.iter().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_in_the_manifests_order_and_absent_is_not_empty() {
        let mut head = Head { uri: "/p?q=1&e=".parse().expect("a valid URI"), ..Head::default() };
        head.headers.insert("x-a", http::HeaderValue::from_static("va"));
        let query = |name: &str| FieldName::Query(name.to_owned());
        let manifest = [
            FieldName::Path,
            FieldName::Header(http::HeaderName::from_static("x-none")),
            FieldName::ClientAddress,
            query("e"),
            query("none"),
            FieldName::Header(http::HeaderName::from_static("x-a")),
        ];
        let mut scratch = Scratch::default();
        for _ in 0..2 {
            let values = scratch.fill(&manifest, &head);
            assert_eq!(values[..], [Some("/p"), None, Some("0.0.0.0"), Some(""), None, Some("va")]);
        }
    }
}
