//! Request bodies on their way to an endpoint: streamed frame by frame, bounded, and honest about who broke them off.

mod piece;
mod replay;
mod tee;

use std::{
    cell::Cell,
    fmt, io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use replay::Replay;
pub use tee::Behind;
use tee::{Copied, Tee};

/// Why a body broke off.
#[derive(Debug)]
pub enum BodyError {
    /// The client, in hyper's words.
    Client(hyper::Error),
    /// The endpoint.
    Upstream(super::Error),
    /// The request's body is over the listener's limit.
    TooLarge,
    /// It comes more slowly than the listener lets it.
    TooSlow,
    /// The route's timeout passed.
    Timeout,
    /// It is a copy, and the original broke off or was faster.
    Copy,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => error.fmt(f),
            Self::Upstream(error) => error.fmt(f),
            Self::TooLarge => f.write_str("the request's body is over the listener's limit"),
            Self::TooSlow => f.write_str("the request's body comes too slowly"),
            Self::Timeout => f.write_str("the route's timeout passed"),
            Self::Copy => f.write_str("the copy of a body fell behind or broke off with it"),
        }
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Client(error) => Some(error),
            Self::Upstream(error) => Some(error),
            _ => None,
        }
    }
}

/// A request's body on its way to an endpoint, bounded by the listener's limit.
#[derive(Default)]
pub struct RequestBody(Option<Box<Reading>>);

/// How it is read.
enum Reading {
    /// Once.
    Once(Source),
    /// Again and again, while it is little.
    Again(Replay),
    /// As a copy of another.
    Copied(Copied),
}

/// How slowly a body may come.
pub trait Pace {
    /// It is waited for. Whether it has been for too long; where not, who polls is woken when it has.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> bool;

    /// So much of it has come.
    fn came(&mut self, bytes: u64);
}

/// What the client sends.
struct Source {
    incoming: Incoming,
    left: u64,
    fate: Fate,
    /// How slowly it may come; none: as slowly as it likes.
    pace: Option<Box<dyn Pace>>,
    /// Where a copy of it goes.
    tee: Option<Box<Tee>>,
}

/// How a body is doing, for whoever has given it away: where it breaks off by itself the endpoint is not to blame. None
/// where there is no body.
#[derive(Debug, Clone)]
pub struct Fate(Option<Rc<Progress>>);

#[derive(Debug)]
struct Progress {
    fate: Cell<BodyFate>,
    /// Bytes that came.
    read: Cell<u64>,
}

impl Fate {
    /// What has become of the body.
    pub fn get(&self) -> BodyFate {
        self.0.as_ref().map_or(BodyFate::Whole, |progress| progress.fate.get())
    }

    /// Bytes that came of it.
    pub fn read(&self) -> u64 {
        self.0.as_ref().map_or(0, |progress| progress.read.get())
    }

    fn note_read(&self, bytes: u64) {
        if let Some(progress) = &self.0 {
            progress.read.set(progress.read.get() + bytes);
        }
    }

    fn set(&self, to: BodyFate) {
        if let Some(progress) = &self.0 {
            progress.fate.set(to);
        }
    }
}

/// How a request's body is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFate {
    /// More of it is to come.
    Coming,
    /// All of it has come.
    Whole,
    /// It passed the limit.
    TooLarge,
    /// It came too slowly.
    TooSlow,
    /// Its framing breaks the protocol.
    Malformed,
    /// The client broke it off.
    Broken,
}

impl RequestBody {
    /// A body of at most `limit` bytes that comes no more slowly than `pace` allows, and how it is doing.
    pub fn new(incoming: Incoming, limit: Option<u64>, pace: impl FnOnce() -> Option<Box<dyn Pace>>) -> (Self, Fate) {
        if incoming.is_end_stream() {
            return (Self(None), Fate(None));
        }
        let fate = Fate(Some(Rc::new(Progress { fate: Cell::new(BodyFate::Coming), read: Cell::new(0) })));
        let left = limit.unwrap_or(u64::MAX);
        let source = Source { incoming, left, fate: fate.clone(), pace: pace(), tee: None };
        (Self(Some(Box::new(Reading::Once(source)))), fate)
    }

