//! Tries beside each other (`retry.hedge`): where a try brings no response in its time, another is begun at another endpoint,
//! and the first response that will do is the request's. Only for requests that may be repeated, and within the same
//! attempts and budget as tries after each other.

use std::{
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use http::response;
use witgate_core::{
    endpoint::{Endpoint, InFlight, Outcome},
    limits::Counted,
    request::Head,
};

use super::{connected::connected, decide::Forward, exchange::Exchange, logged::Logged, tries::Tries};
use crate::{
    generation::Cluster,
    upstream::{self, ConnectError, Incoming, RequestBody},
    worker::Worker,
};

/// What came of sending a request.
type Sent = Result<(response::Parts, Incoming), upstream::Failed>;

/// One request's tries beside each other.
pub struct Race<'f> {
    pub worker: &'f Rc<Worker>,
    pub cluster: &'f Cluster,
    pub forward: &'f Forward,
    pub head: &'f Head,
    pub body: &'f mut RequestBody,
    pub exchange: &'f mut Exchange,
    pub tries: &'f mut Tries,
}

/// A try that goes on.
struct Running<'f> {
    index: usize,
    began: Instant,
    /// None of the first in the list: that is in the exchange's accounts, and a timeout is charged to it.
    in_flight: Option<InFlight>,
    _counted: Option<Counted>,
    /// None where no connection was to be had, which is no endpoint's fault.
    sending: Pin<Box<dyn Future<Output = Option<Sent>> + 'f>>,
}

/// A try that is not repeated at its endpoint.
fn failed(error: upstream::Error) -> upstream::Failed {
    upstream::Failed::of(error)
}

impl<'f> Race<'f> {
    /// Waits for `first`, and begins another try whenever `time` has passed and there may be one more. What is left in
    /// `index`, `began` and the exchange's accounts is the try that the result is of.
    pub async fn run(
        mut self,
        first: impl Future<Output = Sent> + 'f,
        time: Duration,
        index: &mut usize,
        began: &mut Instant,
    ) -> Sent {
        self.tries.note(*index);
        let sending = Box::pin(async { Some(first.await) });
        let mut running = vec![Running { index: *index, began: *began, in_flight: None, _counted: None, sending }];
        let mut timer = pin!(tokio::time::sleep(time));
        loop {
            let ended = std::future::poll_fn(|cx| {
                for (n, running) in running.iter_mut().enumerate() {
                    if let Poll::Ready(sent) = running.sending.as_mut().poll(cx) {
                        return Poll::Ready(Some((n, sent)));
                    }
                }
                timer.as_mut().poll(cx).map(|()| None)
            });
            let Some((n, sent)) = ended.await else {
                timer.as_mut().reset(tokio::time::Instant::now() + time);
                running.extend(self.begin());
                continue;
            };
            let one = running.remove(n);
            let wins = match &sent {
                Some(Ok((parts, _))) => !self.tries.covers_response(Outcome::of_status(parts.status), self.body),
                Some(Err(_)) | None => false,
            };
            if wins || running.is_empty() {
                (*index, *began) = (one.index, one.began);
                self.settle(n, one.in_flight, sent.is_some(), running);
                return sent.unwrap_or(Err(failed(upstream::Error::Closed)));
            }
            self.lost(n, &one, sent);
            if n == 0 {
                self.exchange.account(running.first_mut().and_then(|first| first.in_flight.take()));
            }
        }
    }

    /// One more try, at an endpoint that was not tried, where there may be one.
    fn begin(&mut self) -> Option<Running<'f>> {
        let (index, counted) = self.tries.beside(self.worker, self.cluster, self.forward, self.body)?;
        let endpoint = self.cluster.endpoints.get(index)?;
        self.worker.cells().hedged.up();
        self.exchange.tell(Logged::trying);
        let (worker, cluster, head) = (self.worker, self.cluster, self.head);
        let body = self.body.take();
        let sending = Box::pin(async move {
            match connected(worker, cluster, endpoint, None, &mut None).await {
                // Where a kept connection was closed meanwhile, the others go on.
                Ok((channel, _)) => Some(channel.exchange(head, body).await.map_err(|f| failed(f.error))),
                Err(ConnectError::Full) => None,
                Err(error) => {
                    worker.cells().connect_failed.up();
                    tracing::debug!(endpoint = endpoint.address(), %error, "connect failed");
                    Some(Err(failed(upstream::Error::Io(std::io::Error::other(error)))))
                }
            }
        });
        let in_flight = Some(endpoint.begin());
        Some(Running { index, began: Instant::now(), in_flight, _counted: Some(counted), sending })
    }

    /// The accounts are those of the try that ended the race; of the others their endpoints learn that they are slow.
    fn settle(&mut self, n: usize, in_flight: Option<InFlight>, asked: bool, others: Vec<Running<'f>>) {
        let now = Instant::now();
        let slow = |endpoint: &Endpoint, one: &Running<'_>| {
            endpoint.given_up(now, now.saturating_duration_since(one.began));
        };
        for other in &others {
            match &other.in_flight {
                Some(in_flight) => slow(in_flight.endpoint(), other),
                None => self.exchange.endpoint().into_iter().for_each(|endpoint| slow(endpoint, other)),
            }
        }
        if n > 0 {
            self.exchange.account(in_flight);
        }
        if !asked {
            self.exchange.account(None);
        }
    }

    /// A try ended in vain while others go on.
    fn lost(&self, n: usize, one: &Running<'_>, sent: Option<Sent>) {
        let Some(sent) = sent else { return };
        let endpoint = if n == 0 { self.exchange.endpoint() } else { one.in_flight.as_ref().map(InFlight::endpoint) };
        let Some(endpoint) = endpoint else { return };
        let now = Instant::now();
        match sent {
            Ok((parts, _)) => {
                let latency = now.saturating_duration_since(one.began);
                self.exchange.tried_at(endpoint, now, Some(latency), Outcome::of_status(parts.status));
            }
            Err(_) => self.exchange.tried_at(endpoint, now, None, Outcome::Local),
        }
    }
}
