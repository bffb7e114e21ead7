//! Files that an operator named: regular files, read whole and within a limit. Never waits for what may never come, as a
//! pipe does, and never reads what has no end, as a device has.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// How large a file may be.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Bytes.
    pub bytes: u64,
    /// What sets it, for messages.
    pub of: &'static str,
}

/// Of a configuration: some 100,000 routes.
pub const CONFIG: Limit = Limit { bytes: 16 << 20, of: "a configuration" };

/// Of a module that no configuration limits: the most that `[plugins] max_upload` can be.
pub const MODULE: Limit = Limit { bytes: 1 << 30, of: "a module" };

/// A file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The system refuses.
    #[error("cannot read it: {0}")]
    Io(io::Error),
    /// It is something else.
    #[error("it is {0}, and should be a file")]
    Kind(&'static str),
    /// There is more of it than makes sense.
    #[error("it is larger than {} bytes, the limit of {}", .0.bytes, .0.of)]
    Size(Limit),
    /// It is no text.
    #[error("it is not text in UTF-8: byte {0} belongs to no character")]
    Text(usize),
}

impl FileError {
    /// Whether there is nothing of that name.
    pub fn is_absent(&self) -> bool {
        matches!(&self.problem, Problem::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// An open file that is one.
///
/// # Errors
/// There is none, or it is a directory, a device …
pub fn open(path: &Path) -> Result<File, FileError> {
    let failed = |problem| FileError { path: path.to_owned(), problem };
    // To open a pipe waits for who writes to it, unless it is told not to wait. A file is not touched by that.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(|error| failed(Problem::Io(error)))?;
    let kind = file.metadata().map_err(|error| failed(Problem::Io(error)))?.file_type();
    match kind {
        kind if kind.is_file() => Ok(file),
        kind if kind.is_dir() => Err(failed(Problem::Kind("a directory"))),
        kind if kind.is_fifo() => Err(failed(Problem::Kind("a pipe"))),
        _ => Err(failed(Problem::Kind("a device"))),
    }
}

/// What tells one state of a file from another; none where there is none.
pub type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// The state that a file is in. Links are followed, so that those that are put in each other's place are told apart.
pub fn stamp(file: &Path) -> Stamp {
    let of = std::fs::metadata(file).ok()?;
    Some((of.dev(), of.ino(), of.size(), of.mtime(), of.mtime_nsec()))
}

/// All of a file that is within `limit`.
///
/// # Errors
/// As [`open`], or the file is larger.
pub fn read(path: &Path, limit: Limit) -> Result<Vec<u8>, FileError> {
    read_open(open(path)?, path, limit)
}

/// All of what [`open`] has opened at `path`.
///
/// # Errors
/// As [`read`].
pub fn read_open(file: File, path: &Path, limit: Limit) -> Result<Vec<u8>, FileError> {
    let failed = |problem| FileError { path: path.to_owned(), problem };
    let mut bytes = Vec::new();
    // What a file says of its size need not be so: those in /proc say 0.
    file.take(limit.bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| failed(Problem::Io(error)))?;
    if bytes.len() as u64 > limit.bytes { Err(failed(Problem::Size(limit))) } else { Ok(bytes) }
}

/// The same, of text.
///
/// # Errors
/// As [`read`], or it is no text.
pub fn read_text(path: &Path, limit: Limit) -> Result<String, FileError> {
    String::from_utf8(read(path, limit)?)
        .map_err(|error| FileError { path: path.to_owned(), problem: Problem::Text(error.utf8_error().valid_up_to()) })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[track_caller]
    fn check(path: &Path, bytes: u64, want: Result<&str, &str>) {
        match (read_text(path, Limit { bytes, of: "a test" }), want) {
            (Ok(got), Ok(text)) => assert_eq!(got, text),
            (Err(got), Err(part)) => {
                let got = got.to_string();
                assert!(got.starts_with(&path.display().to_string()) && got.contains(part), "{got} lacks {part:?}");
            }
            (got, want) => panic!("{}: {got:?}, want {want:?}", path.display()),
        }
    }

    #[test]
    fn a_file_is_read_within_its_limit_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        check(&path, 4, Err("No such file"));
        fs::write(&path, "four").unwrap();
        check(&path, 4, Ok("four"));
        check(&path, 3, Err("larger than 3 bytes, the limit of a test"));
        fs::write(&path, b"a\xffb").unwrap();
        check(&path, 4, Err("byte 1 "));
        check(dir.path(), 4, Err("a directory"));
        check(Path::new("/dev/zero"), 4, Err("a device"));
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        check(&pipe, 4, Err("a pipe"));
    }
}
