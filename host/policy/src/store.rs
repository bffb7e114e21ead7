//! Uploaded versions and which of them is active, on disk. Whatever moment the process is killed at, the next one finds
//! the state before or after a change, never between. It must never be opened by two processes, nor write a path that
//! an outsider chose.

mod disk;
mod recover;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::engine::hex;

/// Versions kept of one plugin; the oldest that is neither active nor the one before goes first.
const VERSIONS: usize = 20;
/// Bytes of a plugin's name.
const NAME: usize = 64;
/// The file that is locked. It holds the number of the process that has the directory.
const LOCK: &str = "lock";

/// The plugin store of a state directory.
///
/// ```text
/// lock                          held while a process runs
/// plugins/<name>/<sha256>.wasm  a version's bytes as they were given
/// plugins/<name>/state.json     versions, which is active, and a checksum; replaced by rename, never written in place
/// ```
#[derive(Debug)]
pub struct Store {
    plugins: PathBuf,
    notes: Vec<String>,
    states: Mutex<BTreeMap<String, State>>,
    /// Plugins that are there and could not be read. An upload to one would begin anew at 1 over what is there.
    unusable: BTreeSet<String>,
    /// Held until the store is dropped or the process ends, however it ends.
    lock: File,
}

/// One stored version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionInfo {
    /// From 1, in the order of arrival; never used twice.
    pub version: u32,
    /// Of the bytes, in lower-case hexadecimal.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970.
    pub stored_at: u64,
}

/// `state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    versions: Vec<VersionInfo>,
    /// The highest version ever given.
    last: u32,
    active: Option<u32>,
    /// Active before.
    previous: Option<u32>,
    /// SHA-256 of the configured file's content when it was last taken.
    from_file: Option<String>,
}

/// A plugin as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The plugin's name.
    pub name: String,
    /// In the order of arrival.
    pub versions: Vec<VersionInfo>,
    /// Which is active, and which was before it.
    pub active: Active,
    /// SHA-256 of the configured file's content when it was last taken, so that a restart does not put the file's
    /// version over one that was uploaded since.
    pub from_file: Option<String>,
}

/// Which versions count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Active {
    /// The version that answers.
    pub version: Option<u32>,
    /// The version that [`Store::rollback`] would activate.
    pub previous: Option<u32>,
}

/// What became of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Its number.
    pub version: u32,
    /// In lower-case hexadecimal.
    pub sha256: String,
    /// Whether the same bytes were there already, under the same number.
    pub existed: bool,
}

