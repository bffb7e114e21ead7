//! The front door: binds, accepts and hands sockets to the protocol. No byte is read without a permit.

pub mod http;
mod io;
mod peek;
mod proxy_protocol;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;

use std::{
    collections::HashMap,
    convert::Infallible,
    io as stdio,
    net::SocketAddr,
    os::fd::AsFd,
    pin::pin,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
};
use witgate_core::config::{ProxyProtocol, Service};

use crate::{
    clients::Counted,
    control::{Lenders, Order},
    drain::Phase,
    generation::Generation,
    tls::Server,
    worker::{
        Worker,
        conn::{Conn, Signal},
    },
};

/// How often it is looked whether the connections of a closed socket are gone.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a worker waits after an accept failed for want of something (file descriptors, memory): long enough not to
/// spin, short enough not to be noticed once there is room again.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(50);

/// Does what one worker is told to until the drain begins; returns once all that waited in the kernel by then was let in.
pub async fn obey(worker: Rc<Worker>, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut accepting = All::new();
    loop {
        let order = tokio::select! {
            biased;
            () = worker.drain.reached(Phase::Drain) => break,
            order = orders.recv() => order,
        };
        let Some(order) = order else { break };
        carry_out(&worker, order, &mut accepting).await;
    }
    orders.close();
    while let Ok(order) = orders.try_recv() {
        carry_out(&worker, order, &mut accepting).await;
    }
    for Accepting { task, socket, .. } in accepting.into_values().flatten() {
        drop(socket);
        // An accept loop does not panic; if it did, there is nothing left to wait for.
        let _ = task.await;
    }
}

/// By the socket's index: one each, but for what was inherited.
type All = HashMap<usize, Vec<Accepting>>;

/// A loop that accepts until `stop` is dropped.
struct Accepting {
    stop: oneshot::Sender<Infallible>,
    task: JoinHandle<()>,
    /// What it accepts from.
    socket: Rc<TcpListener>,
}

async fn carry_out(worker: &Rc<Worker>, order: Order, accepting: &mut All) {
    match order {
        Order::Open { socket, share, permits } => {
            let (stop, stopped) = oneshot::channel();
            let share = match TcpListener::from_std(share) {
                Ok(share) => Rc::new(share),
                Err(error) => return tracing::error!(%error, "listener cannot be polled"),
            };
            let accepts = accept(Rc::clone(worker), socket, Rc::clone(&share), permits, stopped);
            let task = tokio::task::spawn_local(accepts);
            accepting.entry(socket).or_default().push(Accepting { stop, task, socket: share });
        }
        Order::Close { socket, past } => {
            for Accepting { stop, task, .. } in accepting.remove(&socket).into_iter().flatten() {
                drop(stop);
                let _ = task.await;
            }
            // The index may be another's before they are gone.
            let mut conns = Vec::new();
            worker.connections.each(|conn| {
                if conn.socket == socket {
                    conns.push(Rc::downgrade(conn));
                }
            });
            tokio::task::spawn_local(finish(conns, past));
        }
        Order::Renew { socket } => worker.connections.each(|conn| {
            if conn.socket == socket {
                conn.ask(Signal::Finish);
            }
        }),
        Order::Lend(lenders) => lend(accepting, &lenders),
        Order::Withhold(permits) => {
            tokio::task::spawn_local(async move {
                if let Ok(permits) = permits.await {
                    permits.forget();
                }
            });
        }
    }
}

fn lend(accepting: &All, lenders: &Lenders) {
    for (index, Accepting { socket, .. }) in
        accepting.iter().flat_map(|(index, all)| all.iter().map(move |one| (*index, one)))
    {
        let duplicate = socket.as_fd().try_clone_to_owned();
        // Who has given up waiting needs none.
        let _ = lenders.send(duplicate.map(|socket| (index, socket)));
    }
}

/// Has the connections finish that came by a socket which is closed, as they would in a drain. They are served as `past`
/// says, which is held until none of them is left.
async fn finish(conns: Vec<Weak<Conn>>, past: Arc<Generation>) {
    let ask = |signal| conns.iter().filter_map(Weak::upgrade).for_each(|conn| conn.ask(signal));
    ask(Signal::Finish);
    let mut left = past.config.runtime.drain_timeout;
    while !left.is_zero() && conns.iter().any(|conn| conn.strong_count() > 0) {
        let step = left.min(LOOK_INTERVAL);
        tokio::time::sleep(step).await;
        left -= step;
    }
    ask(Signal::Kill);
}

/// Accepts on one worker until it is to stop or the drain begins, then takes what already waits in the kernel and closes the
/// socket; where another process serves the same one, what waits is left to it.
async fn accept(
    worker: Rc<Worker>,
    index: usize,
    socket: Rc<TcpListener>,
    permits: Arc<Semaphore>,
    stopped: oneshot::Receiver<Infallible>,
) {
    let mut over = pin!(async {
        tokio::select! {
            _ = stopped => {}
            () = worker.drain.reached(Phase::Drain) => {}
        }
    });
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut over => break,
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
        let (permit, is_last) = tokio::select! {
            biased;
            permit = Arc::clone(&permits).acquire_owned() => (permit, false),
            () = &mut over => {
                if !worker.drain.is_served_elsewhere(index) {
                    break;
                }
                // Nobody else has this client any more. It waits for the others to finish, as it did before.
                (Arc::clone(&permits).acquire_owned().await, true)
            }
        };
        let Ok(permit) = permit else { break };
        admit(&worker, index, stream, peer, permit);
        if is_last {
            break;
        }
    }
    if !worker.drain.is_served_elsewhere(index) {
        take_what_waits(&worker, index, &socket, &permits);
    }
}

