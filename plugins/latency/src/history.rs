//! The last score of each endpoint. Never decides what a score is, and never forgets the endpoints of a call within
//! [`KEPT`] of it.

use core::hash::{BuildHasherDefault, Hasher};
use core::ops::Range;
use core::slice;
use core::time::Duration;
use std::collections::HashMap;

/// How long the score of an endpoint that is not asked about any more is kept, at least.
const KEPT: Duration = Duration::from_secs(60);
/// So many endpoints are looked for together: one that has come or gone costs its neighbours their column, and not all.
const TOGETHER: usize = 128;

/// Scores by endpoint id, in columns. A host asks about the same endpoints in the same order nearly always, so they are
/// first looked for behind those before them, and hashed only where others stand there.
#[derive(Default)]
pub(crate) struct History {
    /// In the order of their first calls, so that the endpoints of a cluster are neighbours.
    ids: Vec<u64>,
    scores: Vec<f32>,
    /// When each score was given, in microseconds.
    given: Vec<u64>,
    /// Where each id is in the columns.
    places: HashMap<u64, usize, BuildHasherDefault<IdHasher>>,
    /// Behind the endpoint that was looked for last.
    next: usize,
}

impl History {
    /// Has each score follow its new value, and puts it in the value's place: `left` of an old score remains, by the time
    /// that has passed since it was given. That of a new endpoint is the value.
    pub(crate) fn follow(
        &mut self,
        ids: &[u64],
        now: Duration,
        values: &mut [f32],
        mut left: impl FnMut(Duration) -> f32,
    ) {
        let now = micros(now);
        let mut left = |given: u64| left(Duration::from_micros(now.saturating_sub(given)));
        for (ids, values) in ids.chunks(TOGETHER).zip(values.chunks_mut(TOGETHER)) {
            if let Some(places) = self.neighbours(ids) {
                let left = left(self.given[places.start]);
                blend(&mut self.scores[places.clone()], values, left);
                self.given[places].fill(now);
            } else {
                for (id, value) in ids.iter().zip(values) {
                    let place = self.place(*id, now, *value);
                    let left = left(self.given[place]);
                    blend(slice::from_mut(&mut self.scores[place]), slice::from_mut(value), left);
                    self.given[place] = now;
                }
            }
        }
    }

    /// Where these endpoints are, if side by side in this order and with scores of one time.
    fn neighbours(&mut self, ids: &[u64]) -> Option<Range<usize>> {
        let first = *ids.first()?;
        let start = if self.ids.get(self.next) == Some(&first) { self.next } else { *self.places.get(&first)? };
        let places = start..start + ids.len();
        let (known, given) = (self.ids.get(places.clone())?, self.given.get(places.clone())?);
        // Bit by bit and to the end: that takes several at a time, where a loop that stops at the first does not.
        let others = known.iter().zip(ids).fold(0, |others, (known, id)| others | (known ^ id));
        let times = given.iter().fold(0, |times, time| times | (time ^ given[0]));
        if others != 0 || times != 0 {
            return None;
        }
        self.next = places.end;
        Some(places)
    }

    /// Where an endpoint is; a new one has just been given `score`.
    fn place(&mut self, id: u64, now: u64, score: f32) -> usize {
        let mut place = self.next;
        if self.ids.get(place) != Some(&id) {
            place = *self.places.entry(id).or_insert(self.ids.len());
        }
        self.next = place + 1;
        if place == self.ids.len() {
            self.ids.push(id);
            self.scores.push(score);
            self.given.push(now);
        }
        place
    }

    /// Drops what is past [`KEPT`], once there is much more than the `asked` endpoints of a call: one instance may
    /// weigh several clusters in turn, so what one of them lacks is not gone yet.
    pub(crate) fn forget(&mut self, now: Duration, asked: usize) {
        if self.ids.len() <= 2 * asked + 1024 {
            return;
        }
        let all = core::mem::take(self);
        for ((id, score), given) in all.ids.into_iter().zip(all.scores).zip(all.given) {
            if micros(now).saturating_sub(given) < micros(KEPT) {
                self.place(id, given, score);
            }
        }
    }
}

/// Has scores follow their values, and puts them in the values' places.
fn blend(scores: &mut [f32], values: &mut [f32], left: f32) {
    for (score, value) in scores.iter_mut().zip(values) {
        *score = *value + (*score - *value) * left;
        *value = *score;
    }
}

/// Without the 128 bits of [`Duration::as_micros`], which Wasm lacks.
fn micros(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000).saturating_add(time.subsec_micros().into())
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
