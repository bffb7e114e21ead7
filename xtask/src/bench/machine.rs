//! What the figures were taken on and with. No date: the repository knows it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::run;

/// One line a fact, as Markdown.
pub(super) fn describe(witgate: &Path) -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut lines = vec![
        format!("- CPU: {}, {cores} cores", model.map_or("unknown", |(_, name)| name.trim())),
        format!("- Kernel: Linux {}", kernel.trim()),
    ];
    let programs = [("rustc", vec!["--version"]), ("nginx", vec!["-v"]), ("wrk", vec!["-v"])];
    let mut versions: Vec<String> = first_line(Command::new(witgate).arg("--version")).into_iter().collect();
    versions.extend(programs.iter().filter_map(|(name, arguments)| {
        let program = run::which(name)?;
        first_line(Command::new(program).args(arguments))
    }));
    lines.push(format!("- Versions: {}", versions.join(" · ")));
    lines.join("\n")
}

/// What a program says of itself, on whichever of its outputs and with whichever exit code.
fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    // wrk adds who wrote it.
    text.lines().next().map(|line| line.split(" Copyright").next().unwrap_or(line).trim().to_string())
}
