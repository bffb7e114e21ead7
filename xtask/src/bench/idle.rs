//! What a kept connection costs that asks for nothing: memory before and after two thousand of them.

use std::thread;
use std::time::Duration;

use super::check;
use super::load;
use super::rounds::{self, Measured};
use super::site::Site;
use super::targets::Target;
use crate::lab::http::{self, Connection};
use crate::run::Failed;

/// Kept, each after one request.
pub(super) const CONNECTIONS: usize = 2000;
/// Before memory is read: what is freed late has been.
const SETTLE: Duration = Duration::from_secs(3);

/// Resident memory in KiB.
pub(super) struct Held {
    pub(super) before: f64,
    pub(super) after: f64,
}

impl Held {
    /// KiB for each connection.
    pub(super) fn per_connection(&self) -> f64 {
        (self.after - self.before) / CONNECTIONS as f64
    }
}

/// All rounds of all proxies.
pub(super) fn measure(site: &Site, targets: &[&Target], rounds: usize) -> Vec<Measured<Held>> {
    rounds::interleave(targets, rounds, |round, target| {
        let held = one(site, target)?;
        let (each, after) = (held.per_connection(), held.after / 1024.0);
        println!("round {} {:36} {each:6.2} KB/connection  {after:4.0} MB", round + 1, target.name);
        Ok(held)
    })
}

fn one(site: &Site, target: &Target) -> Result<Held, Failed> {
    let proxy = site.start(target)?;
    check::check(target, &load::SMALL, proxy.port)?;
    let resident = || {
        thread::sleep(SETTLE);
        proxy.process.resident_kib().map(|kib| kib as f64)
    };
    let before = resident()?;
    let request = http::request("GET", load::SMALL.path, &[], b"");
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for at in 1..=CONNECTIONS {
        let wrong = |what: String| Failed::new(format!("connection {at} of {CONNECTIONS}: {what}"));
        let mut connection = Connection::open(proxy.port).map_err(|error| wrong(error.to_string()))?;
        match connection.exchange(&request) {
            Ok(answer) if answer.status == 200 => connections.push(connection),
            Ok(answer) => return Err(wrong(format!("status {}", answer.status))),
            Err(error) => return Err(wrong(error.to_string())),
        }
    }
    let after = resident()?;
    // Kept means kept: the first one still answers.
    let again = connections.first_mut().map(|first| first.exchange(&request));
    match again {
        Some(Ok(answer)) if answer.status == 200 => Ok(Held { before, after }),
        _ => Err(Failed::new("the first connection was not kept")),
    }
}
