//! HTTP/2 to an endpoint: requests beside each other over few connections, each of which is driven by a task of its own in
//! the worker that made it. Frames and flow control are the `h2` crate's. It must never decide about a request.

mod errors;
mod pool;
mod send;
mod session;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll, ready},
};

use ::h2::RecvStream;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, Uri, Version, header, response, uri::Scheme};
use http_body::{Body as _, Frame, SizeHint};
use tokio::task::JoinHandle;
use witgate_core::request::Head;

use super::{
    BodyError, RequestBody,
    failure::{Error, Failed, Malformed},
    h1::{may_begin, may_trail},
};
use errors::{failed, of};
pub(super) use pool::Sessions;
pub use pool::join_or_connect;
use send::{SendError, Sending};
pub use session::Slot;
pub(super) use session::{Session, handshake};

/// Interim responses (1xx) to one request. None of them is of use here, and an endpoint could send them for ever.
const INTERIM: usize = 64;

/// Sends a request as a stream of the session that holds the `slot`, and waits for the response's head. The body is sent as it
/// comes, and goes on doing so by itself where the response is there before its end.
///
/// # Errors
/// Where no response came.
pub async fn exchange(mut slot: Slot, sent: &Head, body: RequestBody) -> Result<(response::Parts, Incoming), Failed> {
    let request = request(sent, &slot).ok_or(Failed::of(Error::Unsendable))?;
    let ends = body.is_end_stream();
    let mut sender = slot.sender();
    poll_fn(|cx| sender.poll_ready(cx)).await.map_err(|error| failed(error, &slot))?;
    let (response, stream) = sender.send_request(request, ends).map_err(|error| failed(error, &slot))?;
    drop(sender);
    let mut sending = (!ends).then(|| Box::new(Sending::new(stream, body)));
    let (mut response, mut interim) = (pin!(response), 0);
    let found = poll_fn(|cx| {
        if let Some(going) = &mut sending {
            match going.poll(cx) {
                Poll::Ready(Err(SendError::Body)) => return Poll::Ready(Err(Failed::of(Error::Body))),
                // The endpoint may have answered before it said that it wants no more.
                Poll::Ready(Ok(()) | Err(SendError::Http(_))) => sending = None,
                Poll::Pending => {}
            }
        }
        while let Poll::Ready(Some(Ok(_))) = response.as_mut().get_mut().poll_informational(cx) {
            interim += 1;
            if interim > INTERIM {
                return Poll::Ready(Err(Failed::of(Malformed::new("interim responses that do not end").into())));
            }
        }
        response.as_mut().poll(cx).map_err(|error| failed(error, &slot))
    })
    .await?;
    slot.answered();
    let (mut parts, receiving) = found.into_parts();
    let length = length(&mut parts, &sent.method).map_err(|malformed| Failed::of(malformed.into()))?;
    let state = if receiving.is_end_stream() { State::Done } else { State::Data };
    let sending = sending.map(Rest::spawn);
    Ok((parts, Incoming { receiving, state, left: length, sending, slot }))
}

/// The head as HTTP/2 has it: `Host` is the authority, and what concerns one connection only is not said.
fn request(sent: &Head, slot: &Slot) -> Option<Request<()>> {
    let host = sent.headers.get(header::HOST).map_or(slot.authority().as_bytes(), |host| host.as_bytes());
    let target = sent.uri.path_and_query().map_or("/", |target| target.as_str());
    let scheme = if slot.is_secure() { Scheme::HTTPS } else { Scheme::HTTP };
    // `http://host?query` has no path.
    let slash = if target.starts_with(['/', '*']) { "" } else { "/" };
    let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(format!("{slash}{target}")).build().ok()?;
    let mut request = Request::new(());
    *request.method_mut() = sent.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    let mut headers = sent.headers.clone();
    // The proxy's own answer to `Expect` is all the client waits for.
    for name in [header::HOST, header::EXPECT] {
        headers.remove(name);
    }
    if headers.remove(header::UPGRADE).is_some() {
        headers.remove(header::CONNECTION);
    }
    *request.headers_mut() = headers;
    Some(request)
}

