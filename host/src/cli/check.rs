//! `witgate check`: the errors that `run` would give, all of them, and nothing started.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use witgate_core::config::{self, Config};
use witgate_policy::{Engine, EngineOptions};

use super::{
    Failed, Outcome, load,
    show::{Paint, plural, say, warn_line, warning},
};
use crate::{control, tls::Tls};

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
    let (tls, _) = Tls::load(&parsed.config, &Tls::default()).map_err(Failed::new)?;
    tls.warnings(SystemTime::now()).into_iter().for_each(warning);
    // `run` reports such a plugin and goes on without it, so that this refuses nothing either.
    for problem in unusable(&parsed.config)? {
        warning(problem);
    }
    say!("{}: fine: {}", arguments.file.display(), summary(&parsed.config));
    Ok(())
}

/// What is wrong with plugins' files, and with their configurations for these. Compiles them, as `run` would.
fn unusable(config: &Config) -> Outcome<Vec<String>> {
    let mut files = config.plugins.iter().filter_map(|plugin| Some((plugin, plugin.path.as_deref()?))).peekable();
    if files.peek().is_none() {
        return Ok(Vec::new());
    }
    // As many instances as the one plugin in hand needs.
    let options = EngineOptions { memory_ceiling: config.plugin_bounds.memory_ceiling, ..EngineOptions::default() };
    let engine = Engine::new(options).map_err(Failed::new)?;
    let problem = |(plugin, path): (&config::Plugin, &Path)| {
        let error = control::try_file(&engine, plugin, path, control::largest_upload(config)).err()?;
        let name = &plugin.name;
        Some(format!(
            "plugin \"{name}\": {error}; what is stored of it, or else the native decision, would stand in its place"
        ))
    };
    Ok(files.filter_map(problem).collect())
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
