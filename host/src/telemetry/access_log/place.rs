//! Where lines go, in the hands of the thread that writes. What cannot be written costs lines, and never more.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::{fd::AsFd, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
    io::Errno,
};
use witgate_core::config::LogPlace;

use super::{
    queue::{Chunk, Shared},
    syslog::Syslog,
};

/// How long the writer waits before it looks whether it is wanted elsewhere.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// An open place.
pub(super) enum Place {
    Stream(Stream),
    Syslog(Syslog),
}

impl Place {
    /// Opens it. A pipe that nobody reads yet is a place all the same.
    pub(super) fn open(to: &LogPlace) -> io::Result<Self> {
        Ok(match to {
            LogPlace::File(path) => Self::Stream(Stream { file: open(path)?, path: Some(path.clone()), torn: false }),
            // Unlike the standard library's handle, a file has no lock and no buffer that the process' end would wait for.
            LogPlace::Stdout => {
                let file = Some(File::from(io::stdout().as_fd().try_clone_to_owned()?));
                Self::Stream(Stream { file, path: None, torn: false })
            }
            LogPlace::Udp(address) => Self::Syslog(Syslog::udp(*address)?),
            LogPlace::Unix(path) => Self::Syslog(Syslog::unix(path)?),
        })
    }

    /// Opens it anew, where that can be done. Otherwise it stays what it was.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(Stream { path: None, .. }) => Ok(()),
            Self::Stream(stream) => stream.reopen(),
            Self::Syslog(syslog) => syslog.reopen(),
        }
    }

    /// Writes lines. How many of them were, and why not the others.
    pub(super) fn write(&mut self, chunk: &Chunk, shared: &Shared) -> (u64, io::Result<()>) {
        match self {
            Self::Stream(stream) => stream.write(&chunk.text, shared),
            Self::Syslog(syslog) => syslog.write(&chunk.text, shared),
        }
    }
}

/// A file, a pipe or a terminal.
pub(super) struct Stream {
    /// None where it is a pipe that nobody reads.
    file: Option<File>,
    /// None where it cannot be opened anew.
    path: Option<PathBuf>,
    /// Whether the line before broke off, so that the next one must not be taken for its rest.
    torn: bool,
}

/// None where it is a pipe that nobody reads. Such a one would be waited for without the flag, here and where it is full.
fn open(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    // Who asked for what concerns nobody but the owner and the group.
    match OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Stream {
    fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
            self.file = open(path).map_err(named)?;
            // In a new file there is nothing to be taken for the beginning of a line.
            self.torn &= !self
                .file
                .as_ref()
                .and_then(|file| file.metadata().ok())
                .is_some_and(|new| new.len() == 0 && new.is_file());
        }
        Ok(())
    }

    fn write(&mut self, text: &[u8], shared: &Shared) -> (u64, io::Result<()>) {
        if self.file.is_none()
            && let Err(error) = self.reopen()
        {
            return (0, Err(error));
        }
        let Some(file) = &self.file else { return (0, Err(io::Error::other("nobody reads the pipe"))) };
        if self.torn
            && let Err(error) = write(file, b"\n", &mut 0, shared)
        {
            return (0, Err(error));
        }
        let mut done = 0;
        let outcome = write(file, text, &mut done, shared);
        let whole = &text[..done];
        self.torn = whole.last().is_some_and(|last| *last != b'\n');
        (memchr::memchr_iter(b'\n', whole).count() as u64, outcome)
    }
}

/// Writes all of it, unless something else is wanted first.
fn write(mut file: &File, text: &[u8], done: &mut usize, shared: &Shared) -> io::Result<()> {
    while *done < text.len() {
        match file.write(&text[*done..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => *done += n,
            Err(error) => wait(file, error, shared)?,
        }
    }
    Ok(())
}

/// Waits until something can be written, where that is all that kept it from being so.
pub(super) fn wait(at: impl AsFd, error: io::Error, shared: &Shared) -> io::Result<()> {
    match error.kind() {
        ErrorKind::Interrupted => Ok(()),
        ErrorKind::WouldBlock if shared.is_impatient() => Err(error),
        ErrorKind::WouldBlock => {
            // Interrupted, or not to be waited for: the next write tells.
            let _ = poll(&mut [PollFd::new(&at, PollFlags::OUT)], Some(&LOOK));
            Ok(())
        }
        _ => Err(error),
    }
}
