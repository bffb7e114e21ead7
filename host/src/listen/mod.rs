//! The front door: binds, accepts and hands sockets to the protocol. No byte is read without a permit.

pub mod http;
mod io;
#[cfg(test)]
mod tests;

use std::{
    io as stdio,
    net::{SocketAddr, TcpListener as StdListener},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::{
    drain::Phase,
    worker::{
        Worker,
        conn::{Conn, Signal},
    },
};

/// Connections that may wait in the kernel for a worker.
const BACKLOG: i32 = 4096;

/// How long a worker waits after an accept failed for want of something (file descriptors, memory): long enough not to
/// spin, short enough not to be noticed once there is room again.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(50);

/// One listener's sockets, one a worker, all on the same address.
#[derive(Debug)]
pub struct Bound {
    /// The listener's name.
    pub name: String,
    /// The address, with the port that was picked where the configuration says 0.
    pub address: SocketAddr,
    /// One a worker.
    pub sockets: Vec<StdListener>,
    /// A permit a connection, shared by the workers.
    pub permits: Arc<Semaphore>,
}

/// Binds one address `workers` times.
///
/// # Errors
/// What the system says, with the listener and the address.
pub fn bind(name: &str, address: SocketAddr, workers: usize, connections: usize) -> Result<Bound, BindError> {
    let explain = |source: stdio::Error| BindError { name: name.to_owned(), address, source };
    // The kernel lets several sockets of one user share an address when all say so. Another process of the same user
    // would be let in as well, so a first bind without that wish asks whether the address is free.
    if address.port() != 0 {
        drop(socket(address, false).map_err(explain)?);
    }
    let first = socket(address, true).map_err(explain)?;
    let bound = first.local_addr().map_err(explain)?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(socket(bound, true).map_err(explain)?);
    }
    let permits = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
    Ok(Bound { name: name.to_owned(), address: bound, sockets, permits })
}

/// An address could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("listener \"{name}\" cannot listen on {address}: {source}{}", hint(source))]
pub struct BindError {
    /// The listener's name.
    pub name: String,
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the system said.
    pub source: stdio::Error,
}

fn hint(source: &stdio::Error) -> &'static str {
    match source.kind() {
        stdio::ErrorKind::AddrInUse => "; another process (or another Witgate) holds it",
        stdio::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        stdio::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
        _ => "",
    }
}

fn socket(address: SocketAddr, reuse_port: bool) -> stdio::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    // Small responses must not wait for the acknowledgement of the one before. What is accepted inherits it, which saves a
    // system call for each connection.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    if reuse_port {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

/// Accepts on one worker until the drain begins, then takes what already waits in the kernel and closes the socket.
pub async fn accept(worker: Rc<Worker>, listener: usize, socket: StdListener, permits: Arc<Semaphore>) {
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "listener cannot be polled"),
    };
    let mut phase = worker.drain.watch();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = phase.wait_for(|p| *p >= Phase::Drain) => break,
            accepted = socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                worker.cells().accept_failed.up();
                // The connection that failed is gone; want of something is not.
                if !matches!(error.kind(), stdio::ErrorKind::ConnectionAborted | stdio::ErrorKind::ConnectionReset) {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_BACK_OFF).await;
                }
                continue;
            }
        };
        // One connection a worker may wait for a permit, and no permit waits for a connection: workers share them, and
        // one that is idle must not hold what another needs.
        let permit = tokio::select! {
            biased;
            permit = Arc::clone(&permits).acquire_owned() => permit,
            _ = phase.wait_for(|p| *p >= Phase::Drain) => break,
        };
        let Ok(permit) = permit else { break };
        admit(&worker, listener, stream, peer, permit);
    }
    take_what_waits(&worker, listener, socket, &permits);
}

/// Clients whose connections the kernel has completed would be reset by the close: they are served their one request.
/// The kernel itself is asked, because the runtime may not know yet of all that waits, and ends a task's turn early.
fn take_what_waits(worker: &Rc<Worker>, listener: usize, socket: TcpListener, permits: &Arc<Semaphore>) {
    let Ok(socket) = socket.into_std() else { return };
    while let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
        match socket.accept() {
            Ok((stream, peer)) => {
                if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                    admit(worker, listener, stream, peer, permit);
                }
            }
            Err(error)
                if matches!(error.kind(), stdio::ErrorKind::ConnectionAborted | stdio::ErrorKind::Interrupted) => {}
            // Nothing waits any more, or nothing can be had.
            Err(_) => return,
        }
    }
}

fn admit(
    worker: &Rc<Worker>,
    listener: usize,
    stream: TcpStream,
    peer: SocketAddr,
    permit: tokio::sync::OwnedSemaphorePermit,
) {
    worker.cells().accepted.up();
    let generation = worker.live.load();
    let settings = generation.config.listeners.get(listener);
    let trusted = settings.is_some_and(|l| crate::proxy::is_trusted(&l.trusted_proxies, peer.ip().to_canonical()));
    let header_bytes = settings.map_or(0, |l| l.limits.header_bytes);
    let conn = Conn::new(listener, peer, trusted, header_bytes);
    // Here and not in the task: a drain that begins before the task does must know of it.
    let registered = worker.connections.add(Rc::clone(&conn));
    if worker.drain.phase() > Phase::Serve {
        conn.ask(Signal::Finish);
    }
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        http::serve(&worker, &conn, stream).await;
        worker.cells().closed.up();
        drop((registered, permit));
    });
}
