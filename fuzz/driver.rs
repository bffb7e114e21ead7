//! Runs a target on stable Rust: over each file of its corpus, and over as many changed by a few bytes, from a seed.
//!
//! `WITGATE_FUZZ_ROUNDS` says how many, `WITGATE_FUZZ_SEED` which. What fails is shown; as a file of the corpus it stays found.

use std::{fs, path::Path};

/// Rounds where nothing else is said: about a second.
const ROUNDS: u64 = 5_000;

/// What changes put in: ends, separators, what begins numbers and names, and what is neither text nor UTF-8.
const BYTES: &[u8] = b"\r\n\t :;,=.\"'\\/#[]{}*%+-_09azAZ\0\x01\x7f\x80\xc3\xff";

/// Calls `check` with all of them: it panics where something is wrong, and tells whether there was anything to be checked. Of
/// what is kept in the corpus there must be.
#[track_caller]
pub fn run(target: &str, check: impl Fn(&[u8]) -> bool) {
    let seeds = corpus(target);
    assert!(!seeds.is_empty(), "no corpus of {target}");
    let check = |bytes: &[u8]| {
        let shown = Shown(bytes);
        check(shown.0)
    };
    for seed in &seeds {
        assert!(check(seed), "of no use: {}", seed.escape_ascii());
    }
    let mut random = Random(number("WITGATE_FUZZ_SEED", 1));
    for _ in 0..number("WITGATE_FUZZ_ROUNDS", ROUNDS) {
        let mut bytes = random.one(&seeds).clone();
        for _ in 0..=random.below(6) {
            change(&mut random, &seeds, &mut bytes);
        }
        check(&bytes);
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    // `host` and `host/core` are both below the root.
    let roots = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let found = roots.map(|root| root.join("fuzz/corpus").join(target)).find(|folder| folder.is_dir());
    let files = found.into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let mut files: Vec<_> = files.map(|file| file.path()).collect();
    files.sort();
    files.iter().filter_map(|file| fs::read(file).ok()).collect()
}

fn change(random: &mut Random, seeds: &[Vec<u8>], bytes: &mut Vec<u8>) {
    let at = random.below(bytes.len() + 1);
    let end = (at + random.below(24)).min(bytes.len());
    match random.below(7) {
        0 => bytes.insert(at, *random.one(BYTES)),
        1 => bytes.insert(at, random.next().to_le_bytes()[0]),
        2 => drop(bytes.drain(at..end)),
        3 => bytes.truncate(at),
        4 => {
            let piece = bytes[at..end].to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, piece);
        }
        5 => {
            let other = random.one(seeds);
            let from = random.below(other.len() + 1);
            let piece = other[from..].iter().copied().take(random.below(80)).collect::<Vec<_>>();
            bytes.splice(at..end, piece);
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = if random.below(2) == 0 { *byte ^ 1 << random.below(8) } else { *random.one(BYTES) };
            }
        }
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Shows what made a check panic.
struct Shown<'b>(&'b [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with {}", self.0.escape_ascii());
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap_or(0)
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}
