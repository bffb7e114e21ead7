//! Bytes both ways between a client and an endpoint, as they come. Reads none of them, and holds no more than one side has
//! not taken yet.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

/// Pieces that one way may move before it is the other's turn, and other connections'.
const AT_ONCE: usize = 16;

/// A stream that can be broken off so that the other side knows.
pub trait Abort {
    /// Has it end by a reset when it is dropped, where its end would otherwise look like a right one.
    fn abort(&self);
}

impl Abort for TcpStream {
    fn abort(&self) {
        // It may be gone.
        let _ = self.set_zero_linger();
    }
}

impl<S: Abort + ?Sized> Abort for Box<S> {
    fn abort(&self) {
        (**self).abort();
    }
}

/// Without its last word, the end of TLS is none.
impl<S> Abort for tokio_rustls::server::TlsStream<S> {
    fn abort(&self) {}
}

#[cfg(any(test, feature = "internals"))]
impl Abort for tokio::io::DuplexStream {
    fn abort(&self) {}
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Both sides have said all.
    Both,
    /// Nothing came for too long.
    Idle,
}

/// Both ways.
pub struct Relay {
    up: Way,
    down: Way,
    idle: Idle,
}

impl Relay {
    /// Begins with what was read already of either side. Ends where nothing comes for `idle`.
    pub fn new(of_client: Bytes, of_endpoint: Bytes, idle: Duration) -> Self {
        Self { up: Way::new(of_client), down: Way::new(of_endpoint), idle: Idle::new(idle) }
    }

    /// Moves what can be moved, through `room`.
    ///
    /// # Errors
    /// A side broke.
    pub fn poll(
        &mut self,
        client: &mut (impl AsyncRead + AsyncWrite + Unpin),
        endpoint: &mut (impl AsyncRead + AsyncWrite + Unpin),
        room: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Ended>> {
        let upward = self.up.poll(client, endpoint, room, cx)?;
        let downward = self.down.poll(endpoint, client, room, cx)?;
        if upward.is_ready() && downward.is_ready() {
            return Poll::Ready(Ok(Ended::Both));
        }
        // Not `||`: both forget.
        let has_moved = self.up.has_moved() | self.down.has_moved();
        if self.idle.poll(has_moved, cx) { Poll::Ready(Ok(Ended::Idle)) } else { Poll::Pending }
    }
}

/// Bytes from one side to the other. Holds only what the other has not taken yet, and reads no more meanwhile.
struct Way {
    held: Bytes,
    /// Whether something was written since the last flush: what is laid over a socket may hold it.
    unflushed: bool,
    /// There is nothing more to be read, which the other side is to know.
    ended: bool,
    /// It knows, or takes no more.
    over: bool,
    moved: bool,
}

impl Way {
    /// Begins with what was read already.
    fn new(read: Bytes) -> Self {
        // None of it may still be all of the memory that a request was read into.
        let held = if read.is_empty() { Bytes::new() } else { read };
        Self { held, unflushed: false, ended: false, over: false, moved: false }
    }

