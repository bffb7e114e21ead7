//! An origin that speaks gRPC's health service over cleartext HTTP/2, with messages written by hand: what is tested has an
//! encoder of its own.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use bytes::{Bytes, BytesMut};
use h2::server::{self, SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};

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
    _stop: tokio::sync::oneshot::Sender<()>,
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
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared { say: Mutex::new(say), called: Mutex::default() });
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("the runtime takes it");
                loop {
                    tokio::select! {
                        accepted = listener.accept() => {
                            let Ok((stream, _)) = accepted else { continue };
                            tokio::spawn(serve(stream, Arc::clone(&serving)));
                        }
                        _ = &mut stopped => return,
                    }
                }
            });
        });
        Self { address, shared, _stop: stop }
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

async fn serve(stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let mut connection = server::handshake(stream).await.ok()?;
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond, Arc::clone(&shared)));
    }
    Some(())
}

async fn answer(request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>, shared: Arc<Shared>) -> Option<()> {
    let (head, mut incoming) = request.into_parts();
    let mut body = BytesMut::new();
    while let Some(data) = incoming.data().await {
        let data = data.ok()?;
        incoming.flow_control().release_capacity(data.len()).ok()?;
        body.extend_from_slice(&data);
    }
    let called = Called { uri: head.uri.to_string(), headers: head.headers, body: body.to_vec() };
    shared.called.lock().unwrap_or_else(PoisonError::into_inner).push(called);
    let say = shared.say.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let ok = |status: u16| Response::builder().status(status).header("content-type", "application/grpc");
    let bytes = match say {
        Say::Status(status) => Bytes::from(vec![0, 0, 0, 0, 2, 8, status]),
        Say::Bytes(bytes) => Bytes::from_static(bytes),
        Say::Fail(code, message) => {
            let head = ok(200).header("grpc-status", code).header("grpc-message", message).body(()).ok()?;
            respond.send_response(head, true).ok()?;
            return Some(());
        }
        Say::Http(status) => {
            respond.send_response(Response::builder().status(status).body(()).ok()?, true).ok()?;
            return Some(());
        }
    };
    let mut sending = respond.send_response(ok(200).body(()).ok()?, false).ok()?;
    sending.send_data(bytes, false).ok()?;
    let trailers = [(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))];
    sending.send_trailers(trailers.into_iter().collect()).ok()
}
