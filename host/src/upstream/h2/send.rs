//! A request's body on its way into a stream, no faster than the endpoint takes it. At most one piece is held; none is copied.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use ::h2::SendStream;
use bytes::Bytes;
use http_body::Body as _;

use super::{
    super::{RequestBody, h1::may_trail},
    keep,
};

/// Why sending ended before the body did.
#[derive(Debug)]
pub(super) enum SendError {
    /// The endpoint takes no more, or the connection has ended.
    Http(#[expect(dead_code, reason = "for who debugs")] ::h2::Error),
    /// The body broke off.
    Body,
}

impl From<::h2::Error> for SendError {
    fn from(error: ::h2::Error) -> Self {
        Self::Http(error)
    }
}

/// A body that is being sent.
pub(super) struct Sending {
    stream: SendStream<Bytes>,
    body: RequestBody,
    /// What the endpoint has no room for yet.
    piece: Bytes,
    /// That is the last of the body.
    last: bool,
}

impl Sending {
    pub(super) fn new(stream: SendStream<Bytes>, body: RequestBody) -> Self {
        Self { stream, body, piece: Bytes::new(), last: false }
    }

    /// Sends what can be sent. Ready when all was.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        loop {
            while !self.piece.is_empty() {
                let Some(room) = ready!(self.stream.poll_capacity(cx)) else {
                    return Poll::Ready(Ok(())); // The endpoint has answered and wants no more of it.
                };
                let now = self.piece.split_to(room?.min(self.piece.len()));
                let ends = self.last && self.piece.is_empty();
                self.stream.send_data(now, ends)?;
                if ends {
                    return Poll::Ready(Ok(()));
                }
            }
            // Where nothing is to be sent, only this tells that the endpoint wants no more.
            if let Poll::Ready(reset) = self.stream.poll_reset(cx) {
                return Poll::Ready(reset.map(|_| ()).map_err(SendError::from));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.last = self.body.is_end_stream();
                        self.stream.reserve_capacity(data.len());
                        self.piece = data;
                        if self.piece.is_empty() && self.last {
                            return Poll::Ready(self.stream.send_data(Bytes::new(), true).map_err(SendError::from));
                        }
                    }
                    Err(frame) => {
                        let Ok(mut trailers) = frame.into_trailers() else { continue };
                        keep(&mut trailers, may_trail);
                        return Poll::Ready(self.stream.send_trailers(trailers).map_err(SendError::from));
                    }
                },
                Some(Err(_)) => {
                    self.stream.send_reset(::h2::Reason::CANCEL);
                    return Poll::Ready(Err(SendError::Body));
                }
                None => return Poll::Ready(self.stream.send_data(Bytes::new(), true).map_err(SendError::from)),
            }
        }
    }
}
