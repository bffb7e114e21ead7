//! All faults at once, each again and again at times that are drawn, and what was seen meanwhile. One thread does it: what is
//! started by another one would end with that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::dice::Dice;
use super::judge::{self, Kind};
use super::operator::{ACTS, Act, Later, Operator};
use super::options::Options;
use super::proxy::Proxy;
use super::samples::{self, FDS, Sample};
use super::sets::{Origins, SETS, Set};
use crate::lab::process::{LOAD_CORE, Process, Scratch, free_port};
use crate::resilience::site;
use crate::run::{self, Failed, Outcome};

/// From the end of a fault until its endpoint counts as well: two checks, and an ejection of four seconds at the most.
const RECOVERY: Duration = Duration::from_secs(5);
const SAMPLE: Duration = Duration::from_secs(2);
/// One of so many samples is shown at once: about one in a minute.
const TELL: usize = 30;
/// For clients that have something on its way, beyond their own patience.
const LOAD_END: Duration = Duration::from_secs(60);
/// For all idle timeouts, and for what they wait for.
const REST_LIMIT: Duration = Duration::from_secs(60);

pub(super) const KILLED: &str = "origin killed (`kill -9`), started again later";
pub(super) const HUNG: &str = "origin stopped (SIGSTOP), continued later";
pub(super) const UPGRADED: &str = "binary replaced (SIGUSR2)";

/// All that was seen.
pub(super) struct Soaked {
    pub(super) seed: u64,
    /// How often each fault came.
    pub(super) times: BTreeMap<&'static str, usize>,
    pub(super) kinds: Vec<Kind>,
    pub(super) samples: Vec<Sample>,
    /// With nothing to do: before the load, and after it.
    pub(super) rest: (Sample, Sample),
    /// What did not come to what it should.
    pub(super) problems: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Kill(Set),
    Revive(Set, usize),
    Hang(Set),
    Wake(Set, usize),
    Back(Set, usize),
    Operate,
    Finish(Later),
    Upgrade,
    Sample,
}

impl Event {
    /// Whether it ends something that was begun.
    fn mends(self) -> bool {
        matches!(self, Event::Revive(..) | Event::Wake(..) | Event::Back(..) | Event::Finish(_))
    }
}

struct Soak<'s> {
    origins: Origins,
    proxy: Proxy,
    operator: Operator,
    dice: Dice,
    /// Acts that are left of a round, in which each comes once.
    acts: Vec<Act>,
    /// What is to come, the next one last.
    due: Vec<(Duration, Event)>,
    since: Instant,
    whole: Duration,
    handovers: Vec<(u128, u128)>,
    seen: &'s mut Soaked,
}

