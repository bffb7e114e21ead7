//! Candidates that belong to several levels of a cluster. A level's share is decided elsewhere: here nothing moves it.

use super::{narrow, sampler::Sampler, shares::shares, wide};
use crate::hash::fraction;

/// Which candidate belongs to which level. Only where there are several.
#[derive(Debug)]
pub(super) struct Levels {
    /// By position.
    of: Box<[u16]>,
    all: Box<[Level]>,
}

#[derive(Debug)]
struct Level {
    share: f64,
    /// Ascending.
    positions: Box<[u32]>,
    /// Draws from `positions`, by weight.
    sampler: Sampler,
}

impl Levels {
    /// `of` is the level of each candidate, `shares` are those of the levels, with the sum 1.
    pub(super) fn new(of: Box<[u16]>, shares: &[f64], weights: &[u32]) -> Self {
        let level = |(level, share): (usize, &f64)| {
            let positions = of.iter().enumerate().filter(|(_, of)| usize::from(**of) == level);
            let positions: Box<[u32]> = positions.map(|(position, _)| narrow(position)).collect();
            let weights: Vec<u32> = positions.iter().map(|&p| weights[wide(p)]).collect();
            Level { share: *share, positions, sampler: Sampler::by_weight(&weights) }
        };
        let all = shares.iter().enumerate().map(level).collect();
        Self { of, all }
    }

    /// Another candidate of the same level, by weight; the same one where there is no other.
    pub(super) fn draw_other(&self, first: usize, random: &mut dyn FnMut() -> u64) -> usize {
        let Level { positions, sampler, .. } = &self.all[usize::from(self.of[first])];
        let rank = positions.binary_search(&narrow(first)).unwrap_or(0);
        wide(positions[sampler.draw_other(rank, random)])
    }

    /// The candidates of one level, chosen by its share.
    pub(super) fn draw(&self, bits: u64) -> &[u32] {
        let mut left = fraction(bits);
        let chosen = self.all.iter().find(|level| {
            left -= level.share;
            left < 0.0
        });
        // What rounding leaves over is the last one's.
        chosen.or(self.all.last()).map_or(&[], |level| &level.positions)
    }

    /// Shares of all candidates by their scores, within the share of their level. One whose scores are all 0 leaves its
    /// share to the others. None where all scores are 0.
    pub(super) fn shares(&self, scores: &[f32], weights: &[u32]) -> Option<Vec<f64>> {
        let mut all = vec![0.0; self.of.len()];
        let mut taken = 0.0;
        for Level { share, positions, .. } in &self.all {
            let of_level: (Vec<f32>, Vec<u32>) = positions.iter().map(|&p| (scores[wide(p)], weights[wide(p)])).unzip();
            let Some(within) = shares(&of_level.0, &of_level.1) else { continue };
            taken += share;
            positions.iter().zip(within).for_each(|(&p, within)| all[wide(p)] = share * within);
        }
        all.iter_mut().for_each(|share| *share /= taken);
        (taken > 0.0).then_some(all)
    }
}
