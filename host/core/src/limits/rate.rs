//! How often a route is taken: a token bucket for each key, shared by all workers. Never locks, never allocates for a
//! bucket, never grows.

use std::{
    net::IpAddr,
    slice,
    sync::atomic::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
    time::{Duration, Instant},
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    config::{Key, RateLimit},
    hash::scale,
    request::Head,
    split::find_key,
};

/// Keys that are looked through for one: two cache lines of them.
const WAYS: usize = 8;
/// With [`WAYS`], 65,536 keys in one MiB. While half of them count something, one set of fifty is full (Poisson). A key counts
/// for `per` / `rate` after one request: at 5 a minute, half of them is 2,700 new clients a second.
const SETS: usize = 8_192;

/// The buckets of one route, by the generic cell rate algorithm (ITU-T I.371 annex A): a bucket is one point in time, the
/// theoretical arrival time (TAT), which each request that is let through moves on by `per` / `rate`, from now at least. A
/// request that would move it further from now than the bucket is deep (`burst` × `per` / `rate`) is refused. That is a
/// bucket of `burst` tokens into which `rate` fall every `per`: TAT less now is how long it takes to be full. `per` /
/// `rate` is in whole nanoseconds, rounded up: never more than the rate, and less by a thousandth at the most.
///
/// Keys have a bounded table, of sets of `WAYS` buckets: a key has one of its set. A bucket that is full says as much as
/// none, so a new key takes it; where all of a set count something, the one that is full soonest is taken, and whose it
/// was is forgotten, which is in that client's favour. So of more keys at once than the table holds some pass oftener than
/// they may. Of two words one cannot be read and the other changed at once: a request at the very moment at which its
/// bucket changes hands is counted to the new key, or not at all.
#[derive(Debug)]
pub struct RateLimiter {
    settings: RateLimit,
    /// Nanoseconds for one token.
    interval: u64,
    /// Nanoseconds for all of them.
    depth: u64,
    /// From where time is counted.
    origin: Instant,
    seed: u64,
    /// Empty where there are no keys.
    sets: Box<[Set]>,
    /// Of requests that have none of the keys.
    common: Common,
}

/// A bucket: its TAT in nanoseconds from the origin. Who sees that it moved sees whose it is.
#[derive(Debug, Default)]
struct Bucket(AtomicU64);

/// Apart from what every request only reads.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Common(Bucket);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Set([Slot; WAYS]);

/// Of a tag: the key has just taken the slot, and its first token is not counted yet. The bucket looks like one that anybody
/// may take, and is not.
const NEW: u64 = 1;

const _: () = assert!(size_of::<Set>() == 128, "a set is two cache lines");

#[derive(Debug, Default)]
struct Slot {
    /// The key's hash, but for the lowest bit; 0 before there was one.
    tag: AtomicU64,
    bucket: Bucket,
}

impl RateLimiter {
    /// Full buckets. Time is counted from `origin`; `seed` is any 64 bits that clients do not know, lest they choose keys
    /// that share a bucket.
    pub fn new(settings: &RateLimit, origin: Instant, seed: u64) -> Self {
        let per = u64::try_from(settings.per.as_nanos()).unwrap_or(u64::MAX);
        let interval = per.div_ceil(u64::from(settings.rate.max(1))).max(1);
        let sets = if settings.by.is_empty() { 0 } else { SETS };
        Self {
            interval,
            depth: interval.saturating_mul(u64::from(settings.burst)),
            origin,
            seed,
            sets: (0..sets).map(|_| Set::default()).collect(),
            common: Common::default(),
            settings: settings.clone(),
        }
    }

    /// What it was made of.
    pub fn settings(&self) -> &RateLimit {
        &self.settings
    }

