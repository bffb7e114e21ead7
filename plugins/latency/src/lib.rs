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
//! Of more than 16 endpoints `m` is a latency up to 1/64 less than the median: it only has to be one of the crowd's, and so
//! it takes a few passes of counting instead of sorting. An endpoint that was never measured has `l = m`: it starts as one of
//! the crowd, neither flooded nor avoided. The score follows `raw` by an exponential moving average over `smooth`, for each
//! endpoint by itself, because endpoints that are quicker get more traffic, and so become slower: an undamped score would
//! swing between them. At the end, scores below `floor` × the best are raised to it. The host multiplies by the weight; hence
//! the load by weight.
//!
//! # pick
//! `(m ÷ l)^speed × (1 ÷ (1 + in flight))^load × s^success` over the candidates, at once and without the average: the
//! best one gets the request, so that the load of the moment already damps. As the best always wins, a share `floor` of
//! the picks is left to chance instead (load still counts), so that an endpoint that was slow once is measured again.

mod history;
mod median;

use core::time::Duration;

use history::History;
use median::Median;
use witgate_sdk::prelude::*;

/// The plugin.
pub struct Latency {
    config: Config,
    median: Median,
    /// The scores of the last [`Scorer::weigh`], as they were before the floor.
    history: History,
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
        Ok(Latency { config, median: Median::default(), history: History::default() })
    }
}

impl Scorer for Latency {
    fn weigh(&mut self, now: Duration, endpoints: &Endpoints) -> Vec<f32> {
        let Latency { config, median, history } = self;
        let endpoints = &*endpoints.filled();
        let mut scores = loads(endpoints);
        config.judge(endpoints, median.of(&endpoints.latency_ms).unwrap_or(1.0), &mut scores);
        let mut decay = Decay::over(config.smooth);
        history.follow(&endpoints.id, now, &mut scores, |passed| decay.after(passed));
        history.forget(now, endpoints.len());
        raise(&mut scores, config.floor);
        scores
    }

    fn pick(&mut self, _: &Request<'_>, endpoints: &Endpoints) -> Vec<f32> {
        let median = self.median.of(&endpoints.latency_ms).unwrap_or(1.0);
        let by_chance = chance() < self.config.floor;
        endpoints.scores(|endpoint| {
            let merit = if by_chance { chance() } else { self.config.merit(endpoint, median) };
            // Never 0, however small both are: 0 would take the endpoint out.
            (merit * power(1.0 / (1.0 + endpoint.in_flight as f32), self.config.load)).max(f32::MIN_POSITIVE)
        })
    }
}

impl Config {
    /// Puts what each endpoint is worth in place of its load. By the default exponents in a loop without a branch.
    fn judge(&self, endpoints: &Endpoints, median: f32, loads: &mut [f32]) {
        let Config { speed, load, success, .. } = *self;
        if (speed, load, success) == (1.0, 1.0, 3.0) {
            self.judge_by(endpoints, median, loads, (|ratio| ratio, |relief| relief, |rate| rate * rate * rate));
        } else {
            let by = (|ratio| power(ratio, speed), |relief| power(relief, load), |rate| power(rate, success));
            self.judge_by(endpoints, median, loads, by);
        }
    }

    fn judge_by(
        &self,
        endpoints: &Endpoints,
        median: f32,
        loads: &mut [f32],
        (speed, load, success): (impl Fn(f32) -> f32, impl Fn(f32) -> f32, impl Fn(f32) -> f32),
    ) {
        let mean = sum(loads) / loads.len().max(1) as f32;
        let (least, most) = (self.floor, 1.0 / self.floor);
        let measured = endpoints.latency_ms.iter().zip(&endpoints.success_rate);
        for (worth, (&latency, &rate)) in loads.iter_mut().zip(measured) {
            let ratio = if latency > 0.0 { median / latency } else { 1.0 };
            let relief = (1.0 + mean) / (1.0 + *worth);
            let raw = at_least(speed(ratio) * load(relief) * success(rate), least);
            *worth = if raw < most { raw } else { most };
        }
    }

    /// What an endpoint is worth before its load is looked at.
    fn merit(&self, endpoint: Endpoint, median: f32) -> f32 {
        let measured = endpoint.latency_ms > 0.0;
        let speed = if measured { power(median / endpoint.latency_ms, self.speed) } else { 1.0 };
        at_least(speed * power(endpoint.success_rate, self.success), self.floor * self.floor)
    }
}

/// How much of an old score is left: `exp(−passed ÷ smooth)`. Worked out anew only where another time has passed, since
/// the endpoints of a cluster were all asked about in the same calls.
struct Decay {
    smooth: Duration,
    passed: Duration,
    left: f32,
}

impl Decay {
    fn over(smooth: Duration) -> Self {
        // At the same time as before the old score stands, unless nothing is to be smoothed.
        Decay { smooth, passed: Duration::ZERO, left: if smooth.is_zero() { 0.0 } else { 1.0 } }
    }

    fn after(&mut self, passed: Duration) -> f32 {
        if passed != self.passed && !self.smooth.is_zero() {
            self.passed = passed;
            self.left = (-passed.as_secs_f32() / self.smooth.as_secs_f32()).exp();
        }
        self.left
    }
}

/// The larger one; `least` where `value` is not a number. Wasm has no instruction for `f32::max`, which is a call there.
fn at_least(value: f32, least: f32) -> f32 {
    if value > least { value } else { least }
}

/// The load of each endpoint.
fn loads(endpoints: &Endpoints) -> Vec<f32> {
    let load = |(in_flight, weight): (&u32, &u32)| *in_flight as f32 / (*weight).max(1) as f32;
    endpoints.in_flight.iter().zip(&endpoints.weight).map(load).collect()
}

/// In sixteen parts: to add one number after the other is to wait for each.
fn sum(numbers: &[f32]) -> f32 {
    let (rows, rest) = numbers.as_chunks::<16>();
    let mut sums = [0.0; 4];
    for row in rows {
        for (n, sum) in sums.iter_mut().enumerate() {
            *sum += (row[n] + row[n + 4]) + (row[n + 8] + row[n + 12]);
        }
    }
    sums.iter().chain(rest).sum()
}

/// Raises what is below `floor` × the best score. None is negative: they are in the order of their bits, and the greatest of
/// many integers is found several at a time.
fn raise(scores: &mut [f32], floor: f32) {
    let best = scores.iter().map(|score| score.to_bits()).max().unwrap_or_default();
    let least = floor * f32::from_bits(best);
    scores.iter_mut().for_each(|score| *score = at_least(*score, least));
}

/// `base^exponent`, without the cost of `powf` in the usual cases: a cluster may have 10,000 endpoints.
fn power(base: f32, exponent: f32) -> f32 {
    if exponent == 1.0 || base == 1.0 {
        base
    } else if exponent == exponent.trunc() {
        base.powi(exponent as i32)
    } else {
        base.powf(exponent)
    }
}

/// A random number of [0, 1), in the 24 bits that an `f32` holds exactly.
fn chance() -> f32 {
    (witgate_sdk::random() >> 40) as f32 / (1 << 24) as f32
}

export!(Latency: scorer);