/// Clients whose connections the kernel has completed would be reset by the close: they are served their one request.
/// The kernel itself is asked, because the runtime may not know yet of all that waits, and ends a task's turn early.
fn take_what_waits(worker: &Rc<Worker>, index: usize, socket: &TcpListener, permits: &Arc<Semaphore>) {
    let socket = SockRef::from(socket);
    while let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
        match socket.accept() {
            Ok((stream, peer)) => {
                let Some(peer) = peer.as_socket() else { continue };
                if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream.into())) {
                    admit(worker, index, stream, peer, permit);
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
    socket: usize,
    stream: TcpStream,
    peer: SocketAddr,
    permit: tokio::sync::OwnedSemaphorePermit,
) {
    let generation = worker.live.load_for(socket);
    let settings = generation.listener(socket);
    let header_bytes = settings.map_or(0, |l| l.limits.header_bytes);
    let conn = Conn::new(socket, peer, trusts(&generation, socket, peer), header_bytes);
    let first = First::of(&generation, &conn);
    // Whom a proxy speaks for is known later.
    let later = first.as_ref().is_some_and(|first| first.proxy_protocol != ProxyProtocol::Off);
    let counted = if later { Ok(None) } else { counted(worker, &generation, socket, peer) };
    let Ok(counted) = counted else { return };
    worker.cells().accepted.up();
    // Here and not in the task: a drain that begins before the task does must know of it.
    let registered = worker.connections.add(Rc::clone(&conn));
    if worker.drain.phase() > Phase::Serve {
        conn.ask(Signal::Finish);
    }
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        match first {
            None => http::serve(&worker, &conn, stream).await,
            // On the heap: a connection that begins with HTTP needs no room for it.
            Some(first) => Box::pin(first.serve(&worker, &conn, stream)).await,
        }
        worker.cells().closed.up();
        drop((registered, counted, permit));
    });
}

/// A client has as many connections as it may.
struct TooMany;

/// Counts a connection of this client, where they are limited.
fn counted(
    worker: &Worker,
    generation: &Generation,
    socket: usize,
    client: SocketAddr,
) -> Result<Option<Counted>, TooMany> {
    let most = generation.listener(socket).and_then(|listener| listener.limits.connections_per_client);
    let (Some(most), Some(socket)) = (most, generation.sockets.get(socket)) else { return Ok(None) };
    let counted = socket.bound.clients.begin(client.ip().to_canonical(), most);
    if counted.is_none() {
        worker.cells().clients_refused.up();
    }
    counted.map(Some).ok_or(TooMany)
}

/// Whether a peer may speak for others.
fn trusts(generation: &Generation, socket: usize, peer: SocketAddr) -> bool {
    let settings = generation.listener(socket);
    settings.is_some_and(|l| crate::proxy::is_trusted(&l.trusted_proxies, peer.ip().to_canonical()))
}

/// What comes before HTTP, or in its place.
struct First {
    proxy_protocol: ProxyProtocol,
    tls: Option<Arc<Server>>,
    service: Service,
}

impl First {
    /// None where there is nothing but HTTP.
    fn of(generation: &Generation, conn: &Conn) -> Option<Self> {
        let index = generation.listener_index(conn.socket)?;
        let tls = generation.servers.get(index)?.clone();
        let settings = generation.config.listeners.get(index)?;
        let proxy_protocol = match settings.proxy_protocol {
            ProxyProtocol::Accept if !conn.trusted() => ProxyProtocol::Off,
            wanted => wanted,
        };
        let is_http = settings.service == Service::Http;
        let any = tls.is_some() || proxy_protocol != ProxyProtocol::Off || !is_http;
        any.then(|| Self { proxy_protocol, tls, service: settings.service.clone() })
    }

    async fn serve(self, worker: &Rc<Worker>, conn: &Rc<Conn>, mut stream: TcpStream) {
        let mut _counted = None;
        if self.proxy_protocol != ProxyProtocol::Off {
            let header = async { proxy_protocol::read(&mut stream, self.proxy_protocol).await.ok() };
            let Some(client) = http::at_first(conn, header).await else {
                worker.cells().proxy_headers_refused.up();
                return tracing::debug!(peer = %conn.peer(), "no header of the PROXY protocol");
            };
            let generation = worker.live.load_for(conn.socket);
            match counted(worker, &generation, conn.socket, client.unwrap_or(conn.peer())) {
                Ok(counted) => _counted = counted,
                Err(TooMany) => return,
            }
            if let Some(client) = client {
                conn.name(client, trusts(&generation, conn.socket, client));
            }
        }
        match (&self.service, &self.tls) {
            (Service::Tcp(to), tls) => tcp::serve(worker, conn, stream, to, tls.as_deref()).await,
            (Service::Http, None) => http::serve(worker, conn, stream).await,
            (Service::Http, Some(server)) => {
                if let Some(stream) = tls::accept(worker, conn, server, stream).await {
                    http::serve(worker, conn, stream).await;
                }
            }
        }
    }
}
