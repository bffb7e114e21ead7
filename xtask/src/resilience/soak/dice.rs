//! Numbers that look random and are the same for the same seed (splitmix64).

use std::time::Duration;

pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// One of `0..count`.
    pub(super) fn below(&mut self, count: usize) -> usize {
        (self.roll() % count.max(1) as u64) as usize
    }

    /// Some time between these, in milliseconds.
    pub(super) fn between(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.roll() % (most - least).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_for_the_same_seed() {
        let rolls = |seed| {
            let mut dice = Dice(seed);
            (0..100).map(|_| (dice.below(4), dice.between(10, 20))).collect::<Vec<_>>()
        };
        assert_eq!(rolls(7), rolls(7));
        assert_ne!(rolls(7), rolls(8));
        let (least, most) = (Duration::from_millis(10), Duration::from_millis(20));
        assert!(rolls(7).iter().all(|(number, time)| *number < 4 && (least..most).contains(time)));
        assert!((0..4).all(|number| rolls(7).iter().any(|(own, _)| *own == number)), "each comes");
    }
}
