//! Sockets that listen: one a worker for each address, between which the kernel shares out who comes.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use rustix::process::{Resource, getrlimit};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::sync::Semaphore;
use witgate_core::config::{self, Config};

use crate::clients::Clients;

/// Connections that may wait in the kernel for a worker.
const BACKLOG: i32 = 4096;

/// An address that is listened on, by a socket of each worker.
#[derive(Debug)]
pub struct Bound {
    /// The address, with the port that was picked where the configuration says 0.
    pub address: SocketAddr,
    /// A permit a connection, shared by the workers.
    pub permits: Arc<Semaphore>,
    /// Who has how many of them, where that is limited.
    pub clients: Arc<Clients>,
}

/// The sockets for one address: one a worker, or more of those that were inherited.
pub type Shares = Vec<TcpListener>;

/// Binds one listener's address `workers` times. `alone` says that this process has no socket yet that it could meet there.
///
/// # Errors
/// What the system says, with the listener and the address.
pub fn bind(listener: &config::Listener, workers: usize, alone: bool) -> Result<(Bound, Shares), BindError> {
    let config::Listener { name, listen: address, limits, .. } = listener;
    let explain = |source: io::Error| BindError { name: name.clone(), address: *address, source };
    // The kernel lets several sockets of one user share an address when all say so. Another process of the same user
    // would be let in as well, so a first bind without that wish asks whether the address is free.
    if alone && address.port() != 0 {
        drop(socket(*address, Use::Ask).map_err(explain)?);
    }
    let first = socket(*address, Use::Listen).map_err(explain)?;
    let address = first.local_addr().map_err(explain)?;
    let mut shares = vec![first];
    for _ in 1..workers {
        shares.push(socket(address, Use::Listen).map_err(explain)?);
    }
    Ok((Bound::at(address, limits), shares))
}

/// The same with sockets that the process has inherited, one at least. All of them are kept, whatever the number of workers:
/// the kernel has clients wait at each, and would reset them at one that is closed. Where there are more workers, others
/// are added, on which [`listen`] has to be called; or workers share one.
///
/// # Errors
/// What the system says, with the listener and the address.
pub fn adopt(
    listener: &config::Listener,
    workers: usize,
    mut given: Vec<TcpListener>,
) -> Result<(Bound, Shares), BindError> {
    let explain = |source: io::Error| BindError { name: listener.name.clone(), address: listener.listen, source };
    for socket in &given {
        socket.set_nonblocking(true).map_err(explain)?;
        SockRef::from(socket).set_tcp_nodelay(true).map_err(explain)?;
    }
    let first = given.first().ok_or_else(|| explain(io::ErrorKind::InvalidInput.into()))?;
    let address = first.local_addr().map_err(explain)?;
    let shares_address = given.iter().all(|socket| SockRef::from(socket).reuse_port().unwrap_or(false));
    for missing in 0..workers.saturating_sub(given.len()) {
        // It may be refused to a process that has no right to bind such a port any more.
        let other = if shares_address { socket(address, Use::ListenLater).ok() } else { None };
        given.push(other.map_or_else(|| given[missing].try_clone(), Ok).map_err(explain)?);
    }
    Ok((Bound::at(address, &listener.limits), given))
}

/// Has the kernel take connections, where it does not already. Only once nothing can fail: whom it has taken for a process
/// that ends is reset.
///
/// # Errors
/// What the system says.
pub fn listen(share: &TcpListener) -> io::Result<()> {
    SockRef::from(share).listen(BACKLOG)
}

impl Bound {
    fn at(address: SocketAddr, limits: &config::ListenerLimits) -> Self {
        let permits = Arc::new(Semaphore::new(permits(limits.connections)));
        Self { address, permits, clients: Arc::default() }
    }
}

/// What a socket is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// To see whether the address is free.
    Ask,
    Listen,
    ListenLater,
}

/// Permits for so many connections.
pub fn permits(connections: usize) -> usize {
    connections.min(Semaphore::MAX_PERMITS)
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
    pub source: io::Error,
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => "; another process (or another Witgate) holds it",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
        _ => "",
    }
}

fn socket(address: SocketAddr, purpose: Use) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(purpose != Use::Ask)?;
    socket.set_nonblocking(true)?;
    // Small responses must not wait for the acknowledgement of the one before. What is accepted inherits it, which saves a
    // system call for each connection.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    if purpose == Use::Listen {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

/// Each connection is a file descriptor.
pub fn warn_of_few_files(config: &Config) {
    let files = getrlimit(Resource::Nofile).current;
    let connections: usize = config.listeners.iter().map(|listener| listener.limits.connections).sum();
    if files.is_some_and(|files| files < connections as u64) {
        tracing::warn!(
            connections,
            files,
            "the listeners' limits allow more connections than the process may open files: those beyond wait until others \
             end; raise `ulimit -n` (LimitNOFILE of a systemd unit) or lower limits.connections"
        );
    }
}
