//! Whether a request that failed is tried again, where, and when. Sends nothing.

use std::time::{Duration, Instant};

use http::response;
use smallvec::SmallVec;
use witgate_core::{
    config::{Retry, RetryOn},
    endpoint::{Endpoint, Outcome},
    limits::{self, Counted, Traffic},
    request::Head,
};

use super::decide::Forward;
use crate::{
    generation::Cluster,
    reason::Reason,
    upstream::{self, Incoming, RequestBody},
    worker::Worker,
};

/// What came of a try.
pub enum Failed {
    /// No connection: nothing was sent.
    Connect,
    /// The endpoint says that it has done nothing with the request.
    Refused,
    /// No response, and whose fault that was.
    Sent(Reason),
    /// No response in the time of a try.
    Time,
    /// A response that the route would rather not have, and when its head came.
    Status(Box<(response::Parts, Incoming)>, Instant),
}

/// Times that a request goes to the same endpoint again because a connection that it shares has ended.
const MOST_BACK: u8 = 3;

/// The tries of one request.
pub struct Tries {
    retry: Retry,
    /// Whether the route says what is tried again. Where it does not, only another endpoint will do.
    configured: bool,
    /// Whether to send the request again changes nothing twice.
    idempotent: bool,
    /// Whether whatever it is can be sent again where an endpoint has done nothing with it.
    may_refuse: bool,
    /// Times that it went to the same endpoint again over another connection, because one had ended.
    came_back: u8,
    /// Tries that were begun after the first.
    made: u32,
    /// Indices of the endpoints that were tried.
    tried: SmallVec<[u32; 4]>,
    /// Counts in the cluster's budget.
    retrying: Option<Counted>,
}

impl Tries {
    /// Before the first. A body that may be sent again is kept, as far as it is little: where endpoints `may_refuse` what they
    /// have done nothing with, that is any.
    pub fn new(retry: Option<Retry>, head: &Head, body: &mut RequestBody, may_refuse: bool) -> Self {
        let idempotent = head.method.is_idempotent();
        if idempotent || may_refuse {
            body.keep();
        }
        Self {
            retry: retry.unwrap_or_default(),
            configured: retry.is_some(),
            idempotent,
            may_refuse,
            came_back: 0,
            made: 0,
            tried: SmallVec::new(),
            retrying: None,
        }
    }

    /// Time for one try; none: as long as the whole may take.
    pub fn time(&self) -> Option<Duration> {
        self.retry.per_try_timeout
    }

    /// Whether what was sent may be sent again: it changes nothing twice, and nothing of the body is gone.
    pub fn can_repeat(&self, body: &RequestBody) -> bool {
        self.idempotent && body.is_kept()
    }

    /// Whether it goes to the same endpoint again, over another connection, as that one had ended before the request came.
    pub fn comes_back(&mut self, failed: &upstream::Failed, body: &RequestBody) -> bool {
        // Connections that carry one request at a time are fewer each time; of others there is always one more.
        self.came_back = self.came_back.saturating_add(u8::from(self.may_refuse));
        self.came_back <= MOST_BACK && (self.can_repeat(body) || failed.refused && self.may_refuse && body.is_kept())
    }

    /// Whether a response with this outcome is one that may be tried again.
    pub fn covers_response(&self, outcome: Outcome, body: &RequestBody) -> bool {
        let RetryOn { server_error, gateway_error, .. } = self.retry.on;
        let named = match outcome {
            Outcome::GatewayError => gateway_error || server_error,
            Outcome::ServerError => server_error,
            Outcome::Success | Outcome::Local => false,
        };
        named && self.can_repeat(body)
    }

    fn covers(&self, failed: &Failed, body: &RequestBody) -> bool {
        match failed {
            Failed::Connect => self.retry.on.connect_failure,
            Failed::Refused => self.retry.on.refused_stream && self.may_refuse && body.is_kept(),
            Failed::Sent(reason) => self.retry.on.reset && *reason == Reason::UpstreamReset && self.can_repeat(body),
            Failed::Time => self.retry.on.reset && self.can_repeat(body),
            // Only those that are covered are failures.
            Failed::Status(..) => true,
        }
    }

    /// Whether tries whose time is over go on, beside others.
    pub fn hedges(&self) -> bool {
        self.retry.hedge && self.idempotent
    }

    /// Where to begin a try beside those that go on, which counts in the budget; none where there may be none now. All of
    /// the body must be here: two tries do not read from the client at once.
    pub fn beside(
        &mut self,
        worker: &Worker,
        cluster: &Cluster,
        forward: &Forward,
        body: &RequestBody,
    ) -> Option<(usize, Counted)> {
        if self.made >= self.retry.attempts || !self.retry.on.reset || !body.is_whole() {
            return None;
        }
        let (next, elsewhere) = self.next(worker, cluster, forward)?;
        if !elsewhere {
            return None;
        }
        let counted = within_budget(worker, cluster)?;
        self.note(next);
        self.made += 1;
        worker.cells().retried.up();
        Some((next, counted))
    }

    /// An endpoint was tried.
    pub fn note(&mut self, index: usize) {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        if !self.tried.contains(&index) {
            self.tried.push(index);
        }
    }

    /// The endpoint for another try, and whether it is one that was not tried: the picker comes back to the others where
    /// no such is eligible.
    fn next(&self, worker: &Worker, cluster: &Cluster, forward: &Forward) -> Option<(usize, bool)> {
        let now = Instant::now();
        let picker = cluster.picker(now);
        let next = picker.pick(&cluster.cursor, forward.hash, &self.tried, now, &mut || worker.random())?;
        Some((next, self.tried.iter().all(|tried| *tried as usize != next)))
    }

    /// Where to try again after a failure at the endpoint with this index, and after what time; none where it is not tried
    /// again.
    pub fn again(
        &mut self,
        worker: &Worker,
        cluster: &Cluster,
        forward: &Forward,
        at: usize,
        failed: &Failed,
        body: &RequestBody,
    ) -> Option<(usize, Duration)> {
        let nth = self.made;
        self.note(at);
        if nth >= self.retry.attempts || !self.covers(failed, body) {
            return None;
        }
        let (next, elsewhere) = self.next(worker, cluster, forward)?;
        if !elsewhere && !self.configured {
            return None;
        }
        // Who was not connected to was sent nothing: to go on to another multiplies no requests, and needs no budget.
        let free = matches!(failed, Failed::Connect) && elsewhere;
        // Each counts for itself: with many tries a request, an outage would be multiplied by that many.
        self.retrying = None;
        if free {
            cluster.retries.note_free();
        } else {
            self.retrying = Some(within_budget(worker, cluster)?);
        }
        self.made += 1;
        worker.cells().retried.up();
        Some((next, if free { Duration::ZERO } else { limits::back_off(&self.retry, nth, worker.random()) }))
    }
}

/// Counts a retry in the cluster's budget; none where that has no room.
fn within_budget(worker: &Worker, cluster: &Cluster) -> Option<Counted> {
    let traffic = || {
        let mut traffic = Traffic::default();
        for endpoint in &*cluster.endpoints {
            traffic.in_flight += u64::from(Endpoint::in_flight(endpoint));
            traffic.tries += endpoint.requests();
        }
        traffic
    };
    let counted = cluster.retries.begin(cluster.config.retry_budget, cluster.config.circuit.max_retries, traffic);
    if counted.is_none() {
        worker.cells().retries_refused.up();
    }
    counted
}
