//! A request from its head to its response: all control flow on one screen, [`handle`]. What is decided is decided by
//! `decide`, what plugins are asked is asked by `ask`, what is sent is sent by `attempt`.

pub mod ask;
mod attempt;
mod body;
mod connect;
mod connected;
pub mod decide;
mod exchange;
mod grpc;
pub mod headers;
mod hedge;
mod logged;
mod mirror;
mod pace;
mod reply;
mod traced;
mod tries;
mod upgrade;
mod whole;

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};

use http::{Method, Request, Response, StatusCode, Version, request};
use hyper::body::Incoming;
use witgate_core::{config, request::Head};

pub use attempt::choose;
pub use body::Body;
pub use exchange::unread;
pub use headers::{expects_to_continue, host_is_sound, is_chunked_only, is_trusted, tells_boundless_length};
pub use reply::raw_response;
pub use whole::{Opened, open};

use crate::{
    reason::Reason,
    upstream::{BodyFate, Fate, Pace, RequestBody},
    worker::{Worker, conn::Conn, deadlines::Deadline},
};
use ask::Asker;
use decide::{Forward, Plan};
use exchange::Exchange;
use logged::Logged;
use pace::BodyPace;
use traced::Traced;

/// A request about which everything is decided: the future of its response. Small, because it is moved from hand to hand,
/// and every connection keeps room for one.
pub enum Begun {
    /// It was answered by the proxy; none once the answer was taken.
    Answered(Option<Box<Response<Body>>>),
    /// It goes to an endpoint.
    Forwarded(Pin<Box<dyn Future<Output = Answer>>>),
}

/// As hyper's server wants it.
type Answer = Result<Response<Body>, Infallible>;

impl Future for Begun {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match self.get_mut() {
            Self::Answered(response) => response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(*response))),
            Self::Forwarded(response) => response.as_mut().poll(cx),
        }
    }
}

/// A request on its way. The head is on the heap, because plugins are lent it.
struct Flight {
    head: Box<Head>,
    body: RequestBody,
    fate: Fate,
    forward: Forward,
    /// When that was decided.
    decided: Instant,
    exchange: Exchange,
}

/// Begins to answer one request. Decides all that is to be decided at once, by one generation, and never looks again; what
/// is left is to wait for an endpoint.
pub fn handle(worker: &Rc<Worker>, conn: &Rc<Conn>, request: Request<Incoming>) -> Begun {
    let mut exchange = Exchange::begin(worker, conn, request.version());
    match plan(worker, conn, &mut exchange, request) {
        Ok(Planned::Forward { head, body, fate, forward, decided, deadline }) => {
            let mut flight = Flight { head, body, fate, forward, decided, exchange };
            if flight.exchange.is_connect() {
                return Begun::Forwarded(Box::pin(async move {
                    let opened = attempt::within(deadline.as_ref(), pin!(connect::open(&mut flight))).await;
                    Ok(match opened {
                        Ok(opened) => upgrade::tunnel(opened, flight.forward.cluster, flight.exchange),
                        Err(reason) => refused(flight.exchange, reason),
                    })
                }));
            }
            // A block, not a function: a function's future has room for its arguments twice.
            Begun::Forwarded(Box::pin(async move {
                let outcome = attempt::within(deadline.as_ref(), pin!(attempt::forward(&mut flight))).await;
                if flight.fate.get() != BodyFate::Whole {
                    flight.exchange.answered_early();
                }
                Ok(concluded(outcome, flight.exchange, deadline))
            }))
        }
        Ok(Planned::Reply(response)) => Begun::Answered(Some(Box::new(answered(exchange, response)))),
        Err(reason) => Begun::Answered(Some(Box::new(refused(exchange, reason)))),
    }
}

/// The response to what came of a flight.
fn concluded(outcome: attempt::Outcome, mut exchange: Exchange, deadline: Option<Deadline>) -> Response<Body> {
    match outcome {
        Ok((head, incoming, now)) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
            upgrade::switch(head, incoming, exchange, now)
        }
        // To a client that asked by CONNECT, any success would be that of the switch.
        Ok((head, ..)) if exchange.is_extended() && head.status.is_success() => {
            refused(exchange, Reason::UpstreamMalformed)
        }
        Ok((mut head, incoming, now)) => {
            exchange.answered(head.status, &mut head.headers);
            Response::from_parts(head, Body::upstream(incoming, exchange, deadline, now))
        }
        Err(reason) => {
            if reason == Reason::Timeout {
                exchange.overdue();
            }
            refused(exchange, reason)
        }
    }
}

/// The proxy's own answer, which ends the exchange.
fn answered(mut exchange: Exchange, mut response: Response<Body>) -> Response<Body> {
    exchange.tell(|logged| logged.answered(&response));
    exchange.answered(response.status(), response.headers_mut());
    exchange.complete(Instant::now(), None);
    response
}

fn refused(mut exchange: Exchange, reason: Reason) -> Response<Body> {
    exchange.refused(reason);
    let is_call = exchange.is_call();
    let mut response = answered(exchange, reply::response(reason));
    if is_call {
        grpc::end(&mut response, reason);
    }
    response
}

/// What is to be done with a request.
enum Planned {
    Reply(Response<Body>),
    Forward {
        head: Box<Head>,
        body: RequestBody,
        fate: Fate,
        forward: Forward,
        decided: Instant,
        deadline: Option<Deadline>,
    },
}

