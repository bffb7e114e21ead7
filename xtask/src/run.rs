//! Starting other programs: where the repository is, which cargo, and with what environment. Knows no task by name.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Why a task ended badly: what to say (nothing, where it was already said) and the exit code.
#[derive(Debug, PartialEq)]
pub(crate) struct Failed {
    pub(crate) message: String,
    pub(crate) code: u8,
}

impl Failed {
    pub(crate) fn new(message: impl Into<String>) -> Failed {
        Failed { message: message.into(), code: 1 }
    }

    /// The command line was wrong: exit code 2, and the usage is shown.
    pub(crate) fn usage(message: impl Into<String>) -> Failed {
        Failed { message: message.into(), code: 2 }
    }
}

pub(crate) type Outcome = Result<(), Failed>;

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Where cargo puts what it builds: `target/`, unless CARGO_TARGET_DIR says otherwise.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The cargo that runs this program, at the root, reading nothing from the terminal.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).stdin(Stdio::null());
    without_outer_cargo(&mut command);
    command
}

/// Takes away what the outer `cargo run` set for us: inner builds would see a package that is not theirs.
pub(crate) fn without_outer_cargo(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "RUST_RECURSION_COUNT" {
            command.env_remove(&name);
        }
    }
}

/// Prints the command as one would type it and runs it; an exit code other than 0 is an error that names it.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let shown = shown(command);
    println!("$ {shown}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failed::new(format!("`{shown}` failed ({status})"))),
        Err(error) => Err(Failed::new(format!("`{shown}` could not be started: {error}"))),
    }
}

/// Runs quietly and returns what the command wrote to standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, Failed> {
    let shown = shown(command);
    match command.output() {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => Err(Failed::new(format!(
            "`{shown}` failed ({}):\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        ))),
        Err(error) => Err(Failed::new(format!("`{shown}` could not be started: {error}"))),
    }
}

/// Like [`run`], but ends the command when it takes longer than `limit`.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Outcome {
    let shown = shown(command);
    println!("$ {shown}");
    let failed = |error: std::io::Error| Failed::new(format!("`{shown}`: {error}"));
    let mut child = command.spawn().map_err(failed)?;
    let started = Instant::now();
    loop {
        match child.try_wait().map_err(failed)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(Failed::new(format!("`{shown}` failed ({status})"))),
            None if started.elapsed() > limit => {
                child.kill().and_then(|()| child.wait()).map_err(failed)?;
                return Err(Failed::new(format!("`{shown}` took longer than {} s", limit.as_secs())));
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// The program found on the PATH, or where servers are kept that an ordinary user's PATH does not name.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// The words of a command line, as `std::env::args` has them.
#[cfg(test)]
pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}
