//! A configuration of 10,000 endpoints that is replaced again and again through Witgate's admin API. Changes nothing that traffic
//! uses.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::drain::Admin;
use super::site::{Absent, Proxy, Site};
use crate::lab::stats::{median, percentile};
use crate::run::Failed;

/// From the begin of one to that of the next.
const EVERY: Duration = Duration::from_secs(1);

/// How long replacing it took, in milliseconds, from the request to its answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reloads {
    pub(super) count: usize,
    pub(super) p50: f64,
    pub(super) max: f64,
}

/// Whether this version has the call.
pub(super) fn is_possible(site: &Site, proxy: &Proxy) -> Result<(), Absent> {
    let answer = Admin::new(site, proxy)?.call("GET", "/v1/config", "")?;
    match answer.status {
        200 => Ok(()),
        status => Err(Absent::Refused(format!("its configuration cannot be replaced (GET /v1/config: {status})"))),
    }
}

/// Replaces it for `whole`, each time with all other weights in the large cluster.
pub(super) fn again_and_again(site: &Site, proxy: &Proxy, whole: Duration) -> Result<Reloads, Failed> {
    let file = site.scratch.path("witgate-reload.toml");
    let text = fs::read_to_string(&file).map_err(|error| Failed::new(format!("{}: {error}", file.display())))?;
    let other = text.replace("weight = 1 }", "weight = 2 }");
    let admin = Admin::new(site, proxy)?;
    let mut took = Vec::new();
    let since = Instant::now();
    while since.elapsed() < whole {
        let body = if took.len() % 2 == 0 { &other } else { &text };
        let began = Instant::now();
        let answer = admin.call("PUT", "/v1/config", body)?;
        if !(200..300).contains(&answer.status) {
            let said: String = String::from_utf8_lossy(&answer.body).chars().take(200).collect();
            return Err(Failed::new(format!("PUT /v1/config: {} {said}", answer.status)));
        }
        took.push(began.elapsed().as_secs_f64() * 1e3);
        thread::sleep(EVERY.saturating_sub(began.elapsed()));
    }
    let all = || took.iter().copied();
    Ok(Reloads { count: took.len(), p50: median(all()), max: percentile(all(), 1.0) })
}
