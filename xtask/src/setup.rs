//! `cargo xtask setup`: installs what this machine lacks, by whichever way works. Asks nothing, and is done at once where
//! nothing is missing. Never touches the Rust that native builds use, beyond adding a target to it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::run::{self, Failed, Outcome};
use crate::toolchain::{self, Toolchain};

/// Programs that tests run, and the Debian package of each.
const TEST_TOOLS: &[(&str, &str)] = &[
    ("nginx", "nginx-light"),
    ("wrk", "wrk"),
    ("curl", "curl"),
    ("nghttp", "nghttp2-client"),
    ("valgrind", "valgrind"),
];

/// rustup either fetches 30 MB or cannot reach its server; on a slow line it may take minutes, but not for ever.
const RUSTUP_LIMIT: Duration = Duration::from_secs(180);

/// Runs as root: keeps Debian from starting a service that is only wanted as a program (policy-rc.d is Debian's way to say so).
const APT_INSTALL: &str = r#"
set -e
export DEBIAN_FRONTEND=noninteractive
if [ ! -e /usr/sbin/policy-rc.d ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
fi
install() { apt-get -o DPkg::Lock::Timeout=120 install -y -q --no-install-recommends "$@"; }
# The package lists of a fresh machine are absent or old: try what is there, then ask for new ones once.
install "$@" 2>/dev/null || { apt-get -o DPkg::Lock::Timeout=120 update -q; install "$@"; }
"#;

/// Everything: the wasm32 target and the tools of the tests.
pub(crate) fn all() -> Outcome {
    wasm()?;
    test_tools()
}

/// The wasm32 target, which `plugins` and `demo` need. Returns how to use it.
pub(crate) fn wasm() -> Result<Toolchain, Failed> {
    if let Some(found) = toolchain::find() {
        println!("setup: wasm32: {}", found.name());
        return Ok(found);
    }
    if toolchain::forced() != Some(Toolchain::Debian) && run::which("rustup").is_some() {
        let mut rustup = Command::new("rustup");
        rustup.current_dir(run::root()).stdin(Stdio::null()).args(["target", "add", toolchain::TARGET]);
        if let Err(failed) = run::run_within(&mut rustup, RUSTUP_LIMIT) {
            println!("setup: {}", failed.message);
        }
        if let Some(found) = toolchain::find() {
            return Ok(found);
        }
    }
    if toolchain::forced() != Some(Toolchain::Native) {
        apt_install(toolchain::DEBIAN_PACKAGES)?;
        if let Some(found) = toolchain::find() {
            return Ok(found);
        }
    }
    let ways = match toolchain::forced() {
        Some(Toolchain::Native) => "rustup".to_string(),
        Some(Toolchain::Debian) => toolchain::DEBIAN_PACKAGES.join(" "),
        None => format!("rustup, or Debian's {}", toolchain::DEBIAN_PACKAGES.join(" ")),
    };
    Err(Failed::new(format!("no way found to build for {}; tried {ways}", toolchain::TARGET)))
}

fn test_tools() -> Outcome {
    let missing: Vec<&str> =
        TEST_TOOLS.iter().filter(|(program, _)| run::which(program).is_none()).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        apt_install(&missing)?;
    }
    if let Some((program, package)) = TEST_TOOLS.iter().find(|(program, _)| run::which(program).is_none()) {
        return Err(Failed::new(format!("package {package} is installed, but there is no program `{program}`")));
    }
    let names: Vec<&str> = TEST_TOOLS.iter().map(|(program, _)| *program).collect();
    println!("setup: test tools: {}", names.join(", "));
    Ok(())
}

/// A program and where it is, its Debian package installed first where it is missing.
pub(crate) fn program(name: &str, package: &str) -> Result<PathBuf, Failed> {
    if let Some(found) = run::which(name) {
        return Ok(found);
    }
    apt_install(&[package])?;
    run::which(name)
        .ok_or_else(|| Failed::new(format!("package {package} is installed, but there is no program `{name}`")))
}

/// Installs Debian packages, without a question.
pub(crate) fn apt_install(packages: &[&str]) -> Outcome {
    let list = packages.join(" ");
    if run::which("apt-get").is_none() {
        return Err(Failed::new(format!(
            "please install what Debian calls {list}: there is no apt here to do it with"
        )));
    }
    println!("setup: installing {list}");
    let mut command = if is_root() {
        Command::new("sh")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "sh"]);
        sudo
    };
    // Not through `run`: nobody wants to read the script.
    let status = command.args(["-c", APT_INSTALL, "sh"]).args(packages).current_dir("/").stdin(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) | Err(_) => Err(Failed::new(format!("could not install: please run `apt-get install {list}` as root"))),
    }
}

/// Whether this process may install packages: /proc says who owns it.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(Path::new("/proc/self")).is_ok_and(|me| me.uid() == 0)
}
