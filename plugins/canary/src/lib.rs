//! `canary`, a splitter: sends a stable percentage of users to one of a route's choices. Never splits by request: who
//! cannot be recognised is left to the native split.
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `cluster` | the last choice offered | name of the canary's cluster, one of the route's `split` |
//! | `percent` | `5.0` | share of the users in the canary, 0 to 100 |
//! | `by` | `[{ cookie = "uid" }]` | what tells users apart; the first that a request has, as in `split_by` |
//! | `force` | none | `{ header = "x-canary", cookie = "canary" }`, either or both: `1` or `true` there puts the request into the canary, `0` or `false` keeps it out; the header is looked at first |
//! | `salt` | `"canary"` | two canaries with different salts choose their users independently |
//!
//! A user is at a fixed place on [0, 100): the hash of salt and key, FNV-1a (64 bits) finished by MurmurHash3's
//! `fmix64`, as a fraction. The canary has those below `percent`, so that raising it only ever adds users, and every
//! proxy with the same configuration agrees without sharing anything. The rest go to the other choices in proportion to
//! their weights, by a second place of the same key. The canary's own weight is not used.
//!
//! A request without any key of `by`, or a route whose choices lack `cluster`, gets no opinion: the native weighted
//! split stands.

use witgate_sdk::prelude::*;

/// The plugin.
pub struct Canary {
    cluster: Option<String>,
    percent: f64,
    by: Vec<Handle>,
    /// Where a request may say its wish, in the order in which they are looked at.
    force: Vec<Handle>,
    /// The hash of the salt, which every user's goes on from.
    salted: u64,
    /// Which choice is the canary in the offer that was seen last, and that offer's id.
    known: Option<(u64, Option<usize>)>,
}

/// Its configuration; the module says what each key means.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    cluster: Option<String>,
    percent: f64,
    by: Vec<Field>,
    force: Force,
    salt: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Force {
    header: Option<String>,
    cookie: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            cluster: None,
            percent: 5.0,
            by: vec![Field::Cookie("uid".to_owned())],
            force: Force::default(),
            salt: "canary".to_owned(),
        }
    }
}

impl Plugin for Canary {
    type Config = Config;

    fn configure(config: Config, fields: &mut Fields) -> Result<Self, String> {
        if !(0.0..=100.0).contains(&config.percent) {
            return Err(format!("percent: {} is not between 0 and 100", config.percent));
        }
        if config.by.is_empty() {
            return Err("by: name at least one field, such as { cookie = \"uid\" }".to_owned());
        }
        let Force { header, cookie } = config.force;
        let force = [header.map(Field::Header), cookie.map(Field::Cookie)];
        // The zero byte keeps salt "a" with key "bc" apart from salt "ab" with key "c".
        let salted = fnv1a(fnv1a(0xcbf2_9ce4_8422_2325, config.salt.as_bytes()), &[0]);
        let (by, force) = (fields.handles(&config.by), fields.handles(force.iter().flatten()));
        Ok(Canary { cluster: config.cluster, percent: config.percent, by, force, salted, known: None })
    }
}

impl Splitter for Canary {
    fn split(&mut self, request: &Request<'_>, offer: &Offer<'_>) -> Option<usize> {
        let canary = self.choice(offer)?;
        let key = request.first_of(&self.by);
        let forced = self.forced(request);
        let user = match key {
            Some(key) => self.user(key),
            // Forced out without a key: any place will do, there is nobody to keep stable.
            None if forced.is_some() => witgate_sdk::random(),
            None => return None,
        };
        if forced.unwrap_or_else(|| place(user) * 100.0 < self.percent) {
            return Some(canary);
        }
        other_choice(offer.weights(), canary, place(fmix64(user)))
    }
}

impl Canary {
    /// The choice that is the canary.
    fn choice(&mut self, offer: &Offer<'_>) -> Option<usize> {
        let Some(name) = &self.cluster else { return offer.len().checked_sub(1) };
        match self.known {
            Some((id, choice)) if id == offer.id() => choice,
            _ => self.known.insert((offer.id(), offer.index_of(name))).1,
        }
    }

    fn forced(&self, request: &Request<'_>) -> Option<bool> {
        self.force.iter().find_map(|field| switch(request.get(*field)?))
    }

    fn user(&self, key: &str) -> u64 {
        fmix64(fnv1a(self.salted, key.as_bytes()))
    }
}

/// FNV-1a over more bytes.
fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Whether a request asks in (true) or out (false) of the canary; anything else is no wish.
fn switch(value: &str) -> Option<bool> {
    match value {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

/// MurmurHash3's finaliser: FNV-1a alone leaves the high bits of keys that differ at the end alike.
fn fmix64(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// A hash as a fraction of [0, 1), in the 53 bits that an `f64` holds exactly.
fn place(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

/// The choice besides the canary at `place` when the others share [0, 1) by weight; none where nothing else has any.
fn other_choice(weights: &[u32], canary: usize, place: f64) -> Option<usize> {
    if let &[first, second] = weights {
        let (other, weight) = if canary == 0 { (1, second) } else { (0, first) };
        return (weight > 0).then_some(other);
    }
    let others = || weights.iter().enumerate().filter(|&(choice, &weight)| choice != canary && weight > 0);
    let total: f64 = others().map(|(_, &weight)| f64::from(weight)).sum();
    let mut left = place * total;
    let chosen = others().find(|&(_, &weight)| {
        left -= f64::from(weight);
        left < 0.0
    });
    // Rounding may leave a sliver after the last one.
    chosen.or_else(|| others().next_back()).map(|(choice, _)| choice)
}

export!(Canary: splitter);
