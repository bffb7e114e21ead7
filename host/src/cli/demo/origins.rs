//! The origins behind the demo's proxy: small HTTP servers on loopback ports, all on one thread. Each says its name and
//! what the proxy told it; none of them knows anything else.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, LocalOptions},
    sync::{Semaphore, oneshot},
    time::sleep,
};

/// Connections that one origin has at once; more wait.
const CONNECTIONS: usize = 256;

/// Says which origin answered.
pub(super) const ORIGIN: &str = "x-origin";
/// What plugins tell origins; an origin says it back, so that the demo can see it.
pub(super) const TOLD: [&str; 2] = ["x-tenant", "x-release"];

/// Who they are, and how long each takes.
pub(super) const ORIGINS: [(&str, Duration); 13] = [
    ("stable", Duration::ZERO),
    ("canary", Duration::ZERO),
    ("acme", Duration::ZERO),
    ("globex", Duration::ZERO),
    ("cart-1", Duration::ZERO),
    ("cart-2", Duration::ZERO),
    ("cart-3", Duration::ZERO),
    ("search-1", Duration::from_millis(2)),
    ("search-2", Duration::from_millis(2)),
    ("search-3", Duration::from_millis(6)),
    ("search-4", Duration::from_millis(20)),
    ("blue", Duration::ZERO),
    ("green", Duration::ZERO),
];

/// Running origins. Dropping it ends them.
pub(super) struct Origins {
    addresses: Vec<SocketAddr>,
    /// Dropping it ends the thread.
    alive: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Origins {
    /// Binds all of them to free ports, then serves.
    pub(super) fn start() -> io::Result<Self> {
        let bind = |_: &_| {
            let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let sockets = ORIGINS.iter().map(bind).collect::<io::Result<Vec<_>>>()?;
        let addresses = sockets.iter().map(std::net::TcpListener::local_addr).collect::<io::Result<_>>()?;
        let (alive, ended) = oneshot::channel::<Infallible>();
        let thread = thread::Builder::new().name("demo-origins".to_owned()).spawn(move || {
            let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                Ok(runtime) => runtime,
                Err(error) => return tracing::error!(%error, "the origins have no runtime"),
            };
            runtime.block_on(async {
                for (socket, (name, delay)) in sockets.into_iter().zip(ORIGINS) {
                    tokio::task::spawn_local(accept(socket, name, delay));
                }
                // Nothing is ever sent: this resolves when the other end is dropped.
                let _ = ended.await;
            });
        })?;
        Ok(Self { addresses, alive: Some(alive), thread: Some(thread) })
    }

    /// Every origin's name and address.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        ORIGINS.iter().map(|(name, _)| *name).zip(self.addresses.iter().copied())
    }
}

impl Drop for Origins {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

async fn accept(socket: std::net::TcpListener, name: &'static str, delay: Duration) {
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(name, %error, "an origin cannot listen"),
    };
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let name_value = Rc::new(HeaderValue::from_static(name));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        match socket.accept().await {
            Ok((stream, _)) => {
                let name = Rc::clone(&name_value);
                tokio::task::spawn_local(async move {
                    serve(stream, &name, delay).await;
                    drop(permit);
                });
            }
            // Out of file descriptors, for one: whoever asks gets an error from the proxy, and the demo reports it.
            Err(error) => {
                tracing::warn!(name, %error, "an origin cannot accept");
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, name: &HeaderValue, delay: Duration) {
    // Without it, small responses are slow and nothing else is wrong.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: Request<Incoming>| async move {
        if !delay.is_zero() {
            sleep(delay).await;
        }
        Ok::<_, Infallible>(answer(&request, name))
    });
    // The proxy closes connections as it likes.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

fn answer(request: &Request<Incoming>, name: &HeaderValue) -> Response<Full<Bytes>> {
    let mut text = name.as_bytes().to_vec();
    text.push(b'\n');
    let mut response = Response::new(Full::new(Bytes::from(text)));
    response.headers_mut().insert(ORIGIN, name.clone());
    for told in TOLD {
        if let Some(value) = request.headers().get(told) {
            response.headers_mut().insert(told, value.clone());
        }
    }
    response
}