fn plan(
    worker: &Rc<Worker>,
    conn: &Rc<Conn>,
    exchange: &mut Exchange,
    mut request: Request<Incoming>,
) -> Result<Planned, Reason> {
    if *request.method() == Method::CONNECT {
        match connect::is_plain(&request) {
            true => connect::begin(&mut request, exchange)?,
            false => exchange.extended(upgrade::extended(&mut request, worker)),
        }
    }
    let generation = Rc::clone(exchange.generation());
    let index = generation.listener_index(conn.socket);
    let listener = index.and_then(|index| generation.config.listeners.get(index));
    let (parts, incoming) = request.into_parts();
    if generation.access_log.is_some() || generation.traces.is_some() {
        exchange.log(Logged::of(&parts));
    }
    if parts.version == Version::HTTP_2 && grpc::is_call(&parts.headers) {
        exchange.call();
    }
    let (mut head, upgrade) = accept(worker, conn, listener, parts)?;
    exchange.tell(|logged| logged.accepted(&head, conn));
    if let Some(traces) = &generation.traces {
        let traced = Traced::begin(traces, &mut head.headers, conn.trusted(), || worker.random());
        exchange.tell(|logged| logged.traced(traced));
    }
    // Only now, so that one reading serves the request, the first question and, by way of its end, the next.
    let now = Instant::now();
    exchange.accepted(now);
    if generation.config.runtime.overload_delay.is_some_and(|most| worker.deadlines.behind() > most) {
        return Err(Reason::Overloaded);
    }
    let route = index.and_then(|index| generation.routes.table.find(index, &head)).ok_or(Reason::NoRoute)?;
    exchange.routed(route);
    if exchange.is_connect() && !upgrade::has(generation.config.routes.get(route), connect::WORD.as_bytes()) {
        return Err(Reason::MethodNotAllowed);
    }
    if upgrade {
        upgrade::admit(exchange, &mut head.headers, generation.config.routes.get(route))?;
    }
    // Before any plugin is asked: who is over the limit costs no more than this.
    if let Some(limiter) = exchange.extras().and_then(|extras| extras.limiter.as_deref())
        && let Err(wait) = limiter.take(&head, now)
    {
        if exchange.is_call() {
            return Err(Reason::RateLimited);
        }
        exchange.refused(Reason::RateLimited);
        return Ok(Planned::Reply(reply::rate_limited(wait)));
    }
    let (plan, decided) = {
        let mut instances = worker.instances.borrow_mut();
        let random = || worker.random();
        let mut asker = Asker::new(&mut instances, now, &random);
        (decide::plan(&generation, &mut asker, route, &mut head)?, asker.now())
    };
    match plan {
        Plan::Reply(response) => Ok(Planned::Reply(*response)),
        Plan::Forward(forward) => {
            let limits = listener.map(|listener| &listener.limits);
            let rate = limits.and_then(|limits| limits.body_rate);
            let pace = || rate.map(|rate| BodyPace::new(rate, &worker.deadlines) as Box<dyn Pace>);
            let (body, fate) = RequestBody::new(incoming, limits.and_then(|limits| limits.body), pace);
            exchange.tell(|logged| logged.forwarded(forward.cluster, &fate));
            let timeout = generation.routes.plans.get(route).and_then(|route| route.timeout);
            let timeout = exchange.until(timeout, &head.headers);
            let deadline = timeout.map(|t| worker.deadlines.keep(now + t, conn));
            Ok(Planned::Forward { head, body, fate, forward, decided, deadline })
        }
    }
}

/// Checks a head against the protocol and the listener's limits, and makes it one that can be sent on. Tells whether it asks
/// for another protocol.
fn accept(
    worker: &Worker,
    conn: &Conn,
    listener: Option<&config::Listener>,
    parts: request::Parts,
) -> Result<(Box<Head>, bool), Reason> {
    let mut head = Box::new(Head {
        method: parts.method,
        uri: parts.uri,
        version: parts.version,
        headers: parts.headers,
        client: conn.peer().ip(),
        scheme: conn.scheme(),
    });
    let found = headers::Found::of(&head.headers);
    let checked = headers::check(&head, &found, conn);
    let length = found.length(&head.headers);
    // Also where it is refused: another may follow.
    conn.head_accepted(length, found.is_chunked());
    checked?;
    if let Some(listener) = listener {
        // The HTTP/1 parser has counted already.
        if head.headers.len() > listener.limits.headers {
            return Err(Reason::HeaderTooLarge);
        }
        // Before a byte of it is read.
        if listener.limits.body.is_some_and(|limit| length.is_some_and(|length| length > limit)) {
            return Err(Reason::BodyTooLarge);
        }
        if conn.trusted() {
            head.client = headers::client_address(&head.headers, conn, &listener.trusted_proxies);
        }
    }
    let upgrade = headers::upgrade(&head, &found);
    let upgrades = upgrade.is_some();
    headers::remove_hop_by_hop(&mut head.headers, &found);
    if let Some(protocol) = upgrade {
        headers::keep_upgrade(&mut head.headers, protocol);
    }
    headers::set_forwarded(&mut head, &found, conn, || u128::from(worker.random()) << 64 | u128::from(worker.random()));
    Ok((head, upgrades))
}

/// Seconds since 1970, for what outlives the process: a sticky cookie's expiry.
fn unix_time() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}
