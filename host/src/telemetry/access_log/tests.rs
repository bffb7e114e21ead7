use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    thread,
};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use witgate_core::config::{LogField, LogFormat, LogPiece};

use super::*;

/// A log of paths, one a line.
struct Bed {
    dir: tempfile::TempDir,
    logs: AccessLogs,
}

impl Bed {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), logs: AccessLogs::default() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("access.log")
    }

    fn open(&self, path: &Path) -> Arc<AccessLog> {
        let config = config::AccessLog {
            to: LogPlace::File(path.to_owned()),
            format: LogFormat::Text(vec![LogPiece::Field(LogField::Path)]),
            buffer: 64 << 10,
            ..config::AccessLog::default()
        };
        self.logs.next(Some(&config), None).unwrap().unwrap()
    }

    fn fifo(&self) -> PathBuf {
        let path = self.path();
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        path
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    /// Waits until so many lines were written, lost, and both.
    #[track_caller]
    fn settled(&self, lines: u64) -> (u64, u64) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let (written, dropped, _) = self.logs.counts().read();
            if written + dropped >= lines {
                return (written, dropped);
            }
            assert!(Instant::now() < until, "{written} written and {dropped} lost, of {lines}");
            thread::yield_now();
        }
    }
}

fn say(pending: &mut Pending, log: &Arc<AccessLog>, path: &str) {
    pending.add(log, &Line { path: Some(path), ..Line::default() });
}

/// One line, handed over at once.
fn say_now(log: &Arc<AccessLog>, path: &str) {
    let mut pending = Pending::default();
    say(&mut pending, log, path);
}

#[test]
fn lines_of_all_workers_come_whole_and_in_order() {
    let bed = Bed::new();
    let log = bed.open(&bed.path());
    thread::scope(|scope| {
        for worker in 0..4 {
            let (bed, log) = (&bed, &log);
            scope.spawn(move || {
                let mut pending = Pending::default();
                for n in 0..1_000 {
                    say(&mut pending, log, &format!("/{worker}/{n}"));
                    // What waits is less than the queue has room for.
                    if n % 100 == 99 {
                        while !pending.hand_over() {}
                        bed.logs.finish();
                    }
                }
            });
        }
    });
    bed.logs.finish();
    assert_eq!(bed.logs.counts().read(), (4_000, 0, 0));
    let text = bed.text();
    for worker in 0..4 {
        let prefix = format!("/{worker}/");
        let mine: Vec<usize> = text.lines().filter_map(|line| line.strip_prefix(&prefix)?.parse().ok()).collect();
        assert!(mine.into_iter().eq(0..1_000), "worker {worker}");
    }
}

#[test]
fn the_first_line_asks_to_be_handed_over() {
    let bed = Bed::new();
    let log = bed.open(&bed.path());
    let (mut pending, line) = (Pending::default(), Line::default());
    assert!(pending.add(&log, &line) && !pending.add(&log, &line));
    while !pending.hand_over() {}
    assert!(pending.add(&log, &line));
    // Another log in its place: its lines are first.
    let other = bed.open(&bed.dir.path().join("other.log"));
    assert!(pending.add(&other, &line));
    drop(pending);
    assert_eq!(bed.settled(4), (4, 0));
    assert_eq!(bed.text(), "-\n-\n-\n");
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let bed = Bed::new();
    let log = bed.open(Path::new("/dev/full"));
    for n in 0..5 {
        say_now(&log, &format!("/{n}"));
        bed.logs.finish();
    }
    assert_eq!(bed.settled(5), (0, 5));
    assert_eq!(bed.logs.counts().read().2, 5, "each failed by itself");
}

#[test]
fn a_pipe_that_nobody_reads_is_written_to_once_somebody_does() {
    let bed = Bed::new();
    let path = bed.fifo();
    let log = bed.open(&path);
    say_now(&log, "/lost");
    assert_eq!(bed.settled(1), (0, 1));
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let reader =
        std::os::unix::fs::OpenOptionsExt::custom_flags(File::options().read(true), flags).open(&path).unwrap();
    say_now(&log, "/read");
    assert_eq!(bed.settled(2), (1, 1));
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).unwrap();
    assert_eq!(line, "/read\n");
}