    /// Takes a token for a request at `now`. Only an encoded query parameter as a key allocates.
    ///
    /// # Errors
    /// There is none: how long until there is.
    pub fn take(&self, head: &Head, now: Instant) -> Result<(), Duration> {
        let now = u64::try_from(now.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX);
        let taken = match self.tag(head) {
            Some(tag) => self.sets[scale(tag, self.sets.len())].take(tag, now, self.interval, self.depth),
            None => self.common.0.take(now, self.interval, self.depth),
        };
        taken.map_err(Duration::from_nanos)
    }

    /// The hash of the first key that the request has. Keys of two kinds are never one, whatever they are.
    fn tag(&self, head: &Head) -> Option<u64> {
        let hash = self.settings.by.iter().zip(0..).find_map(|(key, nth)| {
            let seed = self.seed.wrapping_add(nth);
            match key {
                Key::ClientAddress => Some(hash_client(head.client, seed)),
                key => find_key(slice::from_ref(key), head).map(|bytes| xxh3_64_with_seed(&bytes, seed)),
            }
        });
        hash.map(|hash| (hash & !NEW).max(NEW << 1))
    }
}

/// Of an IPv6 address the network counts, which is the first half: who has one address of it has all (RFC 4291 §2.5.4,
/// RFC 6177).
fn hash_client(address: IpAddr, seed: u64) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => xxh3_64_with_seed(&address.octets(), seed),
        IpAddr::V6(address) => xxh3_64_with_seed(&address.octets()[..8], seed),
    }
}

impl Bucket {
    /// A token, or how many nanoseconds it takes until there is one.
    fn take(&self, now: u64, interval: u64, depth: u64) -> Result<(), u64> {
        let next = |tat: u64| tat.max(now).saturating_add(interval);
        let full = now.saturating_add(depth);
        let taken = self.0.fetch_update(Release, Relaxed, |tat| Some(next(tat)).filter(|next| *next <= full));
        taken.map(drop).map_err(|tat| next(tat) - full)
    }
}

impl Set {
    /// A token of the key's own bucket, or else of one that it takes over.
    fn take(&self, tag: u64, now: u64, interval: u64, depth: u64) -> Result<(), u64> {
        'look: loop {
            let mut soonest = None;
            for slot in &self.0 {
                let held = slot.tag.load(Acquire);
                if held & !NEW == tag {
                    return slot.bucket.take(now, interval, depth);
                }
                // The TAT of whom it was held by, or else it may be this very key's, and another slot would be taken for it.
                let tat = slot.bucket.0.load(Acquire);
                if slot.tag.load(Acquire) != held {
                    continue 'look;
                }
                if soonest.is_none_or(|(_, held_by, least)| (held & NEW, tat) < (held_by & NEW, least)) {
                    soonest = Some((slot, held, tat));
                }
            }
            // Whoever fails was overtaken by another who did not, and looks again: it may have been the same key.
            if let Some((slot, held, tat)) = soonest
                && slot.take_over(held, tat, tag, now)
            {
                let taken = slot.bucket.take(now, interval, depth);
                let _ = slot.tag.compare_exchange(tag | NEW, tag, AcqRel, Relaxed);
                return taken;
            }
        }
    }
}

