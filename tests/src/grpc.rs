//! An origin that speaks gRPC's health service over cleartext HTTP/2, with messages written by hand: what is tested has an
//! encoder of its own.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};

use crate::http2::{Origin, read};

/// What the origin answers next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Say {
    /// `grpc-status` 0 and a `HealthCheckResponse` with this status.
    Status(u8),
    /// These bytes as the body, and `grpc-status` 0.
    Bytes(&'static [u8]),
    /// No body; this `grpc-status` and `grpc-message`, in the head.
    Fail(&'static str, &'static str),
    /// A response of this HTTP status, without anything of gRPC.
    Http(u16),
}

/// A call as it came.
#[derive(Debug, Clone)]
pub struct Called {
    /// `:authority`, and the path.
    pub uri: String,
    /// Header fields.
    pub headers: HeaderMap,
    /// The body, with the five bytes before the message.
    pub body: Vec<u8>,
}

/// One origin. Its port closes when it is dropped.
pub struct Health {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _origin: Origin,
}

struct Shared {
    say: Mutex<Say>,
    called: Mutex<Vec<Called>>,
}

impl Health {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When there is none.
    pub fn saying(say: Say) -> Self {
        let shared = Arc::new(Shared { say: Mutex::new(say), called: Mutex::default() });
        let serving = Arc::clone(&shared);
        let origin =
            Origin::answering(move |request, respond| Box::pin(answer(request, respond, Arc::clone(&serving))));
        Self { address: origin.address, shared, _origin: origin }
    }

    /// Changes what it answers from now on.
    pub fn say(&self, say: Say) {
        *self.shared.say.lock().unwrap_or_else(PoisonError::into_inner) = say;
    }

    /// Every call so far.
    pub fn called(&self) -> Vec<Called> {
        self.shared.called.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    shared: Arc<Shared>,
) -> Result<(), h2::Error> {
    let (head, incoming) = request.into_parts();
    let (body, _) = read(incoming).await?;
    let called = Called { uri: head.uri.to_string(), headers: head.headers, body };
    shared.called.lock().unwrap_or_else(PoisonError::into_inner).push(called);
    let say = shared.say.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut head = Response::new(());
    head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let bytes = match say {
        Say::Status(status) => Bytes::from(vec![0, 0, 0, 0, 2, 8, status]),
        Say::Bytes(bytes) => Bytes::from_static(bytes),
        Say::Fail(code, message) => {
            head.headers_mut().insert("grpc-status", HeaderValue::from_static(code));
            head.headers_mut().insert("grpc-message", HeaderValue::from_static(message));
            return respond.send_response(head, true).map(drop);
        }
        Say::Http(status) => {
            let mut head = Response::new(());
            *head.status_mut() = StatusCode::from_u16(status).expect("a status");
            return respond.send_response(head, true).map(drop);
        }
    };
    let mut sending = respond.send_response(head, false)?;
    sending.send_data(bytes, false)?;
    let trailers = [(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))];
    sending.send_trailers(trailers.into_iter().collect())
}
