//! What a connection to an endpoint runs over. An enum, and neither a trait object nor a parameter: a pool holds one
//! type, and a socket costs what it costs without it. Knows nothing of HTTP.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker},
};

#[cfg(feature = "internals")]
use tokio::io::DuplexStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::relay::Side;

/// A stream to an endpoint.
pub enum Stream {
    /// A socket as it is.
    Tcp(TcpStream),
    /// TLS over one. On the heap: a pool of sockets needs no room for it.
    Tls(Box<TlsStream<TcpStream>>),
    /// Memory, with a benchmark at its other end.
    #[cfg(feature = "internals")]
    Memory(DuplexStream),
}

/// Has `$stream` be the stream behind `$of`, whichever it is.
macro_rules! behind {
    ($of:expr, $stream:ident => $work:expr) => {
        match $of {
            Self::Tcp($stream) => $work,
            Self::Tls($stream) => $work,
            #[cfg(feature = "internals")]
            Self::Memory($stream) => $work,
        }
    };
}

impl Stream {
    /// Whether there is nothing to be read, not even the stream's end. Asks the kernel only where the runtime knows that
    /// there is something.
    pub fn is_silent(&mut self) -> bool {
        match self {
            Self::Tcp(stream) => {
                matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            // What TLS says for itself may have come, such as a ticket for another session.
            Self::Tls(stream) => is_pending(stream),
            #[cfg(feature = "internals")]
            Self::Memory(stream) => is_pending(stream),
        }
    }
}

impl Side for Stream {
    fn abort(&self) {
        match self {
            Self::Tcp(stream) => stream.abort(),
            Self::Tls(_) => {}
            #[cfg(feature = "internals")]
            Self::Memory(_) => {}
        }
    }

    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Tls(_) => None,
            #[cfg(feature = "internals")]
            Self::Memory(_) => None,
        }
    }
}

fn is_pending(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    Pin::new(stream).poll_read(&mut context, &mut ReadBuf::new(&mut [0])).is_pending()
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        behind!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        behind!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        behind!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        behind!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        behind!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        behind!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}
