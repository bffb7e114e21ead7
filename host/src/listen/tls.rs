//! The TLS handshake of a connection that was just accepted: bounded in number here, and in time by who sweeps silent
//! connections. Knows nothing of HTTP but how to tell a client that it forgot TLS.

use std::sync::Arc;

use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::http::at_first;
use crate::{
    proxy,
    reason::Reason,
    tls::{self, Server},
    worker::{Worker, conn::Conn},
};

/// What is spoken above TLS. None where the handshake failed, or took too long.
pub async fn accept(worker: &Worker, conn: &Conn, server: &Server, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
    let Some(_counted) = server.begin() else {
        worker.cells().handshakes_refused.up();
        return None;
    };
    let shaken = at_first(conn, async {
        // TLS begins with a 22 (RFC 8446 §5.1), and every method that is in use with a capital letter.
        let mut first = [0];
        if stream.peek(&mut first).await.is_ok_and(|read| read == 1) && first[0].is_ascii_uppercase() {
            tell_plain(worker, conn, stream).await;
            return None;
        }
        let accepted = TlsAcceptor::from(Arc::clone(server.config())).accept(stream).await;
        accepted.inspect_err(|error| tracing::debug!(peer = %conn.peer, %error, "handshake failed")).ok()
    });
    let Some(stream) = shaken.await else {
        worker.cells().handshakes_failed.up();
        return None;
    };
    worker.cells().handshakes.up();
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    conn.secure(certificate.map(tls::client_certificate));
    Some(stream)
}

/// Tells a client that speaks HTTP without TLS that this is not understood.
async fn tell_plain(worker: &Worker, conn: &Conn, mut stream: TcpStream) {
    proxy::unread(worker, conn, Reason::BadRequest);
    // What is left unread would have the answer lost when the socket is closed.
    let _ = stream.try_read(&mut worker.scratch.borrow_mut()[..]);
    // It may be gone, and is told nothing then.
    let _ = stream.write_all(&proxy::raw_response(Reason::BadRequest)).await;
}