pub(super) fn soak(witgate: &Path, helper: &Path, options: &Options) -> Result<Soaked, Failed> {
    let scratch = Scratch::new()?;
    let ports = [free_port()?, free_port()?, free_port()?];
    let (web, tls, tcp, admin) = (free_port()?, free_port()?, free_port()?, free_port()?);
    let mut made = std::process::Command::new(helper);
    run::output(made.arg("made").arg(scratch.dir()))?;
    let port = |name, port: u16| (name, port.to_string());
    let (own, of_others) = (
        [port("PROXY", web), port("TLS", tls), port("TCP", tcp), port("ADMIN", admin)],
        [port("ORIGIN", ports[0]), port("ORIGIN2", ports[1]), port("ECHO", ports[2])],
    );
    let name = "witgate-soak.toml";
    let conf = site::render(scratch.dir(), name, name, &[&own[..], &of_others[..]].concat())?;
    let operator = Operator::new(&scratch, conf.clone())?;
    operator.first_certificate()?;
    if let Err(site::Absent::Refused(reason)) = site::check(witgate, &conf) {
        return Err(Failed::new(reason));
    }
    let origins = Origins::start(scratch.dir(), helper, ports)?;
    let proxy = Proxy::start(witgate, &scratch, &conf, admin)?;
    site::uses_all(web).map_err(Failed::new)?;
    operator.first_plugin(&proxy)?;
    let seed = options.seed();
    let before = rest(&proxy, None)?;
    let mut seen = Soaked {
        seed,
        times: BTreeMap::new(),
        kinds: Vec::new(),
        samples: Vec::new(),
        rest: (before, before),
        problems: Vec::new(),
    };
    println!("seed {seed}; at rest: {before:?}");
    let log = scratch.path("clients.log");
    let authority = scratch.path("authority.pem").display().to_string();
    let words = [web, tls, tcp].map(|port| port.to_string());
    let mut arguments = vec!["load".to_string()];
    arguments.extend(words.into_iter().chain([authority, seed.to_string(), options.rate.to_string()]));
    let clients = Process::start(helper, &arguments, LOAD_CORE, &log)?;
    let whole = Duration::from_secs(options.minutes as u64 * 60);
    let (dice, since) = (Dice(seed), Instant::now());
    let (acts, due, handovers) = (Vec::new(), Vec::new(), Vec::new());
    let mut soak = Soak { origins, proxy, operator, dice, acts, due, since, whole, handovers, seen: &mut seen };
    soak.live()?;
    clients.end_by("INT", LOAD_END)?;
    let after = rest(&soak.proxy, Some(&before))?;
    let told = fs::read_to_string(&log).map_err(|error| Failed::new(format!("the clients' log: {error}")))?;
    soak.seen.kinds = judge::kinds(&told, &soak.origins.struck, &soak.handovers);
    soak.seen.rest.1 = after;
    let Soak { proxy, origins, .. } = soak;
    if let Err(failed) = proxy.end() {
        seen.problems.push(failed.message);
    }
    drop(origins);
    Ok(seen)
}

/// Waits until the proxy has nothing to do, or it is clear that this does not come; of some moments, what each had least of.
fn rest(proxy: &Proxy, before: Option<&Sample>) -> Result<Sample, Failed> {
    let most = before.map_or(usize::MAX, |before| before.fds + FDS);
    let since = Instant::now();
    loop {
        let mut least = samples::take(proxy, Duration::ZERO)?;
        for _ in 0..10 {
            thread::sleep(Duration::from_millis(300));
            let sample = samples::take(proxy, Duration::ZERO)?;
            least.fds = least.fds.min(sample.fds);
            least.threads = least.threads.min(sample.threads);
            least.in_flight = least.in_flight.min(sample.in_flight);
            least.connections = least.connections.min(sample.connections);
            least.rss_kib = sample.rss_kib;
        }
        let rests = least.in_flight == 0 && least.connections == 0 && least.fds <= most;
        if rests || since.elapsed() > REST_LIMIT {
            return Ok(least);
        }
    }
}

