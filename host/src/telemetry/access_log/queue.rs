//! Lines between the workers and the thread that writes them: bounded, and nobody who hands some over waits.

use std::{
    collections::VecDeque,
    fmt::Display,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How long the loss of lines is not told again.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How long the writer goes on with a place that takes nothing, once nobody adds anything.
const GIVE_UP_AFTER: Duration = Duration::from_secs(1);

/// What became of lines, over all logs of a proxy.
#[derive(Debug, Default)]
pub struct Counts {
    written: AtomicU64,
    dropped: AtomicU64,
    errors: AtomicU64,
    /// When a loss was told last.
    told: Mutex<Option<Instant>>,
}

impl Counts {
    /// Lines that were written, lines that were lost, and writes that failed.
    pub fn read(&self) -> (u64, u64, u64) {
        (self.written.load(Relaxed), self.dropped.load(Relaxed), self.errors.load(Relaxed))
    }

    /// Counts lines that are lost, and says so now and then.
    pub(super) fn lose(&self, lines: u64, why: &dyn Display) {
        let dropped = self.dropped.fetch_add(lines, Relaxed) + lines;
        // Whoever else holds it tells.
        let Ok(mut told) = self.told.try_lock() else { return };
        if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            *told = Some(Instant::now());
            tracing::warn!(dropped, %why, "lines of the access log are lost");
        }
    }

    pub(super) fn wrote(&self, lines: u64) {
        self.written.fetch_add(lines, Relaxed);
    }

    pub(super) fn failed(&self) {
        self.errors.fetch_add(1, Relaxed);
    }
}

/// Whole lines.
pub(super) struct Chunk {
    pub(super) text: Box<[u8]>,
    pub(super) lines: u64,
}

/// What the writer has to do.
pub(super) enum Work {
    Write(Chunk),
    Reopen,
    /// Nothing, ever again.
    End,
}

/// What a log's workers and its writer share.
pub(super) struct Shared {
    pub(super) counts: Arc<Counts>,
    /// Bytes that may wait.
    limit: usize,
    queue: Mutex<Queue>,
    /// There is work.
    wanted: Condvar,
    /// A chunk was done with.
    moved: Condvar,
}

#[derive(Default)]
struct Queue {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// Whether the writer has a chunk that it is not done with.
    writing: bool,
    reopen: bool,
    /// Since when nobody can add anything.
    closed: Option<Instant>,
}

impl Shared {
    pub(super) fn new(limit: usize, counts: Arc<Counts>) -> Arc<Self> {
        let (queue, wanted, moved) = (Mutex::default(), Condvar::new(), Condvar::new());
        Arc::new(Self { counts, limit, queue, wanted, moved })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing under the lock panics half-way.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes lines, or loses them where there is no room. False where somebody else is at the queue just now: then it takes
    /// none of them, because who waits for a lock may wait for a thread that does not run.
    pub(super) fn try_take(&self, text: &[u8], lines: u64) -> bool {
        match self.queue.try_lock() {
            Ok(queue) => self.take_into(queue, text, lines),
            Err(TryLockError::Poisoned(queue)) => self.take_into(queue.into_inner(), text, lines),
            Err(TryLockError::WouldBlock) => return false,
        }
        true
    }

    /// The same for who may wait.
    pub(super) fn take(&self, text: &[u8], lines: u64) {
        self.take_into(self.lock(), text, lines);
    }

    fn take_into(&self, mut queue: MutexGuard<'_, Queue>, text: &[u8], lines: u64) {
        // What is handed over at once may be more than all that may wait: it must not be lost every time.
        if !queue.chunks.is_empty() && queue.bytes + text.len() > self.limit {
            drop(queue);
            self.counts.lose(lines, &"the writer is behind");
            return;
        }
        queue.bytes += text.len();
        queue.chunks.push_back(Chunk { text: text.into(), lines });
        drop(queue);
        self.wanted.notify_one();
    }

    /// Has the writer open its place anew.
    pub(super) fn reopen(&self) {
        self.lock().reopen = true;
        self.wanted.notify_one();
    }

    /// Has the writer end once it has written what waits.
    pub(super) fn close(&self) {
        self.lock().closed.get_or_insert_with(Instant::now);
        self.wanted.notify_one();
    }

    /// Waits until nothing waits any more, but not beyond `until`.
    pub(super) fn emptied(&self, until: Instant) {
        let mut queue = self.lock();
        while queue.writing || queue.reopen || !queue.chunks.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self.moved.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// For the writer: what it is to do next.
    pub(super) fn next(&self) -> Work {
        let mut queue = self.lock();
        queue.writing = false;
        self.moved.notify_all();
        loop {
            if std::mem::take(&mut queue.reopen) {
                queue.writing = true;
                return Work::Reopen;
            }
            if let Some(chunk) = queue.chunks.pop_front() {
                queue.bytes -= chunk.text.len();
                queue.writing = true;
                return Work::Write(chunk);
            }
            if queue.closed.is_some() {
                return Work::End;
            }
            queue = self.wanted.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// For the writer: whether to wait no longer for a place that takes nothing.
    pub(super) fn is_impatient(&self) -> bool {
        let queue = self.lock();
        queue.reopen || queue.closed.is_some_and(|closed| closed.elapsed() >= GIVE_UP_AFTER)
    }
}
