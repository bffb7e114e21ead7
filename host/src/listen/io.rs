//! A connection's stream as hyper sees it: replays what was read to tell the protocol, tells the connection's state what
//! is read, and gives the parser's own error responses the proxy's shape. Decides nothing.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use crate::{
    proxy,
    reason::Reason,
    relay::Side,
    worker::{Worker, conn::Conn},
};

/// What HTTP is spoken over.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Side + 'static {
    /// Whether it has a word for its end. Where it has not, the socket is closed, which says just so with one system call less.
    const SAYS_GOODBYE: bool;
}

impl Transport for TcpStream {
    const SAYS_GOODBYE: bool = false;
}

/// Who gets an end without that word knows that it was cut off.
impl Transport for TlsStream<TcpStream> {
    const SAYS_GOODBYE: bool = true;
}

#[cfg(any(test, feature = "internals"))]
impl Transport for tokio::io::DuplexStream {
    const SAYS_GOODBYE: bool = false;
}

/// A stream that carries HTTP/1 or HTTP/2: a socket, or what is laid over one.
pub struct Io<S> {
    stream: S,
    /// Accounts for what the parser refused.
    worker: Rc<Worker>,
    conn: Rc<Conn>,
    /// Read before the protocol was known.
    prefix: Bytes,
    /// HTTP/1: reads are noted, and the parser's own error responses are replaced.
    http1: bool,
    /// What goes out in place of the parser's own error response.
    replacement: Option<Bytes>,
}

impl<S: Transport> Io<S> {
    /// Wraps a stream of which `prefix` was read already, and noted.
    pub fn new(stream: S, worker: &Rc<Worker>, conn: &Rc<Conn>, prefix: Bytes, http1: bool) -> Self {
        Self { stream, worker: Rc::clone(worker), conn: Rc::clone(conn), prefix, http1, replacement: None }
    }

    /// The stream.
    pub fn into_stream(self) -> S {
        self.stream
    }

    /// Recognises an error response that the parser wrote by itself: it comes when every request was answered whole.
    fn intercept(&mut self, buf: &[u8]) -> bool {
        if !self.http1 || !self.conn.settled() || !buf.starts_with(b"HTTP/1.1 4") {
            return false;
        }
        let reason = match buf.get(9..12) {
            Some(b"400") => Reason::BadRequest,
            Some(b"414") => Reason::UriTooLong,
            Some(b"431") if self.conn.with_head(proxy::tells_boundless_length) => Reason::BadRequest,
            Some(b"431") => Reason::HeaderTooLarge,
            _ => return false,
        };
        proxy::unread(&self.worker, &self.conn, reason);
        self.replacement = Some(proxy::raw_response(reason));
        true
    }

    fn poll_replacement(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(left) = self.replacement.as_mut().filter(|left| left.has_remaining()) {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, left))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            left.advance(n);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Transport> AsyncRead for Io<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.prefix.is_empty() {
            let n = this.prefix.len().min(buf.remaining());
            buf.put_slice(&this.prefix.split_to(n));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        if this.http1 && !read.is_empty() {
            this.conn.note_read(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Transport> AsyncWrite for Io<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.replacement.is_some() || this.intercept(buf) {
            ready!(this.poll_replacement(cx))?;
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut this.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.replacement.is_some() || bufs.first().is_some_and(|first| this.intercept(first)) {
            ready!(this.poll_replacement(cx))?;
            return Poll::Ready(Ok(bufs.iter().map(|b| b.len()).sum()));
        }
        Pin::new(&mut this.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_replacement(cx))?;
        // A TCP socket has nothing to flush, which costs nothing.
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        this.conn.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_replacement(cx))?;
        // The socket is closed as soon as hyper has done this.
        if S::SAYS_GOODBYE { Pin::new(&mut this.stream).poll_shutdown(cx) } else { Poll::Ready(Ok(())) }
    }
}
