//! A request from its head to its response: all control flow on one screen, [`handle`]. What is decided is decided by
//! `decide`, what plugins are asked is asked by `ask`, what is sent is sent by `attempt`.

pub mod ask;
mod attempt;
mod body;
pub mod decide;
mod exchange;
mod headers;
mod reply;

use std::{rc::Rc, time::Instant};

use http::{HeaderMap, HeaderValue, Request, Response, Version, header, response};
use hyper::body::Incoming;
use witgate_core::{
    config::ListenerLimits,
    request::{Head, Scheme},
};

pub use attempt::choose;
pub use body::Body;
pub use headers::is_trusted;
pub use reply::raw_response;

use crate::{
    drain::Phase,
    generation::Generation,
    reason::Reason,
    upstream,
    worker::{
        Worker,
        conn::{Conn, Signal},
        deadlines::Deadline,
    },
};
use ask::Asker;
use decide::Plan;
use exchange::Exchange;

/// How a request was answered.
enum Answer {
    /// By the proxy.
    Own(Response<Body>),
    /// By an endpoint, whose body is still to come.
    Upstream(response::Parts, upstream::Incoming, Option<Deadline>),
}

/// Answers one request. Loads one generation and never looks again.
pub async fn handle(worker: Rc<Worker>, conn: Rc<Conn>, request: Request<Incoming>) -> Response<Body> {
    let generation = worker.live.load();
    let limits = generation.config.listeners.get(conn.listener).map(|l| &l.limits);
    let version = request.version();
    let nth = conn.begin();
    let mut exchange = Exchange::begin(&worker, &conn, &generation, Instant::now());
    let answer = answer(&worker, &conn, &generation, limits, &mut exchange, request).await;
    let mut response = match answer {
        Ok(Answer::Upstream(head, incoming, deadline)) => {
            exchange.answered(head.status);
            Response::from_parts(head, Body::upstream(incoming, exchange, deadline))
        }
        Ok(Answer::Own(response)) => {
            exchange.answered(response.status());
            exchange.complete(Instant::now(), None);
            response
        }
        Err(reason) => {
            worker.count(reason);
            let response = reply::response(reason);
            exchange.answered(response.status());
            exchange.complete(Instant::now(), None);
            response
        }
    };
    let last = limits.and_then(|l| l.requests_per_connection).is_some_and(|most| nth >= most)
        || worker.drain.phase() >= Phase::Drain;
    if last && version == Version::HTTP_2 {
        // HTTP/1.1 says it in the head; HTTP/2 with a GOAWAY, after which what is in flight still finishes.
        conn.ask(Signal::Finish);
    }
    finish_head(response.headers_mut(), version, last);
    response
}

async fn answer(
    worker: &Rc<Worker>,
    conn: &Rc<Conn>,
    generation: &Generation,
    limits: Option<&ListenerLimits>,
    exchange: &mut Exchange,
    request: Request<Incoming>,
) -> Result<Answer, Reason> {
    let (parts, incoming) = request.into_parts();
    let mut head = Head {
        method: parts.method,
        uri: parts.uri,
        version: parts.version,
        headers: parts.headers,
        client: conn.peer.ip(),
        scheme: Scheme::Http,
    };
    let found = headers::Found::of(&head.headers);
    headers::check(&head, &found, conn)?;
    let length = found.length(&head.headers);
    conn.head_accepted(length);
    // The HTTP/1 parser has counted already.
    if limits.is_some_and(|l| head.headers.len() > l.headers) {
        return Err(Reason::HeaderTooLarge);
    }
    let body_limit = limits.and_then(|l| l.body);
    // Before a byte of it is read.
    if let (Some(length), Some(limit)) = (length, body_limit)
        && length > limit
    {
        return Err(Reason::BodyTooLarge);
    }
    if conn.trusted
        && let Some(listener) = generation.config.listeners.get(conn.listener)
    {
        head.client = headers::client_address(&head.headers, conn, &listener.trusted_proxies);
    }
    headers::remove_hop_by_hop(&mut head.headers, &found);
    headers::set_forwarded(&mut head, conn, || u128::from(worker.random()) << 64 | u128::from(worker.random()));
    let (index, plan) = {
        let mut instances = worker.instances.borrow_mut();
        let random = || worker.random();
        let mut asker = Asker::new(&mut instances, exchange.began(), &random);
        decide::plan(generation, &mut asker, conn.listener, &mut head)?
    };
    exchange.routed(index);
    match plan {
        Plan::Reply(response) => Ok(Answer::Own(*response)),
        Plan::Forward(forward) => {
            let timeout = generation.routes.plans.get(index).and_then(|route| route.timeout);
            let deadline = timeout.map(|t| worker.deadlines.keep(exchange.began() + t, conn));
            let sending = attempt::forward(worker, generation, &forward, head, incoming, body_limit, exchange);
            let (head, incoming) = match attempt::within(deadline.as_ref(), sending).await {
                Err(Reason::Timeout) => {
                    exchange.blame();
                    return Err(Reason::Timeout);
                }
                outcome => outcome?,
            };
            Ok(Answer::Upstream(head, incoming, deadline))
        }
    }
}

/// Seconds since 1970, for what outlives the process: a sticky cookie's expiry.
fn unix_time() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The last word on a response's head: what concerns this connection.
fn finish_head(headers: &mut HeaderMap, version: Version, last: bool) {
    if version == Version::HTTP_2 {
        // HTTP/2 has frames for it, and forbids the header (RFC 9113 §8.2.2).
        headers.remove(header::CONNECTION);
    } else if last {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}
