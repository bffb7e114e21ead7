//! Origins and clients that speak HTTP/2 as it should be, by the `h2` crate, and tell what of it they saw.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use bytes::{Bytes, BytesMut};
use h2::{
    RecvStream, SendStream, client,
    server::{self, SendResponse},
};
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};

/// What is done with one stream.
pub type Answering = Pin<Box<dyn Future<Output = Result<(), h2::Error>> + Send>>;

/// One origin. Its port closes when it is dropped.
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    counts: Arc<Counts>,
    _stop: tokio::sync::oneshot::Sender<()>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    streams: AtomicUsize,
}

impl Origin {
    /// Answers each stream as `answer` says.
    ///
    /// # Panics
    /// When no port is free.
    pub fn answering(
        answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> Answering + Send + Sync + 'static,
    ) -> Self {
        Self::limited(None, answer)
    }

    /// The same, of which a connection takes no more than `most` streams at once.
    ///
    /// # Panics
    /// When no port is free.
    pub fn limited(
        most: Option<u32>,
        answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> Answering + Send + Sync + 'static,
    ) -> Self {
        Self::after(|_, _| None, most, answer)
    }

    /// The same, where `first` may do something else with a connection, whose number (from 0) it is told.
    ///
    /// # Panics
    /// When no port is free.
    pub fn after(
        first: impl Fn(usize, &std::net::TcpStream) -> Option<()> + Send + Sync + 'static,
        most: Option<u32>,
        answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> Answering + Send + Sync + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let counts = Arc::<Counts>::default();
        let (counted, answer, first) = (Arc::clone(&counts), Arc::new(answer), Arc::new(first));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("the runtime takes it");
                loop {
                    tokio::select! {
                        accepted = listener.accept() => {
                            let Ok((stream, _)) = accepted else { continue };
                            let nth = counted.connections.fetch_add(1, SeqCst);
                            let (counted, answer, first) = (Arc::clone(&counted), Arc::clone(&answer), Arc::clone(&first));
                            tokio::spawn(async move {
                                let stream = spoilt(stream, nth, first).await?;
                                serve(stream, most, &counted, &*answer).await
                            });
                        }
                        _ = &mut stopped => return,
                    }
                }
            });
        });
        Self { address, counts, _stop: stop }
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.counts.connections.load(SeqCst)
    }

    /// Streams so far.
    pub fn streams(&self) -> usize {
        self.counts.streams.load(SeqCst)
    }
}

async fn spoilt(
    stream: TcpStream,
    nth: usize,
    first: Arc<impl Fn(usize, &std::net::TcpStream) -> Option<()> + Send + Sync + 'static>,
) -> Option<TcpStream> {
    let stream = stream.into_std().ok()?;
    let spoiling = tokio::task::spawn_blocking(move || {
        stream.set_nonblocking(false).ok()?;
        if first(nth, &stream).is_some() {
            return None;
        }
        stream.set_nonblocking(true).ok()?;
        Some(stream)
    });
    TcpStream::from_std(spoiling.await.ok()??).ok()
}

async fn serve(
    stream: TcpStream,
    most: Option<u32>,
    counts: &Counts,
    answer: &(impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> Answering + Sync),
) -> Option<()> {
    let mut server = server::Builder::new();
    if let Some(most) = most {
        server.max_concurrent_streams(most);
    }
    let mut connection = server.handshake(stream).await.ok()?;
    while let Some(Ok((request, respond))) = connection.accept().await {
        counts.streams.fetch_add(1, SeqCst);
        tokio::spawn(answer(request, respond));
    }
    Some(())
}

/// Answers with a head and a whole body.
///
/// # Errors
/// The stream has ended.
pub fn respond(mut to: SendResponse<Bytes>, status: u16, body: impl Into<Bytes>) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    to.send_response(response, false)?.send_data(body.into(), true)
}

/// All of a body, and the trailers behind it.
///
/// # Errors
/// It broke off.
pub async fn read(mut body: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut whole = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        whole.extend_from_slice(&data);
    }
    Ok((whole.to_vec(), body.trailers().await?))
}

/// Sends all of a body as fast as it is taken, and keeps the stream open.
///
/// # Errors
/// It broke off.
pub async fn send(stream: &mut SendStream<Bytes>, mut body: Bytes) -> Result<(), h2::Error> {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let Some(room) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return Ok(()) };
        let room = room?.min(body.len());
        stream.send_data(body.split_to(room), false)?;
    }
    Ok(())
}

/// A runtime for clients.
///
/// # Panics
/// When there is none to be had.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A client's connection.
///
/// # Panics
/// When there is none to be had.
pub async fn connect(address: SocketAddr) -> client::SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (sender, connection) = client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender.ready().await.expect("it takes streams")
}

/// A call of gRPC to an address, without its message.
///
/// # Panics
/// When the path is none.
pub fn call(address: SocketAddr, path: &str) -> Request<()> {
    Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a request")
}
