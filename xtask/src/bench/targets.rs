//! What is measured: scenarios, and the proxies in each. A new peer is a template in `tests/bench` and a line here.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::http::{self, Answer, Connection};
use super::process::{PROXY_CORE, Process, Scratch, free_port};
use crate::plugins;
use crate::run::{self, Failed};

/// The baseline of every ratio.
pub(super) const NGINX: &str = "nginx";
/// The baseline of what plugins cost.
pub(super) const NATIVE: &str = "witgate, native policy";
/// What plugins cost.
pub(super) const PLUGINS: &str = "witgate, three plugins";

/// The same requests, sent to several proxies.
pub(super) struct Scenario {
    pub(super) title: &'static str,
    /// wrk's script in `tests/bench`.
    pub(super) script: Option<&'static str>,
    pub(super) targets: &'static [Target],
    /// Targets that the others are compared with.
    pub(super) baselines: &'static [&'static str],
}

/// One proxy and its configuration.
pub(super) struct Target {
    pub(super) name: &'static str,
    program: Program,
    template: &'static str,
    answers: Answers,
}

/// What a target's answers have to look like before it is worth measuring.
#[derive(Clone, Copy)]
enum Answers {
    /// Both origins, never the canary.
    Balanced,
    /// The canary where the header says so, and for about a tenth of the users.
    Policy,
}

#[derive(Clone, Copy, PartialEq)]
enum Program {
    Nginx,
    Witgate,
}

pub(super) const PLAIN: Scenario = Scenario {
    title: "Plain HTTP/1.1, 128-byte bodies, round robin over two origins",
    script: None,
    targets: &[
        Target { name: NGINX, program: Program::Nginx, template: "nginx-plain.conf", answers: Answers::Balanced },
        Target {
            name: "witgate",
            program: Program::Witgate,
            template: "witgate-plain.toml",
            answers: Answers::Balanced,
        },
    ],
    baselines: &[NGINX],
};

pub(super) const POLICY: Scenario = Scenario {
    title: "Policy: a header forces the canary, else 10 % of the users by cookie",
    script: Some("users.lua"),
    targets: &[
        Target { name: NGINX, program: Program::Nginx, template: "nginx-policy.conf", answers: Answers::Policy },
        Target {
            name: "witgate, no policy",
            program: Program::Witgate,
            template: "witgate-plain.toml",
            answers: Answers::Balanced,
        },
        Target { name: NATIVE, program: Program::Witgate, template: "witgate-native.toml", answers: Answers::Policy },
        Target { name: PLUGINS, program: Program::Witgate, template: "witgate-plugins.toml", answers: Answers::Policy },
    ],
    baselines: &[NGINX, NATIVE],
};

/// All four shipped plugins, for everything but the scenarios.
pub(super) const FULL: Target = Target {
    name: "witgate, four plugins",
    program: Program::Witgate,
    template: "witgate-full.toml",
    answers: Answers::Policy,
};

/// What all targets share: where they run, and what they forward to.
pub(super) struct Site {
    // Before the folder they write to.
    _origins: Vec<Process>,
    pub(super) scratch: Scratch,
    pub(super) witgate: PathBuf,
    nginx: PathBuf,
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
    pub(super) fn open(witgate: PathBuf) -> Result<Site, Failed> {
        let nginx = run::which("nginx").ok_or_else(|| Failed::new("there is no nginx: cargo xtask setup"))?;
        let origins = [("ORIGIN1", free_port()?), ("ORIGIN2", free_port()?), ("CANARY", free_port()?)];
        let mut site = Site { _origins: Vec::new(), scratch: Scratch::new()?, witgate, nginx, origins };
        for (name, port) in [("origin-1", origins[0].1), ("origin-2", origins[2].1)] {
            let conf = site.render(&format!("{name}.conf"), &[])?;
            let log = site.scratch.path(&format!("{name}.log"));
            let arguments = nginx_arguments(site.scratch.dir(), &conf);
            let mut origin = Process::start(&site.nginx, &arguments, super::process::LOAD_CORE, &log)?;
            origin.wait_until(READY_LIMIT, || get(port, &[]).is_ok_and(|answer| answer.status == 200))?;
            site._origins.push(origin);
        }
        Ok(site)
    }

    /// Starts a target on ports of its own and waits until it is ready. What it stores, its next start finds again.
    pub(super) fn start(&self, target: &Target) -> Result<Proxy, Failed> {
        let (port, admin) = (free_port()?, free_port()?);
        let conf = self.render(target.template, &[("PROXY", port), ("ADMIN", admin)])?;
        let log = self.scratch.path("proxy.log");
        let (program, arguments) = match target.program {
            Program::Nginx => (&self.nginx, nginx_arguments(self.scratch.dir(), &conf)),
            Program::Witgate => (&self.witgate, vec!["run".into(), "-c".into(), conf.display().to_string()]),
        };
        let mut process = Process::start(program, &arguments, PROXY_CORE, &log)?;
        let ready = || match target.program {
            Program::Nginx => get(port, &[]).is_ok(),
            Program::Witgate => is_ready(admin),
        };
        let ready_after = process.wait_until(READY_LIMIT, ready)?;
        Ok(Proxy { process, port, admin, ready_after })
    }

