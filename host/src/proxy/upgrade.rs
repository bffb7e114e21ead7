//! Connections that go on in another protocol (RFC 9110 §7.8), WebSocket above all: who may, and what goes on once an
//! endpoint has switched.

use std::{future::Future, pin::Pin, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Response, header, response};
use witgate_core::config::Route;

use super::{
    Body,
    exchange::{Exchange, Switched},
    headers, reply,
};
use crate::{
    reason::Reason,
    relay::Relay,
    upstream::{Connection, Incoming},
    worker::{
        conn::Conn,
        takeover::{Duplex, Takeover},
    },
};

/// Lets a request ask for another protocol, where its route has that one; else it no longer does.
pub fn admit(exchange: &mut Exchange, headers: &mut HeaderMap, route: Option<&Route>) {
    let protocol = headers.get(header::UPGRADE).map(|protocol| protocol.as_bytes());
    let mut allowed = route.into_iter().flat_map(|route| &route.upgrade);
    if protocol.is_some_and(|protocol| allowed.any(|one| one.as_bytes().eq_ignore_ascii_case(protocol))) {
        exchange.upgrade();
    } else {
        headers::drop_upgrade(headers);
    }
}

/// The response of an endpoint that has switched protocols, behind which the connection is a [`Tunnel`]'s.
#[cold]
#[inline(never)]
pub fn switch(
    head: response::Parts,
    incoming: Incoming,
    exchange: Exchange,
    now: std::time::Instant,
) -> Response<Body> {
    let Incoming::Http1(incoming) = incoming else { return reply::response(Reason::UpstreamMalformed) };
    let (origin, early) = incoming.into_switched();
    let conn = Rc::clone(exchange.conn());
    let (accounts, idle) = exchange.switch(now);
    conn.hand_over(Box::new(Tunnel { origin, early, idle, accounts }));
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
            accounts.worker().pass_on(&conn, &mut client, origin.stream(), relay).await;
        })
    }
}
