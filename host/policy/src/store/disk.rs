//! Durable changes of files. Every change is a file written beside, flushed, renamed over, and the directory flushed:
//! the order that survives a crash on every journalling file system. It must never write a live file in place.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{State, StoreError};
use crate::engine::hex;

pub(super) const STATE: &str = "state.json";
/// The state before the last change, for the case that a disk breaks the present one.
pub(super) const STATE_BEFORE: &str = "state.json.before";
/// Ends the name of what is being written; leftovers are removed when the store is opened.
pub(super) const UNFINISHED: &str = ".tmp";

pub(super) fn wasm_path(dir: &Path, sha256: &str) -> PathBuf {
    dir.join(format!("{sha256}.wasm"))
}

/// Makes a directory for this user only, and its parents; durable.
pub(super) fn make_dir(dir: &Path) -> Result<(), StoreError> {
    if dir.is_dir() {
        return Ok(());
    }
    if dir.exists() {
        let source = io::Error::new(io::ErrorKind::NotADirectory, "there is a file of that name, not a directory");
        return Err(StoreError::Io { path: dir.to_owned(), source });
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), flush_dir)
}

/// Replaces, or makes, a file.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED);
    let unfinished = PathBuf::from(unfinished);
    let write = || -> io::Result<()> {
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().and_then(|()| fs::rename(&unfinished, path)).map_err(|source| {
        remove_quietly(&unfinished);
        StoreError::Io { path: path.to_owned(), source }
    })?;
    path.parent().map_or(Ok(()), flush_dir)
}

pub(super) fn write_state(dir: &Path, state: &State) -> Result<(), StoreError> {
    let (path, before) = (dir.join(STATE), dir.join(STATE_BEFORE));
    let text = serde_json::to_vec_pretty(state).map_err(|e| StoreError::Io { path: path.clone(), source: e.into() })?;
    // A second name for the present file, which the rename then leaves to it alone. Losing it loses nothing.
    remove_quietly(&before);
    let _ = fs::hard_link(&path, &before);
    replace(&path, &text)
}

/// A version's bytes, if they are what the name says.
pub(super) fn read_verified(path: &Path, sha256: &str) -> Result<Vec<u8>, StoreError> {
    let bytes = fs::read(path).map_err(at(path))?;
    if hex(&Sha256::digest(&bytes)) == sha256 { Ok(bytes) } else { Err(StoreError::Damaged(path.to_owned())) }
}

/// Removes a plugin: the state goes first, and what has no state is removed when the store is opened.
pub(super) fn remove_plugin(plugins: &Path, name: &str) -> Result<(), StoreError> {
    let dir = plugins.join(name);
    for file in [STATE_BEFORE, STATE] {
        let path = dir.join(file);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(at(&path)(e)),
            _ => {}
        }
    }
    flush_dir(&dir)?;
    fs::remove_dir_all(&dir).map_err(at(&dir))?;
    flush_dir(plugins)
}

pub(super) fn flush_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))
}

/// Removes what nothing refers to any more; if it stays, opening the store tries again.
pub(super) fn remove_quietly(path: &Path) {
    let _ = fs::remove_file(path);
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}
