//! HTTP/1.1 and cleartext HTTP/2 on one socket: tells them apart by the first bytes and drives hyper's server until the
//! client is done, the worker wants the connection closed, or the protocol is broken.

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::Request;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::{HttpService, service_fn},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use witgate_core::config;

use super::io::{Io, Transport};
use crate::{
    drain, proxy,
    worker::{
        Worker,
        conn::{Conn, Signal, http1_buffer},
    },
};

/// What an HTTP/2 client with prior knowledge says first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a response's body that a stream of HTTP/2 holds for a client that does not read (hyper: 400 KiB, which a client
/// with all its streams could make 100 MB of).
const SEND_BUFFER: usize = 64 << 10;

/// HTTP/2 resets that may be pending before the connection is closed: what "rapid reset" (CVE-2023-44487) abuses.
const MAX_PENDING_RESETS: usize = 64;

/// Serves one connection to its end.
pub async fn serve<S>(worker: &Rc<Worker>, conn: &Rc<Conn>, mut stream: S)
where
    S: Transport,
{
    let Some((mut read, http2)) = begun(worker, conn, &mut stream).await else { return };
    if http2 {
        return serve_http2(worker, conn, stream, read).await;
    }
    conn.note_read(&read);
    while let Some((rested, left)) = serve_http1(worker, conn, stream, read).await {
        stream = rested;
        // Old clients end a body with an empty line, which is ignored before the next head (RFC 9112 §2.2).
        let is_left = left.iter().any(|byte| !matches!(byte, b'\r' | b'\n'));
        conn.rested(is_left);
        read = if is_left {
            left
        } else {
            // What was read of requests that are over is in the same memory.
            drop(left);
            worker.note_rest();
            let Some(next) = rest(worker, conn, &mut stream).await else { return goodbye(conn, stream).await };
            conn.note_read(&next);
            next
        };
    }
}

async fn serve_http2<S>(worker: &Rc<Worker>, conn: &Rc<Conn>, stream: S, read: Bytes)
where
    S: Transport,
{
    let limits = limits(worker, conn);
    let io = TokioIo::new(Io::new(stream, worker, conn, read, false));
    // On the heap: it is large, and most connections are HTTP/1.1.
    let mut connection = Box::pin(
        http2::Builder::new(LocalExecutor)
            .max_concurrent_streams(limits.concurrent_streams)
            .enable_connect_protocol()
            .max_send_buf_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
            .serve_connection(io, service(worker, conn)),
    );
    drive(conn, connection.as_mut(), http2::Connection::graceful_shutdown, |_| false, |_| false).await;
}

/// Serves requests until the client is done. Returns the stream, and what was read of it beyond them, where the client
/// is still there but has asked for nothing for a while: what hyper holds for it, two buffers above all, is let go.
async fn serve_http1<S>(worker: &Rc<Worker>, conn: &Rc<Conn>, stream: S, read: Bytes) -> Option<(S, Bytes)>
where
    S: Transport,
{
    let limits = limits(worker, conn);
    let io = TokioIo::new(Io::new(stream, worker, conn, read, true));
    // On the heap, so that a connection that rests keeps no room for it.
    let mut connection = Box::new(
        http1::Builder::new()
            .max_headers(limits.headers)
            .max_header_size(limits.header_bytes)
            .max_buf_size(http1_buffer(limits.header_bytes))
            .serve_connection(io, service(worker, conn)),
    );
    let finish = http1::Connection::graceful_shutdown;
    let ended = drive(conn, Pin::new(&mut *connection), finish, Conn::should_rest, |conn| lingers(worker, conn)).await;
    let parts = match ended {
        Ended::Rests => connection.into_parts(),
        Ended::Broken => {
            if conn.is_cut() {
                connection.into_parts().io.into_inner().into_stream().abort();
            }
            return None;
        }
        Ended::Done => {
            // hyper is done with a connection that switches protocols only once it has written its answer.
            let successor = conn.take_over();
            let parts = connection.into_parts();
            let stream = parts.io.into_inner().into_stream();
            match successor {
                Some(successor) => successor.run(Rc::clone(conn), Box::new(stream), parts.read_buf).await,
                // It says goodbye itself, but not where a request has named another protocol.
                None => goodbye(conn, stream).await,
            }
            return None;
        }
    };
    Some((parts.io.into_inner().into_stream(), parts.read_buf))
}

/// Tells the client that this is the end, where there is a word for it, and it is one.
async fn goodbye<S: Transport>(conn: &Conn, mut stream: S) {
    if S::SAYS_GOODBYE && conn.signal() < Signal::Kill {
        // Whoever takes none of it is told nothing.
        let _ = tokio::time::timeout(GOODBYE, stream.shutdown()).await;
    }
}

/// How long a client may take to take the last word.
const GOODBYE: Duration = Duration::from_secs(1);

/// The limits of the connection's listener.
fn limits(worker: &Worker, conn: &Conn) -> config::ListenerLimits {
    let generation = worker.live.load_for(conn.socket);
    generation.listener(conn.socket).map(|listener| listener.limits.clone()).unwrap_or_default()
}

fn service(
    worker: &Rc<Worker>,
    conn: &Rc<Conn>,
) -> impl HttpService<Incoming, ResBody = proxy::Body, Error = Infallible, Future: 'static> + Unpin + use<> {
    let (worker, conn) = (Rc::clone(worker), Rc::clone(conn));
    service_fn(move |request: Request<Incoming>| proxy::handle(&worker, &conn, request))
}

