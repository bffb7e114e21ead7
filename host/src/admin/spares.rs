//! File descriptors that are held back for the admin API: where the process has no other left, one is closed, and a
//! connection takes its place for one request. Whoever asks whether the process is ready must not take "out of file
//! descriptors" for "dead".

use std::{cell::RefCell, fs::File, io};

use rustix::io::Errno;

/// How many. Another thread may get hold of one in the moment between closing it and accepting.
const SPARES: usize = 4;

/// Descriptors of nothing.
#[derive(Default)]
pub(super) struct Spares(RefCell<Vec<File>>);

impl Spares {
    /// Holds back as many as there should be, or as can be had now.
    pub(super) fn refill(&self) {
        let mut held = self.0.borrow_mut();
        while held.len() < SPARES {
            match File::open("/dev/null") {
                Ok(file) => held.push(file),
                // Tried again before each accept, and when a connection ends.
                Err(_) => return,
            }
        }
    }

    /// Closes one. False where none is left.
    pub(super) fn release(&self) -> bool {
        self.0.borrow_mut().pop().is_some()
    }
}

/// Whether the process, or the system, is out of file descriptors.
pub(super) fn are_wanted(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| code == Some(errno.raw_os_error()))
}
