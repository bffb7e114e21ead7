//! What it costs to replace a plugin under load: wrk at full speed, an activation every two seconds that alternates two
//! versions, and probes that write down when each of their requests began and how long it took. Failures are counted, not
//! explained.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::check;
use super::load::{self, Load};
use super::site::{Proxy, Site};
use super::targets::FULL;
use crate::lab::http::{self, Connection};
use crate::lab::process::Usage;
use crate::lab::stats::{median, percentile};
use crate::plugins;
use crate::run::Failed;

/// Connections that are timed request by request, beside those of wrk: some thousand samples a second.
const PROBES: usize = 4;
/// Between activations, so that the seconds compared do not overlap.
const EVERY: Duration = Duration::from_secs(2);
/// Before the first activation: the warm-up, and the second it is compared with.
const LEAD_IN: Duration = Duration::from_millis(2500);
/// Half of the second around an activation.
const HALF: Duration = Duration::from_millis(500);
/// The plugin that is replaced.
const PLUGIN: &str = "canary";

/// What the swaps cost.
pub(super) struct Swaps {
    pub(super) activations: usize,
    /// wrk's view of the whole time.
    pub(super) load: Load,
    pub(super) probed: usize,
    /// Probes that got no answer or another than 200.
    pub(super) probes_failed: usize,
    /// Milliseconds, from the admin request to its answer.
    pub(super) activation_p50: f64,
    pub(super) activation_max: f64,
    /// p99 of the probes in the second before and in the second around, all activations together, in milliseconds.
    pub(super) before_p99: f64,
    pub(super) around_p99: f64,
    /// Median over the activations of the one divided by the other.
    pub(super) ratio: f64,
    /// The slowest probe around any activation, and before any, in milliseconds.
    pub(super) around_max: f64,
    pub(super) before_max: f64,
    /// Share of the proxy's core that anything else took.
    pub(super) others: f64,
}

impl Swaps {
    pub(super) fn failures(&self) -> u64 {
        self.load.failures + self.probes_failed as u64
    }
}

/// One probe's request.
struct Sample {
    began: Instant,
    took: Duration,
    answered: bool,
}

/// An activation that was answered.
struct Activation {
    began: Instant,
    took: Duration,
}

/// Runs it on the proxy with all four plugins.
pub(super) fn measure(site: &Site, activations: usize) -> Result<Swaps, Failed> {
    let proxy = site.start(&FULL)?;
    check::check(&FULL, &load::USERS, proxy.port)?;
    let mut admin = Admin::open(site, &proxy)?;
    let versions = [1, admin.push_variant()?];
    let whole = LEAD_IN + EVERY * u32::try_from(activations).unwrap_or(u32::MAX);
    let seconds = u32::try_from(whole.as_secs() + 1).unwrap_or(u32::MAX);
    let running = load::start(&load::USERS, proxy.port, seconds, &site.scratch)?;
    let usage = Usage::of(&proxy.process)?;
    let over = AtomicBool::new(false);
    let (activated, samples) = thread::scope(|scope| {
        let probes: Vec<_> = (0..PROBES).map(|probe| scope.spawn(probe_until(&over, proxy.port, probe))).collect();
        let activated = admin.alternate(versions, activations);
        over.store(true, Ordering::Relaxed);
        let samples: Vec<Sample> = probes.into_iter().filter_map(|probe| probe.join().ok()).flatten().collect();
        (activated, samples)
    });
    let activated = activated?;
    let (load, others) = (running.finish()?, usage.until_now()?.others);
    Ok(Swaps { others, ..judge(&activated, &samples, load) })
}