    /// Whether anything has moved since this was last asked.
    fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Moves what can be moved, through `room`. Ready when no more will be. That the other side takes no more is no error: there
    /// may be something to be read of it still.
    ///
    /// # Errors
    /// Reading failed: a connection that breaks does so both ways.
    fn poll(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        room: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        for _ in 0..AT_ONCE {
            if self.over {
                return Poll::Ready(Ok(()));
            }
            if self.held.has_remaining() {
                ready!(self.poll_held(to, cx));
            } else if self.ended {
                // Where it fails there is nobody to know.
                let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                self.over = true;
            } else {
                let mut read = ReadBuf::new(room);
                match Pin::new(&mut *from).poll_read(cx, &mut read) {
                    Poll::Pending => {
                        self.flush(to, cx);
                        return if self.over { Poll::Ready(Ok(())) } else { Poll::Pending };
                    }
                    Poll::Ready(result) => result?,
                }
                self.pass_on(read.filled(), to, cx);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what was just read, and holds what is not taken.
    fn pass_on(&mut self, read: &[u8], to: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) {
        self.ended = read.is_empty();
        if self.ended {
            return;
        }
        self.moved = true;
        match Pin::new(to).poll_write(cx, read) {
            Poll::Pending => self.held = Bytes::copy_from_slice(read),
            Poll::Ready(written) => {
                if let Some(left) = self.wrote(written).and_then(|n| read.get(n..)).filter(|left| !left.is_empty()) {
                    self.held = Bytes::copy_from_slice(left);
                }
            }
        }
    }

    fn poll_held(&mut self, to: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) -> Poll<()> {
        let written = ready!(Pin::new(to).poll_write(cx, &self.held));
        let n = self.wrote(written).unwrap_or(usize::MAX).min(self.held.len());
        self.held.advance(n);
        self.moved = true;
        if self.held.is_empty() {
            // Also of its memory.
            self.held = Bytes::new();
        }
        Poll::Ready(())
    }

    /// How much was written; none where no more can be.
    fn wrote(&mut self, written: io::Result<usize>) -> Option<usize> {
        let n = written.ok().filter(|n| *n > 0);
        self.over = n.is_none();
        self.unflushed = true;
        n
    }

    /// Flushes what can be. Where not all can, it goes on when this is polled again.
    fn flush(&mut self, to: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) {
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(to).poll_flush(cx)
        {
            self.unflushed = false;
            self.over = flushed.is_err();
        }
    }
}

/// Notices that nothing has moved for a while: a timer that is set anew only when it has run out.
struct Idle {
    limit: Duration,
    last: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Idle {
    fn new(limit: Duration) -> Self {
        let last = Instant::now();
        Self { limit, last, timer: Box::pin(tokio::time::sleep_until(last + limit)) }
    }

    /// Whether it is over; where not, whoever polls is woken to ask again.
    fn poll(&mut self, moved: bool, cx: &mut Context<'_>) -> bool {
        if moved {
            self.last = Instant::now();
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let due = self.last + self.limit;
            if due <= Instant::now() {
                return true;
            }
            self.timer.as_mut().reset(due);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, DuplexStream, duplex};

    use super::*;

    /// Polls what is ready at once, as memory mostly is.
    #[track_caller]
    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    fn poll(
        way: &mut Way,
        from: &mut DuplexStream,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), io::ErrorKind>> {
        let polled = way.poll(from, to, &mut [0; 8], &mut Context::from_waker(Waker::noop()));
        polled.map_err(|error| error.kind())
    }

    #[test]
    fn what_is_laid_over_a_socket_is_flushed_when_no_more_comes() {
        let ((mut near, mut from), (to, mut far)) = (duplex(64), duplex(64));
        let (mut way, mut to) = (Way::new(Bytes::from_static(b"early ")), BufWriter::new(to));
        now(near.write_all(b"and late")).unwrap().unwrap();
        assert!(poll(&mut way, &mut from, &mut to).is_pending());
        let mut read = [0; 14];
        now(far.read_exact(&mut read)).expect("all of it is there").unwrap();
        assert_eq!(&read, b"early and late");
    }

    #[test]
    fn no_more_is_read_than_one_piece_that_is_not_taken() {
        let ((mut near, mut from), (mut to, mut far)) = (duplex(64), duplex(4));
        let mut way = Way::new(Bytes::new());
        now(near.write_all(&[7; 24])).unwrap().unwrap();
        assert!(poll(&mut way, &mut from, &mut to).is_pending());
        assert_eq!((way.held.len(), way.has_moved(), way.has_moved()), (4, true, false), "4 of 8 bytes are taken");
        drop(near);
        let mut read = Vec::new();
        loop {
            let polled = poll(&mut way, &mut from, &mut to);
            let mut piece = [0; 4];
            let n = now(far.read(&mut piece)).expect("a piece or the end").unwrap();
            read.extend_from_slice(&piece[..n]);
            if n == 0 {
                assert_eq!((polled, way.held.len()), (Poll::Ready(Ok(())), 0));
                break;
            }
        }
        assert_eq!(read, [7; 24]);
    }

    #[test]
    fn a_side_that_takes_no_more_ends_one_way_without_an_error() {
        let ((mut near, mut from), (mut to, far)) = (duplex(64), duplex(64));
        drop(far);
        now(near.write_all(b"hello")).unwrap().unwrap();
        assert_eq!(poll(&mut Way::new(Bytes::new()), &mut from, &mut to), Poll::Ready(Ok(())));
        assert_eq!(poll(&mut Way::new(Bytes::from_static(b"early")), &mut from, &mut to), Poll::Ready(Ok(())));
    }
}
