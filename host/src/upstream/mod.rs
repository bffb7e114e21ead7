//! Connections to endpoints: one pool a worker and endpoint, touched by that worker alone.

mod body;
mod channel;
mod circuit;
mod connect;
pub mod dns;
mod failure;
mod h1;
mod h2;
pub mod probe;
mod stream;
mod waiting;

use std::{
    cell::RefCell,
    sync::Arc,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;
use witgate_core::endpoint::Endpoint;

pub use body::{Behind, BodyError, BodyFate, Fate, Pace, RequestBody};
pub use channel::{Channel, Incoming};
pub use circuit::{Circuit, Full, Place};
pub use connect::{ConnectError, Target, connect, open, proxy_header};
pub use failure::{Error, Failed};
use h1::Room;
#[cfg(feature = "internals")]
pub use h1::alone;
pub use h1::{Connection, Passing, end_of_head};
use h2::Sessions;
pub use h2::join_or_connect;
pub use stream::Stream;
pub use waiting::Granted;
use waiting::Waiting;

use crate::tls;

/// A worker's idle connections, by the endpoint's identity in memory. An entry keeps its endpoint alive, so that the
/// identity cannot be taken by another one. Keys are the proxy's own: a fast hash will do.
#[derive(Default)]
pub struct Upstreams {
    pools: RefCell<Pools>,
    /// Buffers of connections that are idle now. The next request gets the one that was used last, which is in the
    /// processor's cache, whichever of a thousand endpoints it goes to.
    rooms: RefCell<Vec<Room>>,
    /// Requests that wait where connections are limited.
    waiting: Waiting,
}

/// Buffers that are kept without a use, at the most. As many as requests end before another begins, mostly.
const ROOMS: usize = 16;

struct Pool {
    endpoint: Arc<Endpoint>,
    #[expect(clippy::vec_box, reason = "a connection goes from hand to hand, and moving one costs more than it says")]
    idle: Vec<Box<Connection>>,
    /// Connections that carry requests beside each other.
    sessions: Sessions,
}

type Pools = FxHashMap<usize, Pool>;

fn identity(endpoint: &Arc<Endpoint>) -> usize {
    Arc::as_ptr(endpoint) as usize
}

fn pool_of<'p>(pools: &'p mut Pools, endpoint: &Arc<Endpoint>) -> &'p mut Pool {
    pools.entry(identity(endpoint)).or_insert_with(|| Pool {
        endpoint: Arc::clone(endpoint),
        idle: Vec::new(),
        sessions: Sessions::default(),
    })
}

impl Upstreams {
    /// The connection that was used last (the rest may then grow old and be closed), if an open one is idle.
    pub fn take(&self, endpoint: &Arc<Endpoint>, tls: Option<&Arc<tls::Client>>) -> Option<Box<Connection>> {
        let mut pools = self.pools.borrow_mut();
        let pool = pools.get_mut(&identity(endpoint))?;
        while let Some(mut connection) = pool.idle.pop() {
            if connection.suits(tls) && connection.is_open() {
                if let Some(place) = connection.place_mut() {
                    place.wake();
                }
                connection.move_in(self.rooms.borrow_mut().pop().unwrap_or_default());
                return Some(connection);
            }
        }
        None
    }

    /// Takes a connection back that can carry another request.
    pub fn give_back(&self, connection: Box<Connection>) {
        let Some(mut connection) = self.hand_on(connection) else { return };
        let room = connection.move_out();
        let mut rooms = self.rooms.borrow_mut();
        if rooms.len() < ROOMS {
            rooms.push(room);
        }
        let mut pools = self.pools.borrow_mut();
        let pool = pool_of(&mut pools, connection.endpoint());
        if pool.idle.len() < connection.limits().idle {
            pool.idle.push(connection);
        }
    }

    /// Closes what was idle for too long or was closed by the other side.
    pub fn reap(&self, now: Instant) {
        self.pools.borrow_mut().retain(|_, pool| {
            let fresh = |c: &Connection| now.saturating_duration_since(c.idle_since()) < c.limits().idle_timeout;
            pool.idle.retain_mut(|c| fresh(c) && c.is_open());
            pool.sessions.open.retain(|session| session.is_open() && !session.is_stale(now));
            !pool.idle.is_empty() || !pool.sessions.is_empty()
        });
    }

    /// Closes the idle connections of endpoints that are no longer wanted.
    pub fn keep_only(&self, wanted: impl Fn(&Arc<Endpoint>) -> bool) {
        self.pools.borrow_mut().retain(|_, pool| {
            let is_wanted = wanted(&pool.endpoint);
            if !is_wanted {
                pool.idle.clear();
                pool.sessions.open.clear();
            }
            is_wanted || !pool.sessions.is_empty()
        });
    }
}

/// How often idle connections are looked at.
pub const REAP_INTERVAL: Duration = Duration::from_secs(1);
