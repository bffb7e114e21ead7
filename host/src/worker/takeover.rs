//! What goes on with a client's connection once HTTP has ended on it. Only the words for it: who serves the connection hands
//! over, and knows nothing of what comes then.

use std::{fmt, future::Future, pin::Pin, rc::Rc};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::conn::Conn;
use crate::relay::Side;

/// A client's stream: a socket, or what is laid over one.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Side {}

impl<S: AsyncRead + AsyncWrite + Unpin + Side> Duplex for S {}

/// Goes on with a connection. Behind a pointer, as few connections need it.
pub trait Takeover {
    /// Serves `client` to its end, from what was `read` of it beyond the last request. Ends early where the connection is to
    /// be closed at once ([`Signal::Kill`](super::conn::Signal::Kill)).
    fn run(self: Box<Self>, conn: Rc<Conn>, client: Box<dyn Duplex>, read: Bytes) -> Pin<Box<dyn Future<Output = ()>>>;
}

impl fmt::Debug for dyn Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Takeover")
    }
}