impl Slot {
    /// Makes this a full bucket of another key. Full first: the new key never sees what the old one owes.
    fn take_over(&self, held: u64, tat: u64, tag: u64, now: u64) -> bool {
        let full = tat <= now || self.bucket.0.compare_exchange(tat, now, Relaxed, Relaxed).is_ok();
        full && self.tag.compare_exchange(held, tag | NEW, AcqRel, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn limiter(rate: u32, per: Duration, burst: u32, by: Vec<Key>) -> (RateLimiter, Instant) {
        let origin = Instant::now();
        (RateLimiter::new(&RateLimit { rate, per, burst, by }, origin, 7), origin)
    }

    fn by_header() -> Vec<Key> {
        vec![Key::Header("x-user".parse().unwrap())]
    }

    fn user(name: &str) -> Head {
        let mut head = Head::default();
        head.headers.insert("x-user", name.parse().unwrap());
        head
    }

    fn client(address: &str) -> Head {
        Head { client: address.parse().unwrap(), ..Head::default() }
    }

    /// How many of `asked` requests are let through, all at the same time.
    fn passed(limiter: &RateLimiter, head: &Head, now: Instant, asked: usize) -> usize {
        (0..asked).filter(|_| limiter.take(head, now).is_ok()).count()
    }

    /// After a burst, requests that come much too often pass at exactly the rate.
    #[track_caller]
    fn check_rate(rate: u32, per: Duration, burst: u32, step: Duration, steps: u32) {
        let (limiter, origin) = limiter(rate, per, burst, Vec::new());
        let head = Head::default();
        let got: usize = (0..=steps).map(|n| passed(&limiter, &head, origin + step * n, burst as usize + 1)).sum();
        let over = step * steps;
        let want = f64::from(burst) + over.as_secs_f64() * f64::from(rate) / per.as_secs_f64();
        let got = got as f64;
        assert!(
            got <= want && got > want * 0.999 - 1.0,
            "{rate} per {per:?}, {burst} at once, over {over:?}: {got} of {want}"
        );
    }

    #[test]
    fn the_rate_is_kept_over_time() {
        let ms = Duration::from_millis;
        check_rate(100, ms(1_000), 50, ms(1), 20_000);
        check_rate(3, ms(1_000), 2, ms(7), 20_000);
        check_rate(1, Duration::from_secs(3_600), 5, ms(60_000), 10_000);
        check_rate(1_000_000, ms(1_000), 10, Duration::from_nanos(300), 20_000);
        check_rate(700_000, ms(1_000), 1, Duration::from_nanos(1_430), 20_000);
        check_rate(1, Duration::from_secs(365 * 24 * 3_600), 1, Duration::from_secs(3_600), 30_000);
    }

    #[test]
    fn who_waits_as_long_as_told_is_let_through_and_no_sooner() {
        let (limiter, origin) = limiter(4, Duration::from_secs(1), 2, Vec::new());
        let head = Head::default();
        assert_eq!(passed(&limiter, &head, origin, 5), 2);
        let wait = limiter.take(&head, origin).unwrap_err();
        assert_eq!(wait, Duration::from_millis(250));
        assert!(limiter.take(&head, origin + wait - Duration::from_nanos(1)).is_err());
        assert_eq!(passed(&limiter, &head, origin + wait, 5), 1);
        // Full again, and no fuller than that.
        assert_eq!(passed(&limiter, &head, origin + Duration::from_secs(3_600), 5), 2);
        // Workers read the clock a little apart.
        assert!(limiter.take(&head, origin).is_err());
    }

    #[test]
    fn the_first_key_present_counts_and_none_is_a_key_too() {
        let by = vec![Key::Header("x-user".parse().unwrap()), Key::Cookie("uid".into())];
        let (limiter, now) = limiter(1, Duration::from_secs(1), 2, by);
        let mut cookie = Head::default();
        cookie.headers.insert("cookie", "uid=a".parse().unwrap());
        let mut both = user("b");
        both.headers.insert("cookie", "uid=a".parse().unwrap());
        for (head, what) in [(user("a"), "a"), (cookie, "the cookie a"), (both, "b"), (Head::default(), "none")] {
            assert_eq!(passed(&limiter, &head, now, 5), 2, "{what}");
        }
        assert_eq!(passed(&limiter, &user(""), now, 5), 0, "an empty key is none");
    }

    #[test]
    fn clients_are_told_apart_by_address_and_by_network_of_ipv6() {
        let (limiter, now) = limiter(1, Duration::from_secs(1), 1, vec![Key::ClientAddress]);
        for (address, passes) in [
            ("192.0.2.1", true),
            ("192.0.2.2", true),
            ("::ffff:192.0.2.1", false),
            ("2001:db8:0:1::1", true),
            ("2001:db8:0:1:ffff::2", false),
            ("2001:db8:0:2::1", true),
        ] {
            assert_eq!(limiter.take(&client(address), now).is_ok(), passes, "{address}");
        }
    }

    #[test]
    fn keys_that_fit_are_all_held_to_their_rate() {
        let (limiter, now) = limiter(1, Duration::from_secs(1), 2, by_header());
        let keys = WAYS * SETS / 8;
        let over = (0..keys).filter(|n| passed(&limiter, &user(&n.to_string()), now, 3) != 2).count();
        assert_eq!(over, 0);
        let again = (0..keys).filter(|n| limiter.take(&user(&n.to_string()), now).is_ok()).count();
        assert_eq!(again, 0, "so many of {keys} were forgotten");
    }

    #[test]
    fn more_keys_than_fit_are_forgotten_and_never_refused_for_others() {
        let (limiter, now) = limiter(1, Duration::from_secs(1), 2, by_header());
        for n in 0..3 * WAYS * SETS {
            let head = user(&n.to_string());
            assert_eq!(passed(&limiter, &head, now, 3), 2, "key {n} is new");
        }
        let live = |set: &Set| set.0.iter().filter(|slot| slot.tag.load(Relaxed) != 0).count();
        let held: usize = limiter.sets.iter().map(live).sum();
        assert!(held > WAYS * SETS * 99 / 100, "all of the table is used: {held}");
    }

    #[test]
    fn a_bucket_that_is_full_is_taken_before_one_that_counts() {
        let set = Set::default();
        let (interval, depth) = (10, 10);
        let at = |key: u64, now| set.take(key << 1, now, interval, depth).is_ok();
        for key in 1..=8 {
            assert!(at(key, key));
        }
        // At 13 those of the first three are full, and the first is the oldest.
        assert!(at(9, 13) && at(10, 13) && at(11, 13));
        let held: Vec<u64> = set.0.iter().map(|slot| slot.tag.load(Relaxed) >> 1).collect();
        assert_eq!(held, [9, 10, 11, 4, 5, 6, 7, 8]);
        // Now all count: the one that would be full soonest is forgotten, and nothing of it is left.
        assert!(at(12, 13));
        assert!(!at(5, 13) && !at(12, 13));
        assert_eq!(set.0[3].tag.load(Relaxed), 12 << 1);
    }

    /// Several threads ask for one key, with a clock that goes on between them.
    #[track_caller]
    fn check_together(by: Vec<Key>, head: &Head) {
        let (limiter, origin) = limiter(1_000, Duration::from_secs(1), 100, by);
        let end = Duration::from_millis(500);
        let passed: usize = thread::scope(|scope| {
            let ask = || (0..50_000).filter(|n| limiter.take(head, origin + end * *n / 50_000).is_ok()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!((500..=600).contains(&passed), "{passed}");
    }

    #[test]
    fn threads_together_are_held_to_one_rate() {
        check_together(Vec::new(), &Head::default());
        check_together(by_header(), &user("a"));
    }

    /// Several threads bring the same new keys, each key more often than it may.
    #[track_caller]
    fn check_new_keys(limiter: &RateLimiter, now: Instant) {
        let heads: Vec<Head> = (0..4_000).map(|n| user(&format!("new {n}"))).collect();
        let passed: usize = thread::scope(|scope| {
            let ask = || heads.iter().map(|head| passed(limiter, head, now, 2)).sum::<usize>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, 3 * heads.len());
    }

    #[test]
    fn threads_that_bring_new_keys_at_once_share_their_buckets() {
        let (limiter, now) = limiter(1, Duration::from_secs(1), 3, by_header());
        check_new_keys(&limiter, now);
        // And where each bucket was another's before.
        for n in 0..2 * WAYS * SETS {
            assert!(limiter.take(&user(&n.to_string()), now).is_ok(), "key {n} is new");
        }
        check_new_keys(&limiter, now + Duration::from_secs(3_600));
    }
}
