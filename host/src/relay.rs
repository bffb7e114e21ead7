//! Bytes both ways between a client and an endpoint, as they come. Reads none of them, and holds no more than one side has
//! not taken yet.

mod pipe;

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use pipe::{Moved, Pipe};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

/// Pieces that one way may move before it is the other's turn, and other connections'.
const AT_ONCE: usize = 16;

/// Reads in a row, each as long as there is room for, after which bytes go from socket to socket within the kernel.
const MANY: u8 = 4;

/// Bytes at once that are too few for that.
const LITTLE: usize = 16 << 10;

/// A stream on one side of a relay.
pub trait Side {
    /// Has it end by a reset when it is dropped, where its end would otherwise look like a right one.
    fn abort(&self);

    /// The socket, where nothing is laid over it.
    fn socket(&self) -> Option<&TcpStream> {
        None
    }
}

impl Side for TcpStream {
    fn abort(&self) {
        // It may be gone.
        let _ = self.set_zero_linger();
    }

    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

impl<S: Side + ?Sized> Side for Box<S> {
    fn abort(&self) {
        (**self).abort();
    }

    fn socket(&self) -> Option<&TcpStream> {
        (**self).socket()
    }
}

/// Without its last word, the end of TLS is none.
impl<S> Side for tokio_rustls::server::TlsStream<S> {
    fn abort(&self) {}
}

#[cfg(any(test, feature = "internals"))]
impl Side for tokio::io::DuplexStream {
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
        client: &mut (impl AsyncRead + AsyncWrite + Unpin + Side),
        endpoint: &mut (impl AsyncRead + AsyncWrite + Unpin + Side),
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
    /// What it goes through while much comes.
    pipe: Option<Pipe>,
    /// Reads in a row that speak for that, or against it.
    streak: u8,
    /// Bytes that went through it.
    spliced: u64,
}

impl Way {
    /// Begins with what was read already.
    fn new(read: Bytes) -> Self {
        // None of it may still be all of the memory that a request was read into.
        let held = if read.is_empty() { Bytes::new() } else { read };
        Self { held, unflushed: false, ended: false, over: false, moved: false, pipe: None, streak: 0, spliced: 0 }
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
        from: &mut (impl AsyncRead + Unpin + Side),
        to: &mut (impl AsyncWrite + Unpin + Side),
        room: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        for _ in 0..AT_ONCE {
            if self.over {
                return Poll::Ready(Ok(()));
            }
            if self.pipe.is_some() {
                ready!(self.poll_pipe(from.socket(), to.socket(), cx))?;
                continue;
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
                let is_full = read.remaining() == 0;
                self.pass_on(read.filled(), to, cx);
                self.judge(is_full);
                if self.streak == MANY
                    && !self.ended
                    && self.held.is_empty()
                    && from.socket().is_some()
                    && to.socket().is_some()
                {
                    self.pipe = Pipe::take();
                    self.streak = 0;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Counts how often in a row there was as much to be read as there is room for.
    fn judge(&mut self, is_full: bool) {
        // Beyond that is where it cannot be.
        if self.streak <= MANY {
            self.streak = if is_full { (self.streak + 1).min(MANY) } else { 0 };
        }
    }

    fn poll_pipe(
        &mut self,
        from: Option<&TcpStream>,
        to: Option<&TcpStream>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let (Some(pipe), Some(from), Some(to)) = (&mut self.pipe, from, to) else { return Poll::Ready(Ok(())) };
        let polled = pipe.poll(from, to, cx);
        // Also where not all of it came out.
        let moved = pipe.take_moved();
        self.moved |= moved > 0;
        self.spliced += moved as u64;
        match ready!(polled)? {
            Moved::Bytes(n) => {
                // Where little comes at a time, copying is cheaper, and others have more use for the pipe.
                self.streak = if n < LITTLE { self.streak.saturating_add(1) } else { 0 };
                if self.streak > MANY {
                    (self.pipe, self.streak) = (None, 0);
                }
            }
            Moved::End => (self.pipe, self.ended) = (None, true),
            Moved::Refused => (self.pipe, self.over) = (None, true),
            // What is asked again later fails again.
            Moved::Impossible => (self.pipe, self.streak) = (None, MANY + 1),
        }
        Poll::Ready(Ok(()))
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
        to: &mut (impl AsyncWrite + Unpin + Side),
    ) -> Poll<Result<(), io::ErrorKind>> {
        let polled = way.poll(from, to, &mut [0; 8], &mut Context::from_waker(Waker::noop()));
        polled.map_err(|error| error.kind())
    }

    impl Side for BufWriter<DuplexStream> {
        fn abort(&self) {}
    }

    /// Both ends of a connection.
    async fn sockets() -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn who_sends_much_is_served_within_the_kernel() {
        let ((mut near, mut from), (mut to, mut far)) = (sockets().await, sockets().await);
        let sent: Vec<u8> = (0..4_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let sending = async {
            near.write_all(&sent).await.unwrap();
            // Little at a time, which is copied again, and then the end.
            for _ in 0..20 {
                near.write_all(b"little").await.unwrap();
                tokio::task::yield_now().await;
            }
            near.shutdown().await.unwrap();
        };
        let mut way = Way::new(Bytes::new());
        let moving = async {
            let mut room = vec![0; 16 << 10];
            std::future::poll_fn(|cx| way.poll(&mut from, &mut to, &mut room, cx)).await.unwrap();
        };
        let mut read = Vec::new();
        let ((), (), result) = tokio::join!(sending, moving, far.read_to_end(&mut read));
        result.unwrap();
        assert!(read.strip_suffix("little".repeat(20).as_bytes()) == Some(&sent), "{} bytes", read.len());
        assert!(way.spliced > 1 << 20, "{}", way.spliced);
    }

    #[tokio::test]
    async fn who_takes_no_more_ends_it_there_too() {
        let ((mut near, from), (mut to, far)) = (sockets().await, sockets().await);
        let mut way = Way::new(Bytes::new());
        let sent = vec![7; 4 << 20];
        let sending = async {
            // Until nobody takes it.
            let _ = near.write_all(&sent).await;
            drop(near);
        };
        let mut far = Some(far);
        let moving = async {
            // Gone when it is over: who sends is to learn of it.
            let mut from = from;
            let mut room = vec![0; 16 << 10];
            std::future::poll_fn(|cx| {
                let polled = way.poll(&mut from, &mut to, &mut room, cx);
                if way.spliced > 0 {
                    far = None;
                }
                polled
            })
            .await
        };
        let ((), moved) = tokio::join!(sending, moving);
        assert!(moved.is_ok(), "{moved:?}");
        assert!(way.over && way.pipe.is_none());
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