impl Soak<'_> {
    /// Everything that happens while requests come.
    fn live(&mut self) -> Outcome {
        for set in SETS {
            self.again(Event::Kill(set), 3_000, 15_000);
            self.again(Event::Hang(set), 5_000, 20_000);
        }
        self.again(Event::Operate, 1_000, 3_000);
        self.again(Event::Upgrade, 10_000, 15_000);
        self.again(Event::Sample, 0, 1);
        loop {
            let now = self.since.elapsed();
            let is_over = now >= self.whole;
            if is_over {
                self.due.retain(|(_, event)| event.mends());
            }
            match self.proxy.follow() {
                Ok(Some(handover)) => {
                    println!("{:4} s: {UPGRADED}, {} ms", now.as_secs(), handover.1 - handover.0);
                    self.handovers.push(handover);
                    self.count(UPGRADED);
                }
                Ok(None) => {}
                Err(failed) => self.problem(&failed.message),
            }
            match self.due.last() {
                Some((due, _)) if *due <= now => {
                    if let Some((_, event)) = self.due.pop() {
                        self.happen(event)?;
                    }
                }
                // Everything is mended, and has been for a while.
                None if is_over && self.origins.all_well() && !self.proxy.is_upgrading() => return Ok(()),
                _ => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Lets something come at a time between these, in milliseconds from now.
    fn again(&mut self, event: Event, least: u64, most: u64) {
        let due = self.since.elapsed() + self.dice.between(least, most);
        self.due.push((due, event));
        self.due.sort_by_key(|(due, _)| std::cmp::Reverse(*due));
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.times.entry(what).or_insert(0) += 1;
    }

    fn problem(&mut self, what: &str) {
        let line = format!("{} s: {what}", self.since.elapsed().as_secs());
        println!("{line}");
        self.seen.problems.push(line);
    }

    fn happen(&mut self, event: Event) -> Outcome {
        match event {
            Event::Revive(set, number) => {
                self.origins.revive(set, number)?;
                self.later(Event::Back(set, number), RECOVERY);
            }
            Event::Wake(set, number) => {
                self.origins.wake(set, number)?;
                self.later(Event::Back(set, number), RECOVERY);
            }
            Event::Back(set, number) => self.origins.back(set, number),
            // No change of the configuration is taken meanwhile.
            Event::Finish(_) | Event::Operate | Event::Upgrade if self.proxy.is_upgrading() => {
                self.later(event, Duration::from_millis(200));
            }
            Event::Finish(later) => {
                if let Err(failed) = self.operator.finish(later, &self.proxy, &mut self.origins) {
                    self.problem(&format!("{later:?}: {}", failed.message));
                }
            }
            Event::Kill(set) => {
                if let Some(number) = self.origins.take(set, &mut self.dice) {
                    self.origins.kill(set, number);
                    self.count(KILLED);
                    self.again(Event::Revive(set, number), 1_000, 6_000);
                }
                self.again(event, 8_000, 25_000);
            }
            Event::Hang(set) => {
                if let Some(number) = self.origins.take(set, &mut self.dice) {
                    self.origins.hang(set, number)?;
                    self.count(HUNG);
                    self.again(Event::Wake(set, number), 1_000, 5_000);
                }
                self.again(event, 10_000, 30_000);
            }
            Event::Operate => {
                self.operate();
                self.again(event, 1_000, 4_000);
            }
            // The second half is one process's, whose memory can be looked at.
            Event::Upgrade if self.since.elapsed() < self.whole / 2 => {
                self.proxy.upgrade()?;
                self.again(event, 60_000, 150_000);
            }
            Event::Upgrade => {}
            Event::Sample => {
                match samples::take(&self.proxy, self.since.elapsed()) {
                    Ok(sample) => {
                        if self.seen.samples.len().is_multiple_of(TELL) {
                            println!("{sample:?}");
                        }
                        self.seen.samples.push(sample);
                    }
                    // Between one process and the next there is a moment without either.
                    Err(_) if self.proxy.is_upgrading() => {}
                    Err(failed) => return Err(failed),
                }
                self.later(event, SAMPLE);
            }
        }
        Ok(())
    }

    fn later(&mut self, event: Event, after: Duration) {
        let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX - 1);
        self.again(event, millis, millis + 1);
    }

    fn operate(&mut self) {
        if self.acts.is_empty() {
            self.acts = ACTS.to_vec();
        }
        let act = self.acts.swap_remove(self.dice.below(self.acts.len()));
        match self.operator.act(act, &self.proxy, &mut self.origins, &mut self.dice) {
            Ok(Some(later)) => {
                self.count(act.name());
                if let Some(later) = later {
                    self.again(Event::Finish(later), 2_000, 6_000);
                }
            }
            // Another time.
            Ok(None) => self.acts.push(act),
            Err(failed) => self.problem(&format!("{act:?}: {}", failed.message)),
        }
    }
}

/// The names of all faults, as the table has them.
pub(super) fn faults() -> impl Iterator<Item = &'static str> {
    let names: BTreeSet<Act> = ACTS.into_iter().collect();
    [KILLED, HUNG, UPGRADED].into_iter().chain(names.into_iter().map(Act::name))
}
