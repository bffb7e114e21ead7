//! A planned request to a response's head: which endpoint, over which connection, and again elsewhere where that failed.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use http::{Version, response};
use witgate_core::{
    config::ScoreMode,
    endpoint::{Endpoint, Outcome as Tried},
    request::Head,
};

use super::{
    Flight,
    ask::{self, Asker},
    decide::Forward,
    exchange::Exchange,
    headers,
    tries::{Failed, Tries},
};
use crate::{
    generation::{Affinity, Cluster, Scorer},
    reason::Reason,
    scores,
    upstream::{self, BodyFate, ConnectError, Connection, Full, Granted, Incoming},
    worker::deadlines::Deadline,
};

/// Waits for `sending` no longer than `deadline`.
pub async fn within<T>(
    deadline: Option<&Deadline>,
    mut sending: Pin<&mut impl Future<Output = Result<T, Reason>>>,
) -> Result<T, Reason> {
    std::future::poll_fn(|cx| match sending.as_mut().poll(cx) {
        Poll::Pending if deadline.is_some_and(|deadline| deadline.poll_passed(cx)) => Poll::Ready(Err(Reason::Timeout)),
        polled => polled,
    })
    .await
}

/// The response's head, its body, and when the head came.
pub type Outcome = Result<(response::Parts, Incoming, Instant), Reason>;

/// Sends a request to an endpoint and waits for the response's head; to another where that failed and may be tried again.
pub async fn forward(flight: &mut Flight) -> Outcome {
    let Flight { head, body, fate, forward, decided, exchange } = flight;
    let (worker, generation) = (Rc::clone(exchange.worker()), Rc::clone(exchange.generation()));
    let cluster = generation.clusters.get(forward.cluster).ok_or(Reason::NoHealthyEndpoint)?;
    if let Some(circuit) = &cluster.circuit {
        exchange.admitted(circuit.admit().map_err(|Full| Reason::CircuitOpen)?);
    }
    let mut tries = Tries::new(exchange.retry(), head, body);
    // A stream of HTTP/2 is a task of its own, which had to wait for its turn.
    let now = if head.version == Version::HTTP_2 { Instant::now() } else { *decided };
    let (mut index, mut began) = {
        let mut instances = worker.instances.borrow_mut();
        let random = || worker.random();
        let mut asker = Asker::new(&mut instances, now, &random);
        (choose(cluster, forward, &mut asker, head)?, asker.now())
    };
    headers::to_origin(head, cluster.endpoints.get(index));
    // Last, so that plugins, splits and affinity see what the client asked.
    if let Some(rewrite) = exchange.extras().and_then(|extras| extras.rewrite.as_ref()) {
        rewrite.apply(head).map_err(|_| Reason::UriTooLong)?;
    }
    loop {
        let endpoint = cluster.endpoints.get(index).ok_or(Reason::NoHealthyEndpoint)?;
        exchange.trying(forward.cluster, endpoint.begin());
        let failed = match connection(exchange, cluster, endpoint, tries.time()).await {
            Err(ConnectError::Full) => return Err(Reason::CircuitOpen),
            Err(error) => {
                worker.cells().connect_failed.up();
                began = Instant::now();
                exchange.tried(began, None, Tried::Local);
                tracing::debug!(cluster = cluster.config.name, endpoint = endpoint.address(), %error, "connect failed");
                Failed::Connect
            }
            Ok((connection, reused)) => {
                let sending = connection.exchange(head, body.take());
                let sent = match tries.time() {
                    None => Some(sending.await),
                    // On the heap, as it is rare: what a request's future holds is moved with it.
                    Some(time) => Box::pin(tokio::time::timeout(time, sending)).await.ok(),
                };
                match sent {
                    Some(Ok((mut parts, incoming))) => {
                        let now = Instant::now();
                        let outcome = Tried::of_status(parts.status);
                        exchange.tried(now, Some(now.saturating_duration_since(began)), outcome);
                        if !tries.covers_response(outcome, body) {
                            finish(&mut parts, exchange, forward, endpoint);
                            return Ok((parts, incoming, now));
                        }
                        Failed::Status(Box::new((parts, incoming)), now)
                    }
                    // The endpoint closed a kept connection while the request was on its way (RFC 9112 §9.3.1): it goes to
                    // the same endpoint, over another connection.
                    Some(Err(failed)) if reused && failed.unanswered && tries.can_repeat(body) => {
                        began = Instant::now();
                        continue;
                    }
                    Some(Err(failed)) => Failed::Sent(failed.error),
                    None => {
                        exchange.tried(Instant::now(), None, Tried::Local);
                        Failed::Time
                    }
                }
            }
        };
        match tries.again(&worker, cluster, forward, index, &failed, body) {
            Some((next, wait)) => {
                if !wait.is_zero() {
                    Box::pin(tokio::time::sleep(wait)).await;
                }
                (index, began) = (next, Instant::now());
            }
            None => match failed {
                Failed::Connect => return Err(Reason::ConnectFailure),
                Failed::Time => return Err(Reason::Timeout),
                Failed::Sent(error) => return Err(classify(&error, fate.get(), exchange)),
                Failed::Status(response, now) => {
                    let (mut parts, incoming) = *response;
                    finish(&mut parts, exchange, forward, endpoint);
                    return Ok((parts, incoming, now));
                }
            },
        }
    }
}

