//! What opening a store finds, and what it mends. It must never activate a version that was not active before, nor
//! remove a version that a state names and the disk still has.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use super::disk::{self, REMOVED, Read, STATE, STATE_BEFORE, STATE_DAMAGED, UNFINISHED, Unread, at};
use super::{State, StoreError, VersionInfo, check_name};

/// What a store finds when it is opened.
#[derive(Default)]
pub(super) struct Found {
    pub(super) states: BTreeMap<String, State>,
    /// Plugins of which the system did not let the state be read or mended. They are not touched.
    pub(super) unusable: BTreeSet<String>,
    /// What was mended, or could not be.
    pub(super) notes: Vec<String>,
}

/// The states of all plugins. One that cannot be mended keeps no other from being found.
pub(super) fn recover(plugins: &Path) -> Result<Found, StoreError> {
    let mut found = Found::default();
    for entry in fs::read_dir(plugins).map_err(at(plugins))? {
        let dir = entry.map_err(at(plugins))?.path();
        let name = dir.file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned();
        let (plugin, removed) = name.strip_suffix(REMOVED).map_or((&*name, false), |plugin| (plugin, true));
        if !dir.is_dir() || check_name(plugin).is_err() {
            found.notes.push(format!("{}: not of this store, left alone", dir.display()));
            continue;
        }
        let state = if removed { Ok(None) } else { recover_plugin(&dir, plugin, &mut found.notes) };
        // None: an upload that was killed before it was acknowledged, or a removal that was killed.
        let mended = state.and_then(|state| {
            if let Some(state) = state {
                found.states.insert(plugin.to_owned(), state);
                return Ok(());
            }
            fs::remove_dir_all(&dir).map_err(at(&dir))?;
            found.notes.push(format!("plugin {plugin}: an upload or a removal had not ended; removed"));
            Ok(())
        });
        if let Err(error) = mended {
            found.notes.push(format!("plugin {plugin}: cannot be used: {error}"));
            if !removed {
                found.unusable.insert(name);
            }
        }
    }
    Ok(found)
}

/// None where nothing was ever acknowledged.
fn recover_plugin(dir: &Path, name: &str, notes: &mut Vec<String>) -> Result<Option<State>, StoreError> {
    let Some(Read { state: read, sealed }) = read_state(dir, name, notes)? else { return Ok(None) };
    let mut state = read.clone();
    state.versions.retain(|v| {
        let there = fs::metadata(disk::wasm_path(dir, &v.sha256)).is_ok_and(|m| m.len() == v.size);
        if !there {
            notes.push(format!("plugin {name}: the bytes of version {} are lost or cut short; removed", v.version));
        }
        there
    });
    state.last = last(&read);
    if state.last != read.last {
        let (was, now) = (read.last, state.last);
        notes.push(format!("plugin {name}: the last number given cannot be {was}; it is taken to be {now}"));
    }
    let mut intact = |version: u32| {
        let info = state.versions.iter().find(|v| v.version == version)?;
        match disk::read_verified(&disk::wasm_path(dir, &info.sha256), &info.sha256) {
            Ok(_) => Some(version),
            Err(e) => {
                notes.push(format!("plugin {name}: version {version}: {e}"));
                None
            }
        }
    };
    let (active, previous) = (read.active.and_then(&mut intact), read.previous.and_then(&mut intact));
    (state.active, state.previous) = match (active, previous) {
        (None, previous) if read.active.is_some() => (previous, None),
        kept => kept,
    };
    if let (Some(was), now) = (read.active, state.active)
        && Some(was) != now
    {
        let now = now.map_or("no version is active".to_owned(), |now| format!("version {now} is active again"));
        notes.push(format!("plugin {name}: version {was}, which was active, cannot be used; {now}"));
    }
    if state != read {
        disk::write_state(dir, &state)?;
    } else if !sealed {
        disk::rewrite_state(dir, &state)?; // Of the first form.
    }
    remove_strays(dir, &state)?;
    Ok(Some(state))
}

/// The present state, else the one before, else what the files themselves say. None where they say nothing either.
fn read_state(dir: &Path, name: &str, notes: &mut Vec<String>) -> Result<Option<Read>, StoreError> {
    let (path, before) = (dir.join(STATE), dir.join(STATE_BEFORE));
    let Unread { absent, why } = match disk::read_state(&path) {
        Ok(read) => return Ok(Some(read)),
        Err(unread) => unread,
    };
    let before = disk::read_state(&before);
    let nothing = absent && before.as_ref().is_err_and(|unread| unread.absent);
    let mut state = before.as_ref().map(|read| read.state.clone()).unwrap_or_default();
    // A version that was stored last is one that the state before does not know.
    let found = add_versions_of_files(dir, &mut state)?;
    if nothing && found == 0 {
        return Ok(None);
    }
    let used = match before {
        Ok(_) => "the state before the last change is used".to_owned(),
        Err(_) => format!("{found} versions found, none active: activate one"),
    };
    if !absent {
        // Out of the way, so that it does not become the state before; whatever it is, it is not opened.
        let damaged = dir.join(STATE_DAMAGED);
        disk::clear(&damaged);
        fs::rename(&path, &damaged).map_err(at(&path))?;
    }
    disk::write_state(dir, &state)?;
    notes.push(format!("plugin {name}: {STATE} is {} ({why}); {used}", if absent { "lost" } else { "damaged" }));
    Ok(Some(Read { state, sealed: true }))
}

/// Adds the intact versions that lie in the directory and that the state does not know, numbered by age; how many.
fn add_versions_of_files(dir: &Path, state: &mut State) -> Result<usize, StoreError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let path = entry.map_err(at(dir))?.path();
        let Some(sha256) = path.file_name().and_then(OsStr::to_str).and_then(|n| n.strip_suffix(".wasm")) else {
            continue;
        };
        if state.versions.iter().any(|v| v.sha256 == sha256) || disk::read_verified(&path, sha256).is_err() {
            continue;
        }
        let meta = fs::metadata(&path).map_err(at(&path))?;
        let modified = meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        found.push((modified.unwrap_or_default(), sha256.to_owned(), meta.len()));
    }
    found.sort_unstable();
    let count = found.len();
    state.last = last(state);
    for (modified, sha256, size) in found {
        state.last = state.last.saturating_add(1);
        state.versions.push(VersionInfo { version: state.last, sha256, size, stored_at: modified.as_secs() });
    }
    Ok(count)
}

/// The highest number ever given: no less than those that are there, and such that one more can be given.
fn last(state: &State) -> u32 {
    let highest = state.versions.last().map_or(0, |v| v.version);
    if state.last == u32::MAX { highest } else { state.last.max(highest) }
}

/// Removes unfinished files and bytes that no version names: their upload was never acknowledged.
fn remove_strays(dir: &Path, state: &State) -> Result<(), StoreError> {
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let path = entry.map_err(at(dir))?.path();
        let Some(file) = path.file_name().and_then(OsStr::to_str) else { continue };
        let stray = match file.strip_suffix(".wasm") {
            Some(sha256) => !state.versions.iter().any(|v| v.sha256 == sha256),
            None => file.ends_with(UNFINISHED),
        };
        if stray {
            disk::clear(&path);
        }
    }
    Ok(())
}