    /// The token that `target` made at its start.
    pub(super) fn token(&self, target: &Target) -> Result<String, Failed> {
        let name = target.template.trim_start_matches("witgate-").trim_end_matches(".toml");
        let file = self.scratch.path(&format!("{name}.token"));
        let text = fs::read_to_string(&file).map_err(|error| Failed::new(format!("{}: {error}", file.display())))?;
        Ok(text.trim().to_string())
    }

    fn render(&self, template: &str, ports: &[(&str, u16)]) -> Result<PathBuf, Failed> {
        let source = template_dir().join(template);
        let failed = |error: std::io::Error| Failed::new(format!("{}: {error}", source.display()));
        let mut text = fs::read_to_string(&source).map_err(failed)?;
        for (name, port) in self.origins.iter().chain(ports) {
            text = text.replace(&format!("@{name}@"), &port.to_string());
        }
        for (name, dir) in [("RUN", self.scratch.dir()), ("PLUGINS", plugins::output_dir().as_path())] {
            text = text.replace(&format!("@{name}@"), &dir.display().to_string());
        }
        let place = self.scratch.path(template);
        fs::write(&place, text).map_err(failed)?;
        Ok(place)
    }
}

/// Where templates and scripts are.
pub(super) fn template_dir() -> PathBuf {
    run::root().join("tests/bench")
}

fn nginx_arguments(dir: &Path, conf: &Path) -> Vec<String> {
    let early_errors = dir.join("nginx-early.err");
    let words = ["-p".as_ref(), dir, "-e".as_ref(), early_errors.as_path(), "-c".as_ref(), conf];
    words.map(|word: &Path| word.display().to_string()).to_vec()
}

/// Whether `target` does what its scenario asks for, with 200 users.
pub(super) fn check(target: &Target, port: u16) -> Result<(), Failed> {
    let wrong = |what: String| Failed::new(format!("{} does not do what is measured: {what}", target.name));
    let mut connection = Connection::open(port).map_err(|error| wrong(error.to_string()))?;
    let mut origin = |headers: &[(&str, &str)]| -> Result<String, Failed> {
        let answer = connection.exchange(&http::request("GET", "/", headers, b"")).map_err(|e| wrong(e.to_string()))?;
        match (answer.status, answer.body.len(), answer.header("x-origin")) {
            (200, 128, Some(origin)) => Ok(origin.to_string()),
            _ => Err(wrong(format!("{headers:?} gives {answer:?}"))),
        }
    };
    let mut seen = Vec::new();
    for user in 0..200 {
        seen.push(origin(&[("Cookie", &cookie(user))])?);
    }
    let count = |name: &str| seen.iter().filter(|origin| *origin == name).count();
    let (first, second, canary) = (count("origin-1"), count("origin-2"), count("canary"));
    let shares = format!("200 users went to {first} + {second} and {canary} to the canary");
    let balanced = first > 40 && second > 40;
    let as_wanted = match target.answers {
        Answers::Balanced => balanced && canary == 0,
        Answers::Policy => balanced && (6..=40).contains(&canary) && origin(&[("X-Canary", "1")])? == "canary",
    };
    if as_wanted { Ok(()) } else { Err(wrong(shares)) }
}

/// The same users as in `users.lua`.
pub(super) fn cookie(user: usize) -> String {
    format!("theme=dark; uid=user-{}; lang=en", user * 7919)
}

fn is_ready(admin: u16) -> bool {
    let answer = Connection::open(admin).and_then(|mut to| to.exchange(&http::request("GET", "/readyz", &[], b"")));
    answer.is_ok_and(|answer| answer.status == 200)
}

fn get(port: u16, headers: &[(&str, &str)]) -> std::io::Result<Answer> {
    Connection::open(port)?.exchange(&http::request("GET", "/", headers, b""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn baselines_and_files_are_there() {
        for scenario in [&PLAIN, &POLICY] {
            for baseline in scenario.baselines {
                assert!(scenario.targets.iter().any(|target| target.name == *baseline), "{baseline}");
            }
            let templates = scenario.targets.iter().map(|target| target.template).chain(scenario.script);
            for file in templates.chain([FULL.template, "origin-1.conf", "origin-2.conf"]) {
                assert!(template_dir().join(file).is_file(), "{file}");
            }
        }
    }
}
