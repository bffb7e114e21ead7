//! From a plugin's file or stored bytes to one that can be made live.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use witgate_core::config::{self, Config};
use witgate_policy::{Code, Engine, Plugin, Refused, Settings, Stage, Store, StoreError};

use super::{ControlError, ONLY_CHECKED, largest_upload, plugin_names, settings_of, uses::tell_unanswered};
use crate::{files, generation::Slot, telemetry::Telemetry};

/// All plugins that are stored or that `config` names, as it wants them: where nothing about one has changed, as it was
/// `before`. One that cannot be used so stays what it was, or native decisions stand in its place; which those are, and why.
pub(super) fn slots(
    engine: &Arc<Engine>,
    store: &Store,
    config: &Config,
    telemetry: &Telemetry,
    before: &BTreeMap<String, Slot>,
    mut later: Option<&mut Vec<Taken>>,
) -> (BTreeMap<String, Slot>, Vec<(String, String)>) {
    let (mut slots, mut failed) = (BTreeMap::new(), Vec::new());
    let most = largest_upload(config);
    for name in plugin_names(config, store) {
        let settings = settings_of(config, &name);
        let before = before.get(&name);
        let live = before.filter(|slot| slot.settings == settings).and_then(|slot| slot.live.as_ref());
        let slot = match boot(engine, store, &settings, most, telemetry, live, later.as_deref_mut()) {
            Ok(live) => {
                tell_unanswered(config, live.as_deref(), &settings);
                Slot { live, broken: None, settings }
            }
            Err(error) => {
                failed.push((name.clone(), error.to_string()));
                if let Some(before) = before {
                    tracing::error!(plugin = name, %error, "the plugin cannot be used as it is configured now");
                    before.clone()
                } else {
                    tracing::error!(plugin = name, %error, "plugin cannot be used; native decisions stand in its place");
                    Slot { live: None, broken: Some(Arc::from(error.to_string())), settings }
                }
            }
        };
        slots.insert(name, slot);
    }
    (slots, failed)
}

/// Brings up one plugin at the start or at a reload: a file that changed since it was last read becomes a new version and is
/// activated; otherwise what was active stays active. Where that is `live` already, as it is configured, it stays too.
fn boot(
    engine: &Arc<Engine>,
    store: &Store,
    settings: &config::Plugin,
    most: files::Limit,
    telemetry: &Telemetry,
    live: Option<&Arc<Plugin>>,
    later: Option<&mut Vec<Taken>>,
) -> Result<Option<Arc<Plugin>>, ControlError> {
    let name = settings.name.as_str();
    if let Some(path) = &settings.path {
        match take_file(engine, store, settings, (path, most), telemetry, later) {
            Ok(None) => {}
            Ok(Some(plugin)) => return Ok(Some(plugin)),
            // What was active before serves on; where nothing was, there is nothing to fall back to but native decisions.
            Err(error) if store.plugin(name).is_none_or(|stored| stored.active.version.is_none()) => return Err(error),
            Err(error) => {
                tracing::error!(plugin = name, %error, "the plugin's file cannot be used; the active version stays");
            }
        }
    }
    let Some(version) = store.plugin(name).and_then(|stored| stored.active.version) else { return Ok(None) };
    if let Some(live) = live.filter(|live| live.version() == version) {
        return Ok(Some(Arc::clone(live)));
    }
    let bytes = store.bytes(name, version)?;
    let code = engine.load(&bytes, &|_| {})?;
    Ok(Some(admit(engine, settings, version, code, telemetry, &|_| {})?))
}

/// A configured file that is live, and yet to be stored.
pub(super) struct Taken {
    name: String,
    bytes: Vec<u8>,
}

impl Taken {
    /// The plugin's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Stores and activates it.
    pub(super) fn store(self, store: &Store) -> Result<(), StoreError> {
        let put = store.put(&self.name, &self.bytes)?;
        store.activate(&self.name, put.version)?;
        store.set_from_file(&self.name, &put.sha256)
    }
}

/// Stores and activates the configured file where it is not the one that was taken last. Where it is to be stored `later`,
/// it is returned as it will be then.
fn take_file(
    engine: &Arc<Engine>,
    store: &Store,
    settings: &config::Plugin,
    (path, most): (&Path, files::Limit),
    telemetry: &Telemetry,
    later: Option<&mut Vec<Taken>>,
) -> Result<Option<Arc<Plugin>>, ControlError> {
    let (bytes, code) = read(engine, path, most)?;
    let taken = store.plugin(&settings.name).and_then(|stored| stored.from_file);
    if taken.as_deref() == Some(code.hex().as_str()) {
        return Ok(None);
    }
    if let Some(later) = later {
        // Nobody else changes the store, so that it will have this number.
        let version = store.number(&settings.name, &code.hex());
        let plugin = admit(engine, settings, version, code, telemetry, &|_| {})?;
        later.push(Taken { name: settings.name.clone(), bytes });
        return Ok(Some(plugin));
    }
    admit(engine, settings, ONLY_CHECKED, code, telemetry, &|_| {})?;
    let put = store.put(&settings.name, &bytes)?;
    store.activate(&settings.name, put.version)?;
    store.set_from_file(&settings.name, &put.sha256)?;
    Ok(None)
}

/// A plugin's file, and the code that it holds.
fn read(engine: &Engine, path: &Path, most: files::Limit) -> Result<(Vec<u8>, Arc<Code>), ControlError> {
    let bytes = files::read(path, most).map_err(|error| ControlError::NotFound(error.to_string()))?;
    let code = engine.load(&bytes, &|_| {})?;
    Ok((bytes, code))
}

/// Has the engine admit `code` as the configuration says.
pub(super) fn admit(
    engine: &Arc<Engine>,
    settings: &config::Plugin,
    version: u32,
    code: Arc<Code>,
    telemetry: &Telemetry,
    progress: &dyn Fn(Stage),
) -> Result<Arc<Plugin>, Refused> {
    Plugin::admit(
        engine,
        code,
        Settings {
            name: settings.name.clone(),
            version,
            config: serde_json::Value::Object(settings.config.clone()).to_string(),
            budget: settings.budget,
            isolation: settings.isolation,
            quarantine: settings.quarantine,
            // One a worker, and one each for the two that ask off the request path: the scores loop and explain.
            instances: telemetry.workers + 2,
            stats: if version == ONLY_CHECKED { Arc::default() } else { telemetry.plugins.of(&settings.name, version) },
        },
        progress,
    )
}

/// Whether `run` could use a configured plugin's file. Stores nothing.
///
/// # Errors
/// What `run` would say.
pub fn try_file(
    engine: &Arc<Engine>,
    settings: &config::Plugin,
    path: &Path,
    most: files::Limit,
) -> Result<(), ControlError> {
    let (_, code) = read(engine, path, most)?;
    admit(engine, settings, ONLY_CHECKED, code, &Telemetry::new(1), &|_| {})?;
    Ok(())
}
