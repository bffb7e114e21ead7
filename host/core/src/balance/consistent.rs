//! From a hash to a position so that few hashes move when a position comes or goes. Never looks at an endpoint.

use crate::hash::{mix, scale};

/// Points of an endpoint of average weight, at most: its share is then true to within 2 % (1/√points).
const POINTS: u64 = 8192;
/// Points of a whole ring, at most: 6 MiB. 10,000 endpoints get 26 to 52 each.
const MAX_RING: u64 = 1 << 19;

/// One endpoint: its id, which alone says where its points lie, its position, and its weight above 0.
pub(super) type Member = (u64, u32, u32);

/// Slots in a circle, each owned by a position.
#[derive(Debug)]
pub(super) struct Consistent {
    /// Where each slot ends, ascending; empty where all slots are of one size.
    ends: Box<[u64]>,
    owners: Box<[u32]>,
}

impl Consistent {
    /// Slots of one size.
    pub(super) fn table(owners: Box<[u32]>) -> Self {
        Self { ends: Box::default(), owners }
    }

    /// The positions that own the slot of this hash and those after it, once around.
    pub(super) fn walk(&self, hash: u64) -> impl Iterator<Item = usize> + '_ {
        let start = if self.ends.is_empty() {
            scale(hash, self.owners.len())
        } else {
            self.ends.partition_point(|&end| end < hash) % self.owners.len()
        };
        let (before, from) = self.owners.split_at(start);
        from.iter().chain(before).map(|&owner| owner as usize)
    }
}

/// A hash ring (Karger et al. 1997, with the points of libketama): a hash belongs to the first point at or after it.
///
/// An endpoint has weight × k points, and k is a power of two that is the same for all: the largest with at most
/// [`POINTS`] for an endpoint of average weight and [`MAX_RING`] in all. As k depends on the others only in such
/// leaps, an endpoint that comes takes its share from the others, one that goes leaves it to them, and nothing else
/// moves, unless k leaps.
pub(super) fn ring(members: &[Member]) -> Consistent {
    let total: u64 = members.iter().map(|&(_, _, weight)| u64::from(weight)).sum::<u64>().max(1);
    let points = (POINTS * members.len() as u64).clamp(1, MAX_RING);
    // As the weights may sum to more than there are points, k may be below 1: 2^up / 2^down.
    let (up, down) = ((points / total).checked_ilog2().unwrap_or(0), ceil_log2(total.div_ceil(points)));
    let mut ring = Vec::with_capacity(points as usize);
    for &(id, position, weight) in members {
        let count = ((u64::from(weight) << up) >> down).max(1);
        ring.extend((0..count).map(|point| (mix(id ^ mix(point)), position)));
    }
    ring.sort_unstable();
    Consistent { ends: ring.iter().map(|&(end, _)| end).collect(), owners: ring.iter().map(|&(_, p)| p).collect() }
}

fn ceil_log2(n: u64) -> u32 {
    n.max(1).next_power_of_two().ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(what: &str, weights: &[u32], min: usize, max: usize) {
        let members: Vec<Member> = (0u32..).zip(weights).map(|(p, &w)| (mix(u64::from(p)), p, w)).collect();
        let points = ring(&members).owners.len();
        assert!((min..=max).contains(&points), "{what}: {points} points, want {min} to {max}");
    }

    #[test]
    fn rings_are_large_enough_and_bounded() {
        check("one", &[1], 4096, 16_384);
        check("three", &[1; 3], 4096, 32_768);
        check("three heavy", &[65_535; 3], 4096, 32_768);
        check("ten thousand", &[1; 10_000], 10_000 << 4, MAX_RING as usize);
        check("ten thousand heavy", &[65_535; 10_000], 10_000 << 4, MAX_RING as usize);
        check("one heavy", &[&[65_535][..], &[1; 9_999]].concat(), 10_000, MAX_RING as usize + 10_000);
    }
}