    /// Has what is sent of it be kept, so that it can be sent again. To be called before it is sent.
    pub fn keep(&mut self) {
        if let Some(reading) = self.0.take() {
            self.0 = Some(Box::new(match *reading {
                Reading::Once(source) => Reading::Again(Replay::new(source)),
                other => other,
            }));
        }
    }

    /// A copy that is made while this is read, for who must not keep it waiting, and what tells of its breaking off. To be
    /// called before [`keep`](Self::keep), at most once.
    pub fn copy(&mut self) -> (Self, Behind) {
        let copied = match self.0.as_deref_mut() {
            Some(Reading::Once(source)) => {
                let (tee, copied) = tee::tee(source.incoming.size_hint().exact());
                source.tee = Some(Box::new(tee));
                Some(copied)
            }
            _ => None,
        };
        let behind = Behind::of(copied.as_ref());
        (Self(copied.map(|copied| Box::new(Reading::Copied(copied)))), behind)
    }

    /// The body, to be sent. Where it is not kept this leaves none: it is not sent again.
    pub fn take(&mut self) -> Self {
        match self.0.as_deref() {
            Some(Reading::Again(replay)) => Self(Some(Box::new(Reading::Again(replay.again())))),
            _ => Self(self.0.take()),
        }
    }

    /// Whether all that was sent of it can be sent again; of one that is not kept this says nothing.
    pub fn is_kept(&self) -> bool {
        match self.0.as_deref() {
            Some(Reading::Again(replay)) => replay.is_kept(),
            _ => true,
        }
    }

    /// The same, and there is no more of it to come.
    pub fn is_whole(&self) -> bool {
        match self.0.as_deref() {
            Some(Reading::Again(replay)) => replay.is_whole(),
            _ => true,
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut().0.as_deref_mut() {
            Some(Reading::Once(source)) => source.poll_frame(cx),
            Some(Reading::Again(replay)) => replay.poll_frame(cx),
            Some(Reading::Copied(copied)) => copied.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.0.as_deref() {
            Some(Reading::Once(source)) => source.incoming.is_end_stream(),
            Some(Reading::Again(replay)) => replay.is_end_stream(),
            Some(Reading::Copied(copied)) => copied.is_end_stream(),
            None => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.0.as_deref() {
            Some(Reading::Once(source)) => source.incoming.size_hint(),
            Some(Reading::Again(replay)) => replay.size_hint(),
            Some(Reading::Copied(copied)) => copied.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Source {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            if self.pace.as_mut().is_some_and(|pace| pace.poll_too_slow(cx)) {
                self.fate.set(BodyFate::TooSlow);
                return Poll::Ready(Some(Err(BodyError::TooSlow)));
            }
            return Poll::Pending;
        };
        match frame {
            Some(Ok(frame)) => {
                let len = frame.data_ref().map_or(0, |data| data.len() as u64);
                if let Some(pace) = &mut self.pace {
                    pace.came(len);
                }
                self.fate.note_read(len);
                if len > self.left {
                    self.fate.set(BodyFate::TooLarge);
                    return Poll::Ready(Some(Err(BodyError::TooLarge)));
                }
                self.left -= len;
                if frame.is_trailers() || self.incoming.is_end_stream() {
                    self.fate.set(BodyFate::Whole);
                }
                if let Some(tee) = &self.tee {
                    tee.push(&frame);
                    // Nothing comes behind trailers, and nobody asks.
                    if frame.is_trailers() {
                        tee.end();
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.fate.set(if is_malformed(&error) { BodyFate::Malformed } else { BodyFate::Broken });
                Poll::Ready(Some(Err(BodyError::Client(error))))
            }
            None => {
                self.fate.set(BodyFate::Whole);
                if let Some(tee) = &self.tee {
                    tee.end();
                }
                Poll::Ready(None)
            }
        }
    }
}

/// Whether a body broke off because of what came, and not because nothing came any more.
fn is_malformed(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| matches!(source.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
}
