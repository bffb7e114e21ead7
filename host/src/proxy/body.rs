//! Bodies on their way through: streamed frame by frame, never buffered whole. What must happen when a response ends
//! rides on its body and happens exactly once, whether the body was read to its end, failed or was dropped.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use super::exchange::Exchange;
use crate::{
    reason::Reason,
    upstream::{self, BodyError, Incoming},
    worker::deadlines::Deadline,
};
use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};

/// A response's body.
pub enum Body {
    /// Made here; none once it was sent.
    Full(Option<Bytes>),
    /// An endpoint's, as it comes.
    Upstream(Box<Upstream>),
}

/// An endpoint's response body.
pub struct Upstream {
    /// None once its connection went back to the pool.
    incoming: Option<Incoming>,
    /// What happens at the end.
    exchange: Exchange,
    deadline: Option<Deadline>,
}

impl Body {
    /// A body that is known whole.
    pub fn full(bytes: Bytes) -> Self {
        Self::Full((!bytes.is_empty()).then_some(bytes))
    }

    /// An endpoint's body, with what happens at its end. A short one mostly came with its head, `now`, and has ended.
    pub fn upstream(mut incoming: Incoming, mut exchange: Exchange, deadline: Option<Deadline>, now: Instant) -> Self {
        if let Some(whole) = incoming.read_whole() {
            exchange.tell(|logged| logged.sent(whole.len()));
            exchange.complete(now, incoming.into_idle(now));
            return Self::full(whole);
        }
        Self::Upstream(Box::new(Upstream { incoming: Some(incoming), exchange, deadline }))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Upstream(upstream) => upstream.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_none(),
            Self::Upstream(upstream) => upstream.incoming.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.remaining() as u64)),
            Self::Upstream(upstream) => {
                upstream.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
            }
        }
    }
}

/// Where all was said that was to be said, nobody asks whether that is the end.
impl Drop for Upstream {
    fn drop(&mut self) {
        if self.incoming.as_ref().is_some_and(Incoming::has_said_all) {
            self.end();
        }
    }
}

impl Upstream {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let Poll::Ready(frame) = incoming.poll_frame(cx) else {
            if !self.deadline.as_ref().is_some_and(|deadline| deadline.poll_passed(cx)) {
                return Poll::Pending;
            }
            self.cut_short(Reason::Timeout);
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        };
        if let Some(Ok(frame)) = &frame {
            self.exchange.tell(|logged| logged.sent(frame.data_ref().map_or(0, Bytes::len)));
        }
        match &frame {
            // Not the endpoint's fault.
            Some(Err(BodyError::Upstream(upstream::Error::Body))) => {
                self.deadline = None;
                self.incoming = None;
                self.exchange.aborted();
            }
            Some(Err(BodyError::Upstream(upstream::Error::Malformed(_)))) => self.cut_short(Reason::UpstreamMalformed),
            Some(Err(_)) => self.cut_short(Reason::UpstreamReset),
            // The last frame may be all that is asked for: where the length is known, hyper does not poll again.
            Some(Ok(_)) if !incoming.is_end_stream() => {}
            Some(Ok(_)) | None => self.end(),
        }
        Poll::Ready(frame)
    }

    fn end(&mut self) {
        self.deadline = None;
        let now = Instant::now();
        self.exchange.complete(now, self.incoming.take().and_then(|incoming| incoming.into_idle(now)));
    }

    fn cut_short(&mut self, reason: Reason) {
        self.deadline = None;
        self.incoming = None;
        self.exchange.cut_short(reason);
    }
}
