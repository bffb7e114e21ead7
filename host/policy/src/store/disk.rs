//! Durable changes of files. Every change is a file written beside, flushed, renamed over, and the directory flushed:
//! the order that survives a crash on every journalling file system. It must never write a live file in place, wait for
//! what may never come, as a pipe does, nor read what has no end, as a device.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{State, StoreError};
use crate::engine::hex;
use crate::regular::read;

pub(super) const STATE: &str = "state.json";
/// The state before the last change, for the case that a disk breaks the present one.
pub(super) const STATE_BEFORE: &str = "state.json.before";
/// A state that could not be used, for whoever wants to look.
pub(super) const STATE_DAMAGED: &str = "state.json.damaged";
/// Bytes of a state: [`super::VERSIONS`] versions are 5 KiB.
const STATE_SIZE: u64 = 1 << 20;
/// Bytes of a version: the most that `[plugins] max_upload` can be.
const MODULE_SIZE: u64 = 1 << 30;
/// Ends the name of a plugin's directory that is being removed. No plugin's name can end so.
pub(super) const REMOVED: &str = ".removed";
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
    // Only after the attempt, since another process may make it at this moment.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| {
        let taken = fs::metadata(dir).is_ok_and(|there| !there.is_dir());
        let named = || io::Error::new(io::ErrorKind::NotADirectory, "there is a file of that name, not a directory");
        StoreError::Io { path: dir.to_owned(), source: if taken { named() } else { source } }
    })?;
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), flush_dir)
}

/// Replaces, or makes, a file.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED);
    let unfinished = PathBuf::from(unfinished);
    clear(&unfinished); // Whatever it is: to open a pipe would wait.
    let write = || -> io::Result<()> {
        let mut file = File::create_new(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().and_then(|()| fs::rename(&unfinished, path)).map_err(|source| {
        remove_quietly(&unfinished);
        StoreError::Io { path: path.to_owned(), source }
    })?;
    path.parent().map_or(Ok(()), flush_dir)
}

/// Writes a state and keeps the one before.
pub(super) fn write_state(dir: &Path, state: &State) -> Result<(), StoreError> {
    let (path, before) = (dir.join(STATE), dir.join(STATE_BEFORE));
    // A second name for the present file, which the rename then leaves to it alone. Losing it loses nothing.
    clear(&before);
    let _ = fs::hard_link(&path, &before);
    rewrite_state(dir, state)
}

/// Writes a state over one that means the same.
pub(super) fn rewrite_state(dir: &Path, state: &State) -> Result<(), StoreError> {
    let path = dir.join(STATE);
    let text =
        serde_json::to_string_pretty(state).map_err(|e| StoreError::Io { path: path.clone(), source: e.into() })?;
    replace(&path, sealed(&text).as_bytes())
}

/// A state is `{"checksum": "<SHA-256 of the state's text>", "state": {...}}` with just these bytes around the text, so
/// that the checksum is one of bytes: a disk that changes a digit must not activate another version.
const SEAL: [&str; 3] = ["{\n\"checksum\": \"", "\",\n\"state\": ", "\n}\n"];

fn sealed(text: &str) -> String {
    let [start, middle, end] = SEAL;
    format!("{start}{}{middle}{text}{end}", hex(&Sha256::digest(text)))
}

/// A state that was read.
pub(super) struct Read {
    pub(super) state: State,
    /// Whether it has a checksum. The first form of the file had none.
    pub(super) sealed: bool,
}

/// Why a state was not read.
pub(super) struct Unread {
    /// Whether there is none.
    pub(super) absent: bool,
    pub(super) why: String,
}

pub(super) fn read_state(path: &Path) -> Result<Read, Unread> {
    let absent = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
    let bytes = read(path, STATE_SIZE).map_err(|e| Unread { absent: absent(&e), why: e.to_string() })?;
    parse(&bytes).map_err(|why| Unread { absent: false, why })
}

fn parse(bytes: &[u8]) -> Result<Read, String> {
    let [start, middle, end] = SEAL.map(str::as_bytes);
    let sealed = bytes.strip_prefix(start).and_then(|rest| rest.split_at_checked(2 * 32));
    let (text, is_sealed) = match sealed {
        None => (bytes, false),
        Some((checksum, rest)) => {
            let text = rest.strip_prefix(middle).and_then(|rest| rest.strip_suffix(end));
            let intact = text.filter(|text| hex(&Sha256::digest(text)).as_bytes() == checksum);
            (intact.ok_or("its checksum is another")?, true)
        }
    };
    let state: State = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    let hexadecimal = |text: &str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !state.versions.iter().all(|v| (1..u32::MAX).contains(&v.version) && hexadecimal(&v.sha256))
        || !state.versions.is_sorted_by(|a, b| a.version < b.version)
    {
        return Err("its versions are none that this store wrote".to_owned());
    }
    Ok(Read { state, sealed: is_sealed })
}

/// A version's bytes, if they are what the name says.
pub(super) fn read_verified(path: &Path, sha256: &str) -> Result<Vec<u8>, StoreError> {
    let bytes = read(path, MODULE_SIZE).map_err(at(path))?;
    if hex(&Sha256::digest(&bytes)) == sha256 { Ok(bytes) } else { Err(StoreError::Damaged(path.to_owned())) }
}

/// Removes a plugin: it goes under another name at once, and what has that name is removed when the store is opened.
pub(super) fn remove_plugin(plugins: &Path, name: &str) -> Result<(), StoreError> {
    let (dir, removed) = (plugins.join(name), plugins.join(format!("{name}{REMOVED}")));
    clear(&removed);
    fs::rename(&dir, &removed).map_err(at(&dir))?;
    flush_dir(plugins)?;
    fs::remove_dir_all(&removed).map_err(at(&removed))?;
    flush_dir(plugins)
}

pub(super) fn flush_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))
}

/// Removes what nothing refers to any more; if it stays, opening the store tries again.
pub(super) fn remove_quietly(path: &Path) {
    let _ = fs::remove_file(path);
}

/// Makes way, whatever is there.
pub(super) fn clear(path: &Path) {
    if fs::remove_file(path).is_err() {
        let _ = fs::remove_dir_all(path); // A link is not followed.
    }
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}
