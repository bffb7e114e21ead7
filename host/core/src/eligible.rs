//! Which endpoints may be picked, and with what weight. Never picks one.

mod levels;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    config::{self, SlowStart},
    endpoint::Endpoint,
};
use levels::{Level, Shares};

/// Parts of a warmth that are told apart.
const PARTS: f64 = 1024.0;

/// How an endpoint warms up that an ejection kept out, where no slow start is configured: it failed not long ago.
const AFTER_EJECTION: SlowStart =
    SlowStart { window: Duration::from_secs(10), aggression: 1.0, min_weight_percent: 10 };

/// What a cluster's configuration says of who may be picked.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// None: endpoints are as good as they ever get when they come.
    pub slow_start: Option<SlowStart>,
    /// Where fewer than this are available, all are picked.
    pub panic_percent: u32,
    /// How much more than its part of the traffic an endpoint can carry.
    pub overprovisioning: f64,
    /// Zones in the order in which they are picked from, this proxy's own first; those that are not named come last,
    /// together. Empty: zones do not matter.
    pub zones: Vec<String>,
    /// Requests in flight at an endpoint, in percent of what would be its part of the cluster's, above which keys go
    /// elsewhere; none: never.
    pub hash_balance_factor: Option<u32>,
}

impl Default for Rules {
    /// What the file's silence means.
    fn default() -> Self {
        Self {
            slow_start: None,
            panic_percent: config::DEFAULT_PANIC_PERCENT,
            overprovisioning: config::DEFAULT_OVERPROVISIONING,
            zones: Vec::new(),
            hash_balance_factor: None,
        }
    }
}

impl From<&config::Cluster> for Rules {
    fn from(cluster: &config::Cluster) -> Self {
        Self {
            slow_start: cluster.slow_start,
            panic_percent: cluster.panic_percent,
            overprovisioning: cluster.overprovisioning,
            zones: cluster.zone.iter().chain(&cluster.zone_failover).cloned().collect(),
            hash_balance_factor: cluster.hash_balance_factor,
        }
    }
}

impl Rules {
    /// Where an endpoint stands: less is picked from earlier.
    fn place(&self, endpoint: &Endpoint) -> (u32, usize) {
        let zone = if self.zones.is_empty() { None } else { endpoint.zone() };
        let rank =
            zone.and_then(|zone| self.zones.iter().position(|named| *named == *zone)).unwrap_or(self.zones.len());
        (endpoint.priority(), rank)
    }
}

/// Who may be picked.
#[derive(Debug, Clone, PartialEq)]
pub struct Eligible {
    /// By ascending index.
    pub candidates: Vec<Candidate>,
    /// Effective weight of an endpoint of weight 1 that is warm, and of the level that takes most for its weight.
    pub unit: u32,
    /// The share of each level that has candidates; the sum is 1. One where there are no levels to tell apart.
    pub shares: Vec<f64>,
    /// Whether so few are available that all are picked, ejected or unhealthy as they may be.
    pub panic: bool,
}

/// One endpoint that may be picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its index.
    pub index: usize,
    /// What keys are spread by, above 0: as it is configured, but for its level's share.
    pub lasting: u32,
    /// What it is picked by, in [`Eligible::unit`]s; above 0.
    pub effective: u32,
    /// Index in [`Eligible::shares`].
    pub level: u16,
}

/// One endpoint that shares the cluster's requests while it is available.
struct Member {
    index: usize,
    weight: u32,
    available: bool,
    /// Index of its level.
    level: usize,
    warmth: f64,
}

/// The endpoints that may be picked now.
///
/// An endpoint is a member while it is active and its weight is above 0, and a candidate while it is available as well
/// (neither unhealthy nor ejected) and its level has a share of the traffic: levels are endpoints of one priority and place
/// in the order of zones, and the next is picked from for what those before it cannot carry. Where fewer than
/// `panic_percent` of the members are available, and no further level makes up for it, all of them are candidates: what is
/// left would not carry the traffic, and what says that the rest is down may be wrong.
///
/// A candidate that is warming up has its weight multiplied by its warmth (the formula of [`SlowStart`]), in proportion to the
/// warmest one of its level: if everyone is new, no one is slow.
pub fn eligible(endpoints: &[Arc<Endpoint>], rules: &Rules, now: Instant) -> Eligible {
    let (mut members, levels) = members(endpoints, rules, now);
    let available = members.iter().filter(|member| member.available).count();
    let Shares { shares, enough } = levels::shares(&levels, rules.overprovisioning);
    let panic = available * 100 < members.len() * rules.panic_percent as usize && !(enough && levels.len() > 1);
    if panic {
        return everybody(&members);
    }
    members.retain(|member| member.available && shares[member.level] > 0.0);
    let mut warmest = vec![0.0f64; levels.len()];
    members.iter().for_each(|m| warmest[m.level] = warmest[m.level].max(m.warmth));
    let warmth = |m: &Member| (m.warmth / warmest[m.level] * PARTS).round() / PARTS;
    let lasting = worth(&shares, levels.iter().map(|level| level.available as f64));
    let mut warm = vec![0.0; levels.len()];
    members.iter().for_each(|m| warm[m.level] += f64::from(m.weight) * warmth(m));
    let effective = worth(&shares, warm.into_iter());
    let even = members.iter().all(|m| lasting[m.level] == 1.0);
    let level = even && members.iter().all(|m| warmth(m) == 1.0);
    let unit = if level { 1 } else { unit(&members) };
    // Only those that are picked from are told apart.
    let earlier = |level: usize| shares[..level].iter().filter(|share| **share > 0.0).count();
    let numbers: Vec<u16> = (0..shares.len()).map(|level| u16::try_from(earlier(level)).unwrap_or(u16::MAX)).collect();
    let candidates = members.iter().map(|m| Candidate {
        index: m.index,
        lasting: if even { m.weight } else { scaled(m.weight, lasting[m.level], unit) },
        effective: if level { m.weight } else { scaled(m.weight, effective[m.level] * warmth(m), unit) },
        level: numbers[m.level],
    });
    let candidates = candidates.collect();
    Eligible { candidates, unit, shares: shares.into_iter().filter(|share| *share > 0.0).collect(), panic }
}

