//! The access log: a line for each request that ended, written by a thread of its own. Workers fill buffers of their own and
//! hand them over; where the thread is behind, or what it writes to takes nothing, lines are lost and counted, and nobody
//! waits.

mod escape;
mod line;
mod pending;
mod place;
mod queue;
mod syslog;

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use witgate_core::{
    config::{self, LogPlace},
    split::is_sampled,
};

#[cfg(feature = "internals")]
pub use line::Stamp;
pub use line::{Layout, Line};
pub use pending::Pending;
use place::Place;
pub use queue::Counts;
use queue::{Shared, Work};

/// How long an end waits for lines to be written.
const END: Duration = Duration::from_secs(1);

/// One log, with its thread. Dropping it has that write what waits, and end.
pub struct AccessLog {
    config: config::AccessLog,
    layout: Layout,
    shared: Arc<Shared>,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
#[error("the access log, {place}, cannot be opened: {source}")]
pub struct OpenError {
    place: String,
    source: io::Error,
}

impl AccessLog {
    /// Opens the place first, so that one that cannot be is told at once.
    fn open(config: &config::AccessLog, counts: &Arc<Counts>) -> Result<Arc<Self>, OpenError> {
        let failed = |source| OpenError { place: show(&config.to), source };
        let place = Place::open(&config.to).map_err(failed)?;
        let shared = Shared::new(config.buffer, Arc::clone(counts));
        let log = Self { layout: Layout::of(&config.format), config: config.clone(), shared: Arc::clone(&shared) };
        thread::Builder::new()
            .name("witgate-access".to_owned())
            .spawn(move || write_all(&shared, place))
            .map_err(failed)?;
        Ok(Arc::new(log))
    }

    /// Whether a request is logged that ended with this status.
    pub fn wants(&self, status: Option<u16>, random: impl FnOnce() -> u64) -> bool {
        let share = self.config.sample;
        share >= 1.0 || status.is_some_and(|status| status >= 500) || is_sampled(share, random())
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AccessLog").field(&self.config).finish()
    }
}

fn show(place: &LogPlace) -> String {
    match place {
        LogPlace::File(path) => path.display().to_string(),
        LogPlace::Stdout => "stdout".to_owned(),
        LogPlace::Udp(address) => format!("udp://{address}"),
        LogPlace::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// The writer's life.
fn write_all(shared: &Shared, mut place: Place) {
    loop {
        match shared.next() {
            Work::Write(chunk) => {
                let (written, outcome) = place.write(&chunk, shared);
                shared.counts.wrote(written);
                if let Err(error) = outcome {
                    shared.counts.failed();
                    shared.counts.lose(chunk.lines.saturating_sub(written), &error);
                }
            }
            Work::Reopen => match place.reopen() {
                Ok(()) => tracing::info!("the access log was opened anew"),
                Err(error) => {
                    tracing::error!(%error, "the access log cannot be opened anew; the open one is written on")
                }
            },
            Work::End => return,
        }
    }
}

/// All logs that a proxy has had, and what became of their lines.
#[derive(Default)]
pub struct AccessLogs {
    counts: Arc<Counts>,
    /// Those of which something may still wait.
    open: Mutex<Vec<Weak<Shared>>>,
}

impl AccessLogs {
    /// The log that `wanted` asks for, if any: the present one where it is just that.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn next(
        &self,
        wanted: Option<&config::AccessLog>,
        present: Option<&Arc<AccessLog>>,
    ) -> Result<Option<Arc<AccessLog>>, OpenError> {
        let Some(wanted) = wanted else { return Ok(None) };
        if let Some(present) = present.filter(|present| present.config == *wanted) {
            return Ok(Some(Arc::clone(present)));
        }
        let log = AccessLog::open(wanted, &self.counts)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|shared| shared.strong_count() > 0);
        open.push(Arc::downgrade(&log.shared));
        Ok(Some(log))
    }

    /// What became of lines.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Has every log opened anew, for who has moved its file away.
    pub fn reopen(&self) {
        self.each(Shared::reopen);
    }

    /// Waits until all is written that was handed over; not for long, whatever keeps it.
    pub fn finish(&self) {
        let until = Instant::now() + END;
        self.each(|shared| shared.emptied(until));
    }

    fn each(&self, visit: impl Fn(&Shared)) {
        // Not under the lock: a visit may take its time.
        let open: Vec<_> =
            self.open.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect();
        open.iter().for_each(|shared| visit(shared));
    }
}

#[cfg(test)]
mod tests;
