//! Connections that go on in another protocol (RFC 9110 §7.8), WebSocket above all: who may, and what goes on once an
//! endpoint has switched.

use std::{
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
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
};
use crate::{
    reason::Reason,
    relay::{Abort, Relay},
    upstream::{Connection, Incoming},
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
    let mut allowed = route.into_iter().flat_map(|route| &route.upgrade);
    if protocol.is_some_and(|protocol| allowed.any(|one| one.as_bytes().eq_ignore_ascii_case(protocol))) {
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
pub fn switch(
    mut head: response::Parts,
    incoming: Incoming,
    mut exchange: Exchange,
    now: std::time::Instant,
) -> Response<Body> {
    let Incoming::Http1(incoming) = incoming else { return reply::response(Reason::UpstreamMalformed) };
    let (origin, early) = incoming.into_switched();
    let conn = Rc::clone(exchange.conn());
    let stream = exchange.take_extended();
    let (accounts, idle) = exchange.switch(now, stream.is_some());
    let tunnel = Tunnel { origin, early, idle, accounts };
    match stream {
        None => conn.hand_over(Box::new(tunnel)),
        Some(stream) => {
            head.status = StatusCode::OK;
            for name in [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_ACCEPT] {
                head.headers.remove(name);
            }
            tokio::task::spawn_local(tunnel.run_in(stream));
        }
    }
    Response::from_parts(head, Body::full(Bytes::new()))
}

/// A connection that goes on in another protocol.
struct Tunnel {
    /// Closed with it: nobody knows what came over it.
    origin: Box<Connection>,
    /// What the endpoint said behind its response.
    early: Bytes,
    /// For how long nothing may come either way.
    idle: Duration,
    accounts: Switched,
}

/// A stream of HTTP/2 that goes on in another protocol.
struct Inner(TokioIo<Upgraded>);

impl Tunnel {
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
impl Abort for Inner {
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
