//! Lines of one worker that are not handed over yet. Belongs to the worker; whoever adds to it waits for nobody.

use std::sync::Arc;

use super::{
    AccessLog,
    line::{Line, Stamp},
};

/// Bytes that are handed over at once: some hundred lines, for which a lock and a wake-up are nothing.
const CHUNK: usize = 64 << 10;

/// Bytes that are kept where the queue could not be had for a moment.
const MOST: usize = 2 * CHUNK;

/// What one worker has to hand over.
#[derive(Default)]
pub struct Pending {
    /// Whose the lines are; none where there are none.
    log: Option<Arc<AccessLog>>,
    text: Vec<u8>,
    lines: u64,
    stamp: Stamp,
}

impl Pending {
    /// Adds a line. True where it is the first one since all was handed over: somebody must see to that soon.
    pub fn add(&mut self, log: &Arc<AccessLog>, line: &Line<'_>) -> bool {
        if self.log.as_ref().is_some_and(|present| !Arc::ptr_eq(present, log)) {
            self.hand_over_all();
        }
        let is_first = self.log.is_none();
        if is_first {
            self.log = Some(Arc::clone(log));
        }
        log.layout.write(&mut self.text, line, &mut self.stamp);
        self.lines += 1;
        if self.text.len() >= CHUNK {
            self.hand_over();
        }
        is_first
    }

    /// Hands over what there is, if that can be done at once. Whether it was.
    pub fn hand_over(&mut self) -> bool {
        let Some(log) = &self.log else { return true };
        if !log.shared.try_take(&self.text, self.lines) {
            if self.text.len() < MOST {
                return false;
            }
            log.shared.counts.lose(self.lines, &"the queue is busy");
        }
        self.forget();
        true
    }

    /// The same where a moment may be waited for: at an end, and where another log takes a log's place.
    fn hand_over_all(&mut self) {
        if let Some(log) = &self.log {
            log.shared.take(&self.text, self.lines);
        }
        self.forget();
    }

    fn forget(&mut self) {
        self.text.clear();
        (self.log, self.lines) = (None, 0);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.hand_over_all();
    }
}
