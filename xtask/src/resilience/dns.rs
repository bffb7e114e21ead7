//! A DNS server that knows one name, that of the four origins, for a second at a time. Ends with what holds it.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::origins::{self, is_open};
use super::site::{self, Site};
use crate::lab::process::{LOAD_CORE, Process};
use crate::run::{Failed, Outcome};
use crate::setup;

/// What the origins are called in witgate-dns.toml.
const NAME: &str = "origins.test";
/// Of an answer, in seconds: it is asked for again and again.
const TTL: u32 = 1;
const START_LIMIT: Duration = Duration::from_secs(20);

pub(super) struct Dns {
    program: PathBuf,
    arguments: Vec<String>,
    address: SocketAddr,
    log: PathBuf,
    /// None while it is dead.
    running: Option<Process>,
}

impl Dns {
    pub(super) fn start(site: &Site) -> Result<Dns, Failed> {
        let program = setup::program("dnsmasq", "dnsmasq-base")?;
        let hosts = site.scratch.path("dns.hosts");
        let mut text = String::new();
        for address in origins::addresses(site.origin) {
            let _ = writeln!(text, "{} {NAME}", address.ip());
        }
        site::write(&hosts, &text)?;
        let (port, log) = (site.dns, site.scratch.path("dns.log"));
        let of_system =
            ["--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--bind-interfaces", "--user=", "--pid-file="];
        let own = [
            "--keep-in-foreground".to_string(),
            format!("--port={port}"),
            "--listen-address=127.0.0.1".to_string(),
            format!("--addn-hosts={}", hosts.display()),
            format!("--local-ttl={TTL}"),
        ];
        let arguments = of_system.map(str::to_string).into_iter().chain(own).collect();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut dns = Dns { program, arguments, address, log, running: None };
        dns.revive()?;
        Ok(dns)
    }

    /// Starts it where it does not run, and waits until it listens.
    pub(super) fn revive(&mut self) -> Outcome {
        let mut process = Process::start(&self.program, &self.arguments, LOAD_CORE, &self.log)?;
        process.wait_until(START_LIMIT, || is_open(self.address))?;
        self.running = Some(process);
        Ok(())
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) {
        self.running = None;
    }
}
