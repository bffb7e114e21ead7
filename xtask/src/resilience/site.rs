//! Where a scenario runs: a folder for what is written, and the start of one proxy on a port of its own. Loopback only.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::origins;
use super::scenarios::Row;
use crate::lab::http::{self, Connection};
use crate::lab::peers::Peers;
use crate::lab::process::{PROXY_CORE, Process, Scratch, free_port};
use crate::lab::template;
use crate::run::{self, Failed, Outcome};

/// Envoy takes no traffic before its first checks.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Endpoints of the large configuration.
const MANY: usize = 10_000;

/// What all runs share.
pub(super) struct Site {
    pub(super) scratch: Scratch,
    peers: Peers,
    /// The port of all origins, each on an address of its own.
    pub(super) origin: u16,
    /// That of the DNS server, for those who know the origins by their name.
    pub(super) dns: u16,
}

/// A proxy that answers.
pub(super) struct Proxy {
    // Before what it reads and writes.
    _process: Process,
    pub(super) port: u16,
    pub(super) admin: u16,
}

/// Why there is no proxy.
pub(super) enum Absent {
    /// It does not know what it is asked for, or is not here.
    Refused(String),
    Failed(Failed),
}

impl From<Failed> for Absent {
    fn from(failed: Failed) -> Absent {
        Absent::Failed(failed)
    }
}

impl Site {
    pub(super) fn open(peers: Peers) -> Result<Site, Failed> {
        Ok(Site { scratch: Scratch::new()?, peers, origin: free_port()?, dns: free_port()? })
    }

    /// Starts the proxy of a row and waits until it uses all origins.
    pub(super) fn start(&self, row: &Row, retries: u32) -> Result<Proxy, Absent> {
        let program = self.peers.program(row.peer).map_err(|failed| Absent::Refused(failed.message))?;
        let (port, admin) = (free_port()?, free_port()?);
        let values = [
            ("PROXY", port.to_string()),
            ("ADMIN", admin.to_string()),
            ("ORIGIN", self.origin.to_string()),
            ("DNS", self.dns.to_string()),
            ("BALANCE", row.balance.to_string()),
            ("RETRIES", retries.to_string()),
            ("RUN", self.scratch.dir().display().to_string()),
        ];
        let conf = render(self.scratch.dir(), row.template, row.template, &values)?;
        if row.is_own() {
            check(program, &conf)?;
        }
        let arguments = row.peer.arguments(self.scratch.dir(), &conf);
        let mut process = Process::start(program, &arguments, PROXY_CORE, &self.scratch.path("proxy.log"))?;
        process.wait_until(READY_LIMIT, || http::is_open(port))?;
        uses_all(port).map_err(|what| Failed::new(format!("{} {what}", row.name)))?;
        Ok(Proxy { _process: process, port, admin })
    }

    /// The token that Witgate made at its start.
    pub(super) fn token(&self) -> Result<String, Failed> {
        token(&self.scratch)
    }
}

/// The same of any Witgate that runs there.
pub(super) fn token(scratch: &Scratch) -> Result<String, Failed> {
    let file = scratch.path("witgate.token");
    let text = fs::read_to_string(&file).map_err(|error| Failed::new(format!("{}: {error}", file.display())))?;
    Ok(text.trim().to_string())
}

/// What Witgate says of a configuration; the first error is reason enough.
pub(super) fn check(program: &Path, conf: &Path) -> Result<(), Absent> {
    let output = Command::new(program).arg("check").arg(conf).output();
    let output = output.map_err(|error| Failed::new(format!("{}: {error}", program.display())))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let error = text.lines().find(|line| line.starts_with("error")).unwrap_or("witgate check refuses it");
    Err(Absent::Refused(error.trim_start_matches("error: ").to_string()))
}

/// Waits until there were answers of every origin, and then some more of nobody else.
pub(super) fn uses_all(port: u16) -> Result<(), String> {
    let since = Instant::now();
    let mut seen = BTreeSet::new();
    let mut last = String::new();
    let request = http::request("GET", "/", &[], b"");
    while since.elapsed() < READY_LIMIT {
        match Connection::open(port).and_then(|mut to| to.exchange(&request)) {
            Ok(answer) if answer.status == 200 => seen.extend(answer.header("x-origin").map(str::to_string)),
            Ok(answer) => last = format!("answers {}", answer.status),
            Err(error) => last = error.to_string(),
        }
        if seen.len() == origins::COUNT {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(format!("uses {} of {} origins; {last}", seen.len(), origins::COUNT))
}

/// Where the configurations are.
pub(super) fn templates() -> PathBuf {
    run::root().join("tests/resilience")
}

/// Writes a template, complete, to `dir` under another name.
pub(super) fn render(dir: &Path, of: &str, name: &str, values: &[(&'static str, String)]) -> Result<PathBuf, Failed> {
    let run = ("RUN", dir.display().to_string());
    let values: Vec<_> = values.iter().cloned().chain([run]).collect();
    let place = dir.join(name);
    write(&place, &template::fill(&templates(), of, &values, list)?)?;
    Ok(place)
}

pub(super) fn write(file: &Path, text: &str) -> Outcome {
    fs::write(file, text).map_err(|error| Failed::new(format!("{}: {error}", file.display())))
}

/// What a template calls by `@GENERATE NAME@`.
pub(super) fn list(name: &str) -> Option<String> {
    (name == "endpoints").then(|| {
        (0..MANY).fold(String::new(), |mut text, number| {
            let _ = writeln!(text, "  {{ address = \"10.9.{}.{}:80\", weight = 1 }},", number / 250, number % 250 + 1);
            text
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::scenarios;
    use super::*;

    #[test]
    fn templates_are_complete() {
        let names = [
            "PROXY", "ADMIN", "ORIGIN", "DNS", "BALANCE", "RETRIES", "RUN", "NUMBER", "ADDRESS", "BEHIND", "TLS",
            "TCP", "ORIGIN2", "ECHO",
        ];
        let values: Vec<_> = names.iter().map(|name| (*name, "7".to_string())).collect();
        let own = scenarios::ALL.iter().flat_map(|scenario| scenario.rows).map(|row| row.template);
        for file in own.chain(["origin.conf", "soak-http1.conf", "soak-http2.conf", "witgate-soak.toml"]) {
            let text = template::fill(&templates(), file, &values, list).unwrap();
            if file.ends_with(".toml") {
                text.parse::<toml::Table>().unwrap_or_else(|error| panic!("{file}: {error}"));
            }
        }
    }

    #[test]
    fn many_endpoints() {
        let text = list("endpoints").unwrap();
        let all: BTreeSet<&str> = text.lines().collect();
        assert_eq!(all.len(), MANY);
        assert_eq!(list("nothing"), None);
    }
}
