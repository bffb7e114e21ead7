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
    time::SystemTime,
};

use witgate_core::config::{self, Config, Diagnostics, Parsed};

use super::{Basis, Control, ControlError, Sockets, bring_up};
use crate::{
    drain::Phase, files, generation::Generation, inherited::Inherited, sockets, telemetry::traces::Traces, tls::Tls,
    upstream::dns,
};

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

    /// Reads certificates and keys once more, and uses what is new of them. What cannot be used is reported, and what was
    /// there before stays in use.
    pub fn renew_tls(&self) {
        let _turn = self.any_turn();
        let present = self.live.load();
        match read_tls(&present.config, &present) {
            Ok(tls) if Arc::ptr_eq(&tls, &present.tls) => {}
            Ok(tls) => {
                self.publish_assembled(|present| Basis { tls, ..Basis::of(present) });
                tracing::info!(generation = self.live.load().serial, "other certificates are in use");
            }
            Err(error) => tracing::error!(%error, "certificates cannot be read again"),
        }
    }

    fn try_reload(&self, text: &str, durable: bool) -> Result<Reloaded, ControlError> {
        let Parsed { config, warnings } =
            config::parse(text, &self.source.name(), &self.source.base).map_err(ControlError::Invalid)?;
        let _turn = self.turn()?;
        let present = self.live.load();
        check_fixed(&config, &present.config)?;
        if self.drain.phase() > Phase::Serve {
            return Err(ControlError::Conflict("the proxy is shutting down, so that nothing was changed".to_owned()));
        }
        let access_log = self.access_logs.next(config.access_log.as_ref(), present.access_log.as_ref())?;
        let traces = Traces::next(config.traces.as_ref(), present.traces.as_ref(), &self.spans)?;
        let config = Arc::new(config);
        let (slots, failed) =
            bring_up::slots(&self.engine, &self.store, &config, &self.telemetry, &present.plugins, None);
        self.learn(dns::names_of(&config));
        let tls = read_tls(&config, &present)?;
        // Late, because clients wait at what is bound.
        let sockets = Sockets::bind(&config, Some(&present), self.orders.len(), &mut Inherited::default())?;
        if let Some(file) = self.source.file.as_deref().filter(|_| durable) {
            write(file, text).map_err(|source| ControlError::Write { file: file.to_owned(), source })?;
        }
        let plugins = Arc::new(slots);
        let basis = Basis { config: Arc::clone(&config), plugins, sockets: sockets.all(), tls, access_log, traces };
        self.publish_assembled(|_| basis);
        sockets.open(&self.orders, &present);
        self.text.store(Arc::new(text.to_owned()));
        sockets::warn_of_few_files(&config);
        let (clusters, routes) = (config.clusters.len(), config.routes.len());
        tracing::info!(clusters, routes, generation = self.live.load().serial, "another configuration is live");
        Ok(Reloaded { warnings, plugins: failed })
    }
}

/// # Errors
/// Certificates and keys that `config` names cannot be used, and could not before.
fn read_tls(config: &Config, present: &Generation) -> Result<Arc<Tls>, ControlError> {
    let (tls, kept) = Tls::load(config, &present.tls)?;
    for error in kept {
        tracing::error!(%error, "it cannot be used; what was there before stays in use");
    }
    if tls.is_same(&present.tls) {
        return Ok(Arc::clone(&present.tls));
    }
    tls.warnings(SystemTime::now()).iter().for_each(|warning| tracing::warn!("{warning}"));
    Ok(Arc::new(tls))
}

/// # Errors
/// `next` changes what is fixed while the process runs: all of that, in words.
fn check_fixed(next: &Config, present: &Config) -> Result<(), ControlError> {
    let (is, was) = (&next.runtime, &present.runtime);
    let same = [
        ("admin.listen", next.admin.listen == present.admin.listen),
        ("admin.mode", next.admin.mode == present.admin.mode),
        ("admin.hosts", next.admin.hosts == present.admin.hosts),
        ("admin.token_file", next.admin.token_file == present.admin.token_file),
        ("admin.read_token_file", next.admin.read_token_file == present.admin.read_token_file),
        ("admin.tls", next.admin.tls == present.admin.tls),
        ("runtime.workers", is.workers == was.workers),
        ("runtime.resolvers", is.resolvers == was.resolvers),
        ("runtime.state_dir", is.state_dir == was.state_dir),
        ("plugins.memory_ceiling", next.plugin_bounds.memory_ceiling == present.plugin_bounds.memory_ceiling),
    ];
    let changed: Vec<&str> = same.iter().filter(|(_, same)| !same).map(|(key, _)| *key).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let changed = changed.join(", ");
    Err(ControlError::Conflict(format!("this takes a restart, so that nothing was changed: {changed}")))
}

/// Puts a text in a file's place: whole or not at all, and durably. A link is followed, and the file keeps its mode.
fn write(file: &Path, text: &str) -> io::Result<()> {
    // One that was deleted meanwhile is made anew.
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let parent = file.parent().ok_or(io::ErrorKind::NotFound)?;
    let mode = fs::metadata(&file).map(|found| found.permissions()).ok();
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let beside = parent.join(format!(".{name}.{}", std::process::id()));
    let written = File::create(&beside).and_then(|mut new| {
        mode.map_or(Ok(()), |mode| new.set_permissions(mode))?;
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