/// Makes the head one that can be sent on, and reads what it says of its body's length.
fn length(parts: &mut response::Parts, method: &Method) -> Result<Option<u64>, Malformed> {
    parts.version = Version::HTTP_11;
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Malformed::new("a switch of protocols, which HTTP/2 does not have"));
    }
    keep(&mut parts.headers, may_begin);
    if parts.status == StatusCode::NO_CONTENT {
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    if *method == Method::HEAD || parts.status == StatusCode::NOT_MODIFIED {
        return Ok(Some(0));
    }
    let mut lengths = parts.headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    let length = length.to_str().ok().and_then(|length| length.parse().ok());
    match (length, lengths.next()) {
        (Some(length), None) => Ok(Some(length)),
        _ => Err(Malformed::new("a length that is no number, or two of them")),
    }
}

/// Removes the fields that may not go on.
fn keep(fields: &mut HeaderMap, may: impl Fn(&HeaderName) -> bool) {
    let strange: Vec<HeaderName> = fields.keys().filter(|name| !may(name)).cloned().collect();
    for name in strange {
        fields.remove(name);
    }
}

/// A response's body.
pub struct Incoming {
    receiving: RecvStream,
    state: State,
    /// Bytes that are still to come, where that is known.
    left: Option<u64>,
    /// The rest of the request.
    sending: Option<Rest>,
    slot: Slot,
}

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Data,
    Trailers,
    Done,
}

/// What is left of a request's body when the response's head is there: it goes on by itself, as streams of calls both ways
/// need, and ends when nobody reads the response any more.
struct Rest(JoinHandle<Result<(), SendError>>);

impl Rest {
    fn spawn(mut sending: Box<Sending>) -> Self {
        Self(tokio::task::spawn_local(async move { poll_fn(|cx| sending.poll(cx)).await }))
    }

    /// Whether the body has broken off.
    fn is_broken(&mut self, cx: &mut Context<'_>) -> bool {
        matches!(pin!(&mut self.0).poll(cx), Poll::Ready(Ok(Err(SendError::Body))))
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Incoming {
    /// The next frame.
    ///
    /// # Errors
    /// The endpoint broke off or broke the protocol, or the request's body broke off.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match self.state {
                State::Data => match ready!(self.receiving.poll_data(cx)) {
                    Some(Ok(data)) => {
                        // What the client has not taken yet is not asked for: it asks for one piece at a time.
                        let _ = self.receiving.flow_control().release_capacity(data.len());
                        self.slot.heard();
                        self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                        if self.receiving.is_end_stream() {
                            self.state = State::Done;
                        } else if data.is_empty() {
                            continue;
                        }
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Some(Err(error)) => return self.break_off(error, cx),
                    None => self.state = State::Trailers,
                },
                State::Trailers => {
                    let trailers = match ready!(self.receiving.poll_trailers(cx)) {
                        Ok(trailers) => trailers,
                        Err(error) => return self.break_off(error, cx),
                    };
                    self.state = State::Done;
                    let Some(mut trailers) = trailers else { return Poll::Ready(None) };
                    keep(&mut trailers, may_trail);
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                State::Done => return Poll::Ready(None),
            }
        }
    }

    fn break_off(&mut self, error: ::h2::Error, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.state = State::Done;
        let broken = self.sending.as_mut().is_some_and(|sending| sending.is_broken(cx));
        Poll::Ready(Some(Err(BodyError::Upstream(if broken { Error::Body } else { of(error) }))))
    }

    /// All of the body, where there is none.
    pub fn read_whole(&mut self) -> Option<Bytes> {
        (self.state == State::Done).then(Bytes::new)
    }

    /// Whether nothing is left to be read.
    pub fn is_end_stream(&self) -> bool {
        self.state == State::Done
    }

    /// Whether as many bytes came as were to come, though the stream may not have ended.
    pub fn has_said_all(&self) -> bool {
        self.left == Some(0)
    }

    /// Bytes that are still to come, where that is known.
    pub fn size_hint(&self) -> SizeHint {
        match self.state {
            State::Done => SizeHint::with_exact(0),
            _ => self.left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
