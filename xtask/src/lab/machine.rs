//! What the figures were taken on and with. No date: the repository knows it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::peers::{self, ENVOY_VERSION, Peer, Peers};
use crate::run;

/// One line a fact, as Markdown; `tools` are programs that took part, each with what makes it tell its version.
pub(crate) fn describe(peers: &Peers, tools: &[(&str, &str)]) -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // Not those that this process may use.
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let mut versions = Vec::new();
    let witgate = peers.program(Peer::Witgate).ok().map(PathBuf::from);
    let known = [
        (witgate, "--version"),
        (run::which("rustc"), "--version"),
        (run::which("nginx"), "-v"),
        (peers.program(Peer::Haproxy).ok().map(PathBuf::from), "-v"),
    ];
    let tools = tools.iter().map(|(program, argument)| (run::which(program), *argument));
    for (program, argument) in known.into_iter().chain(tools) {
        versions.extend(program.and_then(|program| first_line(Command::new(program).arg(argument))));
    }
    // Of these the crate and the wheel are known, and what they say of themselves names folders of this machine.
    if peers.program(Peer::Pingora).is_ok() {
        versions.extend(pingora_version().map(|version| format!("pingora {version}")));
    }
    if peers.program(Peer::Envoy).is_ok() {
        versions.push(format!("envoy {ENVOY_VERSION}"));
    }
    [
        format!("- CPU: {}, {cores} cores", model.map_or("unknown", |(_, name)| name.trim())),
        format!("- Kernel: Linux {}", kernel.trim()),
        format!("- Versions: {}", versions.join(" · ")),
    ]
    .join("\n")
}

/// What a program says of itself, on whichever of its outputs and with whichever exit code.
fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines().next().map(name_and_version)
}

/// wrk adds who wrote it, HAProxy its date and address.
fn name_and_version(line: &str) -> String {
    let line = line.split(" Copyright").next().unwrap_or(line);
    let words: Vec<&str> = line.split(' ').take_while(|word| !is_date(word)).collect();
    words.join(" ").trim().to_string()
}

fn is_date(word: &str) -> bool {
    word.len() == 10 && word.matches('/').count() == 2
}

/// The one that the balancer is built with.
fn pingora_version() -> Option<String> {
    let manifest = fs::read_to_string(peers::crates().join("pingora/Cargo.toml")).ok()?;
    let table: toml::Table = manifest.parse().ok()?;
    let version = table.get("dependencies")?.get("pingora")?.get("version")?.as_str()?;
    Some(version.trim_start_matches('=').to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let check = |line: &str, expected: &str| assert_eq!(name_and_version(line), expected);
        check("HAProxy version 2.6.12-1+deb12u2 2025/04/17 - https://haproxy.org/", "HAProxy version 2.6.12-1+deb12u2");
        check("wrk debian/4.1.0-3+b2 [epoll] Copyright (C) 2012 Will Glozer", "wrk debian/4.1.0-3+b2 [epoll]");
        check("nginx version: nginx/1.22.1", "nginx version: nginx/1.22.1");
        assert!(pingora_version().unwrap().starts_with("0."));
    }
}
