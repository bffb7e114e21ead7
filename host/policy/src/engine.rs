//! The only place that configures wasmtime, with a reason beside each number; and the epoch ticker. It must never
//! compile or instantiate on its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use sha2::{Digest, Sha256};
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, EngineWeak, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use crate::artifact::{Cache, CacheOptions};
use crate::bindings::{host, types};
use crate::compiled::{self, Callee, Linked};
use crate::guest::State;
use crate::keeper::Keeper;
use crate::{Exports, Refused, Stage};

/// How often the epoch advances while a call is in progress that has lasted: the default budget. A call is cut up to a tick
/// late, and each tick takes a worker's core from it for 16 µs (a wake-up on a virtual machine): at half a millisecond, 3 to
/// 5 % of the core were measured, and 0.8 % at this.
pub(crate) const TICK: Duration = Duration::from_millis(2);
/// How often it advances while calls are made and none has lasted, as with plugins that are well: seldom enough to cost
/// nothing, and often enough to find the first call that goes wrong soon. An idle proxy has no ticks.
const RESTING_TICK: Duration = Duration::from_millis(10);
/// How long the ticker goes on after the last deadline that it was needed for, so that traffic does not wake it anew
/// for every call.
const LINGER: Duration = Duration::from_secs(1);

/// Address space for each memory, where there is so much: all that a 32-bit address can reach, so that the compiled code
/// compares none with the memory's end, which is 10 to 15 % of the shipped plugins' time. One terabyte in all by default, of
/// the 128 that a process has; none of it is memory. Under a limit of address space it is what an instance may use.
const WHOLE_MEMORY: u64 = 4 << 30;

/// Native stack of a call. wasmtime's default; recursion deeper than this traps.
const WASM_STACK: usize = 512 << 10;
/// Stack of a call that may wait: the guest's, and room for the host functions that it calls.
const FIBER_STACK: usize = 1 << 20;
/// Memory of an ended instance that is wiped and kept for the next, where the kernel can say which pages were touched
/// (Linux 6.7, PAGEMAP_SCAN). A Rust plugin touches 17 KiB. Without the scan keeping is slower than unmapping.
const KEEP_RESIDENT: usize = 64 << 10;
/// Slots of ended instances that stay warm; each holds up to [`KEEP_RESIDENT`], so this is 1 MiB.
const WARM_SLOTS: u32 = 16;
/// Core instances and tables of one component. A wrapped core module has three instances (itself and two shims);
/// componentize-py's has more, which the instances of others leave room for.
const CORE_INSTANCES: u32 = 4;
/// Memories of one component: mostly one. Each reserves address space, and only that.
const MEMORIES: u32 = 2;

/// Bounds of an engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Bytes of linear memory that any one instance may be given; every slot reserves at least that much address space.
    pub memory_ceiling: u64,
    /// Instances alive at once, over all plugins and workers.
    pub max_instances: u32,
    /// Where compiled artefacts are kept; none compiles anew each time.
    pub cache: Option<CacheOptions>,
}

impl Default for EngineOptions {
    /// 256 MiB, 128 instances, no cache.
    fn default() -> Self {
        Self { memory_ceiling: 256 << 20, max_instances: 128, cache: None }
    }
}

/// Why an engine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// wasmtime refused its configuration: the address space is too small, or the CPU is not supported.
    #[error("the Wasm engine cannot start: {0}")]
    Wasmtime(String),
    /// A thread could not be started.
    #[error("the Wasm engine cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A configured wasmtime, its ticker, its background thread and its artefact cache. One for a process.
pub struct Engine {
    pub(crate) wasm: wasmtime::Engine,
    pub(crate) memory_ceiling: u64,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) keeper: Keeper,
    linker: Linker<State>,
    cache: Option<Cache>,
    loaded: Mutex<HashMap<[u8; 32], Weak<Code>>>,
    /// Never driven. WASI's timers insist on a runtime to register with; as nobody drives it they never fire, and
    /// the call that waits for one fails.
    timers: Option<tokio::runtime::Runtime>,
}

/// A module that was wrapped, compiled and inspected, and can be admitted with any number of configurations.
pub struct Code {
    /// Of the bytes as they were given.
    pub sha256: [u8; 32],
    /// Which questions it answers.
    pub exports: Exports,
    /// Names of what it imports.
    pub imports: Vec<String>,
    /// Bytes as they were given.
    pub size: usize,
    /// Whether the compiled artefact came from the cache.
    pub from_cache: bool,
    pub(crate) callee: Callee,
}