/// How long a client that was let in may take for its first bytes once a drain has begun: they are on their way.
const FIRST_BYTES_IN_A_DRAIN: Duration = Duration::from_secs(1);

/// The first bytes, and whether they are HTTP/2's. None where the client went away first, or was silent for too long.
async fn begun(worker: &Worker, conn: &Conn, stream: &mut (impl AsyncRead + Unpin)) -> Option<(Bytes, bool)> {
    at_first(conn, first_bytes(worker, stream)).await
}

/// What comes of the first that a client does. In a drain it is on its way, and gets a little time.
pub(super) async fn at_first<T>(conn: &Conn, coming: impl Future<Output = Option<T>>) -> Option<T> {
    let mut coming = pin!(coming);
    if let Some(found) = (Interruptible { conn, inner: coming.as_mut() }).await {
        return found;
    }
    match conn.signal() {
        Signal::Kill => None,
        _ => tokio::time::timeout(FIRST_BYTES_IN_A_DRAIN, coming).await.ok().flatten(),
    }
}

/// How long a kept connection goes on in a drain for a request that is on its way: HTTP/1.1 has no word for the end but in an
/// answer, and a client that has sent one over a connection that is closed can only guess what became of it. Longer than a
/// way around the world, and less than a client is waited for that ignores a goodbye.
const LINGER: Duration = Duration::from_millis(500);

/// Whether a connection that is to finish is left open for that. Not where it lost what it was let in for.
fn lingers(worker: &Worker, conn: &Conn) -> bool {
    conn.signal() == Signal::Finish && worker.drain.phase() == drain::Phase::Drain
}

/// What a client says after it was silent for a while. None where it went away, or is asked to.
async fn rest(worker: &Worker, conn: &Conn, stream: &mut (impl AsyncRead + Unpin)) -> Option<Bytes> {
    let mut next = pin!(async {
        let mut next = BytesMut::new();
        read_some(worker, stream, &mut next).await.then(|| next.freeze())
    });
    match (Interruptible { conn, inner: next.as_mut() }).await {
        None if lingers(worker, conn) => tokio::time::timeout(LINGER, next).await.ok().flatten(),
        found => found.flatten(),
    }
}

/// Reads until the protocol is clear. None where the client went away first.
async fn first_bytes(worker: &Worker, stream: &mut (impl AsyncRead + Unpin)) -> Option<(Bytes, bool)> {
    let mut first = BytesMut::new();
    while read_some(worker, stream, &mut first).await {
        let compared = first.len().min(PREFACE.len());
        if first[..compared] != PREFACE[..compared] {
            return Some((first.freeze(), false));
        }
        if compared == PREFACE.len() {
            return Some((first.freeze(), true));
        }
    }
    None
}

/// Reads behind what is in `into`. False where nothing more will come.
async fn read_some(worker: &Worker, stream: &mut (impl AsyncRead + Unpin), into: &mut BytesMut) -> bool {
    let read = std::future::poll_fn(|cx| {
        // Into the worker's own buffer: a connection that says nothing has none, and most heads are short.
        let mut scratch = worker.scratch.borrow_mut();
        let mut read = ReadBuf::new(&mut scratch[..]);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
        into.extend_from_slice(read.filled());
        Poll::Ready(std::io::Result::Ok(read.filled().len()))
    });
    read.await.is_ok_and(|read| read > 0)
}

/// How the driving of a connection ended.
enum Ended {
    /// Its last request was answered.
    Done,
    /// It goes on when there is something to be read.
    Rests,
    /// It broke, or the worker wants it closed at once.
    Broken,
}

/// Polls a connection, obeying what the worker asks of it.
async fn drive<C, E>(
    conn: &Rc<Conn>,
    mut connection: Pin<&mut C>,
    finish: impl Fn(Pin<&mut C>),
    rests: impl Fn(&Conn) -> bool,
    lingers: impl Fn(&Conn) -> bool,
) -> Ended
where
    C: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let mut finishing = false;
    // Made where it is needed, which is once in the life of a process.
    let mut until: Option<Pin<Box<tokio::time::Sleep>>> = None;
    let ended = std::future::poll_fn(|cx| {
        let signal = conn.poll_signal(cx);
        if signal == Signal::Kill {
            return Poll::Ready(Ok(Ended::Broken));
        }
        // Before it is asked to finish: what has arrived is a request in flight, over which hyper would close.
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(ended.map(|()| Ended::Done));
        }
        // Nor over an answer that is not written yet.
        if signal == Signal::Finish && !finishing && !conn.reading_head() && !conn.owes_answer() {
            // The answer to the next request says that it is the last one; one that has begun could not.
            if lingers(conn) {
                let linger = || Box::pin(tokio::time::sleep(LINGER));
                if conn.is_answering() || until.get_or_insert_with(linger).as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
            finishing = true;
            finish(connection.as_mut());
            return connection.as_mut().poll(cx).map_ok(|()| Ended::Done);
        }
        if signal == Signal::None && rests(conn) { Poll::Ready(Ok(Ended::Rests)) } else { Poll::Pending }
    })
    .await;
    ended.unwrap_or_else(|error| {
        tracing::debug!(peer = %conn.peer(), %error, "connection ended");
        Ended::Broken
    })
}

/// Ends early with none when the worker asks for the connection to be closed before its next request.
struct Interruptible<'a, F> {
    conn: &'a Conn,
    inner: Pin<&'a mut F>,
}

impl<F: Future> Future for Interruptible<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.inner.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        if self.conn.poll_signal(cx) == Signal::None { Poll::Pending } else { Poll::Ready(None) }
    }
}

/// Runs HTTP/2 streams on the connection's own worker.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
