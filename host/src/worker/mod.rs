//! One worker: a thread with a runtime of its own, its own sockets, connections, plugin instances and counters. What a
//! request touches belongs to the worker, so that it meets no lock another core can hold.

pub mod conn;
pub mod deadlines;
mod requests;
pub mod takeover;

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
};
use witgate_policy::Instances;

use crate::{
    drain::Drain,
    generation::{Live, LocalLive},
    memory,
    reason::Reason,
    relay::{Ended, Relay, Side},
    telemetry::{
        Telemetry, WorkerCells,
        access_log::{AccessLog, Line, Pending},
    },
    upstream::{REAP_INTERVAL, Upstreams},
};
use conn::{Conn, Phase, Registry, Signal};
use deadlines::Deadlines;

/// How long after it was asked to finish an idle connection is cut.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long a connection is idle before it lets go of its buffers: clients that are about to ask again have done so.
const REST_AFTER: Duration = Duration::from_secs(1);

/// What belongs to one worker.
pub struct Worker {
    /// 0 to the number of workers less one.
    pub id: usize,
    /// The generation.
    pub live: LocalLive,
    /// Idle upstream connections.
    pub upstreams: Upstreams,
    /// Plugin instances. Borrowed for the time of one synchronous call only.
    pub instances: RefCell<Instances>,
    /// Downstream connections.
    pub connections: Rc<Registry>,
    /// When requests in flight must be over.
    pub deadlines: Rc<Deadlines>,
    /// Shared counters, of which [`Worker::cells`] are this worker's.
    pub telemetry: Arc<Telemetry>,
    /// The way down.
    pub drain: Drain,
    /// What is read of a connection before its protocol is known, and after it rested. Borrowed for the time of one read only.
    pub scratch: RefCell<Box<[u8; FIRST_READ]>>,
    /// What goes through the proxy as it is, on its way from one socket to the other. Borrowed for the time of one poll only.
    pub relay: RefCell<Box<[u8; RELAYED]>>,
    /// Connections that went to rest since memory was last given back.
    rested: Cell<usize>,
    /// Lines of the access log that are not handed over yet.
    lines: RefCell<Pending>,
    /// There are some.
    lines_wait: Notify,
    /// Copies of requests that are on their way to mirrors.
    pub mirrors: Cell<usize>,
    random: Cell<u64>,
    /// When a failure of endpoints was told of last.
    warned: Cell<Option<Instant>>,
}

/// Connections that have gone to rest, or are fewer than there were, before the allocator is told to give memory back: half
/// a megabyte of it at least. Where connections come as they go there is no use in it.
const GIVE_BACK_AFTER: usize = 64;

/// How long a line of the access log waits for others, with which it costs less.
const LINES_WAIT: Duration = Duration::from_millis(100);

/// How much is read at once before the protocol is known.
const FIRST_READ: usize = 4096;

/// How much is read at once of what is no HTTP, and kept each way where the other side does not take it.
const RELAYED: usize = 16 << 10;

impl Worker {
    /// A worker that is about to serve; `seed` must differ between workers.
    pub fn new(id: usize, live: Arc<Live>, telemetry: Arc<Telemetry>, drain: Drain, seed: u64) -> Rc<Self> {
        Rc::new(Self {
            id,
            live: LocalLive::new(live),
            upstreams: Upstreams::default(),
            instances: RefCell::new(Instances::default()),
            connections: Rc::new(Registry::default()),
            deadlines: Rc::new(Deadlines::default()),
            telemetry,
            drain,
            scratch: RefCell::new(Box::new([0; FIRST_READ])),
            relay: RefCell::new(Box::new([0; RELAYED])),
            rested: Cell::new(0),
            lines: RefCell::default(),
            lines_wait: Notify::new(),
            mirrors: Cell::new(0),
            random: Cell::new(seed | 1),
            warned: Cell::new(None),
        })
    }

    /// This worker's counters.
    pub fn cells(&self) -> &WorkerCells {
        self.telemetry.cells.of(self.id)
    }

    /// Counts a status that the proxy made.
    pub fn count(&self, reason: Reason) {
        if let Some(cell) = self.cells().errors.get(reason as usize) {
            cell.up();
        }
    }

    /// 64 random bits for balancing and splits, not for secrets: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    pub fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.random.set(state);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Writes a line into the access log, or rather into the buffer that is handed over to its writer.
    pub fn log(&self, log: &Arc<AccessLog>, line: &Line<'_>) {
        if self.lines.borrow_mut().add(log, line) {
            self.lines_wait.notify_one();
        }
    }

