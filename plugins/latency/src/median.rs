//! The median of a column of latencies, found by counting and not by sorting: to count what lies below a bound takes four
//! values at a time, without a branch. Never looks at what was not measured (0, or not a number).

/// Up to so many latencies each is compared with each.
const FEW: usize = 16;
/// Positive numbers are in the order of their bits, and those that differ only in these lie within 1/64 of each other.
const FINE: u32 = 17;
/// A median that moved is looked for within an eighth of the last one first.
const NEAR: i32 = 8;
/// The bits of the greatest number.
const GREATEST: i32 = f32::INFINITY.to_bits().cast_signed();
/// Above the bits of each number, without the fine ones.
const END: i32 = (GREATEST >> FINE) + 1;

/// Finds medians, each near where the last one was.
#[derive(Default)]
pub(crate) struct Median {
    /// Bits of the last one, without the fine ones: latencies change slowly, so that most searches end here.
    last: i32,
}

impl Median {
    /// One of the latencies, up to 1/64 less than the median; the median itself of no more than [`FEW`], and where no other
    /// is so near. None where nothing was measured.
    pub(crate) fn of(&mut self, latencies: &[f32]) -> Option<f32> {
        let [unmeasured, numbers, low, high] =
            below(latencies, [1, GREATEST + 1, self.last << FINE, (self.last + 1) << FINE]);
        if numbers == unmeasured {
            return None;
        }
        let rank = unmeasured + (numbers - unmeasured) / 2;
        if latencies.len() <= FEW {
            return latencies.iter().copied().find(|latency| {
                let [low, high] = below(latencies, [bits(*latency), bits(*latency).saturating_add(1)]);
                low <= rank && rank < high
            });
        }
        if low > rank || rank >= high {
            self.last = search(latencies, rank, self.last);
        }
        // What is below wraps around, to above all others.
        let from = (self.last << FINE).max(1).cast_unsigned();
        let least = latencies.iter().map(|latency| latency.to_bits().wrapping_sub(from)).fold(u32::MAX, u32::min);
        Some(f32::from_bits(from + least))
    }
}

/// Where the latency of this rank is: around `near`, and if it is not there, by halves of all.
fn search(latencies: &[f32], rank: usize, near: i32) -> i32 {
    let (mut low, mut high) = (0, END);
    let mut around = [near - NEAR, near + NEAR].into_iter();
    while high - low > 1 {
        let inside = around.next().filter(|bound| (low + 1..high).contains(bound));
        let bound = inside.unwrap_or(low + (high - low) / 2);
        let [count] = below(latencies, [bound << FINE]);
        if count > rank { high = bound } else { low = bound }
    }
    low
}

/// How many have bits below each of the bounds.
fn below<const N: usize>(latencies: &[f32], bounds: [i32; N]) -> [usize; N] {
    let mut counts = [0; N];
    for latency in latencies {
        for (count, bound) in counts.iter_mut().zip(bounds) {
            *count += usize::from(bits(*latency) < bound);
        }
    }
    counts
}

/// Less than 1 where it is negative or 0.
fn bits(latency: f32) -> i32 {
    latency.to_bits().cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The median by sorting.
    fn sorted(latencies: &[f32]) -> Option<f32> {
        let mut measured: Vec<f32> = latencies.iter().copied().filter(|latency| *latency > 0.0).collect();
        measured.sort_by(f32::total_cmp);
        measured.get(measured.len() / 2).copied()
    }

    /// `finder` has found others before.
    #[track_caller]
    fn check(finder: &mut Median, latencies: &[f32]) {
        let (found, exact) = (finder.of(latencies), sorted(latencies));
        let right = match (found, exact) {
            (Some(found), Some(exact)) if latencies.len() > FEW => {
                found <= exact && found >= exact * 63.0 / 64.0 && latencies.contains(&found)
            }
            _ => found == exact,
        };
        assert!(right, "found {found:?} for {exact:?} of {latencies:?}");
        assert_eq!(found, Median::default().of(latencies), "by another way: {latencies:?}");
    }

    #[test]
    fn it_is_the_one_in_the_middle() {
        let mut finder = Median::default();
        for latencies in [
            &[][..],
            &[0.0],
            &[7.0],
            &[1.0, 2.0],
            &[3.0, 1.0, 2.0],
            &[0.0, 5.0, 5.0, -1.0, f32::NAN, 9.0],
            &[-f32::NAN, -0.0, 1e-45],
            &[f32::INFINITY, f32::MAX, f32::INFINITY],
            &[1e-45; 40],
            [[0.0, 1e-45, 1e-45]; 12].as_flattened(),
            &[f32::INFINITY; 40],
            &[f32::NAN; 40],
            &[12.5; 513],
        ] {
            check(&mut finder, latencies);
        }
    }

    #[test]
    fn it_is_near_whatever_the_latencies() {
        let mut random = 1u64;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 40) as u32
        };
        let mut finder = Median::default();
        for round in 0..400 {
            let (count, spread) = (next() % 700, next() % 31);
            let latencies: Vec<f32> = (0..count)
                .map(|_| match next() % 16 {
                    0 => 0.0,
                    // Bits of any number, also of none, in some rounds; numbers around one elsewhere.
                    _ if round % 4 == 0 => f32::from_bits(next() << 8 | next() & 0xff),
                    _ => f32::from_bits(20.0_f32.to_bits().wrapping_add(next() & ((1 << spread) - 1))),
                })
                .collect();
            check(&mut finder, &latencies);
        }
    }
}
