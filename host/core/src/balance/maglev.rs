//! The Maglev table (Eisenbud et al., NSDI 2016, section 3.4): more even than a ring, and nearly as consistent. Never
//! looks at an endpoint.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::consistent::{Consistent, Member};
use crate::hash::mix;

/// Slots; a prime, the paper's and Envoy's default. 256 KiB.
const SLOTS: u64 = 65_537;
/// Slots where endpoints are too many for that; a prime, the paper's large table.
const MANY_SLOTS: u64 = 655_373;

const FREE: u32 = u32::MAX;

/// Endpoints take turns in claiming the next free slot of their own permutation of the slots, an endpoint of less than
/// the greatest weight in so many fewer rounds (as Envoy does it). Members are sorted by id, so that the table does
/// not depend on the order in a file.
pub(super) fn table(members: &[Member]) -> Consistent {
    let slots = if members.len() as u64 > SLOTS / 2 { MANY_SLOTS } else { SLOTS };
    let heaviest = members.iter().map(|&(_, _, weight)| u64::from(weight)).max().unwrap_or(1);
    let mut owners = vec![FREE; slots as usize].into_boxed_slice();
    let mut permutations: Vec<_> = members.iter().map(|&(id, _, _)| Permutation::new(id, slots)).collect();
    // By the round of the next claim: rounds in which an endpoint of small weight does nothing cost nothing.
    let mut claims: BinaryHeap<_> = (0..members.len()).map(|i| Reverse((1, i, 0u64))).collect();
    let mut free = slots;
    while free > 0
        && let Some(Reverse((_, i, claimed))) = claims.pop()
    {
        let (_, position, weight) = members[i];
        let slot = permutations[i].next_free(&owners);
        owners[slot] = position;
        free -= 1;
        let claimed = claimed + 1;
        claims.push(Reverse(((claimed * heaviest).div_ceil(u64::from(weight)).max(claimed + 1), i, claimed)));
    }
    Consistent::table(owners)
}

/// `offset + j × skip` modulo a prime visits every slot once.
struct Permutation {
    next: u64,
    skip: u64,
    slots: u64,
}

impl Permutation {
    fn new(id: u64, slots: u64) -> Self {
        Self { next: mix(id) % slots, skip: mix(!id) % (slots - 1) + 1, slots }
    }

    /// Only while a slot is free.
    fn next_free(&mut self, owners: &[u32]) -> usize {
        loop {
            let slot = self.next as usize;
            self.next = (self.next + self.skip) % self.slots;
            if owners[slot] == FREE {
                return slot;
            }
        }
    }
}