    /// Hands over lines that have waited for others to join them. Sleeps while there are none.
    pub async fn hand_over_lines(self: Rc<Self>) {
        loop {
            self.lines_wait.notified().await;
            loop {
                tokio::time::sleep(LINES_WAIT).await;
                if self.lines.borrow_mut().hand_over() {
                    break;
                }
            }
        }
    }

    /// Passes bytes on between a client and an endpoint until both have ended, one breaks, or the connection that this is all of
    /// is to be closed at once. Where that is no right end, neither side takes it for one.
    pub async fn pass_on(
        &self,
        conn: Option<&Conn>,
        client: &mut (impl AsyncRead + AsyncWrite + Unpin + Side),
        endpoint: &mut (impl AsyncRead + AsyncWrite + Unpin + Side),
        mut relay: Relay,
    ) {
        let ended: io::Result<Option<Ended>> = poll_fn(|cx| {
            if conn.is_some_and(|conn| conn.poll_signal(cx) == Signal::Kill) {
                return Poll::Ready(Ok(None));
            }
            let mut room = self.relay.borrow_mut();
            relay.poll(client, endpoint, &mut room[..], cx).map_ok(Some)
        })
        .await;
        if !matches!(ended, Ok(Some(_))) {
            client.abort();
            endpoint.abort();
        }
        tracing::debug!(?ended, "a connection that was passed on has ended");
    }

    /// Whether a failure of endpoints may be told of now: not more often than once a second.
    pub fn may_warn(&self, now: Instant) -> bool {
        let may = self.warned.get().is_none_or(|last| now.saturating_duration_since(last) >= Duration::from_secs(1));
        if may {
            self.warned.set(Some(now));
        }
        may
    }

    /// Notes that a connection let go of its buffers.
    pub fn note_rest(&self) {
        self.rested.set(self.rested.get() + 1);
    }

    /// How many have since memory was last given back.
    pub fn rested(&self) -> usize {
        self.rested.get()
    }

    /// Lets go of an old generation as soon as a new one is there, even where no request comes.
    pub async fn follow_generations(self: Rc<Self>) {
        let mut changed = self.live.shared().subscribe();
        let mut endpoints_of = self.live.load().config_serial;
        while changed.changed().await.is_ok() {
            let generation = self.live.load();
            // Weight tables are published often and change no endpoint.
            if std::mem::replace(&mut endpoints_of, generation.config_serial) == endpoints_of {
                continue;
            }
            let wanted: std::collections::HashSet<usize> =
                generation.clusters.iter().flat_map(|c| c.endpoints.iter()).map(|e| Arc::as_ptr(e) as usize).collect();
            self.upstreams.keep_only(|endpoint| wanted.contains(&(Arc::as_ptr(endpoint) as usize)));
            self.instances.borrow_mut().sweep();
        }
    }

    /// Closes idle connections for whose places somebody waits, in whichever worker.
    pub async fn make_room(self: Rc<Self>) {
        let mut crowded = self.live.shared().subscribe_crowded();
        while crowded.changed().await.is_ok() {
            self.upstreams.make_room();
        }
    }

    /// Closes what was silent for too long, upstream and downstream.
    pub async fn sweep(self: Rc<Self>) {
        let mut every = tokio::time::interval(REAP_INTERVAL / 2);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let now = Instant::now();
            self.upstreams.reap(now);
            // Generations also end where none is published: with the last connections of a socket that was closed.
            self.instances.borrow_mut().sweep();
            self.connections.each(|conn| {
                let generation = self.live.load_for(conn.socket);
                // The time of those who came by a socket that is closed is over.
                let Some(listener) = generation.listener(conn.socket) else { return conn.ask(Signal::Kill) };
                let (phase, silent) = conn.phase(now);
                match phase {
                    // A client that connects and says nothing gets no more time than one that is slow to say it.
                    Phase::Idle if conn.fresh() && silent > listener.limits.header_timeout => conn.ask(Signal::Kill),
                    // A client that does not answer HTTP/2's goodbye would be waited for without end.
                    Phase::Idle if conn.signal() == Signal::Finish && silent > GOODBYE => conn.ask(Signal::Kill),
                    Phase::Idle if silent > listener.limits.idle_timeout => conn.ask(Signal::Finish),
                    Phase::Idle if silent > REST_AFTER => conn.ask_to_rest(),
                    Phase::Head if silent > listener.limits.header_timeout => conn.ask(Signal::Kill),
                    _ => {}
                }
            });
            if self.rested() + self.connections.gone() >= GIVE_BACK_AFTER {
                self.rested.set(0);
                self.connections.forget_gone();
                memory::give_back();
            }
        }
    }
}
