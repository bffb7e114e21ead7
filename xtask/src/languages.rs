//! The example plugins in other languages, built by their own scripts where the machine has the language's package manager.
//! They are examples: what cannot be built is said and left out, and their tests then skip.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use crate::run::{self, Outcome};

/// Folder below `examples/`, what is built, and the program that the script needs first.
const EXAMPLES: &[(&str, &str, &str)] =
    &[("javascript", "router-js.wasm", "npm"), ("python", "router-py.wasm", "python3")];

/// Builds those that changed since they were last built.
pub(crate) fn build() -> Outcome {
    for (folder, output, program) in EXAMPLES {
        let source = run::root().join("examples").join(folder);
        if is_fresh(&run::root().join("target/plugins").join(output), &[&source, &run::root().join("wit")]) {
            println!("{output} is up to date");
        } else if !has(program) {
            println!("{output} is left out: there is no `{program}` on this machine");
        } else if let Err(failed) =
            run::run(Command::new("sh").arg("build.sh").current_dir(&source).stdin(Stdio::null()))
        {
            println!("{output} is left out: {}", failed.message);
        }
    }
    Ok(())
}

fn has(program: &str) -> bool {
    let quiet = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}

/// Whether `output` is there and no file directly in `folders` is newer.
fn is_fresh(output: &Path, folders: &[&Path]) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    let Some(built) = changed(output) else { return false };
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let newest = files.filter(|file| file.path().is_file()).filter_map(|file| changed(&file.path())).max();
    newest.unwrap_or(SystemTime::UNIX_EPOCH) <= built
}
