//! Arithmetic on hashes and random bits that several rooms share. Holds no seed of its own.

/// Scrambles a word so that every bit of it depends on every other: the finaliser of SplitMix64 (Steele et al. 2014).
pub(crate) fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Scales 64 evenly spread bits to [0, 1), in the 53 that an `f64` holds exactly.
pub(crate) fn fraction(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// Scales 64 evenly spread bits to 0..count by their high bits (Lemire 2019), without a division.
pub(crate) fn scale(bits: u64, count: usize) -> usize {
    ((u128::from(bits) * count as u128) >> 64) as usize
}
