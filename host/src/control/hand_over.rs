//! From one process to the next: what the one that serves lends to it, and how the next one takes it over. At no time may
//! both of them change the state.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::fd::OwnedFd,
    sync::{
        atomic::Ordering::{Acquire, Release},
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use super::{Control, Opening, Order};
use crate::generation::Owner;

/// How long workers may take to say what they accept from.
const LENT_WITHIN: Duration = Duration::from_secs(10);

/// The sockets of one listener.
pub struct Lent {
    /// Index in [`crate::generation::Generation::sockets`].
    pub socket: usize,
    /// The listener's name.
    pub name: String,
    /// Its address, as it is configured.
    pub listen: String,
    /// Duplicates of what workers accept from.
    pub files: Vec<OwnedFd>,
}

/// Sockets cannot be lent.
#[derive(Debug, thiserror::Error)]
pub enum LendError {
    /// There are no file descriptors for it, for one.
    #[error("sockets cannot be duplicated: {0}")]
    Duplicate(io::Error),
    /// They are busy with something that never ends.
    #[error("workers do not say what they listen on")]
    Silent,
}

impl Control {
    /// Refuses changes from now on, and returns once none is under way.
    pub fn freeze(&self) {
        let _turn = self.any_turn();
        self.frozen.store(true, Release);
    }

    /// Takes changes again.
    pub fn thaw(&self) {
        self.frozen.store(false, Release);
    }

    /// Whether changes are refused.
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Acquire)
    }

    /// Duplicates of all sockets that are listened on. To be called where nothing changes them.
    ///
    /// # Errors
    /// Some are missing.
    pub fn lend_sockets(&self) -> Result<Vec<Lent>, LendError> {
        let (lenders, lent) = mpsc::channel();
        for worker in &self.orders {
            // One that is gone accepts from nothing.
            let _ = worker.send(Order::Lend(lenders.clone()));
        }
        drop(lenders);
        let deadline = Instant::now() + LENT_WITHIN;
        let mut files: BTreeMap<usize, Vec<OwnedFd>> = BTreeMap::new();
        loop {
            match lent.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Ok((socket, file))) => files.entry(socket).or_default().push(file),
                Ok(Err(error)) => return Err(LendError::Duplicate(error)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => return Err(LendError::Silent),
            }
        }
        let generation = self.live.load();
        let lent = files.into_iter().filter_map(|(socket, files)| {
            let Owner::Listener(index) = generation.sockets.get(socket)?.owner else { return None };
            let listener = generation.config.listeners.get(index)?;
            Some(Lent { socket, name: listener.name.clone(), listen: listener.listen.to_string(), files })
        });
        Ok(lent.collect())
    }

    /// The state directory's lock, for a process that is to have it.
    ///
    /// # Errors
    /// There is no file descriptor for it.
    pub fn lend_lock(&self) -> io::Result<File> {
        self.store.lend_lock()
    }

    /// Has the workers accept, and makes durable what was postponed while the state was another process'.
    pub fn open(&self, opening: Opening) {
        let _turn = self.any_turn();
        let Opening { sockets, taken } = opening;
        if let Err(error) = self.store.sign() {
            tracing::warn!(%error, "whose the state directory is cannot be noted");
        }
        for taken in taken {
            let plugin = taken.name().to_owned();
            // It is live, and will be taken anew at the next start.
            if let Err(error) = taken.store(&self.store) {
                tracing::error!(plugin, %error, "the plugin's file is in use, but cannot be stored");
            }
        }
        sockets.open(&self.orders, &self.live.load());
    }
}
