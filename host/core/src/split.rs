//! Which choice of a weighted split a request belongs to. Never looks at who is behind a choice.

use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    config::{self, Key},
    hash::{fraction, mix},
    request::Head,
};

/// Apart from the seed of affinity, so that the clients of one choice are not the neighbours of one endpoint.
const SEED: u64 = 0x7769_7467_6174_6502;

/// A weighted split, by weighted rendezvous hashing (Thaler and Ravishankar 1998; weights by an exponential race,
/// Schindelhauer and Schomaker 2005): each choice draws a number u in (0, 1) from the request's key and the cluster's
/// name, and the least -ln(u) / weight wins.
///
/// Therefore a key always gets the same choice, shares follow the weights, and raising the weight of a choice moves
/// keys into it and nowhere else, lowering it only out of it; neither the order of the choices nor a common factor of
/// their weights matters. O(choices), without allocation.
#[derive(Debug, Clone)]
pub struct Splitter {
    by: Vec<Key>,
    choices: Vec<Choice>,
}

#[derive(Debug, Clone, Copy)]
struct Choice {
    salt: u64,
    weight: f64,
}

impl Splitter {
    /// A splitter for these choices, in the order of the configuration.
    pub fn new(split: &config::Split) -> Self {
        let nth = |i: usize| {
            let cluster = &split.choices[i].cluster;
            split.choices[..i].iter().filter(|earlier| earlier.cluster == *cluster).count()
        };
        let choice = |(i, choice): (usize, &config::WeightedCluster)| Choice {
            // A cluster that is listed twice is two choices.
            salt: mix(xxh3_64_with_seed(choice.cluster.as_bytes(), SEED) ^ nth(i) as u64),
            weight: f64::from(choice.weight),
        };
        Self { by: split.by.clone(), choices: split.choices.iter().enumerate().map(choice).collect() }
    }

    /// Index of the choice for this request: by its first key present, else by `random`. Never a choice of weight 0
    /// while another has more.
    pub fn choose(&self, head: &Head, random: u64) -> usize {
        let hash = with_key(&self.by, head, |key| xxh3_64_with_seed(key, SEED)).unwrap_or(random);
        let mut best = (0, f64::INFINITY);
        for (i, choice) in self.choices.iter().enumerate() {
            let finish = -unit(mix(hash ^ choice.salt)).ln() / choice.weight;
            if finish < best.1 {
                best = (i, finish);
            }
        }
        best.0
    }
}

