//! Connections that are passed on as a whole: to which cluster, to which of its endpoints, and then bytes both ways. Knows
//! nothing of what they say but the name in a TLS client's first words.

use std::{future::poll_fn, net::SocketAddr, pin::pin, rc::Rc, sync::Arc, task::Poll, time::Instant};

use bytes::Bytes;
use rustls::server::Acceptor;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use witgate_core::{
    affinity::hash_key,
    config::{Algorithm, Tcp},
    endpoint::{Endpoint, InFlight, Outcome},
    limits::Counted,
    routing,
};

use super::{http::at_first, peek::peek, tls};
use crate::{
    generation::Cluster,
    proxy,
    relay::{Abort, Relay},
    tls::Server,
    upstream::{self, ConnectError, Full, Granted, Place, Stream},
    worker::{
        Worker,
        conn::{Conn, Signal},
    },
};

/// Endpoints that are tried for one connection, at the most: HAProxy's.
const TRIES: usize = 3;

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
    let mut room = vec![0; HELLO];
    peek(stream, &mut room, |come| {
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
    })
    .await
}

async fn pass_on<S>(
    worker: &Rc<Worker>,
    conn: &Rc<Conn>,
    mut client: S,
    local: Option<SocketAddr>,
    cluster: Option<&str>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Abort,
{
    // Its time to begin is over, and who sweeps silent connections leaves it alone: silence is measured here.
    conn.begin();
    let opened = match cluster {
        Some(cluster) => match unless_killed(conn, open(worker, conn, local, cluster)).await {
            Some(opened) => opened,
            None => return,
        },
        None => Err(Unopened::Unrouted),
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

/// A connection to an endpoint, with what is counted while it lives.
struct Opened {
    stream: Stream,
    _in_flight: InFlight,
    _admitted: Option<Counted>,
    _place: Option<Place>,
}

/// Why a connection goes nowhere.
#[derive(Debug, thiserror::Error)]
enum Unopened {
    #[error("no cluster is for the name that was asked for")]
    Unrouted,
    #[error("the cluster has no healthy endpoint")]
    NoHealthyEndpoint,
    #[error("the cluster has as many connections as it may")]
    Full,
    #[error("no endpoint could be connected to: {0}")]
    Connect(#[from] ConnectError),
}

impl From<Full> for Unopened {
    fn from(Full: Full) -> Self {
        Self::Full
    }
}

async fn open(worker: &Rc<Worker>, conn: &Conn, local: Option<SocketAddr>, name: &str) -> Result<Opened, Unopened> {
    let cluster = {
        let generation = worker.live.load_for(conn.socket);
        let index = generation.cluster_index(name).ok_or(Unopened::Unrouted)?;
        generation.clusters.get(index).map(Arc::clone).ok_or(Unopened::Unrouted)?
    };
    let admitted = cluster.circuit.as_ref().map(|circuit| circuit.admit()).transpose()?.flatten();
    // A client stays with its endpoint where a cluster hashes; what it hashes of a connection is the client's address.
    let hashes = matches!(cluster.native.algorithm(), Algorithm::RingHash | Algorithm::Maglev);
    let hash = hashes.then(|| hash_key(conn.peer_value().as_bytes()));
    let named = local.map(|local| (conn.peer(), SocketAddr::new(local.ip().to_canonical(), local.port())));
    let header = cluster.config.proxy_protocol.map(|version| upstream::proxy_header(version, named));
    let (mut tried, mut failed) = (Vec::new(), None);
    for _ in 0..TRIES.min(cluster.endpoints.len()) {
        let began = Instant::now();
        let picked = cluster.picker(began).pick(&cluster.cursor, hash, &tried, began, &mut || worker.random());
        let Some((index, endpoint)) = picked.and_then(|index| Some((index, cluster.endpoints.get(index)?))) else {
            break;
        };
        let in_flight = endpoint.begin();
        match open_to(worker, &cluster, endpoint, header.as_deref()).await {
            Ok((stream, place)) => {
                let now = Instant::now();
                let took = now.saturating_duration_since(began);
                proxy::record(worker, Some(&cluster), endpoint, now, Some(took), Outcome::Success);
                worker.cells().connected.up();
                return Ok(Opened { stream, _in_flight: in_flight, _admitted: admitted, _place: place });
            }
            Err(ConnectError::Full) => return Err(Unopened::Full),
            Err(error) => {
                worker.cells().connect_failed.up();
                proxy::record(worker, Some(&cluster), endpoint, Instant::now(), None, Outcome::Local);
                proxy::tell_unconnected(worker, &cluster, endpoint, &error);
                tried.push(u32::try_from(index).unwrap_or(u32::MAX));
                failed = Some(error);
            }
        }
    }
    Err(failed.map_or(Unopened::NoHealthyEndpoint, Unopened::Connect))
}

/// A connection to this endpoint, with a place among those that the cluster may have.
async fn open_to(
    worker: &Worker,
    cluster: &Cluster,
    endpoint: &Arc<Endpoint>,
    header: Option<&[u8]>,
) -> Result<(Stream, Option<Place>), ConnectError> {
    let timeout = cluster.config.connect_timeout;
    let place = match cluster.circuit.as_ref().filter(|circuit| circuit.limits_connections()) {
        None => None,
        Some(circuit) => {
            let ask = || worker.live.shared().note_crowded();
            match worker.upstreams.grant(circuit, endpoint, timeout, ask).await? {
                Granted::Place(place) => Some(place),
                Granted::Connection(connection) => connection.into_place(),
            }
        }
    };
    let tls = cluster.tls.as_ref().map(|tls| (&**tls, tls.bare()));
    Ok((upstream::open(endpoint, timeout, tls, header).await?, place))
}
