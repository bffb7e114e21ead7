//! A planned request to a response's head: which endpoint, over which connection, and again elsewhere where that failed.

use std::{future::Future, pin::Pin, rc::Rc, task::Poll, time::Instant};

use http::{Version, response};
use witgate_core::{
    config::{Protocol, ScoreMode},
    endpoint::Outcome as Tried,
    request::Head,
};

use super::{
    Flight,
    ask::{self, Asker},
    connected::connected,
    decide::Forward,
    exchange::{Exchange, tell_unconnected},
    grpc, headers,
    hedge::Race,
    mirror,
    tries::{Failed, Tries},
};
use crate::{
    generation::{Affinity, Cluster, Scorer},
    reason::Reason,
    scores,
    upstream::{self, BodyFate, ConnectError, Full, Incoming},
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
type Response = (response::Parts, Incoming, Instant);

/// What comes of a request.
pub type Outcome = Result<Response, Reason>;

/// Sends a request to an endpoint and waits for the response's head; to another where that failed and may be tried again.
pub async fn forward(flight: &mut Flight) -> Outcome {
    let Flight { head, body, fate, forward, decided, exchange } = flight;
    let (worker, generation) = (Rc::clone(exchange.worker()), Rc::clone(exchange.generation()));
    let cluster = generation.clusters.get(forward.cluster).ok_or(Reason::NoHealthyEndpoint)?;
    if let Some(circuit) = &cluster.circuit {
        exchange.admitted(circuit.admit().map_err(|Full| Reason::CircuitOpen)?);
    }
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
    let delivery = exchange.delivery();
    if let Some(mirror) = delivery.and_then(|delivery| delivery.mirror)
        && !exchange.may_upgrade()
    {
        mirror::begin(&worker, &generation, mirror, head, body, forward.hash);
    }
    let may_refuse = cluster.config.protocol != Protocol::Http1;
    let mut tries = Tries::new(delivery.and_then(|delivery| delivery.retry), head, body, may_refuse);
    loop {
        let endpoint = cluster.endpoints.get(index).ok_or(Reason::NoHealthyEndpoint)?;
        exchange.trying(forward.cluster, endpoint.begin());
        let failed = match connected(&worker, cluster, endpoint, tries.time(), exchange.in_flight()).await {
            Err(error) => not_connected(exchange, &error)?,
            Ok((channel, reused)) => {
                let sending = channel.exchange(head, body.take());
                // A try with a time of its own is on the heap, as it is rare: what a request's future holds is moved with it.
                let sent = match tries.time() {
                    None => Some(sending.await),
                    Some(time) if tries.hedges() && !exchange.may_upgrade() => {
                        let race = Race { worker: &worker, cluster, forward, head, body, exchange, tries: &mut tries };
                        Some(Box::pin(race.run(sending, time, &mut index, &mut began)).await)
                    }
                    Some(time) => Box::pin(tokio::time::timeout(time, sending)).await.ok(),
                };
                match sent {
                    Some(Ok((parts, incoming))) => {
                        let now = Instant::now();
                        let outcome =
                            if exchange.is_call() { grpc::outcome(&parts) } else { Tried::of_status(parts.status) };
                        exchange.tried(now, Some(now.saturating_duration_since(began)), outcome);
                        if !tries.covers_response(outcome, body) {
                            return Ok(finished(parts, incoming, now, forward, exchange));
                        }
                        Failed::Status(Box::new((parts, incoming)), now)
                    }
                    // The endpoint closed a kept connection while the request was on its way (RFC 9112 §9.3.1): it goes to
                    // the same endpoint, over another connection.
                    Some(Err(failed)) if reused && failed.unanswered && tries.comes_back(&failed, body) => {
                        began = Instant::now();
                        continue;
                    }
                    Some(Err(failed)) => not_answered(exchange, &failed, fate.get()),
                    None => {
                        exchange.blame();
                        Failed::Time
                    }
                }
            }
        };
        let Some((next, wait)) = tries.again(&worker, cluster, forward, index, &failed, body) else {
            return given_up(failed, forward, exchange);
        };
        // With it, what still sends the body of a try that has failed: it would read on.
        drop(failed);
        if !wait.is_zero() {
            Box::pin(tokio::time::sleep(wait)).await;
        }
        (index, began) = (next, Instant::now());
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

/// The response that is sent on, of the endpoint that was tried last, with what the proxy changes in it. Its own cookies come
/// last: no rule is about them.
fn finished(
    mut parts: response::Parts,
    incoming: Incoming,
    now: Instant,
    forward: &Forward,
    by: &Exchange,
) -> Response {
    let Some(endpoint) = by.endpoint() else { return (parts, incoming, now) };
    if let Some(extras) = by.extras() {
        extras.response_headers.apply(&mut parts.headers);
    }
    if let Some(cookie) = &forward.set_cookie {
        parts.headers.append(http::header::SET_COOKIE, cookie.clone());
    }
    if forward.sticky != Some(endpoint.id())
        && let Some(route) = forward.issue_for.and_then(|index| by.generation().routes.plans.get(index))
        && let Some(Affinity::Cookie(cookie)) = route.affinity.as_deref()
    {
        parts.headers.append(http::header::SET_COOKIE, cookie.issue(endpoint.id(), super::unix_time()));
    }
    (parts, incoming, now)
}

/// What comes of a failure that is not tried again.
fn given_up(failed: Failed, forward: &Forward, exchange: &Exchange) -> Outcome {
    match failed {
        Failed::Connect => Err(Reason::ConnectFailure),
        Failed::Time => Err(Reason::Timeout),
        Failed::Sent(reason) => Err(reason),
        Failed::Refused => Err(Reason::UpstreamReset),
        Failed::Status(response, now) => {
            let (parts, incoming) = *response;
            Ok(finished(parts, incoming, now, forward, exchange))
        }
    }
}

/// Settles with the endpoint that no connection was made; where the cluster is full, that is not its fault.
fn not_connected(exchange: &Exchange, error: &ConnectError) -> Result<Failed, Reason> {
    if matches!(error, ConnectError::Full) {
        return Err(Reason::CircuitOpen);
    }
    exchange.worker().cells().connect_failed.up();
    exchange.tried(Instant::now(), None, Tried::Local);
    if let (Some(cluster), Some(endpoint)) = (exchange.cluster(), exchange.endpoint()) {
        tell_unconnected(exchange.worker(), cluster, endpoint, error);
    }
    Ok(Failed::Connect)
}

/// Settles with the endpoint that no response came, where that is its fault.
fn not_answered(exchange: &Exchange, failed: &upstream::Failed, fate: BodyFate) -> Failed {
    let error = &failed.error;
    let reason = match (fate, error) {
        (BodyFate::TooLarge, _) => Reason::BodyTooLarge,
        (BodyFate::TooSlow, _) => Reason::BodyTooSlow,
        (BodyFate::Malformed, _) => Reason::BadRequest,
        // The client broke off, or its body was shorter or longer than it said.
        (BodyFate::Broken, _) | (_, upstream::Error::Body) => Reason::ClientAborted,
        (_, upstream::Error::Malformed(_)) => Reason::UpstreamMalformed,
        (_, upstream::Error::Unsendable) => Reason::BadRequest,
        (_, upstream::Error::Io(_) | upstream::Error::Closed | upstream::Error::Reset(_)) => Reason::UpstreamReset,
    };
    if matches!(reason, Reason::UpstreamMalformed | Reason::UpstreamReset) {
        exchange.tried(Instant::now(), None, Tried::Local);
        tracing::debug!(%error, "no response");
    }
    if failed.refused && reason == Reason::UpstreamReset { Failed::Refused } else { Failed::Sent(reason) }
}
