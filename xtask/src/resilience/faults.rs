//! One proxy through one fault: origins, proxy and load are started, the fault is made and mended, all is ended. Reads no clock
//! but the load's.

use std::thread;
use std::time::{Duration, Instant};

use super::blackhole::BlackHole;
use super::dns::Dns;
use super::drain;
use super::load::{self, Clock, Sample};
use super::made::{self, Ill, Made};
use super::origins::{self, Nginx};
use super::reload::{self, Reloads};
use super::scenarios::{Fault, Row, Scenario};
use super::site::{Absent, Proxy, Site};
use super::summary::{self, Marks, Seen};
use crate::run::{Failed, Outcome};

/// Connections are made, and Envoy's and Witgate's endpoints were all seen.
const WARM_UP: Duration = Duration::from_secs(2);
/// The one that is ill.
const BAD: usize = 0;

/// What came of one proxy in one fault.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    pub(super) seen: Seen,
    /// Requests that reached the origins for each of the clients', from the fault on.
    pub(super) amplified: f64,
    /// How long the fault lasted, in seconds.
    pub(super) lasted: f64,
    /// Milliseconds until the bad origin got nothing any more; nothing where it always got some, or was not looked at.
    pub(super) out_after: Option<f64>,
    pub(super) reloads: Option<Reloads>,
}

/// What the load and the fault left to be looked at.
struct Lived {
    marks: Marks,
    /// Requests at the origins when the fault came and when all was over.
    served: (usize, usize),
    end: Duration,
    bad: Option<Vec<Duration>>,
    reloads: Option<Reloads>,
}

enum Origins {
    Nginx(Nginx),
    /// Known by their name only.
    Named(Nginx, Dns),
    Made(Made),
}

pub(super) fn run(site: &Site, scenario: &Scenario, row: &Row, seconds: u64) -> Result<Run, Absent> {
    let mut origins = Origins::start(site, scenario.fault)?;
    let proxy = site.start(row, scenario.retries)?;
    if scenario.fault == Fault::Reload {
        reload::is_possible(site, &proxy)?;
    }
    let live = |clock| live(site, scenario.fault, row, &proxy, &mut origins, seconds, clock);
    let (lived, samples) = load::during(proxy.port, live)?;
    Ok(look(lived?, &samples))
}

fn look(lived: Lived, samples: &[Sample]) -> Run {
    let Lived { marks, served, end, bad, reloads } = lived;
    let due = summary::due_between(samples, marks.fault, end).max(1);
    let out_after = bad.and_then(|arrivals| summary::out_after(&arrivals, marks.fault, marks.mended));
    Run {
        seen: Seen::of(samples, marks),
        amplified: served.1.saturating_sub(served.0) as f64 / due as f64,
        lasted: (marks.mended - marks.fault).as_secs_f64(),
        out_after: out_after.map(|after| after.as_secs_f64() * 1e3),
        reloads,
    }
}

/// What happens while requests come: nothing, the fault, nothing.
fn live(
    site: &Site,
    fault: Fault,
    row: &Row,
    proxy: &Proxy,
    origins: &mut Origins,
    seconds: u64,
    clock: Clock,
) -> Result<Lived, Absent> {
    let whole = Duration::from_secs(seconds);
    thread::sleep(WARM_UP);
    let warm = clock.now();
    thread::sleep(whole / 2);
    let (before, began) = (origins.served(), clock.now());
    let mut hole = None;
    let mut reloads = None;
    match (fault, &mut *origins) {
        (Fault::Rolling, Origins::Nginx(nginx)) => drain::rolling(site, row.peer, proxy, nginx)?,
        (Fault::Reload, _) => reloads = Some(reload::again_and_again(site, proxy, whole)?),
        (Fault::BlackHole, _) => {
            hole = Some(BlackHole::open(origins::address(BAD, site.origin)).map_err(|f| Absent::Refused(f.message))?);
            thread::sleep(whole);
        }
        (fault, origins) => {
            origins.hurt(fault)?;
            thread::sleep(whole);
        }
    }
    let mended = clock.now();
    drop(hole);
    origins.mend(fault)?;
    thread::sleep(whole / 2);
    Ok(Lived {
        marks: Marks { warm, fault: began, mended },
        served: (before, origins.served()),
        end: clock.now(),
        bad: origins.arrivals(fault).map(|arrivals| arrivals.into_iter().map(|at| clock.at(at)).collect()),
        reloads,
    })
}

impl Origins {
    fn start(site: &Site, fault: Fault) -> Result<Origins, Failed> {
        Ok(match fault {
            Fault::Ill(_) => Origins::Made(Made::start(origins::addresses(site.origin), made::ORIGIN)?),
            Fault::NoDns => Origins::Named(Nginx::start(site.scratch.dir(), site.origin)?, Dns::start(site)?),
            _ => Origins::Nginx(Nginx::start(site.scratch.dir(), site.origin)?),
        })
    }

    fn hurt(&mut self, fault: Fault) -> Outcome {
        match (fault, self) {
            (Fault::Kill(count), Origins::Nginx(nginx)) => (0..count).for_each(|number| nginx.kill(number)),
            (Fault::Hang, Origins::Nginx(nginx)) => nginx.signal(BAD, "STOP")?,
            (Fault::NoDns, Origins::Named(_, dns)) => dns.kill(),
            (Fault::Ill(ill), Origins::Made(made)) => made.set(BAD, ill),
            _ => {}
        }
        Ok(())
    }

    fn mend(&mut self, fault: Fault) -> Outcome {
        match (fault, self) {
            (Fault::Kill(count), Origins::Nginx(nginx)) => (0..count).try_for_each(|number| nginx.revive(number))?,
            (Fault::Hang, Origins::Nginx(nginx)) => nginx.signal(BAD, "CONT")?,
            (Fault::NoDns, Origins::Named(_, dns)) => dns.revive()?,
            (Fault::Ill(_), Origins::Made(made)) => made.set(BAD, Ill::Not),
            _ => {}
        }
        Ok(())
    }

    fn served(&self) -> usize {
        match self {
            Origins::Nginx(nginx) | Origins::Named(nginx, _) => nginx.served(),
            Origins::Made(made) => made.served(),
        }
    }

    /// What the bad one got, where that shows when it was taken out.
    fn arrivals(&self, fault: Fault) -> Option<Vec<Instant>> {
        match self {
            Origins::Made(made) if fault.is_ejected() => Some(made.arrivals(BAD)),
            _ => None,
        }
    }
}