/// The endpoint for a planned request. Where a plugin scores candidates, it is asked.
pub fn choose(
    cluster: &Cluster,
    forward: &Forward,
    asker: &mut Asker<'_>,
    head: &mut Box<Head>,
) -> Result<usize, Reason> {
    let now = asker.now();
    let picker = cluster.picker(now);
    if let Some(index) = forward.sticky.and_then(|id| picker.by_id(id)) {
        return Ok(index);
    }
    if let (None, Some(Scorer { plugin, mode: ScoreMode::Pick { choices }, salt, .. })) =
        (forward.hash, &cluster.scorer)
    {
        let candidates = picker.draw(*choices, &mut || asker.random());
        if candidates.len() > 1 {
            let columns = scores::columns(*salt, candidates.iter().map(|i| &cluster.endpoints[*i as usize]), now);
            if let Some(given) = ask::picker(asker, plugin, head, &columns)?
                && let Some(best) = scores::best(&candidates, &given, picker, asker.random())
            {
                return Ok(best);
            }
        }
    }
    picker.pick(&cluster.cursor, forward.hash, &[], now, &mut || asker.random()).ok_or(Reason::NoHealthyEndpoint)
}

/// A connection to the endpoint, and whether it was there before.
async fn connection(
    exchange: &mut Exchange,
    cluster: &Cluster,
    endpoint: &Arc<Endpoint>,
    time: Option<Duration>,
) -> Result<(Box<Connection>, bool), ConnectError> {
    let worker = exchange.worker();
    if let Some(connection) = worker.upstreams.take(endpoint) {
        worker.cells().reused.up();
        return Ok((connection, true));
    }
    // On the heap, as it is large and rare: what a request's future holds is moved with it.
    Box::pin(make_connection(exchange, cluster, endpoint, time)).await
}

async fn make_connection(
    exchange: &mut Exchange,
    cluster: &Cluster,
    endpoint: &Arc<Endpoint>,
    time: Option<Duration>,
) -> Result<(Box<Connection>, bool), ConnectError> {
    let worker = Rc::clone(exchange.worker());
    let timeout = cluster.config.connect_timeout.min(time.unwrap_or(Duration::MAX));
    let mut place = None;
    if let Some(circuit) = cluster.circuit.as_ref().filter(|circuit| circuit.limits_connections()) {
        let aside = exchange.set_aside();
        let ask = || worker.live.shared().note_crowded();
        match worker.upstreams.grant(circuit, endpoint, timeout, ask).await? {
            Granted::Connection(connection) => {
                exchange.take_up(aside);
                worker.cells().reused.up();
                return Ok((connection, true));
            }
            Granted::Place(granted) => place = Some(granted),
        }
        exchange.take_up(aside);
    }
    let connection = upstream::connect(endpoint, timeout, &cluster.config.pool, place).await?;
    worker.cells().connected.up();
    Ok((connection, false))
}

/// What the proxy changes in an endpoint's response. Its own cookies come last: no rule is about them.
fn finish(parts: &mut response::Parts, exchange: &Exchange, forward: &Forward, endpoint: &Endpoint) {
    if let Some(extras) = exchange.extras() {
        extras.response_headers.apply(&mut parts.headers);
    }
    if let Some(cookie) = &forward.set_cookie {
        parts.headers.append(http::header::SET_COOKIE, cookie.clone());
    }
    if forward.sticky != Some(endpoint.id())
        && let Some(route) = forward.issue_for.and_then(|index| exchange.generation().routes.plans.get(index))
        && let Some(Affinity::Cookie(cookie)) = route.affinity.as_deref()
    {
        parts.headers.append(http::header::SET_COOKIE, cookie.issue(endpoint.id(), super::unix_time()));
    }
}

/// Whose fault it was that no response came.
fn classify(error: &upstream::Error, fate: BodyFate, exchange: &Exchange) -> Reason {
    match fate {
        BodyFate::TooLarge => return Reason::BodyTooLarge,
        BodyFate::Malformed => return Reason::BadRequest,
        BodyFate::Broken => return Reason::ClientAborted,
        BodyFate::Fine => {}
    }
    exchange.tried(Instant::now(), None, Tried::Local);
    tracing::debug!(%error, "no response");
    match error {
        // The client's body was shorter or longer than it said.
        upstream::Error::Body => Reason::ClientAborted,
        upstream::Error::Malformed(_) => Reason::UpstreamMalformed,
        upstream::Error::Io(_) | upstream::Error::Closed => Reason::UpstreamReset,
    }
}
