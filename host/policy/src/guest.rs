//! What stands behind one instance: the request in question, its limits, its deadline, and the functions that the host
//! offers it. It must never show an instance anything but the request in question.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wasmtime::{ResourceLimiter, UpdateDeadline};
use wasmtime_wasi::{WasiCtxView, WasiView};
use witgate_core::request::Head;

use crate::bindings::{field_name, host, types};
use crate::engine::Ticker;
use crate::log::Log;
use crate::wasi::Wasi;

/// Elements of all tables of an instance. componentize-py's function table has about 15,000.
pub(crate) const TABLE_ELEMENTS: usize = 100_000;

/// A store's data.
pub(crate) struct State {
    /// The request in question; a stand-in between questions. In a box, so that a pointer changes hands.
    pub(crate) head: Box<Head>,
    /// Whether the question is about a request.
    pub(crate) about_request: bool,
    /// The offered clusters; kept between calls so that the count is touched only when the offer changes.
    pub(crate) clusters: Option<Arc<[String]>>,
    /// Whether the question is `splitter.split`.
    pub(crate) offering: bool,
    pub(crate) limits: Limits,
    pub(crate) deadline: Deadline,
    /// Until when calls of this budget may begin without asking the ticker.
    pub(crate) covered: (Duration, Instant),
    log: Arc<Log>,
    random: u64,
    wasi: Option<Box<Wasi>>,
}

impl State {
    pub(crate) fn new(log: &Arc<Log>, memory: u64, seed: u64) -> Self {
        let now = Instant::now();
        Self {
            head: Box::default(),
            about_request: false,
            clusters: None,
            offering: false,
            limits: Limits::new(memory),
            deadline: Deadline::new(now, Duration::MAX, false),
            covered: (Duration::MAX, now),
            log: Arc::clone(log),
            random: seed,
            wasi: None,
        }
    }
}

impl host::Host for State {
    fn log(&mut self, level: host::Level, message: String) {
        self.log.line(level, &message);
    }

    fn field(&mut self, name: types::Field) -> Option<String> {
        if !self.about_request {
            return None;
        }
        field_name(name).and_then(|name| self.head.field(&name).map(std::borrow::Cow::into_owned))
    }

    fn offered_clusters(&mut self) -> Vec<String> {
        self.clusters.as_ref().filter(|_| self.offering).map_or_else(Vec::new, |names| names.to_vec())
    }

    fn monotonic_now(&mut self) -> u64 {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): 64 bits of state, passes BigCrush, 1 ns.
    fn random_u64(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl types::Host for State {}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Wasi { ctx, table } = &mut **self.wasi.get_or_insert_with(|| Box::new(Wasi::new(&self.log)));
        WasiCtxView { ctx, table }
    }
}

/// A seed for the next instance: the operating system's, and a count, so that no two instances share one.
pub(crate) fn seed() -> u64 {
    static BASE: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| getrandom::u64().unwrap_or(0x5eed));
    static COUNT: AtomicU64 = AtomicU64::new(0);
    BASE.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0xd134_2543_de82_ef95))
}

/// The memory budget of one instance, over all of its memories.
pub(crate) struct Limits {
    budget: usize,
    used: usize,
    tables: usize,
    /// Set when growth was refused. What follows in the same call is then a failure of memory.
    pub(crate) refused: bool,
}

impl Limits {
    fn new(memory: u64) -> Self {
        Self { budget: usize::try_from(memory).unwrap_or(usize::MAX), used: 0, tables: 0, refused: false }
    }

    /// Bytes of linear memory in use.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    fn grow(used: &mut usize, refused: &mut bool, current: usize, desired: usize, most: usize) -> bool {
        let after = used.saturating_add(desired.saturating_sub(current));
        let fits = after <= most;
        if fits {
            *used = after;
        } else {
            *refused = true;
        }
        fits
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(Self::grow(&mut self.used, &mut self.refused, current, desired, self.budget))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(Self::grow(&mut self.tables, &mut self.refused, current, desired, TABLE_ELEMENTS))
    }
}

/// The deadline of the call in progress.
///
/// The budget is wall time, but a thread that the operating system took off its core for longer than the budget has
/// done no wrong: on a loaded machine that happens many times a second, and five such failures would quarantine a
/// healthy plugin. So a call that is still there at a tick of the epoch has the thread's CPU clock read (a system call,
/// 200 ns, only in slow calls). From the full budget on it ends at the first tick at which the thread has had the core
/// for a quarter of the budget since the first of them. Ticks are 2 ms apart from the first one that finds a call that has
/// lasted for a quarter of its budget, and for a second after the last such; 10 ms apart else. So the first endless loop in
/// a while is cut after 12 ms or one tick after the budget, whichever is later, and one that follows after two ticks or
/// one after the budget, where the core is free. One instruction is never cut: the longest, a fill of the whole memory
/// budget, takes 1 ms for each MiB where the pages are new (measured on a virtual machine).
///
/// A call that ends by itself is late by the wall clock, which is read then anyway, and has overrun where the thread had
/// the core for too long: for a quarter of the budget since the first tick that it saw, as above, or for the whole budget
/// since its begin. The CPU time at the begin is known only of calls that are watched, as other calls shall not pay for
/// a system call: the first late call of which nothing is known is believed to have been kept from its core, and has
/// the plugin's calls watched for a while.
pub(crate) struct Deadline {
    begun: Instant,
    budget: Duration,
    /// The thread's CPU time when the call began; none where the call is not watched.
    at_start: Option<Duration>,
    /// The thread's CPU time at the first tick.
    first_look: Option<Duration>,
    /// Set when the deadline ended the call.
    pub(crate) overrun: bool,
}

/// How a call ended that ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Within its budget.
    InTime,
    /// After it, because its thread had no core.
    Late,
    /// After it, and nothing says why.
    Suspect,
    /// After it, having had the core for too long.
    Overrun,
}

impl Deadline {
    /// A deadline for a call of at most `budget` that begins now. The store's epoch deadline is the next tick.
    pub(crate) fn new(begun: Instant, budget: Duration, watched: bool) -> Self {
        Self { begun, budget, at_start: watched.then(thread_time), first_look: None, overrun: false }
    }

    /// When the call began.
    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// What to think of a call that ended by itself after this time. Reads a clock only where it is late.
    pub(crate) fn ended(&self, took: Duration) -> Ended {
        if took <= self.budget {
            return Ended::InTime;
        }
        let worked = |since: Duration| thread_time().saturating_sub(since);
        match (self.at_start, self.first_look) {
            (Some(start), _) if worked(start) > self.budget => Ended::Overrun,
            (Some(_), _) => Ended::Late,
            (None, Some(first)) if worked(first) > self.budget / 4 => Ended::Overrun,
            (None, _) => Ended::Suspect,
        }
    }

    /// Called at each tick that the call sees. Where the call goes on, `ticker` must go on for it.
    pub(crate) fn reached(&mut self, ticker: &Ticker) -> UpdateDeadline {
        let (wall, now) = (Instant::now(), thread_time());
        let first = *self.first_look.get_or_insert(now);
        let worked = now.saturating_sub(first);
        let lasted = wall.saturating_duration_since(self.begun);
        if lasted >= self.budget / 4 {
            ticker.look_closely(wall);
        }
        self.overrun = lasted >= self.budget && worked > self.budget / 4;
        if self.overrun {
            return UpdateDeadline::Interrupt;
        }
        ticker.cover(wall, self.budget);
        UpdateDeadline::Continue(1)
    }
}

/// CPU time that this thread has used.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
