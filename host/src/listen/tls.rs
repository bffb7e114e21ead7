//! The TLS handshake of a connection that was just accepted: bounded in number here, and in time by who sweeps silent
//! connections. Knows nothing of HTTP but how to tell a client that it forgot TLS.

use std::{io, sync::Arc};

use http::HeaderValue;
use rustls::server::Acceptor;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::http::at_first;
use crate::{
    proxy,
    reason::Reason,
    tls::{self, Server},
    worker::{Worker, conn::Conn},
};

/// What is spoken above TLS. None where the handshake failed, or took too long.
pub async fn accept(worker: &Worker, conn: &Conn, server: &Server, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
    let shaken = match at_first(conn, async { Some(shake(worker, conn, server, stream).await) }).await {
        Some(Ok(shaken)) => Ok(shaken),
        Some(Err(Failed::Refused)) => {
            worker.cells().handshakes_refused.up();
            return None;
        }
        Some(Err(error)) => Err(error.to_string()),
        None => Err("it was not done in time".to_owned()),
    };
    match shaken {
        Ok((stream, certificate)) => {
            worker.cells().handshakes.up();
            conn.secure(certificate);
            Some(stream)
        }
        Err(error) => {
            worker.cells().handshakes_failed.up();
            tracing::debug!(peer = %conn.peer(), error, "handshake failed");
            None
        }
    }
}

/// Why nothing is spoken above.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("there are as many as may be")]
    Refused,
    #[error("it speaks HTTP without TLS")]
    Plain,
    #[error("{0}")]
    Over(#[from] tls::Over),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What is spoken above, and which certificate the client has shown.
async fn shake(
    worker: &Worker,
    conn: &Conn,
    server: &Server,
    stream: TcpStream,
) -> Result<(TlsStream<TcpStream>, Option<HeaderValue>), Failed> {
    // TLS begins with a 22 (RFC 8446 §5.1), and every method that is in use with a capital letter.
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
        tell_plain(worker, conn, stream).await;
        return Err(Failed::Plain);
    }
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    // Only now: who says nothing takes no place from who does.
    let _counted = server.begin().ok_or(Failed::Refused)?;
    let stream = hello.into_stream(Arc::clone(server.config())).await?;
    let certificate = tls::shown(stream.get_ref().1)?.map(tls::client_certificate);
    Ok((stream, certificate))
}

/// Tells a client that speaks HTTP without TLS that this is not understood.
async fn tell_plain(worker: &Worker, conn: &Conn, mut stream: TcpStream) {
    proxy::unread(worker, conn, Reason::BadRequest);
    // What is left unread would have the answer lost when the socket is closed.
    let _ = stream.try_read(&mut worker.scratch.borrow_mut()[..]);
    // It may be gone, and is told nothing then.
    let _ = stream.write_all(&proxy::raw_response(Reason::BadRequest)).await;
}
