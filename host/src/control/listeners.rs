//! What is listened on, and how that changes with another configuration: bound first, published second, accepted from last.
//! A socket is known by its address, so that a listener may get another name; connections know theirs by an index that
//! stays for as long as they do.

use std::{
    io,
    net::TcpListener as StdListener,
    os::fd::OwnedFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, mpsc};
use witgate_core::config::{self, Config};

use crate::{
    generation::{Generation, Owner, Socket},
    inherited::Inherited,
    sockets::{self, BindError, Shares},
};

/// What one worker is told.
pub enum Order {
    /// To accept from its share of a socket.
    Open {
        /// Index in [`Generation::sockets`].
        socket: usize,
        /// Its own.
        share: StdListener,
        /// A permit a connection.
        permits: Arc<Semaphore>,
    },
    /// To accept no more, and have those who came by it finish.
    Close {
        /// Index in [`Generation::sockets`].
        socket: usize,
        /// The last generation that had a listener for it.
        past: Arc<Generation>,
    },
    /// To have those who came by it finish, as it is served otherwise now.
    Renew {
        /// Index in [`Generation::sockets`].
        socket: usize,
    },
    /// To say what it accepts from, for a process that is to take this one's place.
    Lend(Lenders),
    /// To keep permits back that are waited for already.
    Withhold(Withheld),
}

/// Permits that nobody shall have any more, once they are free.
type Withheld = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// Where a worker hands duplicates of its sockets, each with its index in [`Generation::sockets`].
pub type Lenders = std::sync::mpsc::Sender<io::Result<(usize, OwnedFd)>>;

/// How each worker is told, in their order.
pub type Orders = Vec<mpsc::UnboundedSender<Order>>;

/// What is listened on under another configuration. Until [`Sockets::open`] the kernel has clients wait at what is new, and
/// refuses them where this is dropped before.
pub struct Sockets {
    all: Arc<[Socket]>,
    new: Vec<(usize, Shares)>,
    gone: Vec<usize>,
    /// Served otherwise than before.
    renewed: Vec<usize>,
    /// How many connections were allowed, and are.
    resized: Vec<(Arc<Semaphore>, usize, usize)>,
}

impl Sockets {
    /// Binds what `next` listens on and `present` does not; what is inherited takes the place of a bind.
    ///
    /// # Errors
    /// What the system says, with the listener and the address.
    pub fn bind(
        next: &Config,
        present: Option<&Arc<Generation>>,
        workers: usize,
        inherited: &mut Inherited,
    ) -> Result<Self, BindError> {
        let mut all = present.map_or_else(Vec::new, |present| present.sockets.to_vec());
        let (mut new, mut gone, mut renewed, mut resized) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut missing: Vec<usize> = (0..next.listeners.len()).collect();
        for (place, socket) in all.iter_mut().enumerate() {
            let (Owner::Listener(index), Some(present)) = (&socket.owner, present) else { continue };
            let Some(before) = present.config.listeners.get(*index) else { continue };
            if let Some(found) = missing.iter().position(|index| is_same(before, &next.listeners[*index])) {
                let index = missing.remove(found);
                let count = |listener: &config::Listener| sockets::permits(listener.limits.connections);
                resized.push((Arc::clone(&socket.bound.permits), count(before), count(&next.listeners[index])));
                if !trusts_alike(before, &next.listeners[index]) {
                    renewed.push(place);
                }
                socket.owner = Owner::Listener(index);
            } else {
                socket.owner = Owner::Past(Arc::downgrade(present));
                gone.push(place);
            }
        }
        for index in missing {
            let listener = &next.listeners[index];
            // What is being closed may still be there, and so may an address that has this one in it.
            let is_other = |socket: &Socket| socket.bound.address.port() != listener.listen.port();
            let alone = all.iter().all(|socket| is_free(socket) || is_other(socket));
            let given = inherited.take(&listener.name, listener.listen);
            let (bound, shares) = if given.is_empty() {
                sockets::bind(listener, workers, alone && !inherited.has_port(listener.listen.port()))?
            } else {
                sockets::adopt(listener, workers, given)?
            };
            new.push((put(&mut all, Socket { bound: Arc::new(bound), owner: Owner::Listener(index) }), shares));
        }
        Ok(Self { all: all.into(), new, gone, renewed, resized })
    }

    /// For the generation of that configuration.
    pub fn all(&self) -> Arc<[Socket]> {
        Arc::clone(&self.all)
    }

    /// Has the workers accept from what is new, and no more from what is gone. That generation must be live: `past` was before.
    pub fn open(self, orders: &Orders, past: &Arc<Generation>) {
        for (socket, shares) in self.new {
            for (worker, share) in orders.iter().cycle().zip(shares) {
                if let Err(error) = sockets::listen(&share) {
                    tracing::error!(address = %self.all[socket].bound.address, %error, "a worker cannot listen");
                    continue;
                }
                let permits = Arc::clone(&self.all[socket].bound.permits);
                // A worker that is gone has nobody to let in.
                let _ = worker.send(Order::Open { socket, share, permits });
            }
        }
        for socket in self.renewed {
            for worker in orders {
                let _ = worker.send(Order::Renew { socket });
            }
        }
        for socket in self.gone {
            for worker in orders {
                let _ = worker.send(Order::Close { socket, past: Arc::clone(past) });
            }
        }
        for (permits, before, after) in self.resized {
            permits.add_permits(after.saturating_sub(before));
            withhold(permits, before.saturating_sub(after), orders);
        }
    }
}

/// Takes back so many permits; those that are in use as they become free, before anybody gets them who does not wait already.
fn withhold(permits: Arc<Semaphore>, count: usize, orders: &Orders) {
    let in_use = u32::try_from(count - permits.forget_permits(count)).unwrap_or(u32::MAX);
    if in_use == 0 {
        return;
    }
    let mut rest: Withheld = Box::pin(permits.acquire_many_owned(in_use));
    match (rest.as_mut().poll(&mut Context::from_waker(Waker::noop())), orders.first()) {
        (Poll::Ready(Ok(rest)), _) => rest.forget(),
        (Poll::Pending, Some(worker)) => _ = worker.send(Order::Withhold(rest)),
        _ => {}
    }
}

/// Whether it is the same socket. Where the system picks the port, there may be several for one address.
fn is_same(before: &config::Listener, next: &config::Listener) -> bool {
    before.listen == next.listen && (next.listen.port() != 0 || before.name == next.name)
}

/// Whether who is connected by the one may stay so by the other: what they had to prove, and what they are believed.
fn trusts_alike(before: &config::Listener, next: &config::Listener) -> bool {
    let proof = |listener: &config::Listener| {
        let tls = listener.tls.as_ref().map(|tls| (tls.client_ca.clone(), tls.client_auth));
        (tls, listener.proxy_protocol, listener.trusted_proxies.clone(), listener.service == config::Service::Http)
    };
    proof(before) == proof(next)
}

/// Whether nobody listens there any more, nor is here by it.
fn is_free(socket: &Socket) -> bool {
    matches!(socket.owner, Owner::Past(_)) && Arc::strong_count(&socket.bound.permits) == 1
}

/// Puts a socket where one was by which nobody is here any more, or at the end. Returns its index.
fn put(all: &mut Vec<Socket>, socket: Socket) -> usize {
    match all.iter().position(is_free) {
        Some(place) => {
            all[place] = socket;
            place
        }
        None => {
            all.push(socket);
            all.len() - 1
        }
    }
}
