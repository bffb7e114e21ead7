//! How one candidate of a picker is picked: positions in, a position out. Never asks who is eligible.

use std::time::Instant;

use super::{Picker, sampler::Sampler, wide};
use crate::hash::{mix, scale};

/// Draws before the search for an endpoint that was not tried goes on in order.
const REDRAWS: usize = 4;
/// Slots of a ring or table that are looked at for an endpoint that was not tried. Only where most of the traffic is
/// owned by endpoints that are out does a pick need more; it then takes one of the others by the hash alone.
const WALK: usize = 128;

impl Picker {
    pub(super) fn less_loaded(&self, sampler: &Sampler, tried: &[u32], random: &mut dyn FnMut() -> u64) -> usize {
        let (first, other) = self.two(sampler, tried, random);
        let (load, other_load) = if sampler.is_even() {
            (self.in_flight(first), self.in_flight(other))
        } else {
            let bits = random();
            (self.unit_load(first, bits as u32), self.unit_load(other, (bits >> 32) as u32))
        };
        if other_load < load { other } else { first }
    }

    pub(super) fn cheaper(
        &self,
        sampler: &Sampler,
        tried: &[u32],
        now: Instant,
        random: &mut dyn FnMut() -> u64,
    ) -> usize {
        let (first, other) = self.two(sampler, tried, random);
        let cost =
            |p: usize| self.base.endpoints[wide(self.base.indices[p])].cost(now) / f64::from(self.base.weights[p]);
        if other != first && cost(other) < cost(first) { other } else { first }
    }

    /// Two candidates of one level, drawn by weight; one twice where there is no other.
    #[inline]
    fn two(&self, sampler: &Sampler, tried: &[u32], random: &mut dyn FnMut() -> u64) -> (usize, usize) {
        let first = self.untried(tried, || sampler.draw(random()));
        let other = match &self.base.levels {
            None => sampler.draw_other(first, random),
            Some(levels) => levels.draw_other(first, random),
        };
        if other == first || self.is_tried(other, tried) {
            return (first, self.another(first, other, tried));
        }
        (first, other)
    }

    /// The next from `other` on that was not tried and is not `first`; that where there is none.
    #[cold]
    fn another(&self, first: usize, other: usize, tried: &[u32]) -> usize {
        // To go on in order would lead out of the level.
        let steps = if self.base.levels.is_some() { 0 } else { tried.len() + 2 };
        self.step_on(other, steps, |p| p != first && !self.is_tried(p, tried)).unwrap_or(first)
    }

    #[inline]
    fn in_flight(&self, position: usize) -> u64 {
        u64::from(self.base.endpoints[wide(self.base.indices[position])].in_flight())
    }

    /// Requests in flight at a random one of the `weight` units that share the endpoint's requests evenly: in-flight
    /// / weight, rounded up as often as its fraction says.
    fn unit_load(&self, position: usize, bits: u32) -> u64 {
        let in_flight = (self.in_flight(position) * u64::from(self.base.unit)) as f64;
        (in_flight / f64::from(self.base.weights[position]) + f64::from(bits) / 4_294_967_296.0) as u64
    }

    /// By the ring or the table; where loads are bounded, past whoever has no room.
    pub(super) fn by_hash(&self, hash: u64, tried: &[u32]) -> usize {
        match self.base.most_in_flight() {
            None => self.by_table(hash, tried, tried.len() + 1, |_| true),
            Some(most) => self.by_table(hash, tried, self.eligible_count(), |p| {
                (self.in_flight(p) as f64) < (most * f64::from(self.base.lasting[p])).ceil()
            }),
        }
    }

    /// The first in the table that may be and has room; else the first such of `steps` others, and at last whoever was not
    /// tried.
    fn by_table(&self, hash: u64, tried: &[u32], steps: usize, has_room: impl Fn(usize) -> bool) -> usize {
        let table = self.base.consistent();
        let wanted = |p: usize| self.is_live(p) && !self.is_tried(p, tried);
        if let Some(position) = table.walk(hash).take(WALK).find(|&p| wanted(p) && has_room(p)) {
            return position;
        }
        let start = self.nth_live(scale(mix(hash), self.eligible_count()));
        let found = self.step_on(start, steps, |p| wanted(p) && has_room(p));
        found.or_else(|| self.step_on(start, tried.len() + 1, wanted)).unwrap_or(start)
    }

    /// What `draw` gives, unless it was tried: then what it gives next, and at last the next in order. The first draw
    /// where everything was tried.
    pub(super) fn untried(&self, tried: &[u32], mut draw: impl FnMut() -> usize) -> usize {
        let first = draw();
        if !self.is_tried(first, tried) {
            return first;
        }
        (0..REDRAWS)
            .map(|_| draw())
            .find(|&p| !self.is_tried(p, tried))
            .or_else(|| self.step_on(first, tried.len() + 1, |p| !self.is_tried(p, tried)))
            .unwrap_or(first)
    }

    /// The first of `steps` live positions from `from` on that is wanted. As many steps as there may be unwanted
    /// ones, and one more, are enough.
    fn step_on(&self, from: usize, steps: usize, wanted: impl Fn(usize) -> bool) -> Option<usize> {
        let count = self.eligible_count();
        let start = match &self.scored {
            Some(scored) => scored.live.partition_point(|&p| wide(p) < from),
            None => from,
        };
        (0..steps.min(count)).map(|step| self.nth_live((start + step) % count)).find(|&p| wanted(p))
    }

    #[inline]
    pub(super) fn nth_live(&self, n: usize) -> usize {
        match &self.scored {
            Some(scored) => wide(scored.live[n]),
            None => n,
        }
    }

    #[inline]
    pub(super) fn is_live(&self, position: usize) -> bool {
        self.scored.as_ref().is_none_or(|scored| scored.shares[position] > 0.0)
    }

    #[inline]
    fn is_tried(&self, position: usize, tried: &[u32]) -> bool {
        tried.contains(&self.base.indices[position])
    }
}
