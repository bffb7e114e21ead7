//! Connections that go on in another protocol (RFC 9110 §7.8), WebSocket above all: who may, and what goes on once an
//! endpoint has switched.

use std::{
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use base64::Engine;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, response};
use hyper::{
    ext::Protocol,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use witgate_core::config::Route;

use super::{
    Body,
    exchange::{Exchange, Switched},
    headers, reply,
    whole::Opened,
};
use crate::{
    reason::Reason,
    relay::{Relay, Side},
    upstream::{Connection, Incoming, Place, Stream},
    worker::{
        Worker,
        conn::Conn,
        takeover::{Duplex, Takeover},
    },
};

/// The protocol that asks with a key.
const WEBSOCKET: &[u8] = b"websocket";

/// Makes a request that asks for another protocol by the extended CONNECT of HTTP/2 (RFC 8441) one that asks for it as HTTP/1.1
/// does, and returns what its stream will be. None where it is another CONNECT.
#[cold]
pub fn extended(request: &mut Request<hyper::body::Incoming>, worker: &Worker) -> Option<Box<OnUpgrade>> {
    let protocol = request.extensions().get::<Protocol>()?;
    let protocol = HeaderValue::from_str(protocol.as_str()).ok()?;
    let is_websocket = protocol.as_bytes().eq_ignore_ascii_case(WEBSOCKET);
    let stream = hyper::upgrade::on(&mut *request);
    *request.method_mut() = Method::GET;
    headers::keep_upgrade(request.headers_mut(), protocol);
    // Which HTTP/2 does without (RFC 8441 §5). It keeps caches from answering, and is no secret.
    if is_websocket {
        let nonce = u128::from(worker.random()) << 64 | u128::from(worker.random());
        let key = HeaderValue::try_from(base64::engine::general_purpose::STANDARD.encode(nonce.to_be_bytes()));
        request.headers_mut().insert(header::SEC_WEBSOCKET_KEY, key.ok()?);
    }
    Some(Box::new(stream))
}

/// Lets a request ask for another protocol, where its route has that one; else it no longer does.
///
/// # Errors
/// It is nothing without that.
pub fn admit(exchange: &mut Exchange, headers: &mut HeaderMap, route: Option<&Route>) -> Result<(), Reason> {
    let protocol = headers.get(header::UPGRADE).map(|protocol| protocol.as_bytes());
    if protocol.is_some_and(|protocol| has(route, protocol)) {
        exchange.upgrade();
    } else if exchange.is_extended() {
        return Err(Reason::MethodNotAllowed);
    } else {
        headers::drop_upgrade(headers);
    }
    Ok(())
}

/// The response of an endpoint that has switched protocols, behind which the connection is a [`Tunnel`]'s.
#[cold]
#[inline(never)]
pub fn switch(mut head: response::Parts, incoming: Incoming, mut exchange: Exchange, now: Instant) -> Response<Body> {
    let Incoming::Http1(incoming) = incoming else { return reply::response(Reason::UpstreamMalformed) };
    let (origin, early) = incoming.into_switched();
    let conn = Rc::clone(exchange.conn());
    let stream = exchange.take_extended();
    let (accounts, idle) = exchange.switch(now, stream.is_some());
    if stream.is_some() {
        head.status = StatusCode::OK;
        for name in [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_ACCEPT] {
            head.headers.remove(name);
        }
    }
    Tunnel { origin: Origin::Switched(origin), early, idle, accounts }.begin(&conn, stream);
    Response::from_parts(head, Body::full(Bytes::new()))
}

/// The response to a CONNECT, behind which bytes go to what was opened and back.
pub fn tunnel(opened: Opened, cluster: usize, mut exchange: Exchange) -> Response<Body> {
    let Opened { stream, in_flight, admitted, place } = opened;
    exchange.trying(cluster, in_flight);
    exchange.admitted(admitted);
    let conn = Rc::clone(exchange.conn());
    let inner = exchange.take_extended();
    let (accounts, idle) = exchange.switch(Instant::now(), inner.is_some());
    let origin = Origin::Opened(Box::new((stream, place)));
    Tunnel { origin, early: Bytes::new(), idle, accounts }.begin(&conn, inner);
    Response::new(Body::full(Bytes::new()))
}

/// Whether a route lets connections go on in this protocol.
pub fn has(route: Option<&Route>, protocol: &[u8]) -> bool {
    route.is_some_and(|route| route.upgrade.iter().any(|one| one.as_bytes().eq_ignore_ascii_case(protocol)))
}

/// What leads to the endpoint. Closed with the tunnel: nobody knows what came over it.
enum Origin {
    /// What has carried the request that asked for it.
    Switched(Box<Connection>),
    /// What was opened for it, and its place.
    Opened(Box<(Stream, Option<Place>)>),
}

impl Origin {
    fn stream(&mut self) -> &mut Stream {
        match self {
            Self::Switched(connection) => connection.stream(),
            Self::Opened(opened) => &mut opened.0,
        }
    }
}

/// A connection that goes on in another protocol.
struct Tunnel {
    origin: Origin,
    /// What the endpoint said behind its response.
    early: Bytes,
    /// For how long nothing may come either way.
    idle: Duration,
    accounts: Switched,
}

/// A stream of HTTP/2 that goes on in another protocol.
struct Inner(TokioIo<Upgraded>);

impl Tunnel {
    /// Goes on behind the response: in that stream, or in all of the client's connection.
    fn begin(self, conn: &Conn, stream: Option<Box<OnUpgrade>>) {
        match stream {
            None => conn.hand_over(Box::new(self)),
            Some(stream) => drop(tokio::task::spawn_local(self.run_in(stream))),
        }
    }

    /// Goes on in a stream of the client's connection, which carries others: that is not to be closed with it, and takes it with
    /// it where it is closed.
    async fn run_in(self, stream: Box<OnUpgrade>) {
        let Self { mut origin, early, idle, accounts } = self;
        // The client has gone where there is none.
        let Ok(stream) = stream.await else { return };
        let relay = Relay::new(Bytes::new(), early, idle);
        accounts.worker().pass_on(None, &mut Inner(TokioIo::new(stream)), origin.stream(), relay).await;
    }
}

/// Without its end, a stream is reset.
impl Side for Inner {
    fn abort(&self) {}
}

impl AsyncRead for Inner {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Inner {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Takeover for Tunnel {
    fn run(
        self: Box<Self>,
        conn: Rc<Conn>,
        mut client: Box<dyn Duplex>,
        read: Bytes,
    ) -> Pin<Box<dyn Future<Output = ()>>> {
        let Self { mut origin, early, idle, accounts } = *self;
        Box::pin(async move {
            let relay = Relay::new(read, early, idle);
            accounts.worker().pass_on(Some(&conn), &mut client, origin.stream(), relay).await;
        })
    }
}
