//! Secrets on disk: made with mode 0600 where they are absent, refused where others may read them. Never logged.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::files::{self, FileError, Limit};

/// Of a secret: 256 bits take 64 bytes, and operators may have tokens of their own.
const LIMIT: Limit = Limit { bytes: 4 << 10, of: "a secret" };

/// A secret's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It is no file, or cannot be read.
    #[error("{0}")]
    File(#[from] FileError),
    /// It cannot be made.
    #[error("{}: {doing}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Others than the owner may use it.
    #[error(
        "{}: mode {mode:04o} lets others than its owner use it; `chmod 600` it, or remove it to have a new one made",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It does not hold what it should.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        problem: &'static str,
    },
    /// The system has no random bytes to give.
    #[error("no random bytes from the system: {0}")]
    Random(String),
}

/// 32 secret bytes, kept in hexadecimal in `path`.
///
/// # Errors
/// The file cannot be made or read, is open to others, or holds something else.
pub fn key(path: &Path) -> Result<[u8; 32], SecretError> {
    let text = text(path)?;
    let content = |problem| SecretError::Content { path: path.to_owned(), problem };
    let mut key = [0; 32];
    if text.len() != 64 {
        return Err(content("64 hexadecimal digits were expected; remove the file to have a new key made"));
    }
    for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        *byte =
            u8::from_str_radix(digits, 16).map_err(|_| content("it holds something else than hexadecimal digits"))?;
    }
    Ok(key)
}

/// The same, of a key on which nothing hangs that is not soon made again: a new one is made where it is damaged.
///
/// # Errors
/// As [`key`], but for what it holds.
pub fn replaceable_key(path: &Path) -> Result<[u8; 32], SecretError> {
    match key(path) {
        Err(error @ SecretError::Content { .. }) => {
            tracing::warn!(%error, "the key is damaged; a new one is made");
            let doing = "cannot remove it";
            fs::remove_file(path).map_err(|source| SecretError::Io { path: path.to_owned(), doing, source })?;
            key(path)
        }
        other => other,
    }
}

/// The secret text in `path`, without surrounding white space; 256 random bits in hexadecimal where there is no file.
///
/// # Errors
/// The file cannot be made or read, is open to others, or is empty.
pub fn text(path: &Path) -> Result<String, SecretError> {
    let file = match files::open(path) {
        Err(error) if error.is_absent() => return make(path),
        opened => opened?,
    };
    let metadata = file.metadata().map_err(|source| SecretError::Io {
        path: path.to_owned(),
        doing: "cannot look at it",
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Open { path: path.to_owned(), mode });
    }
    content(file, path)
}

/// As [`text`], of a secret that must not be this one.
///
/// # Errors
/// As [`text`]; and it is.
pub fn other_text(path: &Path, secret: &str) -> Result<String, SecretError> {
    let text = text(path)?;
    if text == secret {
        let problem = "it holds the token that opens everything; remove it to have another one made";
        return Err(SecretError::Content { path: path.to_owned(), problem });
    }
    Ok(text)
}

/// The secret text in `path`, which must be there.
///
/// # Errors
/// The file cannot be read or is empty.
pub fn read(path: &Path) -> Result<String, SecretError> {
    content(files::open(path)?, path)
}

fn content(file: File, path: &Path) -> Result<String, SecretError> {
    let content = |problem| SecretError::Content { path: path.to_owned(), problem };
    let bytes = files::read_open(file, path, LIMIT)?;
    let bytes = bytes.trim_ascii();
    if bytes.is_empty() {
        return Err(content("it is empty; remove it to have a new one made"));
    }
    // What a header can carry (RFC 6750 section 2.1), less strictly: with anything else nobody could ever be let in.
    if !bytes.iter().all(u8::is_ascii_graphic) {
        return Err(content("it is not one word of visible ASCII characters; remove it to have a new one made"));
    }
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// Makes the file whole or not at all: a crash in between leaves no half of a secret behind. Where another process makes
/// it at the same time, the first one's is used by both.
fn make(path: &Path) -> Result<String, SecretError> {
    let io = |doing| move |source| SecretError::Io { path: path.to_owned(), doing, source };
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(io("cannot make its directory"))?;
    }
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| SecretError::Random(error.to_string()))?;
    let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    // What a process that was killed has left, which had the same number.
    let _ = fs::remove_file(&temporary);
    let mut file =
        File::options().write(true).create_new(true).mode(0o600).open(&temporary).map_err(io("cannot make it"))?;
    let written = file.write_all(format!("{text}\n").as_bytes()).and_then(|()| file.sync_all());
    // Not a rename, which would put this secret over one that another process has made, read and uses since.
    let linked = written.and_then(|()| fs::hard_link(&temporary, path));
    let _ = fs::remove_file(&temporary);
    match linked {
        Ok(()) => {
            // What the secret protects is soon on disk: its name must not be the last to get there.
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(parent).and_then(|dir| dir.sync_all()).map_err(io("cannot write its directory"))?;
            Ok(text)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(path),
        Err(error) => Err(io("cannot make it")(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/secret");
        let first = key(&path).unwrap();
        assert_eq!(key(&path).unwrap(), first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn of_two_that_make_a_secret_at_once_both_use_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let first = make(&path).unwrap();
        assert_eq!(make(&path).unwrap(), first);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_secret_that_others_can_read_or_that_is_broken_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "x\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = text(&path).unwrap_err().to_string();
        assert!(error.contains("0644") && error.contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = key(&path).unwrap_err().to_string();
        assert!(error.contains("64 hexadecimal digits"), "{error}");
        fs::write(&path, " \n").unwrap();
        let error = text(&path).unwrap_err().to_string();
        assert!(error.contains("empty"), "{error}");
        for odd in [&b"two words"[..], b"two\nlines", b"t\xc3\xb6ken", b"\xff"] {
            fs::write(&path, odd).unwrap();
            let error = text(&path).unwrap_err().to_string();
            assert!(error.contains("one word of visible ASCII"), "{odd:?}: {error}");
        }
        let error = text(dir.path()).unwrap_err().to_string();
        assert!(error.contains("is a directory"), "{error}");
    }

    #[test]
    fn a_key_that_can_be_made_again_is_made_where_it_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let mut last = replaceable_key(&path).unwrap();
        for damaged in [&b""[..], b"0011", &[b'x'; 64], &[0xff; 32]] {
            fs::write(&path, damaged).unwrap();
            let new = replaceable_key(&path).unwrap();
            assert_ne!(new, last, "{damaged:?}");
            assert_eq!(replaceable_key(&path).unwrap(), new, "{damaged:?}");
            last = new;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = replaceable_key(&path).unwrap_err().to_string();
        assert!(error.contains("0640") && error.contains("chmod 600"), "{error}");
    }
}