/// What a unit of weight of each level is good for, against that of the level that takes most for its weight.
fn worth(shares: &[f64], weights: impl Iterator<Item = f64>) -> Vec<f64> {
    let worth: Vec<f64> = shares.iter().zip(weights).map(|(s, w)| if *s > 0.0 { s / w } else { 0.0 }).collect();
    let most = worth.iter().copied().fold(0.0, f64::max);
    worth.into_iter().map(|worth| worth / most).collect()
}

/// Who shares the cluster's requests, and in which levels. What others may change meanwhile is read once: a member that
/// counts as available for its level is so itself.
fn members(endpoints: &[Arc<Endpoint>], rules: &Rules, now: Instant) -> (Vec<Member>, Vec<Level>) {
    let placed = endpoints.iter().enumerate().filter(|(_, endpoint)| endpoint.is_member());
    let placed = placed.map(|(index, endpoint)| {
        let (weight, available) = (endpoint.weight(), endpoint.is_available());
        (rules.place(endpoint), Member { index, weight, available, level: 0, warmth: warmth(endpoint, rules, now) })
    });
    // It may have lost its weight since it was found to be a member.
    let placed: Vec<_> = placed.filter(|(_, member)| member.weight > 0).collect();
    let mut levels: BTreeMap<(u32, usize), Level> = BTreeMap::new();
    for (place, member) in &placed {
        let level = levels.entry(*place).or_insert(Level { all: 0, available: 0 });
        level.all += u64::from(member.weight);
        level.available += if member.available { u64::from(member.weight) } else { 0 };
    }
    let order: Vec<_> = levels.keys().copied().collect();
    let level = |place| order.binary_search(&place).unwrap_or(0);
    let members = placed.into_iter().map(|(place, member)| Member { level: level(place), ..member });
    (members.collect(), levels.into_values().collect())
}

/// All members as they are configured, in one level.
fn everybody(members: &[Member]) -> Eligible {
    let candidate = |m: &Member| Candidate { index: m.index, lasting: m.weight, effective: m.weight, level: 0 };
    Eligible { candidates: members.iter().map(candidate).collect(), unit: 1, shares: vec![1.0], panic: true }
}

/// The largest that any weight can be counted in.
fn unit(members: &[Member]) -> u32 {
    let heaviest = members.iter().map(|m| m.weight).max().unwrap_or(1).max(1);
    1 << (u32::MAX / heaviest).ilog2()
}

fn scaled(weight: u32, part: f64, unit: u32) -> u32 {
    ((f64::from(weight) * f64::from(unit) * part).round() as u32).max(1)
}

/// What part of its weight an endpoint has: `max(min_weight_percent / 100, (t / window) ^ (1 / aggression))` where it
/// came `t` ago, until the window has passed (Envoy's formula).
fn warmth(endpoint: &Endpoint, rules: &Rules, now: Instant) -> f64 {
    let Some((rule, passed)) = warming(endpoint, rules, now) else { return 1.0 };
    let part = passed.as_secs_f64() / rule.window.as_secs_f64();
    part.powf(1.0 / rule.aggression).max(f64::from(rule.min_weight_percent) / 100.0)
}

/// By which rule an endpoint warms up, and for how long it has; none where it is warm.
fn warming(endpoint: &Endpoint, rules: &Rules, now: Instant) -> Option<(SlowStart, Duration)> {
    let (since, returned) = endpoint.warming_since()?;
    let rule = rules.slow_start.or(returned.then_some(AFTER_EJECTION))?;
    let passed = now.saturating_duration_since(since);
    (passed < rule.window).then_some((rule, passed))
}

/// How long the weights of these endpoints may be kept: the shortest window of those that warm up, in steps that each
/// move a weight by no more than a few percent. None where all are warm.
pub fn step(endpoints: &[Arc<Endpoint>], rules: &Rules, now: Instant) -> Option<Duration> {
    const STEPS: u32 = 250;
    endpoints.iter().filter_map(|endpoint| Some(warming(endpoint, rules, now)?.0.window / STEPS)).min()
}
