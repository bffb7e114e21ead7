//! The last score of each endpoint. Never decides what a score is, and never forgets the endpoints of a call within
//! [`KEPT`] of it.

use core::hash::{BuildHasherDefault, Hasher};
use core::time::Duration;
use std::collections::HashMap;

/// How long the score of an endpoint that is not asked about any more is kept, at least.
const KEPT: Duration = Duration::from_secs(60);

/// A score and when it was given.
pub(crate) struct Past {
    id: u64,
    pub(crate) score: f32,
    pub(crate) at: Duration,
}

/// Scores by endpoint id. A host asks about the same endpoints in the same order nearly always, so an endpoint is first
/// looked for behind the one before it, and hashed only where another stands there.
#[derive(Default)]
pub(crate) struct History {
    /// In the order of their first calls, so that the endpoints of a cluster are neighbours.
    all: Vec<Past>,
    /// Where each id is in `all`.
    places: HashMap<u64, usize, BuildHasherDefault<IdHasher>>,
    /// Behind the endpoint that was looked for last.
    next: usize,
}

impl History {
    /// What is known of an endpoint; a new one has just been given `score`.
    pub(crate) fn of(&mut self, id: u64, now: Duration, score: f32) -> &mut Past {
        let mut place = self.next;
        if self.all.get(place).is_none_or(|past| past.id != id) {
            place = *self.places.entry(id).or_insert(self.all.len());
        }
        self.next = place + 1;
        if place == self.all.len() {
            self.all.push(Past { id, score, at: now });
        }
        &mut self.all[place]
    }

    /// Drops what is past [`KEPT`], once there is much more than the `asked` endpoints of a call: one instance may
    /// weigh several clusters in turn, so what one of them lacks is not gone yet.
    pub(crate) fn forget(&mut self, now: Duration, asked: usize) {
        if self.all.len() > 2 * asked + 1024 {
            self.all.retain(|past| now.saturating_sub(past.at) < KEPT);
            self.places = self.all.iter().enumerate().map(|(place, past)| (past.id, place)).collect();
        }
    }
}

/// Endpoint ids are hashes already.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id;
    }
}
