//! What opening a store finds, and what it mends. It must never activate a version that was not active before, nor
//! remove a version that a state names and the disk still has.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use super::disk::{self, STATE, STATE_BEFORE, UNFINISHED, at};
use super::{State, StoreError, VersionInfo, check_name};

/// The states of all plugins. What was mended is noted.
pub(super) fn recover(plugins: &Path, notes: &mut Vec<String>) -> Result<BTreeMap<String, State>, StoreError> {
    let mut states = BTreeMap::new();
    for entry in fs::read_dir(plugins).map_err(at(plugins))? {
        let dir = entry.map_err(at(plugins))?.path();
        let name = dir.file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned();
        if !dir.is_dir() || check_name(&name).is_err() {
            notes.push(format!("{}: not of this store, left alone", dir.display()));
            continue;
        }
        match recover_plugin(&dir, &name, notes)? {
            Some(state) => drop(states.insert(name, state)),
            None => {
                // An upload that was killed before it was acknowledged, or a removal that was killed.
                fs::remove_dir_all(&dir).map_err(at(&dir))?;
                notes.push(format!("plugin {name}: an upload or a removal had not ended; removed"));
            }
        }
    }
    Ok(states)
}

/// None where nothing was ever acknowledged.
fn recover_plugin(dir: &Path, name: &str, notes: &mut Vec<String>) -> Result<Option<State>, StoreError> {
    let Some(read) = read_state(dir, name, notes)? else { return Ok(None) };
    let mut state = read.clone();
    state.versions.retain(|v| {
        let there = fs::metadata(disk::wasm_path(dir, &v.sha256)).is_ok_and(|m| m.len() == v.size);
        if !there {
            notes.push(format!("plugin {name}: the bytes of version {} are lost or cut short; removed", v.version));
        }
        there
    });
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
    }
    remove_strays(dir, &state)?;
    Ok(Some(state))
}

/// The present state, else the one before, else what the files themselves say.
fn read_state(dir: &Path, name: &str, notes: &mut Vec<String>) -> Result<Option<State>, StoreError> {
    let path = dir.join(STATE);
    let parse = |path: &Path| -> Result<State, String> {
        let text = fs::read(path).map_err(|e| e.to_string())?;
        serde_json::from_slice(&text).map_err(|e| e.to_string())
    };
    if !path.exists() && !dir.join(STATE_BEFORE).exists() {
        return Ok(None);
    }
    let error = match parse(&path) {
        Ok(state) => return Ok(Some(state)),
        Err(error) => error,
    };
    // Kept for whoever wants to look; the name is not one that this store reads.
    let _ = fs::copy(&path, dir.join("state.json.damaged"));
    if let Ok(state) = parse(&dir.join(STATE_BEFORE)) {
        notes.push(format!("plugin {name}: {STATE} is damaged ({error}); the state before the last change is used"));
        disk::remove_quietly(&path); // So that it does not become the state before.
        disk::write_state(dir, &state)?;
        return Ok(Some(state));
    }
    let versions = versions_of_files(dir)?;
    let last = versions.len().try_into().unwrap_or(u32::MAX);
    notes
        .push(format!("plugin {name}: {STATE} is damaged ({error}); {last} versions found, none active: activate one"));
    let state = State { versions, last, ..State::default() };
    disk::remove_quietly(&path);
    disk::write_state(dir, &state)?;
    Ok(Some(state))
}

/// The versions that lie in the directory, numbered by age.
fn versions_of_files(dir: &Path) -> Result<Vec<VersionInfo>, StoreError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let path = entry.map_err(at(dir))?.path();
        let Some(sha256) = path.file_name().and_then(OsStr::to_str).and_then(|n| n.strip_suffix(".wasm")) else {
            continue;
        };
        if disk::read_verified(&path, sha256).is_err() {
            continue;
        }
        let meta = fs::metadata(&path).map_err(at(&path))?;
        let modified = meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        found.push((modified.unwrap_or_default(), sha256.to_owned(), meta.len()));
    }
    found.sort_unstable();
    let numbered = (1..).zip(found).map(|(version, (modified, sha256, size))| VersionInfo {
        version,
        sha256,
        size,
        stored_at: modified.as_secs(),
    });
    Ok(numbered.collect())
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
            disk::remove_quietly(&path);
        }
    }
    Ok(())
}