/// Why the store refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the directory open.
    #[error("{} is in use by another witgate process{}; stop it, or use another state_dir", .dir.display(), .holder)]
    InUse {
        /// The state directory.
        dir: PathBuf,
        /// ` (process 123)`, where it is known.
        holder: String,
    },
    /// The name cannot be a plugin's.
    #[error("{0:?} is no plugin name: 1 to 64 of a-z, 0-9, `-` and `_`, of which the first is a letter or digit")]
    Name(String),
    /// No such plugin.
    #[error("there is no plugin {0:?}")]
    NoPlugin(String),
    /// No such version.
    #[error("plugin {name:?} has no version {version}; it has {has}")]
    NoVersion {
        /// The plugin.
        name: String,
        /// The version asked for.
        version: u32,
        /// Those it has.
        has: String,
    },
    /// Nothing to go back to.
    #[error("plugin {0:?} has no version before the active one")]
    NoPrevious(String),
    /// The active version cannot be removed.
    #[error("version {version} of plugin {name:?} is active; activate another first")]
    IsActive {
        /// The plugin.
        name: String,
        /// The version.
        version: u32,
    },
    /// A version's bytes are not what was stored.
    #[error("{}: the stored bytes are damaged (their SHA-256 is another); upload the version again", .0.display())]
    Damaged(PathBuf),
    /// The file system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Store {
    /// Opens, or makes, the store of a state directory, and mends what a killed process left.
    ///
    /// # Errors
    /// [`StoreError::InUse`] where another process has it, [`StoreError::Io`] where the directory cannot be used.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let plugins = dir.join("plugins");
        disk::make_dir(dir)?;
        let lock = lock(dir)?;
        sign(&lock).map_err(disk::at(&dir.join(LOCK)))?;
        Self::open_locked(plugins, lock)
    }

    /// The same for a process that is to take the place of another one, which lends it its lock and changes nothing as long
    /// as this one may still fail. This one writes nothing either, but what it mends, before it has called [`Store::sign`].
    ///
    /// # Errors
    /// As [`Store::open`]: what is lent may be another directory's.
    pub fn open_lent(dir: &Path, lent: File) -> Result<Self, StoreError> {
        let identity = |found: &fs::Metadata| (found.dev(), found.ino());
        let is_same = match (lent.metadata(), fs::metadata(dir.join(LOCK))) {
            (Ok(lent), Ok(here)) => identity(&lent) == identity(&here),
            _ => false,
        };
        if is_same { Self::open_locked(dir.join("plugins"), lent) } else { Self::open(dir) }
    }

    fn open_locked(plugins: PathBuf, lock: File) -> Result<Self, StoreError> {
        disk::make_dir(&plugins)?;
        let recover::Found { states, unusable, notes } = recover::recover(&plugins)?;
        Ok(Self { plugins, notes, unusable, states: Mutex::new(states), lock })
    }

    /// Its lock, for [`Store::open_lent`]: held until whoever has it lets go of it as well.
    ///
    /// # Errors
    /// The system has no file descriptor for it.
    pub fn lend_lock(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    /// Notes that this process has the directory, for whoever is refused it.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn sign(&self) -> io::Result<()> {
        sign(&self.lock)
    }

    /// What had to be mended when the store was opened, as sentences for the log.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Every plugin, by name.
    pub fn list(&self) -> Vec<Stored> {
        self.lock().iter().map(|(name, state)| stored(name, state)).collect()
    }

    /// One plugin.
    pub fn plugin(&self, name: &str) -> Option<Stored> {
        self.lock().get(name).map(|state| stored(name, state))
    }

    /// Stores a version. It is on disk when this returns, and not yet active. The same bytes again are the same version.
    ///
    /// # Errors
    /// A bad name, or a file system that refuses; nothing is changed then.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        check_name(name)?;
        let sha256 = hex(&Sha256::digest(bytes));
        let mut states = self.lock();
        let mut state = states.get(name).cloned().unwrap_or_default();
        let dir = self.plugins.join(name);
        if self.unusable.contains(name) {
            let source = io::Error::other("its state could not be read at the start; mend it and start again");
            return Err(StoreError::Io { path: dir, source });
        }
        let path = disk::wasm_path(&dir, &sha256);
        if let Some(known) = state.versions.iter().find(|v| v.sha256 == sha256) {
            let version = known.version;
            if disk::read_verified(&path, &sha256).is_err() {
                disk::replace(&path, bytes)?; // The file was damaged or lost since: these bytes are the cure.
            }
            return Ok(Put { version, sha256, existed: true });
        }
        let version = state.last.checked_add(1).ok_or_else(|| StoreError::Io {
            path: dir.clone(),
            source: io::Error::other("all version numbers are used up"),
        })?;
        disk::make_dir(&dir)?;
        disk::replace(&path, bytes)?;
        let (size, stored_at) = (bytes.len() as u64, unix_now());
        state.last = version;
        state.versions.push(VersionInfo { version, sha256: sha256.clone(), size, stored_at });
        let dropped = prune(&mut state);
        disk::write_state(&dir, &state)?;
        dropped.iter().for_each(|old| disk::remove_quietly(&disk::wasm_path(&dir, &old.sha256)));
        states.insert(name.to_owned(), state);
        Ok(Put { version, sha256, existed: false })
    }

    /// The number that [`Store::put`] would give to bytes with this SHA-256 (in hexadecimal) now. None of a plugin's
    /// versions has it yet where the bytes are new.
    pub fn number(&self, name: &str, sha256: &str) -> u32 {
        let states = self.lock();
        let Some(state) = states.get(name) else { return 1 };
        state.versions.iter().find(|v| v.sha256 == sha256).map_or(state.last.saturating_add(1), |v| v.version)
    }

    /// Makes a version the active one. On disk when this returns.
    ///
    /// # Errors
    /// No such plugin or version, damaged bytes, or a file system that refuses; nothing is changed then.
    pub fn activate(&self, name: &str, version: u32) -> Result<(), StoreError> {
        self.change(name, |dir, state| {
            let info = find(name, state, version)?;
            disk::read_verified(&disk::wasm_path(dir, &info.sha256), &info.sha256)?;
            if state.active != Some(version) {
                state.previous = state.active.replace(version);
            }
            Ok(())
        })
    }

    /// Makes the version before the active one active again, and returns it. Doing so twice comes back.
    ///
    /// # Errors
    /// [`StoreError::NoPrevious`] where there is none, and as [`Store::activate`].
    pub fn rollback(&self, name: &str) -> Result<u32, StoreError> {
        let previous = self.plugin(name).ok_or_else(|| StoreError::NoPlugin(name.to_owned()))?.active.previous;
        let version = previous.ok_or_else(|| StoreError::NoPrevious(name.to_owned()))?;
        self.activate(name, version)?;
        Ok(version)
    }

    /// Notes the content of the configured file that was last taken, as SHA-256 in hexadecimal.
    ///
    /// # Errors
    /// No such plugin, or a file system that refuses.
    pub fn set_from_file(&self, name: &str, sha256: &str) -> Result<(), StoreError> {
        self.change(name, |_, state| {
            state.from_file = Some(sha256.to_owned());
            Ok(())
        })
    }

    /// A version's bytes, checked against their SHA-256.
    ///
    /// # Errors
    /// No such plugin or version, or [`StoreError::Damaged`].
    pub fn bytes(&self, name: &str, version: u32) -> Result<Vec<u8>, StoreError> {
        let info = {
            let states = self.lock();
            let state = states.get(name).ok_or_else(|| StoreError::NoPlugin(name.to_owned()))?;
            find(name, state, version)?.clone()
        };
        disk::read_verified(&disk::wasm_path(&self.plugins.join(name), &info.sha256), &info.sha256)
    }

    /// Removes a plugin with all of its versions.
    ///
    /// # Errors
    /// No such plugin, or a file system that refuses.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        let mut states = self.lock();
        if !states.contains_key(name) {
            return Err(StoreError::NoPlugin(name.to_owned()));
        }
        disk::remove_plugin(&self.plugins, name)?;
        states.remove(name);
        Ok(())
    }

    /// Removes one version that is not active.
    ///
    /// # Errors
    /// No such plugin or version, [`StoreError::IsActive`], or a file system that refuses.
    pub fn remove_version(&self, name: &str, version: u32) -> Result<(), StoreError> {
        let mut path = None;
        self.change(name, |dir, state| {
            path = Some(disk::wasm_path(dir, &find(name, state, version)?.sha256));
            if state.active == Some(version) {
                return Err(StoreError::IsActive { name: name.to_owned(), version });
            }
            state.previous = state.previous.filter(|&previous| previous != version);
            state.versions.retain(|v| v.version != version);
            Ok(())
        })?;
        path.iter().for_each(|path| disk::remove_quietly(path));
        Ok(())
    }

    /// Changes one plugin's state on disk, then in memory. One change at a time.
    fn change(
        &self,
        name: &str,
        edit: impl FnOnce(&Path, &mut State) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut states = self.lock();
        let state = states.get_mut(name).ok_or_else(|| StoreError::NoPlugin(name.to_owned()))?;
        let dir = self.plugins.join(name);
        let mut next = state.clone();
        edit(&dir, &mut next)?;
        if next != *state {
            disk::write_state(&dir, &next)?;
            *state = next;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, State>> {
        // A state is replaced whole, so that a panic elsewhere cannot have left it half-changed.
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stored(name: &str, state: &State) -> Stored {
    Stored {
        name: name.to_owned(),
        versions: state.versions.clone(),
        active: Active { version: state.active, previous: state.previous },
        from_file: state.from_file.clone(),
    }
}

fn find<'s>(name: &str, state: &'s State, version: u32) -> Result<&'s VersionInfo, StoreError> {
    state.versions.iter().find(|v| v.version == version).ok_or_else(|| {
        let has: Vec<_> = state.versions.iter().map(|v| v.version.to_string()).collect();
        let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
        StoreError::NoVersion { name: name.to_owned(), version, has }
    })
}

/// Takes out the oldest versions beyond [`VERSIONS`] that do not count.
fn prune(state: &mut State) -> Vec<VersionInfo> {
    let mut surplus = state.versions.len().saturating_sub(VERSIONS);
    let keep = [state.active, state.previous, Some(state.last)];
    state
        .versions
        .extract_if(.., |v| {
            let goes = surplus > 0 && !keep.contains(&Some(v.version));
            surplus -= usize::from(goes);
            goes
        })
        .collect()
}

/// A name becomes a directory's, so nothing else is let through.
///
/// # Errors
/// [`StoreError::Name`].
pub fn check_name(name: &str) -> Result<(), StoreError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let good = name.len() <= NAME
        && name.bytes().next().is_some_and(plain)
        && name.bytes().all(|b| plain(b) || b == b'-' || b == b'_');
    if good { Ok(()) } else { Err(StoreError::Name(name.to_owned())) }
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(LOCK);
    let failed = |source| StoreError::Io { path: path.clone(), source };
    let mut file =
        fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder); // Only for the message.
            let holder = holder.trim();
            let holder = if holder.is_empty() { String::new() } else { format!(" (process {holder})") };
            Err(StoreError::InUse { dir: dir.to_owned(), holder })
        }
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn sign(lock: &File) -> io::Result<()> {
    lock.set_len(0)?;
    // At the start: a file that was lent shares its position.
    lock.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
