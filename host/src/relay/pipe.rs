//! Bytes from one socket to another within the kernel (splice(2)), for those who send much: nothing is copied to this process and
//! back. A pipe stands between the two, as the kernel wants it.

use std::{
    cell::RefCell,
    io,
    os::fd::OwnedFd,
    task::{Context, Poll, ready},
};

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::{io::Interest, net::TcpStream};

/// Bytes that a pipe takes at once: what the kernel gives it.
const PIPE: usize = 64 << 10;

/// Pipes that a worker may have: each costs two descriptors.
const MOST: usize = 128;

/// Pipes that are kept without a use.
const IDLE: usize = 16;

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

#[derive(Default)]
struct Pool {
    idle: Vec<(OwnedFd, OwnedFd)>,
    out: usize,
}

/// A pipe, of which a worker has few.
pub(super) struct Pipe {
    /// None once it was given back.
    ends: Option<(OwnedFd, OwnedFd)>,
    /// Bytes in it.
    held: usize,
    /// Bytes that went in last.
    size: usize,
    /// Bytes that came out since that was asked.
    moved: usize,
}

/// What came of moving.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// All of so many bytes.
    Bytes(usize),
    /// There are no more.
    End,
    /// The other side takes no more.
    Refused,
    /// The kernel does not do it for these two.
    Impossible,
}

impl Pipe {
    /// A pipe, where there is one to be had.
    pub(super) fn take() -> Option<Self> {
        POOL.with_borrow_mut(|pool| {
            if pool.out >= MOST {
                return None;
            }
            let fresh = || pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok();
            let ends = pool.idle.pop().or_else(fresh)?;
            pool.out += 1;
            Some(Self { ends: Some(ends), held: 0, size: 0, moved: 0 })
        })
    }

    /// Moves once: in, and all of that out again.
    ///
    /// # Errors
    /// Reading failed.
    pub(super) fn poll(&mut self, from: &TcpStream, to: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<Moved>> {
        let Some((out, into)) = &self.ends else { return Poll::Ready(Ok(Moved::Impossible)) };
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        while self.held == 0 {
            ready!(from.poll_read_ready(cx))?;
            let read = from.try_io(Interest::READABLE, || Ok(splice(from, None, into, None, PIPE, flags)?));
            match read {
                Ok(0) => return Poll::Ready(Ok(Moved::End)),
                Ok(n) => (self.held, self.size) = (n, n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Poll::Ready(Ok(Moved::Impossible)),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        while self.held > 0 {
            if ready!(to.poll_write_ready(cx)).is_err() {
                return Poll::Ready(Ok(Moved::Refused));
            }
            match to.try_io(Interest::WRITABLE, || Ok(splice(out, None, to, None, self.held, flags)?)) {
                Ok(n @ 1..) => {
                    self.held -= n.min(self.held);
                    self.moved += n;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => return Poll::Ready(Ok(Moved::Refused)),
            }
        }
        Poll::Ready(Ok(Moved::Bytes(self.size)))
    }

    /// Bytes that came out since this was asked.
    pub(super) fn take_moved(&mut self) -> usize {
        std::mem::take(&mut self.moved)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take() else { return };
        POOL.with_borrow_mut(|pool| {
            pool.out = pool.out.saturating_sub(1);
            // What is left in it is nobody else's.
            if self.held == 0 && pool.idle.len() < IDLE {
                pool.idle.push(ends);
            }
        });
    }
}
