//! Copies of requests to another cluster (`mirror` of a route), whose answers are read and thrown away. What becomes of a copy
//! must never be seen in what becomes of the request: it is a task of its own, and nothing waits for it.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use http::{HeaderName, HeaderValue};
use witgate_core::{endpoint::Outcome, request::Head, split::is_sampled};

use super::{connected::connected, exchange::record};
use crate::{
    generation::{Cluster, Held, Mirror},
    upstream::{Behind, ConnectError, Error, Incoming, RequestBody},
    worker::Worker,
};

/// Copies of one worker that are on their way at once. More are dropped: a mirror that is slow is not worth more memory.
const MOST: usize = 64;

/// By which an endpoint can tell a copy.
const MARK: HeaderName = HeaderName::from_static("x-witgate-mirror");

/// What became of a copy.
enum Became {
    /// It was answered, whatever the answer was.
    Sent,
    /// No whole answer.
    Failed,
    /// It was not sent, or not to its end: too many at once, no endpoint, a limit, or its body fell behind.
    Dropped,
}

/// A copy on its way, counted until this is dropped.
struct Copying(Rc<Worker>);

impl Drop for Copying {
    fn drop(&mut self) {
        self.0.mirrors.set(self.0.mirrors.get() - 1);
    }
}

/// Begins to send a copy of the request, where it is one of those that are mirrored.
pub fn begin(
    worker: &Rc<Worker>,
    generation: &Rc<Held>,
    mirror: Mirror,
    head: &Head,
    body: &mut RequestBody,
    hash: Option<u64>,
) {
    if !is_sampled(mirror.share, worker.random()) {
        return;
    }
    if worker.mirrors.get() >= MOST {
        worker.cells().mirrors_dropped.up();
        return;
    }
    worker.mirrors.set(worker.mirrors.get() + 1);
    let copying = Copying(Rc::clone(worker));
    let (generation, mut head, copy) = (Rc::clone(generation), Box::new(head.clone()), body.copy());
    head.headers.insert(MARK, HeaderValue::from_static("1"));
    tokio::task::spawn_local(async move {
        let worker = &copying.0;
        let became = match generation.clusters.get(mirror.cluster) {
            Some(cluster) => send(worker, cluster, &head, copy, hash, mirror.timeout).await,
            None => Became::Dropped,
        };
        let cells = worker.cells();
        match became {
            Became::Sent => cells.mirrors_sent.up(),
            Became::Failed => cells.mirrors_failed.up(),
            Became::Dropped => cells.mirrors_dropped.up(),
        }
    });
}

/// One try at one endpoint: a copy is not worth a second one.
async fn send(
    worker: &Rc<Worker>,
    cluster: &Cluster,
    head: &Head,
    (body, behind): (RequestBody, Behind),
    hash: Option<u64>,
    timeout: Duration,
) -> Became {
    let began = Instant::now();
    let picked = cluster.picker(began).pick(&cluster.cursor, hash, &[], began, &mut || worker.random());
    let Some(endpoint) = picked.and_then(|index| cluster.endpoints.get(index)) else { return Became::Dropped };
    let Ok(_admitted) = cluster.circuit.as_ref().map(|circuit| circuit.admit()).transpose() else {
        return Became::Dropped;
    };
    let mut in_flight = Some(endpoint.begin());
    let settle = |latency, outcome| record(worker, Some(cluster), endpoint, Instant::now(), latency, outcome);
    let mut exchanged = pin!(async {
        let channel = match connected(worker, cluster, endpoint, None, &mut in_flight).await {
            Ok((channel, _)) => channel,
            Err(ConnectError::Full) => return Became::Dropped,
            Err(error) => {
                worker.cells().connect_failed.up();
                tracing::debug!(endpoint = endpoint.address(), %error, "mirror: connect failed");
                settle(None, Outcome::Local);
                return Became::Failed;
            }
        };
        match channel.exchange(head, body).await {
            Ok((parts, incoming)) => {
                settle(Some(began.elapsed()), Outcome::of_status(parts.status));
                let became = read(worker, incoming).await;
                if matches!(became, Became::Failed) {
                    settle(None, Outcome::Local);
                }
                became
            }
            // The copy's body broke off, which is not the endpoint's fault.
            Err(failed) if matches!(failed.error, Error::Body) => Became::Dropped,
            Err(failed) => {
                tracing::debug!(endpoint = endpoint.address(), error = %failed.error, "mirror: no response");
                settle(None, Outcome::Local);
                Became::Failed
            }
        }
    });
    // Also while the mirror takes nothing, when nobody asks for more of the body.
    let unless_behind = poll_fn(|cx| match behind.poll_broken(cx) {
        true => Poll::Ready(Became::Dropped),
        false => exchanged.as_mut().poll(cx),
    });
    match tokio::time::timeout(timeout, unless_behind).await {
        Ok(became) => became,
        Err(_) => {
            settle(None, Outcome::Local);
            Became::Failed
        }
    }
}

/// Reads a response to its end, after which its connection can carry another request.
async fn read(worker: &Worker, mut incoming: Incoming) -> Became {
    while let Some(frame) = poll_fn(|cx| incoming.poll_frame(cx)).await {
        if frame.is_err() {
            return Became::Failed;
        }
    }
    if let Some(connection) = incoming.into_idle(Instant::now()) {
        worker.upstreams.give_back(connection);
    }
    Became::Sent
}
