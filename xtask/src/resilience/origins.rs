//! Four nginx origins, each on an address of its own, that can be killed, stopped, ended and started again. Each ends with
//! what holds it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::made::{self, Made};
use super::site;
use crate::lab::peers::nginx_arguments;
use crate::lab::process::{LOAD_CORE, Process};
use crate::run::{Failed, Outcome};
use crate::setup;

pub(super) const COUNT: usize = 4;

const START_LIMIT: Duration = Duration::from_secs(20);
/// An origin that is asked to end finishes what it has first.
const END_LIMIT: Duration = Duration::from_secs(20);

/// The address of one, on the port that all of them have. Not that of everybody's loopback: what is dropped, or gone, there
/// is nobody else's.
pub(super) fn address(number: usize, port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(127, 0, 2, number as u8 + 1), port))
}

/// Of what is behind it.
fn address_behind(number: usize, port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(127, 0, 3, number as u8 + 1), port))
}

/// The addresses of all four.
pub(super) fn addresses(port: u16) -> [SocketAddr; COUNT] {
    std::array::from_fn(|number| address(number, port))
}

/// Whether somebody listens there.
pub(super) fn is_open(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// The four.
pub(super) struct Nginx {
    program: PathBuf,
    dir: PathBuf,
    port: u16,
    template: &'static str,
    /// None while one is dead.
    running: Vec<Option<Process>>,
    /// What each passes requests to, so that they take their time.
    _behind: Made,
}

impl Nginx {
    pub(super) fn start(dir: &Path, port: u16) -> Result<Nginx, Failed> {
        Nginx::start_as("origin.conf", dir, port)
    }

    /// The same by another template. No two may have the same folder.
    pub(super) fn start_as(template: &'static str, dir: &Path, port: u16) -> Result<Nginx, Failed> {
        let program = setup::program("nginx", "nginx-light")?;
        let behind = Made::start(std::array::from_fn(|number| address_behind(number, port)), made::BEHIND)?;
        let mut all = Nginx { program, dir: dir.to_path_buf(), port, template, running: Vec::new(), _behind: behind };
        for number in 0..COUNT {
            for file in [all.access(number), all.draining(number)] {
                // Of an earlier run; mostly it is not there.
                let _ = fs::remove_file(file);
            }
            all.running.push(None);
            all.revive(number)?;
        }
        Ok(all)
    }

    /// Starts one that is not running and waits until it listens.
    pub(super) fn revive(&mut self, number: usize) -> Outcome {
        let name = number.to_string();
        let address = address(number, self.port);
        let behind = address_behind(number, self.port).ip().to_string();
        let (ip, port) = (address.ip().to_string(), self.port.to_string());
        let values = [("NUMBER", name.clone()), ("ADDRESS", ip), ("BEHIND", behind), ("ORIGIN", port)];
        let conf = site::render(&self.dir, self.template, &format!("origin-{name}.conf"), &values)?;
        let arguments = nginx_arguments(&self.dir, &conf);
        let log = self.dir.join(format!("origin-{name}.log"));
        let mut process = Process::start(&self.program, &arguments, LOAD_CORE, &log)?;
        process.wait_until(START_LIMIT, || is_open(address))?;
        self.running[number] = Some(process);
        Ok(())
    }

    /// SIGKILL: the kernel closes its sockets, in the middle of whatever it did.
    pub(super) fn kill(&mut self, number: usize) {
        self.running[number] = None;
    }

    /// As an operator restarts it: it finishes what it has, ends, and is started again.
    pub(super) fn restart(&mut self, number: usize) -> Outcome {
        if let Some(process) = self.running[number].take() {
            process.end_by("QUIT", END_LIMIT)?;
        }
        self.revive(number)
    }

    /// SIGSTOP: the kernel still accepts connections and data for it, and nothing comes back. Until SIGCONT.
    pub(super) fn signal(&self, number: usize, signal: &str) -> Outcome {
        self.running[number].as_ref().map_or(Ok(()), |process| process.signal(signal))
    }

    /// Makes its health answer fail, or succeed again.
    pub(super) fn set_draining(&self, number: usize, draining: bool) -> Outcome {
        let file = self.draining(number);
        let done = if draining { fs::write(&file, "") } else { fs::remove_file(&file) };
        done.map_err(|error| Failed::new(format!("{}: {error}", file.display())))
    }

    /// Requests that reached any of them so far, checks not counted.
    pub(super) fn served(&self) -> usize {
        let lines =
            |number| fs::read(self.access(number)).map_or(0, |text| text.iter().filter(|b| **b == b'\n').count());
        (0..COUNT).map(lines).sum()
    }

    fn access(&self, number: usize) -> PathBuf {
        self.dir.join(format!("origin-{number}.access"))
    }

    fn draining(&self, number: usize) -> PathBuf {
        self.dir.join(format!("drain-{number}"))
    }
}
