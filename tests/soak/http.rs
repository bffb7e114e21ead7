//! Clients of HTTP that keep their connections, as browsers do: of HTTP/1.1 any number, of HTTP/2 one that requests share.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::ledger::Bad;

pub(crate) type Body = Full<Bytes>;
type Failed = hyper::client::conn::TrySendError<Request<Body>>;

/// Below the proxy's idle timeout: a client that waits longer meets a connection that is being closed.
const REST: Duration = Duration::from_secs(4);
/// Then another connection is made, so that there are always new ones.
const REQUESTS: u32 = 100;
/// The same where many share one.
const STREAMS: u32 = 1_000;

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Where connections go, and in what.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) port: u16,
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
}

impl Place {
    async fn open(&self) -> io::Result<TokioIo<Box<dyn Io>>> {
        let stream = connect(self.port).await?;
        let Some(config) = &self.tls else { return Ok(TokioIo::new(Box::new(stream))) };
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
        Ok(TokioIo::new(Box::new(stream)))
    }
}

pub(crate) async fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection that is there.
enum Open {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

struct Kept {
    open: Open,
    used: u32,
    since: Instant,
}

pub(crate) struct Pool {
    place: Place,
    /// Whether it speaks HTTP/2.
    shares: bool,
    kept: RefCell<Vec<Kept>>,
}

impl Pool {
    pub(crate) fn new(place: Place, shares: bool) -> Pool {
        Pool { place, shares, kept: RefCell::default() }
    }

    /// Sends one and reads its answer to the end. `again` is told where it goes once more, which is only what every client
    /// may do: over a connection that was kept, where nothing was sent, or nothing came back and the request is idempotent.
    pub(crate) async fn exchange(&self, request: Request<Body>, again: impl Fn(&str)) -> Result<(), Bad> {
        let spare = request.method().is_idempotent().then(|| request.clone());
        let kept = self.take();
        let was_kept = kept.is_some();
        let mut kept = self.or_open(kept).await?;
        let mut sent = send(&mut kept.open, request).await;
        if was_kept && let Err(failed) = &mut sent {
            let what = why(failed.error());
            if self.shares {
                // Nor is it for others, although what goes on over it may end well.
                self.close();
            }
            if let Some(request) = failed.take_message().or(spare) {
                again(&what);
                kept = self.or_open(None).await?;
                sent = send(&mut kept.open, request).await;
            }
        }
        let response = sent.map_err(|failed| Bad::new(format!("no answer: {}", why(failed.error()))))?;
        if let (Open::Two(sender), true) = (&kept.open, self.shares) {
            let open = Open::Two(sender.clone());
            self.keep(Kept { open, ..kept });
            return read(response).await;
        }
        let came = read(response).await;
        if came.is_ok() {
            self.keep(Kept { since: Instant::now(), ..kept });
        }
        came
    }

    /// The one that was used last, so that those that are too many grow old.
    fn take(&self) -> Option<Kept> {
        let mut all = self.kept.borrow_mut();
        all.retain(|kept| match &kept.open {
            Open::One(sender) => kept.since.elapsed() < REST && kept.used < REQUESTS && sender.is_ready(),
            Open::Two(sender) => kept.used < STREAMS && !sender.is_closed(),
        });
        if !self.shares {
            return all.pop();
        }
        let kept = all.last_mut()?;
        kept.used += 1;
        let Open::Two(sender) = &kept.open else { return None };
        Some(Kept { open: Open::Two(sender.clone()), used: kept.used, since: kept.since })
    }

    fn keep(&self, kept: Kept) {
        let mut all = self.kept.borrow_mut();
        if !self.shares || all.is_empty() {
            all.push(Kept { used: kept.used + 1, ..kept });
        }
    }

    async fn or_open(&self, kept: Option<Kept>) -> Result<Kept, Bad> {
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let io = self.place.open().await.map_err(|error| Bad::new(format!("not connected: {error}")))?;
        let shaken = |error: hyper::Error| Bad::new(format!("not connected: {}", why(&error)));
        let open = if self.shares {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(shaken)?;
            tokio::task::spawn_local(connection);
            Open::Two(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await.map_err(shaken)?;
            tokio::task::spawn_local(connection);
            Open::One(sender)
        };
        Ok(Kept { open, used: 0, since: Instant::now() })
    }

    /// Lets go of all connections.
    pub(crate) fn close(&self) {
        self.kept.borrow_mut().clear();
    }
}

async fn send(open: &mut Open, request: Request<Body>) -> Result<Response<Incoming>, Failed> {
    match open {
        Open::One(sender) => sender.try_send_request(request).await,
        Open::Two(sender) => sender.try_send_request(request).await,
    }
}

async fn read(response: Response<Incoming>) -> Result<(), Bad> {
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (status, origin, reason) = (response.status(), header("x-origin"), header("x-witgate-error"));
    if status != 200 {
        let what = format!("{} {}", status.as_u16(), reason.as_deref().unwrap_or("of the origin"));
        return Err(Bad { what, origin });
    }
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        frame.map_err(|error| Bad { what: format!("cut: {}", why(&error)), origin: origin.clone() })?;
    }
    Ok(())
}

/// The error with its causes.
fn why(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
