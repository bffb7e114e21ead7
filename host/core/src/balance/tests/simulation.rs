//! A cluster's life from a seed: endpoints that come, go, fall ill, are ejected, drain and warm up while scores change and
//! time passes, with what must always hold checked after each step.

use std::time::{Duration, Instant};

use super::super::*;
use crate::{
    config::{self, SlowStart},
    endpoint::{Cause, ClusterLoad, Health, Outcome, State},
    seeded::XorShift,
};

const ALGORITHMS: [Algorithm; 6] = [
    Algorithm::RoundRobin,
    Algorithm::LeastRequest,
    Algorithm::Random,
    Algorithm::PeakEwma,
    Algorithm::RingHash,
    Algorithm::Maglev,
];
/// Zones that endpoints are in, the first is the proxy's own.
const ZONES: [&str; 3] = ["a", "b", "c"];

/// Seeds that are always run: these, and any that ever failed.
const SEEDS: [u64; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
/// In all, over the seeds.
const STEPS: usize = 1_000_000;
/// Steps in which a cluster keeps its algorithm and rules.
const LIFE: usize = 2_000;
/// The same of a cluster whose endpoints are found by keys: a table of many slots is made for each change.
const LIFE_BY_KEYS: usize = 50;
/// One of how many lives goes by keys.
const BY_KEYS: usize = 40;
/// Endpoints that a cluster has at the most: few, so that all states are met in all combinations.
const MOST: usize = 9;

struct Simulation {
    random: XorShift,
    load: Arc<ClusterLoad>,
    start: Instant,
    now: Instant,
    named: u64,
    picker: Picker,
    cursor: Cursor,
    /// Whether requests have keys.
    by_keys: bool,
    trace: String,
}

#[test]
fn what_must_hold_holds_over_a_million_steps() {
    for seed in SEEDS {
        let mut random = XorShift::new(seed);
        let mut left = STEPS / SEEDS.len();
        for life in 0.. {
            let mut simulation = Simulation::new(XorShift::new(random.bits()), format!("seed {seed}, life {life}"));
            let steps = left.min(if simulation.by_keys { LIFE_BY_KEYS } else { LIFE });
            (0..steps).for_each(|step| simulation.step(step));
            left -= steps;
            if left == 0 {
                break;
            }
        }
    }
}

impl Simulation {
    fn new(mut random: XorShift, trace: String) -> Self {
        let start = Instant::now();
        let slow_start = (random.below(2) == 0).then(|| SlowStart {
            window: Duration::from_secs(1 + random.below(30) as u64),
            aggression: [0.5, 1.0, 2.0][random.below(3)],
            min_weight_percent: 1 + random.below(100) as u32,
        });
        let rules = Rules {
            slow_start,
            panic_percent: [0, 30, 50, 100][random.below(4)],
            overprovisioning: [1.0, 1.4, 3.0][random.below(3)],
            zones: ZONES[..random.below(3)].iter().map(|zone| (*zone).to_owned()).collect(),
            hash_balance_factor: [None, Some(101), Some(150)][random.below(3)],
        };
        let by_keys = random.below(BY_KEYS) == 0;
        let algorithm = ALGORITHMS[random.below(if by_keys { ALGORITHMS.len() } else { 4 })];
        let picker = Picker::new(Arc::default(), algorithm, rules, start);
        let trace = format!("{trace}, {algorithm:?}, {:?}", picker.rules());
        Self {
            random,
            load: Arc::default(),
            start,
            now: start,
            named: 0,
            picker,
            cursor: Cursor::default(),
            by_keys,
            trace,
        }
    }

    fn step(&mut self, step: usize) {
        let count = self.picker.endpoints().len();
        let at = if count > 0 { self.random.below(count) } else { 0 };
        let endpoint = self.picker.endpoints().get(at).cloned();
        let what = self.random.below(12);
        match (what, &endpoint) {
            (0, _) | (_, None) => self.replace(),
            (1, Some(e)) => match self.random.below(4) {
                0 => _ = e.set_leaving(true, self.now),
                1 => _ = e.set_leaving(false, self.now),
                state => e.set_state([State::Active, State::Draining][state - 2], self.now),
            },
            (2, Some(e)) => e.set_weight([0, 1, 2, 7, 40][self.random.below(5)]),
            (3 | 4, Some(e)) => {
                let health = [Health::Unchecked, Health::Waiting, Health::Healthy, Health::Unhealthy];
                e.set_health(health[self.random.below(4)], self.now);
            }
            (5, Some(e)) => e.eject(Cause::SuccessRate, self.now + Duration::from_secs(30)),
            (6, Some(e)) => e.readmit(self.now),
            (7 | 8, _) => self.now += Duration::from_millis(self.random.below(8_000) as u64),
            (9, _) => self.rescore(),
            (10, Some(e)) => (0..self.random.below(4)).for_each(|_| std::mem::forget(e.begin())),
            (11, Some(e)) => {
                let outcome = [Outcome::Success, Outcome::ServerError, Outcome::Local][self.random.below(3)];
                e.record(self.now, Some(Duration::from_millis(self.random.below(500) as u64)), outcome);
            }
            _ => {}
        }
        if let Some(renewed) = self.picker.renewed(self.now) {
            self.picker = renewed;
        }
        assert!(self.picker.renewed(self.now).is_none(), "{}: nothing has changed since", self.what(step));
        self.check(step);
    }

    fn what(&self, step: usize) -> String {
        let states: Vec<String> = self
            .picker
            .endpoints()
            .iter()
            .map(|e| {
                let (weight, place, ejected) = (e.weight(), (e.priority(), e.zone()), e.ejected_until().is_some());
                format!("{weight}×{:?}/{}/{ejected}/{place:?}", e.state(), e.health().word())
            })
            .collect();
        let scores = self.picker.scores();
        format!("{}, step {step}, {:?}: {states:?} {scores:?}", self.trace, self.now - self.start)
    }

    /// Some stay, some go, some come.
    fn replace(&mut self) {
        let mut endpoints: Vec<Arc<Endpoint>> = self.picker.endpoints().to_vec();
        endpoints.retain(|_| self.random.below(3) > 0);
        while endpoints.len() < MOST && self.random.below(3) > 0 {
            self.named += 1;
            let address = format!("10.0.0.1:{}", self.named);
            let weight = 1 + self.random.below(3) as u32;
            let zone = ZONES.get(self.random.below(4)).map(|zone| (*zone).to_owned());
            let priority = self.random.below(4).saturating_sub(1) as u32;
            let endpoint = Endpoint::new(&config::Endpoint { address, weight, zone, priority }, self.now);
            endpoint.count_in(&self.load);
            endpoint.measure_cost(true);
            if self.random.below(2) == 0 {
                endpoint.join(self.now, self.random.below(2) == 0);
            }
            endpoints.insert(self.random.below(endpoints.len() + 1), Arc::new(endpoint));
        }
        self.picker = Picker::new(endpoints.into(), self.picker.algorithm(), self.picker.rules().clone(), self.now);
    }

    /// Whatever was accepted of a scorer: finite, not negative, not all 0.
    fn rescore(&mut self) {
        let count = self.picker.endpoints().len();
        let scores: Vec<f32> = (0..count).map(|_| [0.0, 1e-6, 0.5, 1.0, 1e6][self.random.below(5)]).collect();
        let given = scores.iter().any(|score| *score > 0.0) && self.random.below(4) > 0;
        self.picker = self.picker.rescore(given.then(|| scores.into()).as_ref());
    }

    fn check(&mut self, step: usize) {
        let what = |simulation: &Self| simulation.what(step);
        let endpoints = Arc::clone(self.picker.endpoints());
        let want = Wanted::of(&endpoints, self.picker.rules());
        assert_eq!(self.picker.is_panicking(), want.panic, "{}", what(self));
        let scores = self.picker.scores().cloned();
        let live = |i: usize| want.shares[i] > 0.0 && scores.as_ref().is_none_or(|scores| scores[i] > 0.0);
        let count = (0..endpoints.len()).filter(|&i| live(i)).count();
        let candidates = (0..endpoints.len()).filter(|&i| want.shares[i] > 0.0).count();
        assert_eq!(self.picker.eligible_count(), count, "{}", what(self));
        assert!(count > 0 || candidates == 0, "somebody is picked where anybody may be: {}", what(self));
        self.check_picks(step, &live, count);

        let rules = self.picker.rules().clone();
        let total: f64 = (0..endpoints.len()).filter(|&i| live(i)).map(|i| f64::from(endpoints[i].weight())).sum();
        let sum: f64 = (0..endpoints.len()).map(|i| f64::from(self.picker.effective_weight(i))).sum();
        for (i, endpoint) in endpoints.iter().enumerate() {
            let effective = f64::from(self.picker.effective_weight(i));
            assert_eq!(effective > 0.0, live(i), "{i} at {effective}: {}", what(self));
            assert_eq!(self.picker.by_id(endpoint.id()), live(i).then_some(i), "{}", what(self));
            if !live(i) {
                continue;
            }
            let most = f64::from(endpoint.weight());
            match &scores {
                None => {
                    assert!(effective <= most * 1.001, "{i} at {effective} of {most}: {}", what(self));
                    let least = rules.slow_start.map_or(0.1, |rule| f64::from(rule.min_weight_percent) / 100.0);
                    // A warmth has a thousand parts.
                    let (least, level) = (most * (least.min(0.1) - 0.001), want.levels[i]);
                    assert!(want.several || effective >= least, "{i} at {effective}: {}", what(self));
                    let of_level = (0..endpoints.len()).filter(|&j| want.levels[j] == level);
                    let got: f64 = of_level.map(|j| f64::from(self.picker.effective_weight(j)) / sum).sum();
                    let share = want.shares[i];
                    assert!((got - share).abs() < 1e-3, "level of {i} has {got}, want {share}: {}", what(self));
                }
                Some(_) if !want.several && endpoints.iter().all(|e| e.warming_since().is_none()) => {
                    let floor = FLOOR * most / total;
                    assert!(effective / sum >= floor * 0.99, "{i} has {effective} of {sum}: {}", what(self));
                }
                Some(_) => {}
            }
        }
    }

    fn check_picks(&mut self, step: usize, live: &dyn Fn(usize) -> bool, count: usize) {
        let what = |simulation: &Self| simulation.what(step);
        let mut random = XorShift::new(self.random.bits());
        let (all, now) = (self.picker.endpoints().len(), self.now);
        let hash = (self.by_keys && step.is_multiple_of(2)).then(|| random.bits());
        let tried: Vec<u32> = (0..random.below(3)).map(|_| random.below(all.max(1)) as u32).collect();
        let left = (0..all).filter(|&i| live(i) && !tried.contains(&(i as u32))).count();
        for _ in 0..2 {
            match self.picker.pick(&self.cursor, hash, &tried, now, &mut || random.bits()) {
                Some(picked) => {
                    assert!(live(picked), "{picked} was picked: {}", what(self));
                    assert!(left == 0 || !tried.contains(&(picked as u32)), "{picked} of {tried:?}: {}", what(self));
                }
                None => assert_eq!(count, 0, "none was picked: {}", what(self)),
            }
        }
        if let Some(hash) = hash {
            let mut pick = || self.picker.pick(&self.cursor, Some(hash), &[], now, &mut || random.bits());
            let (first, again) = (pick(), pick());
            assert_eq!(again, first, "a key keeps its endpoint: {}", what(self));
        }
    }
}

/// What the documentation says of levels and panic, written down once more.
struct Wanted {
    panic: bool,
    several: bool,
    /// By endpoint: its level, and the share of that where it may be picked.
    levels: Vec<(u32, usize)>,
    shares: Vec<f64>,
}

impl Wanted {
    fn of(endpoints: &[Arc<Endpoint>], rules: &Rules) -> Self {
        let member = |e: &Endpoint| e.state() == State::Active && e.weight() > 0;
        let place = |e: &Arc<Endpoint>| {
            let zone = e.zone();
            let named = rules.zones.iter().position(|z| zone.as_deref() == Some(z));
            (e.priority(), named.unwrap_or(ZONES.len()))
        };
        let levels: Vec<_> = endpoints.iter().map(place).collect();
        let mut places: Vec<_> = endpoints.iter().filter(|e| member(e)).map(place).collect();
        places.sort_unstable();
        places.dedup();
        let mut taken = Vec::new();
        for at in &places {
            let of_level = || endpoints.iter().filter(|e| member(e) && place(e) == *at);
            let all: u32 = of_level().map(|e| e.weight()).sum();
            let able: u32 = of_level().filter(|e| e.is_available()).map(|e| e.weight()).sum();
            let able = (rules.overprovisioning * f64::from(able) / f64::from(all)).min(1.0);
            let left = 1.0 - taken.iter().sum::<f64>();
            taken.push(if left < 1e-9 { 0.0 } else { able.min(left) });
        }
        let sum: f64 = taken.iter().sum();
        let members = endpoints.iter().filter(|e| member(e)).count();
        let available = endpoints.iter().filter(|e| member(e) && e.is_available()).count();
        let enough = places.len() > 1 && sum > 1.0 - 1e-9;
        let panic = available * 100 < members * rules.panic_percent as usize && !enough;
        let share = |(e, at): (&Arc<Endpoint>, &(u32, usize))| match places.iter().position(|place| place == at) {
            _ if !member(e) => 0.0,
            _ if panic => 1.0,
            Some(level) if e.is_available() => taken[level] / sum,
            _ => 0.0,
        };
        let shares: Vec<f64> = endpoints.iter().zip(&levels).map(share).collect();
        let several = !panic && taken.iter().filter(|share| **share > 0.0).count() > 1;
        let levels = if panic { vec![(0, 0); levels.len()] } else { levels };
        Self { panic, several, levels, shares }
    }
}