impl Code {
    /// SHA-256 of the bytes as they were given, in lower-case hexadecimal.
    pub fn hex(&self) -> String {
        hex(&self.sha256)
    }
}

impl Engine {
    /// Starts an engine with its two threads.
    ///
    /// # Errors
    /// Where wasmtime does not support this machine, or a thread cannot be started.
    pub fn new(options: EngineOptions) -> Result<Arc<Self>, Error> {
        let failed = |e: wasmtime::Error| Error::Wasmtime(format!("{e:#}"));
        let with = |reservation| wasmtime::Engine::new(&config(&options, reservation));
        let unlimited = getrlimit(Resource::As).current.is_none();
        // Some processors and emulators have less address space than that, though no limit says so.
        let wasm = match unlimited.then(|| with(WHOLE_MEMORY)) {
            Some(Ok(wasm)) => wasm,
            _ => with(options.memory_ceiling).map_err(failed)?,
        };
        let linker = linker(&wasm).map_err(failed)?;
        let ticker = Ticker::start(wasm.weak())?;
        let timers = Some(tokio::runtime::Builder::new_current_thread().enable_time().build()?);
        Ok(Arc::new(Self {
            cache: options.cache.map(|cache| Cache::new(cache, &wasm)),
            memory_ceiling: options.memory_ceiling,
            keeper: Keeper::start()?,
            loaded: Mutex::default(),
            wasm,
            linker,
            ticker,
            timers,
        }))
    }

    /// Makes code of a component or of a core module with an embedded component type. Slow (milliseconds to seconds):
    /// never on a worker. `progress` hears of each step as it begins. The same bytes give the same code while it lives.
    ///
    /// # Errors
    /// Where the bytes are not such a module, or it imports or exports the wrong things; the error says what.
    pub fn load(&self, bytes: &[u8], progress: &dyn Fn(Stage)) -> Result<Arc<Code>, Refused> {
        progress(Stage::Hash);
        let sha256: [u8; 32] = Sha256::digest(bytes).into();
        if let Some(code) = self.loaded().get(&sha256).and_then(Weak::upgrade) {
            return Ok(code);
        }
        progress(Stage::LoadArtefact);
        let cached = self.cache.as_ref().and_then(|cache| cache.load(&self.wasm, &sha256));
        let from_cache = cached.is_some();
        let compiled = match cached {
            Some(compiled) => compiled,
            None => {
                let compiled = compiled::compile(&self.wasm, &self.linker, bytes, progress)?;
                if let Some(cache) = &self.cache {
                    cache.store(&sha256, &compiled);
                }
                compiled
            }
        };
        progress(Stage::Inspect);
        let Linked { callee, exports, imports } = compiled::link(&self.wasm, &self.linker, bytes, &compiled)?;
        let code = Arc::new(Code { sha256, exports, imports, size: bytes.len(), from_cache, callee });
        let mut loaded = self.loaded();
        loaded.retain(|_, code| code.strong_count() > 0);
        loaded.insert(sha256, Arc::downgrade(&code));
        Ok(code)
    }

    /// Makes this thread one on which WASI's timers can be registered.
    pub(crate) fn enter_timers(&self) -> Option<tokio::runtime::EnterGuard<'_>> {
        self.timers.as_ref().map(tokio::runtime::Runtime::enter)
    }

    fn loaded(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Weak<Code>>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("memory_ceiling", &self.memory_ceiling).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Code").field("sha256", &self.hex()).field("exports", &self.exports).finish_non_exhaustive()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.ticker.stop();
        // The plain drop of a runtime panics where the last handle goes away on a tokio worker.
        if let Some(timers) = self.timers.take() {
            timers.shutdown_background();
        }
    }
}

