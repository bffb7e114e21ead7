//! Bodies on their way through: streamed frame by frame, never buffered whole. What must happen when a response ends
//! rides on its body and happens exactly once, whether the body was read to its end, failed or was dropped.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::exchange::Exchange;
use crate::{upstream::BodyError, worker::deadlines::Deadline};

/// A response's body.
pub enum Body {
    /// Made here; none once it was sent.
    Full(Option<Bytes>),
    /// An endpoint's, as it comes.
    Upstream(Box<Upstream>),
}

/// An endpoint's response body.
pub struct Upstream {
    incoming: Incoming,
    /// What happens at the end.
    exchange: Exchange,
    deadline: Option<Deadline>,
    ended: bool,
}

impl Body {
    /// A body that is known whole.
    pub fn full(bytes: Bytes) -> Self {
        Self::Full((!bytes.is_empty()).then_some(bytes))
    }

    /// An endpoint's body, with what happens at its end.
    pub fn upstream(incoming: Incoming, mut exchange: Exchange, deadline: Option<Deadline>) -> Self {
        let ended = incoming.is_end_stream();
        if ended {
            exchange.complete();
        }
        Self::Upstream(Box::new(Upstream { incoming, exchange, deadline, ended }))
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
            Self::Upstream(upstream) => upstream.ended || upstream.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.remaining() as u64)),
            Self::Upstream(upstream) => upstream.incoming.size_hint(),
        }
    }
}

impl Upstream {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            if !self.deadline.as_ref().is_some_and(|deadline| deadline.poll_passed(cx)) {
                return Poll::Pending;
            }
            self.cut_short();
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        };
        let frame = frame.map(|result| result.map_err(BodyError::Hyper));
        match &frame {
            // The last frame may be all that is asked for: where the length is known, hyper does not poll again.
            Some(Ok(_)) if self.incoming.is_end_stream() => self.end(),
            None => self.end(),
            Some(Err(_)) => self.cut_short(),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn end(&mut self) {
        self.ended = true;
        self.deadline = None;
        self.exchange.complete();
    }

    fn cut_short(&mut self) {
        self.ended = true;
        self.deadline = None;
        self.exchange.cut_short();
    }
}
