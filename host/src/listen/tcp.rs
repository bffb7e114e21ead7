//! Connections that are passed on as a whole: to which cluster, to which of its endpoints, and then bytes both ways. Knows
//! nothing of what they say but the name in a TLS client's first words.

use std::{future::poll_fn, net::SocketAddr, pin::pin, rc::Rc, sync::Arc, task::Poll};

use bytes::Bytes;
use rustls::server::Acceptor;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use witgate_core::{
    affinity::hash_key,
    config::{Algorithm, Tcp},
    routing,
};

use super::{http::at_first, peek::peek, tls};
use crate::{
    proxy::{self, Opened},
    relay::{Relay, Side},
    tls::Server,
    upstream,
    worker::{
        Worker,
        conn::{Conn, Signal},
    },
};

/// Bytes of a TLS client's first words that are looked at for a name: what fits in a record.
const HELLO: usize = 16 << 10;

/// Serves one connection to its end.
pub(super) async fn serve(worker: &Rc<Worker>, conn: &Rc<Conn>, stream: TcpStream, to: &Tcp, tls: Option<&Server>) {
    // Where the client came to, which endpoints may be told.
    let local = stream.local_addr().ok();
    let Some(server) = tls else {
        let name = match to.sni.is_empty() {
            true => None,
            false => match at_first(conn, asked_for(&stream)).await {
                Some(name) => name,
                // It has gone, or never said it: it is nobody's.
                None => return worker.cells().tcp_failed.up(),
            },
        };
        return pass_on(worker, conn, stream, local, routing::cluster_for(to, name.as_deref())).await;
    };
    let Some(stream) = tls::accept(worker, conn, server, stream).await else { return };
    let name = stream.get_ref().1.server_name().map(str::to_owned);
    pass_on(worker, conn, stream, local, routing::cluster_for(to, name.as_deref())).await;
}

/// The name that a client of TLS asks for, which is not read: that is for the endpoint. None where it is no TLS, or without a
/// name; nothing at all where the client goes before that is known.
async fn asked_for(stream: &TcpStream) -> Option<Option<String>> {
    peek(stream, &mut vec![0; HELLO], name_in).await
}

/// The same of what has come so far; nothing where more is needed.
pub(super) fn name_in(come: &[u8]) -> Option<Option<String>> {
    let mut acceptor = Acceptor::default();
    let mut unread = come;
    while !unread.is_empty() {
        match acceptor.read_tls(&mut unread) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => return Some(accepted.client_hello().server_name().map(str::to_owned)),
            Err(_) => return Some(None),
        }
    }
    None
}

async fn pass_on<S>(
    worker: &Rc<Worker>,
    conn: &Rc<Conn>,
    mut client: S,
    local: Option<SocketAddr>,
    cluster: Option<&str>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Side,
{
    // Its time to begin is over, and who sweeps silent connections leaves it alone: silence is measured here.
    conn.begin();
    let opened = match cluster {
        Some(cluster) => match unless_killed(conn, open(worker, conn, local, cluster)).await {
            Some(opened) => opened,
            None => return,
        },
        None => Err("no cluster is for the name that was asked for".to_owned()),
    };
    let mut opened = match opened {
        Ok(opened) => opened,
        Err(error) => {
            worker.cells().tcp_failed.up();
            return tracing::debug!(peer = %conn.peer(), %error, "the connection goes nowhere");
        }
    };
    worker.cells().tcp_opened.up();
    let generation = worker.live.load_for(conn.socket);
    let idle = generation.listener(conn.socket).map(|listener| listener.limits.idle_timeout).unwrap_or_default();
    drop(generation);
    worker.pass_on(Some(conn), &mut client, &mut opened.stream, Relay::new(Bytes::new(), Bytes::new(), idle)).await;
    conn.end();
}

/// What comes of `work`, unless the connection is to be closed at once.
async fn unless_killed<T>(conn: &Conn, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if conn.poll_signal(cx) == Signal::Kill => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// A connection to an endpoint of the cluster of this name, or why there is none.
async fn open(worker: &Worker, conn: &Conn, local: Option<SocketAddr>, name: &str) -> Result<Opened, String> {
    let cluster = {
        let generation = worker.live.load_for(conn.socket);
        let found = generation.cluster_index(name).and_then(|index| generation.clusters.get(index)).map(Arc::clone);
        found.ok_or_else(|| format!("there is no cluster {name:?} any more"))?
    };
    // A client stays with its endpoint where a cluster hashes; what it hashes of a connection is the client's address.
    let hashes = matches!(cluster.native.algorithm(), Algorithm::RingHash | Algorithm::Maglev);
    let hash = hashes.then(|| hash_key(conn.peer_value().as_bytes()));
    let named = local.map(|local| (conn.peer(), SocketAddr::new(local.ip().to_canonical(), local.port())));
    let header = cluster.config.proxy_protocol.map(|version| upstream::proxy_header(version, named));
    proxy::open(worker, &cluster, hash, header.as_deref()).await.map_err(|error| error.to_string())
}
