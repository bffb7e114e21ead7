//! Which endpoints may be picked, and with what weight. Never picks one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    config::{self, SlowStart},
    endpoint::Endpoint,
};

/// Units of a weight of 1 while endpoints warm up, so that parts of it can be told apart.
const UNIT: u32 = 1 << 10;

/// How an endpoint warms up that an ejection kept out, where no slow start is configured: it failed not long ago.
const AFTER_EJECTION: SlowStart =
    SlowStart { window: Duration::from_secs(10), aggression: 1.0, min_weight_percent: 10 };

/// What a cluster's configuration says of who may be picked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// None: endpoints are as good as they ever get when they come.
    pub slow_start: Option<SlowStart>,
    /// Where fewer than this are available, all are picked.
    pub panic_percent: u32,
}

impl Default for Rules {
    /// What the file's silence means.
    fn default() -> Self {
        Self { slow_start: None, panic_percent: config::DEFAULT_PANIC_PERCENT }
    }
}

impl From<&config::Cluster> for Rules {
    fn from(cluster: &config::Cluster) -> Self {
        Self { slow_start: cluster.slow_start, panic_percent: cluster.panic_percent }
    }
}

/// Who may be picked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eligible {
    /// By ascending index.
    pub candidates: Vec<Candidate>,
    /// Effective weight of an endpoint of weight 1 that is warm.
    pub unit: u32,
    /// Whether so few are available that all are picked, ejected or unhealthy as they may be.
    pub panic: bool,
}

/// One endpoint that may be picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its index.
    pub index: usize,
    /// As configured; above 0.
    pub weight: u32,
    /// What it is picked by, in [`Eligible::unit`]s; above 0.
    pub effective: u32,
}

/// The endpoints that may be picked now.
///
/// An endpoint is a member while it is active and its weight is above 0, and a candidate while it is available as well:
/// neither unhealthy nor ejected. Where fewer than `panic_percent` of the members are available all of them are candidates:
/// what is left would not carry the traffic, and what says that the rest is down may be wrong.
///
/// A candidate that is warming up has its weight multiplied by its warmth (the formula of [`SlowStart`]), in proportion to the warmest one: if everyone
/// is new, no one is slow.
pub fn eligible(endpoints: &[Arc<Endpoint>], rules: &Rules, now: Instant) -> Eligible {
    let members = endpoints.iter().enumerate().filter(|(_, endpoint)| endpoint.is_member());
    let mut members: Vec<_> = members.map(|(index, e)| (index, e.weight(), e.is_available())).collect();
    let available = members.iter().filter(|(_, _, available)| *available).count();
    let panic = available * 100 < members.len() * rules.panic_percent as usize;
    members.retain(|(_, _, available)| *available || panic);
    let warmth: Vec<f64> = members.iter().map(|(index, ..)| warmth(&endpoints[*index], rules, now)).collect();
    let warmest = warmth.iter().copied().fold(0.0, f64::max);
    let level = panic || warmth.iter().all(|&warmth| warmth == warmest);
    let unit = if level { 1 } else { UNIT };
    let candidates = members.iter().zip(&warmth).map(|(&(index, weight, _), warmth)| {
        let effective = if level { weight } else { scaled(weight, warmth / warmest) };
        Candidate { index, weight, effective }
    });
    Eligible { candidates: candidates.collect(), unit, panic }
}