/// `reservation`: address space for each memory.
fn config(options: &EngineOptions, reservation: u64) -> Config {
    let ceiling = options.memory_ceiling.next_multiple_of(64 << 10);
    let cores = options.max_instances.saturating_mul(CORE_INSTANCES);
    let scan = PoolingAllocationConfig::is_pagemap_scan_available();
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(options.max_instances)
        .total_core_instances(cores)
        .total_memories(options.max_instances.saturating_mul(MEMORIES))
        .total_tables(cores)
        .total_stacks(options.max_instances)
        .max_memory_size(usize::try_from(ceiling).unwrap_or(usize::MAX))
        // Reserved address space (100 MiB in all), never resident unless used. See guest.rs for the limit itself.
        .table_elements(crate::guest::TABLE_ELEMENTS)
        // Upper bounds only: nothing is allocated ahead. Interpreters compiled to Wasm have 10,000s of functions.
        .max_core_instance_size(4 << 20)
        .max_component_instance_size(16 << 20)
        .max_unused_warm_slots(WARM_SLOTS)
        .linear_memory_keep_resident(if scan { KEEP_RESIDENT } else { 0 })
        .table_keep_resident(if scan { 4 << 10 } else { 0 })
        .pagemap_scan(Enabled::Auto);

    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true) // +0–5 % on a call; fuel costs 5–15 %.
        .memory_reservation(reservation.max(ceiling))
        .memory_may_move(false) // Pooled memories never move; telling the compiler keeps their base in a register.
        .memory_init_cow(true) // A fresh instance maps its data instead of copying it.
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(FIBER_STACK)
        .cranelift_opt_level(OptLevel::Speed)
        .generate_address_map(false) // Only for the source lines of backtraces, a third of the artefact's size.
        .native_unwind_info(false); // Only for native debuggers and profilers.
    config
}

fn linker(wasm: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(wasm);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    types::add_to_linker::<State, wasmtime::component::HasSelf<State>>(&mut linker, |state| state)?;
    host::add_to_linker::<State, wasmtime::component::HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}

/// Advances the epoch while a deadline is armed, and sleeps otherwise.
pub(crate) struct Ticker {
    start: Instant,
    /// Nanoseconds since `start` until which the epoch must advance.
    needed_until: AtomicU64,
    /// Nanoseconds since `start` until which it must advance at every [`TICK`].
    close_until: AtomicU64,
    asleep: AtomicBool,
    stopped: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Ticker {
    fn start(engine: EngineWeak) -> std::io::Result<Arc<Self>> {
        let ticker = Arc::new(Self {
            start: Instant::now(),
            needed_until: AtomicU64::new(0),
            close_until: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            thread: OnceLock::new(),
        });
        let own = Arc::clone(&ticker);
        let handle = thread::Builder::new().name("witgate-epoch".into()).spawn(move || own.run(&engine))?;
        let _ = ticker.thread.set(handle.thread().clone());
        Ok(ticker)
    }

    /// Sees to it that the epoch advances once a call of `budget` that began at `now` has used it up, and before. A call
    /// that is late by more, because its thread had no core, asks again when it sees such a tick. Returns until when calls
    /// of this budget may begin without asking.
    pub(crate) fn cover(&self, now: Instant, budget: Duration) -> Instant {
        let end = self.nanos(now).saturating_add(nanos(budget.saturating_add(RESTING_TICK + TICK * 2)));
        let mut until = self.needed_until.load(Ordering::SeqCst);
        if until < end {
            let longer = end.saturating_add(nanos(LINGER));
            until = self.needed_until.fetch_max(longer, Ordering::SeqCst).max(longer);
            // The ticker sets `asleep` before it looks at `needed_until` for the last time; this is the other order. One
            // of the two sees the other (Dekker), so that an armed deadline never meets a sleeping ticker.
            if self.asleep.load(Ordering::SeqCst) {
                self.wake();
            }
        }
        now.checked_add(Duration::from_nanos(until - end)).unwrap_or(now)
    }

    fn run(&self, engine: &EngineWeak) {
        while !self.stopped.load(Ordering::SeqCst) {
            if !self.needed() {
                self.asleep.store(true, Ordering::SeqCst);
                if !self.needed() && !self.stopped.load(Ordering::SeqCst) {
                    thread::park(); // A wake-up before this line makes it return at once.
                }
                self.asleep.store(false, Ordering::SeqCst);
                continue;
            }
            // A call that lasts wakes it, as the end does; one tick too many does no harm.
            thread::park_timeout(if self.is_close() { TICK } else { RESTING_TICK });
            let Some(engine) = engine.upgrade() else { return };
            engine.increment_epoch();
        }
    }

    /// Has the epoch advance at every [`TICK`] for a while: a call in progress at `now` has lasted.
    pub(crate) fn look_closely(&self, now: Instant) {
        let until = self.nanos(now + LINGER);
        if self.close_until.fetch_max(until, Ordering::SeqCst) < self.nanos(now) {
            self.wake();
        }
    }

    fn is_close(&self) -> bool {
        self.nanos(Instant::now()) < self.close_until.load(Ordering::SeqCst)
    }

    fn needed(&self) -> bool {
        self.nanos(Instant::now()) < self.needed_until.load(Ordering::SeqCst)
    }

    fn nanos(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.start))
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// Saturating.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // Writing to a String does not fail.
        text
    })
}

#[cfg(test)]
mod tests;