#[test]
fn what_waits_for_a_pipe_that_is_full_is_bounded_and_nobody_waits_with_it() {
    let bed = Bed::new();
    let path = bed.fifo();
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let open = std::os::unix::fs::OpenOptionsExt::custom_flags(File::options().read(true), flags).open(&path);
    let mut reader = open.unwrap();
    let log = bed.open(&path);
    let long = format!("/{}", "x".repeat(998));
    // More than the pipe, the writer and the queue hold together.
    let mut pending = Pending::default();
    for _ in 0..1_000 {
        say(&mut pending, &log, &long);
    }
    drop(pending);
    let dropped = bed.logs.counts().read().1;
    assert!(dropped > 500, "{dropped}: most had no room");
    // Whoever asks for it to be opened anew ends the wait, and a line that broke off ends where it did.
    bed.logs.reopen();
    let mut read = Vec::new();
    let until = Instant::now() + Duration::from_secs(20);
    while bed.logs.counts().read().0 + bed.logs.counts().read().1 < 1_000 {
        assert!(Instant::now() < until, "{:?}", bed.logs.counts());
        let _ = reader.read_to_end(&mut read);
        thread::yield_now();
    }
    say_now(&log, "/last");
    while !read.ends_with(b"/last\n") {
        assert!(Instant::now() < until, "{:?}", String::from_utf8_lossy(&read[read.len().saturating_sub(50)..]));
        let _ = reader.read_to_end(&mut read);
    }
    let text = String::from_utf8(read).unwrap();
    let whole = text.lines().filter(|line| *line == long).count() as u64;
    assert_eq!(whole + 1, bed.logs.counts().read().0, "what is counted as written was");
    assert!(text.ends_with("\n/last\n"));
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew_when_asked() {
    let bed = Bed::new();
    let log = bed.open(&bed.path());
    let old = bed.dir.path().join("access.log.1");
    say_now(&log, "/1");
    bed.logs.finish();
    fs::rename(bed.path(), &old).unwrap();
    say_now(&log, "/2");
    bed.logs.finish();
    bed.logs.reopen();
    bed.logs.finish();
    say_now(&log, "/3");
    bed.logs.finish();
    assert_eq!((fs::read_to_string(old).unwrap().as_str(), bed.text().as_str()), ("/1\n/2\n", "/3\n"));
    // Where it cannot be, the open one is written on.
    fs::remove_file(bed.path()).unwrap();
    fs::create_dir(bed.path()).unwrap();
    bed.logs.reopen();
    say_now(&log, "/4");
    assert_eq!(bed.settled(4), (4, 0));
}

#[test]
fn what_cannot_be_opened_is_no_log_and_what_stays_the_same_is_the_same() {
    let bed = Bed::new();
    let wants = |path: &Path| config::AccessLog { to: LogPlace::File(path.to_owned()), ..config::AccessLog::default() };
    let wrong = bed.logs.next(Some(&wants(bed.dir.path())), None).expect_err("a directory").to_string();
    assert!(wrong.contains(&bed.dir.path().display().to_string()), "{wrong}");
    let first = bed.logs.next(Some(&wants(&bed.path())), None).unwrap();
    let again = bed.logs.next(Some(&wants(&bed.path())), first.as_ref()).unwrap();
    assert!(Arc::ptr_eq(first.as_ref().unwrap(), again.as_ref().unwrap()));
    assert!(bed.logs.next(None, again.as_ref()).unwrap().is_none());
}

#[test]
fn a_sample_has_all_that_failed_here() {
    let bed = Bed::new();
    let config = config::AccessLog { sample: 0.5, to: LogPlace::File(bed.path()), ..config::AccessLog::default() };
    let log = bed.logs.next(Some(&config), None).unwrap().unwrap();
    let (low, high) = (|| 0, || u64::MAX);
    assert!(log.wants(Some(200), low) && !log.wants(Some(200), high) && !log.wants(Some(499), high));
    assert!(log.wants(Some(500), high) && log.wants(Some(503), high));
    assert!(log.wants(None, low) && !log.wants(None, high));
}