/// A probe: request after request on a kept connection.
fn probe_until(over: &AtomicBool, port: u16, probe: usize) -> impl FnOnce() -> Vec<Sample> {
    move || {
        let (mut samples, mut connection) = (Vec::new(), None);
        for user in probe.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let request = http::request("GET", "/", &[("Cookie", &check::cookie(user % 512))], b"");
            let began = Instant::now();
            let outcome = match connection.take() {
                Some(open) => Ok(open),
                None => Connection::open(port),
            };
            let outcome = outcome.and_then(|mut open| open.exchange(&request).map(|answer| (open, answer)));
            let answered = outcome.as_ref().is_ok_and(|(_, answer)| answer.status == 200);
            samples.push(Sample { began, took: began.elapsed(), answered });
            match outcome {
                Ok((open, _)) => connection = Some(open),
                // What refuses connections is not to be asked a million times.
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
        samples
    }
}

/// The admin API with its token.
struct Admin {
    port: u16,
    authorization: String,
}

impl Admin {
    fn open(site: &Site, proxy: &Proxy) -> Result<Admin, Failed> {
        Ok(Admin { port: proxy.admin, authorization: format!("Bearer {}", site.token(&FULL)?) })
    }

    /// Stores a second version of the plugin, which differs in a custom section only; returns its number.
    fn push_variant(&mut self) -> Result<u32, Failed> {
        let file = plugins::output_dir().join(format!("{PLUGIN}.wasm"));
        let module = fs::read(&file).map_err(|error| Failed::new(format!("{}: {error}", file.display())))?;
        let answer = self.ask("PUT", &format!("/v1/plugins/{PLUGIN}"), &with_custom_section(module))?;
        let number = answer.split_once("\"version\":").map(|(_, rest)| rest.trim_start());
        let digits = number.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
        digits
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| Failed::new(format!("the upload's answer names no version: {answer}")))
    }

    /// Activates the one and the other, as often as told and no faster than [`EVERY`]; goes on for as long after the last.
    fn alternate(&mut self, versions: [u32; 2], times: usize) -> Result<Vec<Activation>, Failed> {
        let mut activated = Vec::with_capacity(times);
        let mut next = Instant::now() + LEAD_IN;
        for turn in 0..times {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            let version = versions[(turn + 1) % 2];
            let began = Instant::now();
            self.ask(
                "POST",
                &format!("/v1/plugins/{PLUGIN}/activate"),
                format!("{{\"version\":{version}}}").as_bytes(),
            )?;
            activated.push(Activation { began, took: began.elapsed() });
            next += EVERY;
        }
        thread::sleep(HALF + HALF / 5);
        Ok(activated)
    }

    /// The answer's body, where its status says that all is well.
    fn ask(&mut self, method: &str, target: &str, body: &[u8]) -> Result<String, Failed> {
        let headers = [("Authorization", self.authorization.as_str()), ("Content-Type", "application/octet-stream")];
        let request = http::request(method, target, &headers, body);
        let answer = Connection::open(self.port).and_then(|mut admin| admin.exchange(&request));
        let answer = answer.map_err(|error| Failed::new(format!("{method} {target}: {error}")))?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        match answer.status {
            200 | 201 => Ok(text),
            status => Err(Failed::new(format!("{method} {target}: {status} {text}"))),
        }
    }
}

/// The same module for everyone but a hash: a custom section (WebAssembly 1.0, §5.5.3) at its end.
fn with_custom_section(mut module: Vec<u8>) -> Vec<u8> {
    let name = b"variant";
    // Both lengths are below 128, and so one byte each.
    module.extend([0, name.len() as u8 + 1, name.len() as u8]);
    module.extend(name);
    module
}

fn judge(activated: &[Activation], samples: &[Sample], load: Load) -> Swaps {
    let within = |from: Instant, to: Instant| -> Vec<f64> {
        let inside = samples.iter().filter(|sample| sample.began >= from && sample.began < to);
        inside.map(|sample| milliseconds(sample.took)).collect()
    };
    let windows = activated.iter().map(|activation| {
        let (from, to) = (activation.began - HALF, activation.began + HALF);
        (within(from - HALF * 2, from), within(from, to))
    });
    let windows: Vec<(Vec<f64>, Vec<f64>)> = windows.collect();
    let p99 = |values: &[f64]| percentile(values.iter().copied(), 0.99);
    let before: Vec<f64> = windows.iter().flat_map(|(before, _)| before.iter().copied()).collect();
    let around: Vec<f64> = windows.iter().flat_map(|(_, around)| around.iter().copied()).collect();
    let took = || activated.iter().map(|activation| milliseconds(activation.took));
    Swaps {
        activations: activated.len(),
        load,
        probed: samples.len(),
        probes_failed: samples.iter().filter(|sample| !sample.answered).count(),
        activation_p50: median(took()),
        activation_max: percentile(took(), 1.0),
        before_p99: p99(&before),
        around_p99: p99(&around),
        ratio: median(windows.iter().map(|(before, around)| p99(around) / p99(before))),
        around_max: percentile(around, 1.0),
        before_max: percentile(before, 1.0),
        others: 0.0,
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_before_and_around() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let sample = |ms, took| Sample { began: at(ms), took: Duration::from_millis(took), answered: took < 50 };
        // Too early, before, around (early and late), too late.
        let samples = [sample(1_000, 90), sample(1_600, 2), sample(2_600, 4), sample(3_400, 6), sample(3_600, 80)];
        let activated = [Activation { began: at(3_000), took: Duration::from_millis(7) }];
        let swaps = judge(&activated, &samples, Load { failures: 1, ..Load::default() });
        assert_eq!((swaps.before_p99, swaps.around_p99, swaps.ratio), (2.0, 6.0, 3.0));
        assert_eq!((swaps.activation_p50, swaps.probed, swaps.failures()), (7.0, 5, 3));
    }

    #[test]
    fn the_variant_is_a_module_with_one_more_section() {
        let variant = with_custom_section(b"\0asm\x01\0\0\0".to_vec());
        assert_eq!(&variant[8..], b"\0\x08\x07variant");
    }
}
