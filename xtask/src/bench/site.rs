//! Where everything runs: the origins, a folder for what is written, and the start of one proxy. Loopback only, on ports that
//! were free.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::load;
use super::targets::Target;
use super::templates;
use crate::lab::http;
use crate::lab::peers::{self, Peer, Peers};
use crate::lab::process::{LOAD_CORE, PROXY_CORE, Process, Scratch, free_port};
use crate::run::{self, Failed, Outcome};
use crate::{plugins, setup};

/// What all targets share: where they run, and what they forward to.
pub(super) struct Site {
    // Before the folder they write to.
    _origins: Vec<Process>,
    pub(super) scratch: Scratch,
    peers: Peers,
    origins: [(&'static str, u16); 3],
}

/// A target that answers.
pub(super) struct Proxy {
    pub(super) process: Process,
    pub(super) port: u16,
    pub(super) admin: u16,
    /// From the start to being ready.
    pub(super) ready_after: Duration,
}

/// A cold start compiles plugins, on a core that others may be using.
const READY_LIMIT: Duration = Duration::from_secs(120);

impl Site {
    /// Starts the origins.
    pub(super) fn open(peers: Peers) -> Result<Site, Failed> {
        let nginx = setup::program("nginx", "nginx-light")?;
        let origins = [("ORIGIN1", free_port()?), ("ORIGIN2", free_port()?), ("CANARY", free_port()?)];
        let mut site = Site { _origins: Vec::new(), scratch: Scratch::new()?, peers, origins };
        site.write_body()?;
        for (name, port) in [("origin-1", origins[0].1), ("origin-2", origins[2].1)] {
            let conf = site.render(&format!("{name}.conf"), &[])?;
            let log = site.scratch.path(&format!("{name}.log"));
            let arguments = peers::nginx_arguments(site.scratch.dir(), &conf);
            let mut origin = Process::start(&nginx, &arguments, LOAD_CORE, &log)?;
            origin.wait_until(READY_LIMIT, || http::is_open(port))?;
            site._origins.push(origin);
        }
        Ok(site)
    }

    /// Starts a target on ports of its own and waits until it is ready. What it stores, its next start finds again.
    pub(super) fn start(&self, target: &Target) -> Result<Proxy, Failed> {
        let program = self.peers.program(target.peer)?;
        let (port, admin) = (free_port()?, free_port()?);
        let conf = self.render(target.template, &[("PROXY", port), ("ADMIN", admin)])?;
        let arguments = target.peer.arguments(self.scratch.dir(), &conf);
        let mut process = Process::start(program, &arguments, PROXY_CORE, &self.scratch.path("proxy.log"))?;
        let ready = || if target.is_own() { http::is_ready(admin) } else { http::is_open(port) };
        let ready_after = process.wait_until(READY_LIMIT, ready)?;
        Ok(Proxy { process, port, admin, ready_after })
    }

    /// What a peer is started by.
    pub(super) fn program(&self, peer: Peer) -> Result<&Path, Failed> {
        self.peers.program(peer)
    }

    /// The token that `target` made at its start.
    pub(super) fn token(&self, target: &Target) -> Result<String, Failed> {
        let name = target.template.trim_start_matches("witgate-").trim_end_matches(".toml");
        let file = self.scratch.path(&format!("{name}.token"));
        let text = fs::read_to_string(&file).map_err(|error| Failed::new(format!("{}: {error}", file.display())))?;
        Ok(text.trim().to_string())
    }

    /// A key and a certificate for a day, for those that terminate TLS.
    pub(super) fn make_certificate(&self) -> Outcome {
        let openssl = setup::program("openssl", "openssl")?;
        let (key, cert) = (self.scratch.path("key.pem"), self.scratch.path("cert.pem"));
        let mut command = Command::new(openssl);
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        command.args(["-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
        run::output(command.arg("-keyout").arg(&key).arg("-out").arg(&cert))?;
        let both = fs::read(&cert).and_then(|cert| Ok([cert, fs::read(&key)?].concat()));
        // HAProxy wants them in one file.
        let written = both.and_then(|both| fs::write(self.scratch.path("both.pem"), both));
        written.map_err(|error| Failed::new(format!("the certificate: {error}")))
    }

    /// The large body, which the origins send from a file.
    fn write_body(&self) -> Outcome {
        let body = b"0123456789abcdef".repeat(load::LARGE.body / 16);
        let place = self.scratch.path("www");
        let written = fs::create_dir(&place).and_then(|()| fs::write(place.join("64k"), body));
        written.map_err(|error| Failed::new(format!("{}: {error}", place.display())))
    }

    fn render(&self, name: &str, ports: &[(&'static str, u16)]) -> Result<PathBuf, Failed> {
        let mut values: Vec<(&'static str, String)> =
            self.origins.iter().chain(ports).map(|(name, port)| (*name, port.to_string())).collect();
        let dirs = [
            ("RUN", self.scratch.dir()),
            ("PLUGINS", &plugins::output_dir()),
            ("TEMPLATES", &templates::dir()),
            ("FILTER", &peers::filter()),
            ("NGINX_MODULES", Path::new(peers::NGINX_MODULES)),
        ];
        values.extend(dirs.map(|(name, dir)| (name, dir.display().to_string())));
        let place = self.scratch.path(name);
        let written = fs::write(&place, templates::fill(name, &values)?);
        written.map(|()| place).map_err(|error| Failed::new(format!("{name}: {error}")))
    }
}
