//! `witgate check`: the errors that `run` would give, all of them, and nothing started.

use std::path::PathBuf;

use witgate_core::config::Config;

use super::{
    Outcome, load,
    show::{Paint, plural, say, warn_line},
};
use crate::files;

/// Say everything that is wrong with a configuration file.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn command(arguments: &Arguments) -> Outcome {
    let paint = Paint::stderr();
    let parsed = load::config(&arguments.file)?;
    for warning in &parsed.warnings {
        warn_line(format_args!("{}", load::painted(&warning.to_string(), paint)));
    }
    // `run` reports such a plugin and goes on without it, so that this refuses nothing either.
    for problem in unreadable(&parsed.config) {
        warn_line(format_args!("{} {problem}", paint.yellow("warning:")));
    }
    say!("{}: fine: {}", arguments.file.display(), summary(&parsed.config));
    Ok(())
}

fn unreadable(config: &Config) -> Vec<String> {
    let paths = config.plugins.iter().filter_map(|plugin| Some((&plugin.name, plugin.path.as_deref()?)));
    paths
        .filter_map(|(name, path)| {
            let error = files::open(path).err()?;
            Some(format!(
                "plugin \"{name}\": {error}; what is stored of it, or else the native decision, would stand in its place"
            ))
        })
        .collect()
}

fn summary(config: &Config) -> String {
    let counts = [
        plural(config.listeners.len(), "listener"),
        plural(config.routes.len(), "route"),
        plural(config.clusters.len(), "cluster"),
        plural(config.plugins.len(), "plugin"),
    ];
    counts.join(", ")
}
