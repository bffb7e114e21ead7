//! Another configuration in place of the live one: checked whole, made durable where it came by the admin API, and published
//! in one step. One that is refused changes nothing.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use witgate_core::config::{self, Config, Diagnostics, Parsed};

use super::{Control, ControlError, bring_up};
use crate::{files, upstream::dns};

/// Where a configuration came from.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// Its text.
    pub text: String,
    /// The file that holds it; none where there is none, so that it is neither watched nor written.
    pub file: Option<PathBuf>,
    /// What relative paths in it are relative to.
    pub base: PathBuf,
}

impl Source {
    /// As diagnostics show it.
    pub fn name(&self) -> String {
        self.file.as_ref().map_or_else(|| "configuration".to_owned(), |file| file.display().to_string())
    }
}

/// How often another configuration was wanted, since the start.
#[derive(Debug, Default)]
pub struct Reloads {
    /// It is live.
    pub applied: AtomicU64,
    /// What was live before stayed.
    pub refused: AtomicU64,
}

/// Another configuration is live.
#[derive(Debug, Clone)]
pub struct Reloaded {
    /// What is perhaps not what was meant.
    pub warnings: Diagnostics,
    /// Plugins that cannot be used as it says, and why: what was live of them stays.
    pub plugins: Vec<(String, String)>,
}

impl Control {
    /// The text of the live configuration.
    pub fn config_text(&self) -> Arc<String> {
        self.text.load_full()
    }

    /// Reads the file that the configuration came from once more, and makes it live. None where it says what is live
    /// already, unless it is `asked` for: then what it names is read again as well.
    ///
    /// # Errors
    /// It cannot be read, or as [`Control::reload`].
    pub fn reload_file(&self, asked: bool) -> Result<Option<Reloaded>, ControlError> {
        let Some(file) = &self.source.file else { return Ok(None) };
        let text = files::read_text(file, files::CONFIG).map_err(|error| {
            self.reloads.refused.fetch_add(1, Relaxed);
            ControlError::NotFound(error.to_string())
        })?;
        if !asked && text == *self.config_text() {
            return Ok(None);
        }
        self.reload(&text, false).map(Some)
    }

    /// Makes another configuration live, in one step for all workers; writes it to the file that the present one came from
    /// where `durable` says so. Blocks for as long as plugins take to be compiled: call it off the workers.
    ///
    /// # Errors
    /// Everything that is wrong with it, or with changing to it while the proxy runs. What was live stays.
    pub fn reload(&self, text: &str, durable: bool) -> Result<Reloaded, ControlError> {
        let done = self.try_reload(text, durable);
        let count = if done.is_ok() { &self.reloads.applied } else { &self.reloads.refused };
        count.fetch_add(1, Relaxed);
        done
    }

    fn try_reload(&self, text: &str, durable: bool) -> Result<Reloaded, ControlError> {
        let Parsed { config, warnings } =
            config::parse(text, &self.source.name(), &self.source.base).map_err(ControlError::Invalid)?;
        let _turn = self.turn();
        let present = self.live.load();
        let config = Arc::new(fitted(config, &present.config)?);
        let (slots, failed) = bring_up::slots(&self.engine, &self.store, &config, &self.telemetry, &present.plugins);
        self.learn(dns::names_of(&config));
        if let Some(file) = self.source.file.as_deref().filter(|_| durable) {
            write(file, text).map_err(|source| ControlError::Write { file: file.to_owned(), source })?;
        }
        self.publish_assembled(|_| (Arc::clone(&config), Arc::new(slots)));
        self.text.store(Arc::new(text.to_owned()));
        let (clusters, routes) = (config.clusters.len(), config.routes.len());
        tracing::info!(clusters, routes, generation = self.live.load().serial, "another configuration is live");
        Ok(Reloaded { warnings, plugins: failed })
    }
}

/// `next` with its listeners in their present order, by which connections know theirs.
///
/// # Errors
/// It changes what is fixed while the process runs: all of that, in words.
fn fitted(mut next: Config, present: &Config) -> Result<Config, ControlError> {
    let mut fixed = Vec::new();
    let mut check = |same: bool, key: String| {
        if !same {
            fixed.push(key)
        }
    };
    check(next.admin.listen == present.admin.listen, "admin.listen".into());
    check(next.admin.token_file == present.admin.token_file, "admin.token_file".into());
    check(next.runtime.workers == present.runtime.workers, "runtime.workers".into());
    check(next.runtime.resolvers == present.runtime.resolvers, "runtime.resolvers".into());
    check(next.runtime.state_dir == present.runtime.state_dir, "runtime.state_dir".into());
    check(next.plugin_bounds.memory_ceiling == present.plugin_bounds.memory_ceiling, "plugins.memory_ceiling".into());
    for listener in &next.listeners {
        match present.listeners.iter().find(|l| l.name == listener.name) {
            None => check(false, format!("listener \"{}\" (it is new)", listener.name)),
            Some(before) => {
                check(before.listen == listener.listen, format!("listener \"{}\": listen", listener.name));
                let same = before.limits.connections == listener.limits.connections;
                check(same, format!("listener \"{}\": limits.connections", listener.name));
            }
        }
    }
    let place = |name: &str| present.listeners.iter().position(|l| l.name == *name);
    for gone in present.listeners.iter().filter(|l| next.listeners.iter().all(|n| n.name != l.name)) {
        check(false, format!("listener \"{}\" (it is gone)", gone.name));
    }
    if !fixed.is_empty() {
        let fixed = fixed.join(", ");
        return Err(ControlError::Conflict(format!("this takes a restart, so that nothing was changed: {fixed}")));
    }
    next.listeners.sort_by_key(|listener| place(&listener.name));
    Ok(next)
}

/// Puts a text in a file's place: whole or not at all, and durably. A link is followed, and the file keeps its mode.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let file = fs::canonicalize(file)?;
    let parent = file.parent().ok_or(io::ErrorKind::NotFound)?;
    let mode = fs::metadata(&file)?.permissions();
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let beside = parent.join(format!(".{name}.{}", std::process::id()));
    let written = File::create(&beside).and_then(|mut new| {
        new.set_permissions(mode)?;
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        fs::rename(&beside, &file)?;
        File::open(parent)?.sync_all()
    });
    written.inspect_err(|_| {
        // It may not be there.
        let _ = fs::remove_file(&beside);
    })
}