/// 64 evenly spread bits as a number between 0 and 1, without both.
fn unit(bits: u64) -> f64 {
    ((bits >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

/// The bytes of the first key that the request has; an empty one counts as absent, so that clients without a value do
/// not all become one.
pub fn find_key<'h>(keys: &[Key], head: &'h Head) -> Option<Cow<'h, [u8]>> {
    keys.iter().find_map(|key| {
        let bytes = match key {
            Key::Cookie(name) => Cow::Borrowed(head.cookie(name)?.as_bytes()),
            Key::Header(name) => Cow::Borrowed(head.headers.get(name)?.as_bytes()),
            Key::Query(name) => match head.query(name)? {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            },
            Key::ClientAddress => Cow::Owned(head.client_text().as_bytes().to_vec()),
        };
        (!bytes.is_empty()).then_some(bytes)
    })
}

/// [`find_key`] without a copy of the client's address.
pub(crate) fn with_key<R>(keys: &[Key], head: &Head, then: impl FnOnce(&[u8]) -> R) -> Option<R> {
    let address = keys.iter().position(|key| *key == Key::ClientAddress).unwrap_or(keys.len());
    match find_key(&keys[..address], head) {
        Some(key) => Some(then(&key)),
        None if address < keys.len() => Some(then(head.client_text().as_bytes())),
        None => None,
    }
}

/// Whether one thing of many is among the share of them, 0 to 1, that is looked at; `random` is any 64 bits.
pub fn is_sampled(share: f64, random: u64) -> bool {
    fraction(random) < share
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::WeightedCluster, seeded::XorShift};

    const KEYS: usize = 40_000;

    fn splitter(choices: &[(&str, u32)]) -> Splitter {
        let choices = choices.iter().map(|&(c, weight)| WeightedCluster { cluster: c.into(), weight }).collect();
        Splitter::new(&config::Split { choices, by: vec![Key::Header("x-user".parse().unwrap())] })
    }

    /// The cluster that each of many users gets.
    fn users<'a>(choices: &[(&'a str, u32)]) -> Vec<&'a str> {
        let splitter = splitter(choices);
        let mut head = Head::default();
        (0..KEYS)
            .map(|i| {
                head.headers.insert("x-user", format!("user-{i}").parse().unwrap());
                choices[splitter.choose(&head, i as u64)].0
            })
            .collect()
    }

    fn share(got: &[&str], cluster: &str) -> f64 {
        got.iter().filter(|c| **c == cluster).count() as f64 / got.len() as f64
    }

    #[test]
    fn shares_follow_the_weights() {
        for choices in [
            &[("a", 95), ("b", 5)][..],
            &[("a", 1), ("b", 1), ("c", 1)],
            &[("a", 99), ("b", 1)],
            &[("a", 0), ("b", 1), ("c", 3)],
            &[("a", 1)],
            &[("a", 10), ("b", 20), ("c", 30), ("d", 40)],
        ] {
            let got = users(choices);
            let total: f64 = choices.iter().map(|&(_, w)| f64::from(w)).sum();
            for &(cluster, weight) in choices {
                let (got, want) = (share(&got, cluster), f64::from(weight) / total);
                assert!((got - want).abs() < 0.01, "{cluster} of {choices:?}: {got}, want {want}");
                assert!(weight > 0 || got == 0.0, "{cluster} of {choices:?} has weight 0 and {got}");
            }
        }
    }

    #[test]
    fn a_cluster_listed_twice_is_two_choices() {
        let splitter = splitter(&[("a", 1), ("a", 1)]);
        let mut random = XorShift::new(1);
        let first = (0..10_000).filter(|_| splitter.choose(&Head::default(), random.bits()) == 0).count();
        assert!((4_700..5_300).contains(&first), "{first} of 10,000");
    }

    #[track_caller]
    fn check_moves(from: &[(&str, u32)], to: &[(&str, u32)], allowed: impl Fn(&str, &str) -> bool, moved: f64) {
        let (before, after) = (users(from), users(to));
        let moves: Vec<_> = before.iter().zip(&after).filter(|(b, a)| b != a).collect();
        let wrong = moves.iter().find(|(b, a)| !allowed(b, a));
        assert!(wrong.is_none(), "{from:?} to {to:?}: {wrong:?}");
        let got = moves.len() as f64 / KEYS as f64;
        assert!((got - moved).abs() < 0.01, "{from:?} to {to:?}: {got} moved, want {moved}");
    }

    #[test]
    fn only_what_must_moves() {
        let into_b = |_: &str, to: &str| to == "b";
        check_moves(&[("a", 95), ("b", 5)], &[("a", 90), ("b", 10)], into_b, 0.05);
        check_moves(&[("a", 100), ("b", 0)], &[("a", 0), ("b", 100)], into_b, 1.0);
        check_moves(&[("a", 1), ("b", 1), ("c", 1)], &[("a", 1), ("b", 2), ("c", 1)], into_b, 0.5 - 1.0 / 3.0);
        check_moves(&[("a", 1), ("c", 1)], &[("a", 1), ("b", 2), ("c", 1)], into_b, 0.5);
        check_moves(&[("a", 1), ("b", 2)], &[("a", 1), ("b", 1)], |from, _| from == "b", 0.5 - 1.0 / 3.0);
        check_moves(&[("a", 9), ("b", 1)], &[("b", 100), ("a", 900)], |_, _| false, 0.0);
    }

    #[test]
    fn without_a_key_the_random_bits_choose() {
        let splitter = splitter(&[("a", 3), ("b", 1)]);
        let mut random = XorShift::new(9);
        let first = (0..40_000).filter(|_| splitter.choose(&Head::default(), random.bits()) == 0).count();
        assert!((29_500..30_500).contains(&first), "{first} of 40,000");
    }

    #[test]
    fn the_first_key_present_counts() {
        let keys = [
            Key::Cookie("uid".into()),
            Key::Header("x-user".parse().unwrap()),
            Key::Query("u".into()),
            Key::ClientAddress,
        ];
        let head = |uri: &str, headers: &[(&'static str, &str)]| {
            let mut head = Head { uri: uri.parse().unwrap(), ..Head::default() };
            for &(name, value) in headers {
                head.headers.append(name, value.parse().unwrap());
            }
            head
        };
        for (uri, headers, want) in [
            ("/?u=q", &[("cookie", "uid=c"), ("x-user", "h")][..], "c"),
            ("/?u=q", &[("cookie", "other=c"), ("x-user", "h")], "h"),
            ("/?u=q", &[("cookie", "uid="), ("x-user", "")], "q"),
            ("/?u=%71%20", &[], "q "),
            ("/", &[], "0.0.0.0"),
        ] {
            let head = head(uri, headers);
            let what = format!("{uri} with {headers:?}");
            assert_eq!(find_key(&keys, &head).as_deref(), Some(want.as_bytes()), "{what}");
            assert_eq!(with_key(&keys, &head, <[u8]>::to_vec).as_deref(), Some(want.as_bytes()), "{what}");
        }
        let two = [Key::ClientAddress, Key::Header("x-user".parse().unwrap())];
        let head = head("/", &[("x-user", "h")]);
        assert_eq!(find_key(&two, &head).as_deref(), Some(&b"0.0.0.0"[..]));
        assert_eq!(with_key(&two, &head, <[u8]>::to_vec).as_deref(), Some(&b"0.0.0.0"[..]));
        assert_eq!(find_key(&keys[..1], &head), None);
        assert_eq!(with_key(&keys[..1], &head, <[u8]>::to_vec), None);
    }

    #[test]
    fn a_share_of_all_is_sampled() {
        for (share, least, most) in [(0.0, 0, 0), (0.01, 80, 120), (0.5, 4_800, 5_200), (1.0, 10_000, 10_000)] {
            let sampled = (0..10_000_u64).filter(|n| is_sampled(share, mix(*n))).count();
            assert!((least..=most).contains(&sampled), "{share}: {sampled}");
        }
        assert!(is_sampled(1.0, u64::MAX) && !is_sampled(0.0, 0));
    }
}
