//! What carries one request to an endpoint, whichever protocol that speaks.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use futures_util::future::Either;
use http::response;
use http_body::{Frame, SizeHint};
use witgate_core::request::Head;

use super::{BodyError, Failed, RequestBody, h1, h2};

/// A way for one request.
pub enum Channel {
    /// A connection for it alone.
    Http1(Box<h1::Connection>),
    /// A stream among others.
    Http2(h2::Slot),
}

/// What comes of sending a request.
pub type Sent = Result<(response::Parts, Incoming), Failed>;

impl Channel {
    /// Sends a request and waits for the response's head.
    pub fn exchange(self, sent: &Head, body: RequestBody) -> impl Future<Output = Sent> {
        match self {
            Self::Http1(connection) => Either::Left(connection.exchange(sent, body)),
            // On the heap: what a request's future holds is moved with it, and most go over HTTP/1.1.
            Self::Http2(slot) => {
                let sent: Pin<Box<dyn Future<Output = Sent> + '_>> = Box::pin(async move {
                    let (parts, incoming) = h2::exchange(slot, sent, body).await?;
                    Ok((parts, Incoming::Http2(Box::new(incoming))))
                });
                Either::Right(sent)
            }
        }
    }
}

/// A response's body, with what it comes over.
pub enum Incoming {
    /// Over a connection that carries nothing else meanwhile.
    Http1(h1::Incoming),
    /// As a stream among others.
    Http2(Box<h2::Incoming>),
}

impl Incoming {
    /// The connection, where it can carry another request now and could carry none before.
    pub fn into_idle(self, now: Instant) -> Option<Box<h1::Connection>> {
        match self {
            Self::Http1(incoming) => incoming.into_idle(now),
            Self::Http2(_) => None,
        }
    }

    /// The next frame.
    ///
    /// # Errors
    /// The endpoint broke off or broke the protocol, or the request's body broke off.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Http1(incoming) => incoming.poll_frame(cx),
            Self::Http2(incoming) => incoming.poll_frame(cx),
        }
    }

    /// All of the body, where it is here and has no trailers.
    pub fn read_whole(&mut self) -> Option<Bytes> {
        match self {
            Self::Http1(incoming) => incoming.read_whole(),
            Self::Http2(incoming) => incoming.read_whole(),
        }
    }

    /// Whether nothing is left to be read.
    pub fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(incoming) => incoming.is_end_stream(),
            Self::Http2(incoming) => incoming.is_end_stream(),
        }
    }

    /// Whether as many bytes came as were to come, though the end may not have: of one that carries nothing else, they end it.
    pub fn has_said_all(&self) -> bool {
        match self {
            Self::Http1(_) => false,
            Self::Http2(incoming) => incoming.has_said_all(),
        }
    }

    /// Bytes that are still to come, where that is known.
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(incoming) => incoming.size_hint(),
            Self::Http2(incoming) => incoming.size_hint(),
        }
    }
}