fn scaled(weight: u32, part: f64) -> u32 {
    // Weights are at most 65,535, so that this fits.
    ((f64::from(weight) * f64::from(UNIT) * part).round() as u32).max(1)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::{Cause, Health, State};

    fn endpoints(weights: &[u32], now: Instant) -> Vec<Arc<Endpoint>> {
        let new = |(n, weight): (usize, &u32)| {
            let config = config::Endpoint { address: format!("10.0.0.{n}:80"), weight: *weight, zone: None };
            Arc::new(Endpoint::new(&config, now))
        };
        weights.iter().enumerate().map(new).collect()
    }

    #[track_caller]
    fn check(what: &str, all: &[Arc<Endpoint>], rules: &Rules, now: Instant, want: &[(usize, f64)]) {
        let Eligible { candidates, unit, .. } = eligible(all, rules, now);
        let got: Vec<_> = candidates.iter().map(|c| (c.index, f64::from(c.effective) / f64::from(unit))).collect();
        let near = |((i, a), (j, b)): (&(usize, f64), &(usize, f64))| i == j && (a - b).abs() <= 0.002 * b.max(1.0);
        assert!(got.len() == want.len() && got.iter().zip(want).all(near), "{what}: {got:?}, want {want:?}");
    }

    #[test]
    fn draining_and_weightless_endpoints_are_out() {
        let (now, rules) = (Instant::now(), Rules::default());
        let all = endpoints(&[1, 0, 2, 3], now);
        all[3].set_state(State::Draining, now);
        check("one drains", &all, &rules, now, &[(0, 1.0), (2, 2.0)]);
        all[3].set_state(State::Active, now);
        all[0].set_weight(0);
        check("one has no weight", &all, &rules, now, &[(2, 2.0), (3, 3.0)]);
    }

    #[test]
    fn unhealthy_and_ejected_endpoints_are_out_until_too_few_are_left() {
        let (now, rules) = (Instant::now(), Rules::default());
        let all = endpoints(&[1; 5], now);
        all[0].set_health(Health::Unhealthy, now);
        all[1].eject(Cause::Consecutive5xx, now + Duration::from_secs(30));
        check("two of five", &all, &rules, now, &[(2, 1.0), (3, 1.0), (4, 1.0)]);
        assert!(!eligible(&all, &rules, now).panic);
        all[2].set_health(Health::Waiting, now);
        let panicking = eligible(&all, &rules, now);
        assert_eq!((panicking.candidates.len(), panicking.panic), (5, true), "three of five");
        let calm = Rules { panic_percent: 0, ..rules };
        check("three of five, without panic", &all, &calm, now, &[(3, 1.0), (4, 1.0)]);
        all[0].set_state(State::Draining, now);
        check("who drains does not count", &all, &rules, now, &[(3, 1.0), (4, 1.0)]);
        (3..5).for_each(|i| _ = all[i].set_health(Health::Unhealthy, now));
        check("not even in a panic", &all, &rules, now, &[(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0)]);
        assert_eq!(eligible(&all, &calm, now).candidates, []);
    }

    #[test]
    fn who_comes_later_warms_up() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let slow = SlowStart { window: Duration::from_secs(30), aggression: 1.0, min_weight_percent: 10 };
        let rules = Rules { slow_start: Some(slow), ..Rules::default() };
        let all = endpoints(&[2, 4, 1], start);
        check("all were there from the start", &all, &rules, start, &[(0, 2.0), (1, 4.0), (2, 1.0)]);
        assert_eq!(step(&all, &rules, start), None);
        all[1].join(at(10), false);
        for (second, weight) in [(10, 0.4), (13, 0.4), (16, 0.8), (25, 2.0), (39, 3.867), (40, 4.0)] {
            let what = format!("after {second} s");
            check(&what, &all, &rules, at(second), &[(0, 2.0), (1, weight), (2, 1.0)]);
        }
        assert_eq!(step(&all, &rules, at(39)), Some(Duration::from_millis(120)));
        assert_eq!(step(&all, &rules, at(40)), None);
        let eager = Rules { slow_start: Some(SlowStart { aggression: 2.0, ..slow }), ..rules };
        check("a root", &all, &eager, at(10 + 15), &[(0, 2.0), (1, 4.0 * 0.5f64.sqrt()), (2, 1.0)]);
        check("off", &all, &Rules::default(), at(11), &[(0, 2.0), (1, 4.0), (2, 1.0)]);
    }

    #[test]
    fn if_everyone_is_new_no_one_is_slow() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let slow = SlowStart { window: Duration::from_secs(30), aggression: 1.0, min_weight_percent: 10 };
        let rules = Rules { slow_start: Some(slow), ..Rules::default() };
        let all = endpoints(&[1, 1, 1], start);
        all.iter().for_each(|e| e.join(start, false));
        check("all at once", &all, &rules, at(1), &[(0, 1.0), (1, 1.0), (2, 1.0)]);
        all[2].join(at(9), false);
        check("the last", &all, &rules, at(15), &[(0, 1.0), (1, 1.0), (2, 0.4)]);
    }

    #[test]
    fn who_was_ejected_does_not_return_at_full_weight() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let all = endpoints(&[1, 1], start);
        all[0].set_health(Health::Unhealthy, start);
        all[0].set_health(Health::Healthy, at(1));
        check("a check is a proof", &all, &Rules::default(), at(1), &[(0, 1.0), (1, 1.0)]);
        all[1].eject(Cause::Consecutive5xx, at(20));
        all[1].readmit(at(20));
        check("at first", &all, &Rules::default(), at(20), &[(0, 1.0), (1, 0.1)]);
        check("after five seconds", &all, &Rules::default(), at(25), &[(0, 1.0), (1, 0.5)]);
        check("after ten", &all, &Rules::default(), at(30), &[(0, 1.0), (1, 1.0)]);
    }
}
