//! The origins: three sets of four processes, of which one is killed, or hangs, while at least two others of its set are well.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::dice::Dice;
use super::judge::{How, Struck};
use crate::lab::process::{LOAD_CORE, Process};
use crate::resilience::origins::{self, COUNT, Nginx};
use crate::run::{Failed, Outcome};

const START_LIMIT: Duration = Duration::from_secs(20);
/// Of each set, those that may be out at once: killed, hung, drained or taken out of the cluster.
const OUT: usize = 2;
/// The file that large responses are of.
const LARGE: usize = 256 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Set {
    /// nginx, by HTTP/1.1.
    App,
    /// nginx, by HTTP/2.
    H2,
    /// What echoes, behind TCP and upgrades.
    Echo,
}

pub(super) const SETS: [Set; 3] = [Set::App, Set::H2, Set::Echo];

pub(super) struct Origins {
    app: Nginx,
    h2: Nginx,
    echo: Vec<Option<Process>>,
    /// The program that echoes, and what it writes to.
    helper: PathBuf,
    dir: PathBuf,
    ports: [u16; 3],
    out: [BTreeSet<usize>; 3],
    pub(super) struck: Vec<Struck>,
}

impl Origins {
    pub(super) fn start(dir: &Path, helper: &Path, ports: [u16; 3]) -> Result<Origins, Failed> {
        let place = |name: &str| {
            let place = dir.join(name);
            let large = || fs::write(place.join("large"), vec![b'x'; LARGE]);
            let made = fs::create_dir(&place).and_then(|()| large());
            made.map(|()| place.clone()).map_err(|error| Failed::new(format!("{}: {error}", place.display())))
        };
        let app = Nginx::start_as("soak-http1.conf", &place("app")?, ports[0])?;
        let h2 = Nginx::start_as("soak-http2.conf", &place("h2")?, ports[1])?;
        let (helper, dir) = (helper.to_path_buf(), dir.to_path_buf());
        let (echo, out) = ((0..COUNT).map(|_| None).collect(), Default::default());
        let mut all = Origins { app, h2, echo, helper, dir, ports, out, struck: Vec::new() };
        for number in 0..COUNT {
            all.revive(Set::Echo, number)?;
        }
        Ok(all)
    }

    pub(super) fn address(&self, set: Set, number: usize) -> SocketAddr {
        origins::address(number, self.ports[set as usize])
    }

    /// One that is well, and is out from now on; none where enough are. It is back with [`Origins::back`].
    pub(super) fn take(&mut self, set: Set, dice: &mut Dice) -> Option<usize> {
        let out = &mut self.out[set as usize];
        let well: Vec<usize> = (0..COUNT).filter(|number| !out.contains(number)).collect();
        if out.len() >= OUT {
            return None;
        }
        let number = well[dice.below(well.len())];
        out.insert(number);
        Some(number)
    }

    pub(super) fn back(&mut self, set: Set, number: usize) {
        self.out[set as usize].remove(&number);
    }

    pub(super) fn all_well(&self) -> bool {
        self.out.iter().all(BTreeSet::is_empty)
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self, set: Set, number: usize) {
        let from = super::now();
        match set {
            Set::App => self.app.kill(number),
            Set::H2 => self.h2.kill(number),
            Set::Echo => self.echo[number] = None,
        }
        self.struck.push(Struck { set, number, how: How::Killed, from, until: super::now() });
    }

    /// Starts it again.
    pub(super) fn revive(&mut self, set: Set, number: usize) -> Outcome {
        match set {
            Set::App => self.app.revive(number),
            Set::H2 => self.h2.revive(number),
            Set::Echo => {
                let address = self.address(set, number);
                let arguments = ["echo".to_string(), address.to_string(), number.to_string()];
                let log = self.dir.join(format!("echo-{number}.log"));
                let mut process = Process::start(&self.helper, &arguments, LOAD_CORE, &log)?;
                process.wait_until(START_LIMIT, || origins::is_open(address))?;
                self.echo[number] = Some(process);
                Ok(())
            }
        }
    }

    /// SIGSTOP. How long it lasted is known once it is awake.
    pub(super) fn hang(&mut self, set: Set, number: usize) -> Outcome {
        let from = super::now();
        self.struck.push(Struck { set, number, how: How::Hung, from, until: u128::MAX });
        self.signal(set, number, "STOP")
    }

    /// SIGCONT.
    pub(super) fn wake(&mut self, set: Set, number: usize) -> Outcome {
        self.signal(set, number, "CONT")?;
        let is_this = |struck: &&mut Struck| struck.set == set && struck.number == number && struck.until == u128::MAX;
        if let Some(struck) = self.struck.iter_mut().find(is_this) {
            struck.until = super::now();
        }
        Ok(())
    }

    fn signal(&self, set: Set, number: usize, signal: &str) -> Outcome {
        match set {
            Set::App => self.app.signal(number, signal),
            Set::H2 => self.h2.signal(number, signal),
            Set::Echo => self.echo[number].as_ref().map_or(Ok(()), |process| process.signal(signal)),
        }
    }
}
