//! The wasm32 toolchain: which one is here, and how to call it. Installs nothing (that is `setup`), and never lets the system's
//! second Rust near a native build.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::run;

pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's second Rust toolchain, packaged for browsers: recent, and with the standard library's source.
pub(crate) const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", "lld-19"];

const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LINKER: &str = "/usr/bin/wasm-ld-19";
const DEBIAN_STD: &str = "/usr/lib/rustlib/src/rust/library/std/Cargo.toml";
/// That it is those packages, and not Debian's older rustc in the same place.
const DEBIAN_MARK: &str = "/var/lib/dpkg/info/cargo-web.list";

/// A way to build for wasm32 that works on this machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Toolchain {
    /// The Rust in use has the target's standard library (rustup, or a distribution that ships it).
    Native,
    /// Debian's rustc-web with the standard library built from source.
    Debian,
}

/// What WITGATE_WASM asks for, if anything.
pub(crate) fn forced() -> Option<Toolchain> {
    match std::env::var("WITGATE_WASM").ok()?.as_str() {
        "debian" => Some(Toolchain::Debian),
        "rustup" => Some(Toolchain::Native),
        _ => None,
    }
}

/// The toolchain to use, if one is installed. The native one goes first: no standard library to compile.
pub(crate) fn find() -> Option<Toolchain> {
    match forced() {
        Some(Toolchain::Native) => has_native().then_some(Toolchain::Native),
        Some(Toolchain::Debian) => has_debian().then_some(Toolchain::Debian),
        None if has_native() => Some(Toolchain::Native),
        None => has_debian().then_some(Toolchain::Debian),
    }
}

fn has_native() -> bool {
    let mut rustc = Command::new("rustc");
    rustc.current_dir(run::root()).args(["--print", "target-libdir", "--target", TARGET]);
    let Ok(printed) = run::output(&mut rustc) else { return false };
    let Ok(files) = std::fs::read_dir(printed.trim()) else { return false };
    files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
}

fn has_debian() -> bool {
    [DEBIAN_CARGO, DEBIAN_RUSTC, DEBIAN_LINKER, DEBIAN_STD, DEBIAN_MARK].iter().all(|file| Path::new(file).exists())
}

impl Toolchain {
    /// What to print about it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Toolchain::Native => "the target of the Rust in use",
            Toolchain::Debian => "Debian's rustc-web, standard library built from source",
        }
    }

    /// Its own build folder: the two compilers differ, and would rebuild each other's work.
    pub(crate) fn target_dir(self) -> PathBuf {
        let name = match self {
            Toolchain::Native => "wasm",
            Toolchain::Debian => "wasm-debian",
        };
        run::target_dir().join(name)
    }

    /// `cargo build` for wasm32 with `flags` for rustc; the caller adds packages and profile.
    pub(crate) fn build(self, flags: &[&str]) -> Command {
        let mut command = match self {
            Toolchain::Native => run::cargo(),
            Toolchain::Debian => debian_cargo(),
        };
        command.args(["build", "--target", TARGET, "--target-dir"]).arg(self.target_dir());
        if self == Toolchain::Debian {
            // No features: a plugin unwinds nothing and prints no backtrace.
            command.args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features="]);
        }
        let linker = (self == Toolchain::Debian).then_some("-Clinker-flavor=wasm-ld");
        let flags: Vec<&str> = flags.iter().copied().chain(linker).collect();
        // The encoded form goes before RUSTFLAGS and any configuration file: what a plugin is made of should not
        // depend on who builds it.
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
        command
    }
}

fn debian_cargo() -> Command {
    let mut command = Command::new(DEBIAN_CARGO);
    command.current_dir(run::root()).stdin(Stdio::null());
    run::without_outer_cargo(&mut command);
    // rustup's proxies and `cargo run` leave their own compiler and its libraries in the environment.
    for name in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "LD_LIBRARY_PATH"] {
        command.env_remove(name);
    }
    command
        .env("RUSTC", DEBIAN_RUSTC)
        .env("RUSTC_BOOTSTRAP", "1") // -Zbuild-std
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", DEBIAN_LINKER);
    command
}
