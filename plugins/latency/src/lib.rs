//! `latency`, a scorer: prefers fast, unloaded, successful endpoints. Never starves one, and never gives a score of 0:
//! taking an endpoint out is the work of health checks and ejection.
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `speed` | `1.0` | how much latency counts, 0 to 4: at 1, half the latency is twice the traffic; at 0 it does not count |
//! | `load` | `1.0` | how much requests in flight count, 0 to 4 |
//! | `success` | `3.0` | how much failures count, 0 to 10: at 3, one failure in five halves the traffic |
//! | `smooth` | `"2s"` | time constant of a score's moving average; `"0s"` for none |
//! | `floor` | `0.05` | the least score, as a share of the best one, 0.001 to 1 |
//!
//! # weigh
//! With the median `m` of the measured latencies and the mean `ū` of the loads, an endpoint with latency `l`, load
//! `u = in flight ÷ weight` and success rate `s` is worth
//!
//! `raw = (m ÷ l)^speed × ((1 + ū) ÷ (1 + u))^load × s^success`, kept within `floor` and `1 ÷ floor`.
//!
//! An endpoint that was never measured has `l = m`: it starts as one of the crowd, neither flooded nor avoided. The
//! score follows `raw` by an exponential moving average over `smooth`, for each endpoint by itself, because endpoints
//! that are quicker get more traffic, and so become slower: an undamped score would swing between them. At the end,
//! scores below `floor` × the best are raised to it. The host multiplies by the weight; hence the load by weight.
//!
//! # pick
//! `(m ÷ l)^speed × (1 ÷ (1 + in flight))^load × s^success` over the candidates, at once and without the average: the
//! best one gets the request, so that the load of the moment already damps. As the best always wins, a share `floor` of
//! the picks is left to chance instead (load still counts), so that an endpoint that was slow once is measured again.

use core::hash::{BuildHasherDefault, Hasher};
use core::time::Duration;
use std::collections::HashMap;

use witgate_sdk::prelude::*;

/// How long the score of an endpoint that is not asked about any more is kept, at least.
const KEPT: Duration = Duration::from_secs(60);

/// The plugin.
pub struct Latency {
    config: Config,
    /// Score and time of the last [`Scorer::weigh`], by endpoint id.
    scores: HashMap<u64, (f32, Duration), BuildHasherDefault<IdHasher>>,
}

/// Its configuration; the module says what each key means.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    speed: f32,
    load: f32,
    success: f32,
    #[serde(deserialize_with = "witgate_sdk::duration")]
    smooth: Duration,
    floor: f32,
}

impl Default for Config {
    fn default() -> Self {
        Config { speed: 1.0, load: 1.0, success: 3.0, smooth: Duration::from_secs(2), floor: 0.05 }
    }
}

impl Plugin for Latency {
    type Config = Config;

    fn configure(config: Config, _: &mut Fields) -> Result<Self, String> {
        for (key, value, most) in
            [("speed", config.speed, 4.0), ("load", config.load, 4.0), ("success", config.success, 10.0)]
        {
            if !(0.0..=most).contains(&value) {
                return Err(format!("{key}: {value} is not between 0 and {most}"));
            }
        }
        if !(0.001..=1.0).contains(&config.floor) {
            return Err(format!("floor: {} is not between 0.001 and 1", config.floor));
        }
        Ok(Latency { config, scores: HashMap::default() })
    }
}

impl Scorer for Latency {
    fn weigh(&mut self, now: Duration, endpoints: &Endpoints) -> Vec<f32> {
        let median = median_latency(endpoints);
        let mean_load = endpoints.iter().map(load).sum::<f32>() / endpoints.len().max(1) as f32;
        let mut scores = endpoints.scores(|endpoint| {
            let relief = (1.0 + mean_load) / (1.0 + load(endpoint));
            self.smoothed(endpoint.id, now, self.config.merit(endpoint, median) * power(relief, self.config.load))
        });
        self.remember(now, endpoints, &scores);
        let least = self.config.floor * scores.iter().copied().fold(0.0, f32::max);
        scores.iter_mut().for_each(|score| *score = score.max(least));
        scores
    }

    fn pick(&mut self, _: &Request<'_>, endpoints: &Endpoints) -> Vec<f32> {
        let median = median_latency(endpoints);
        let by_chance = chance() < self.config.floor;
        endpoints.scores(|endpoint| {
            let merit = if by_chance { chance() } else { self.config.merit(endpoint, median) };
            // Never 0, however small both are: 0 would take the endpoint out.
            (merit * power(1.0 / (1.0 + endpoint.in_flight as f32), self.config.load)).max(f32::MIN_POSITIVE)
        })
    }
}

impl Latency {
    fn smoothed(&self, id: u64, now: Duration, raw: f32) -> f32 {
        // `max` first: it also turns what is not a number into the floor.
        let raw = raw.max(self.config.floor).min(1.0 / self.config.floor);
        let Some((score, at)) = self.scores.get(&id) else { return raw };
        if self.config.smooth.is_zero() {
            return raw;
        }
        let passed = now.saturating_sub(*at).as_secs_f32() / self.config.smooth.as_secs_f32();
        raw + (score - raw) * (-passed).exp()
    }

    fn remember(&mut self, now: Duration, endpoints: &Endpoints, scores: &[f32]) {
        self.scores.extend(endpoints.id.iter().zip(scores).map(|(&id, &score)| (id, (score, now))));
        // One instance may weigh several clusters in turn, so what this one lacks is not gone yet.
        if self.scores.len() > 2 * endpoints.len() + 1024 {
            self.scores.retain(|_, (_, at)| now.saturating_sub(*at) < KEPT);
        }
    }
}

impl Config {
    /// What an endpoint is worth before its load is looked at.
    fn merit(&self, endpoint: Endpoint, median: f32) -> f32 {
        let measured = endpoint.latency_ms > 0.0;
        let speed = if measured { power(median / endpoint.latency_ms, self.speed) } else { 1.0 };
        (speed * power(endpoint.success_rate, self.success)).max(self.floor * self.floor)
    }
}

fn load(endpoint: Endpoint) -> f32 {
    endpoint.in_flight as f32 / endpoint.weight.max(1) as f32
}

/// The median of those that were measured; 1 where none was, when it is not used either.
fn median_latency(endpoints: &Endpoints) -> f32 {
    let mut measured: Vec<f32> = endpoints.latency_ms.iter().copied().filter(|latency| *latency > 0.0).collect();
    let middle = measured.len() / 2;
    if measured.is_empty() { 1.0 } else { *measured.select_nth_unstable_by(middle, f32::total_cmp).1 }
}

/// `base^exponent`, without the cost of `powf` in the usual cases: a cluster may have 10,000 endpoints.
fn power(base: f32, exponent: f32) -> f32 {
    if exponent == 1.0 || base == 1.0 { base } else { base.powf(exponent) }
}

/// A random number of [0, 1), in the 24 bits that an `f32` holds exactly.
fn chance() -> f32 {
    (witgate_sdk::random() >> 40) as f32 / (1 << 24) as f32
}

/// Endpoint ids are hashes already.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id;
    }
}

export!(Latency: scorer);
