//! Lines to stdout or stderr from a thread of their own. Whoever says one never waits for whoever reads them: a reader that
//! stalls costs lines, one that is gone or a disk that is full costs lines, and what was lost is counted.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, ErrorKind, Write},
    os::fd::AsFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, poll};

/// Bytes that may wait for a reader that stalls: some thousands of lines, enough for one that only catches its breath.
const QUEUE: usize = 1 << 20;

/// How long an end waits for a reader that takes nothing.
const STALL: Duration = Duration::from_secs(1);

/// How long an end waits for a reader that takes little.
const END: Duration = Duration::from_secs(5);

/// What happens to lines that are lost. Called by whoever says a line, and by the thread that writes; never under a lock.
pub(super) trait Losses: Send + Sync + 'static {
    /// A line was lost just now.
    fn lost(&self);

    /// A line could be written again: so many were lost since the last time.
    fn recovered(&self, lines: u64);
}

/// Where nobody needs to know.
impl Losses for () {
    fn lost(&self) {}
    fn recovered(&self, _: u64) {}
}

/// Lines on their way to one place. Clones share it.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// Something was queued.
    queued: Condvar,
    /// A line was written, or lost while it was.
    moved: Condvar,
    losses: Box<dyn Losses>,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Whether the thread has taken a line that it has not done with.
    writing: bool,
    /// Lines that were done with, one way or the other.
    done: u64,
    /// Lost, and nobody was told yet.
    lost: u64,
}

impl Lines {
    /// To a place that may block: a duplicate of stdout or stderr.
    ///
    /// # Errors
    /// The process has no file descriptor or no thread for it.
    pub(super) fn to(place: impl AsFd, thread: &str, losses: impl Losses) -> io::Result<Self> {
        // Unlike the standard library's handles, a file has no lock and no buffer that the process' end would wait for.
        let file = File::from(place.as_fd().try_clone_to_owned()?);
        let lines = Self(Arc::new(Shared {
            queue: Mutex::default(),
            queued: Condvar::new(),
            moved: Condvar::new(),
            losses: Box::new(losses),
        }));
        let shared = Arc::clone(&lines.0);
        thread::Builder::new().name(thread.to_owned()).spawn(move || shared.write_all(&file))?;
        Ok(lines)
    }

    /// Queues a line, its line break included, or several. Never waits; where there is no room, they are lost.
    pub(super) fn say(&self, line: impl Into<Vec<u8>>) {
        let line = line.into();
        let mut queue = self.0.lock();
        if queue.bytes + line.len() <= QUEUE {
            queue.bytes += line.len();
            queue.lines.push_back(line);
            drop(queue);
            self.0.queued.notify_one();
        } else {
            queue.lost += 1;
            drop(queue);
            self.0.losses.lost();
        }
    }

    /// Waits until all was written that was said before; gives up on a reader that stalls.
    pub(super) fn finish(&self) {
        let end = Instant::now() + END;
        let mut queue = self.0.lock();
        let mut stalled = Instant::now() + STALL;
        while queue.writing || !queue.lines.is_empty() {
            let left = stalled.min(end).saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let done = queue.done;
            queue = self.0.moved.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
            if queue.done != done {
                stalled = Instant::now() + STALL;
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing under the lock panics half-way.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the process ends.
    fn write_all(&self, file: &File) {
        // Whether the line before broke off, so that the next one must not be taken for its rest.
        let mut torn = false;
        loop {
            let line = self.next();
            let mut written = 0;
            let mut outcome = Ok(());
            if torn {
                outcome = write(file, b"\n", &mut 0);
            }
            if outcome.is_ok() {
                torn = false;
                outcome = write(file, &line, &mut written);
                torn |= written > 0 && outcome.is_err();
            }
            self.ended(outcome.is_ok());
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut queue = self.lock();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes -= line.len();
                queue.writing = true;
                return line;
            }
            queue = self.queued.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The line that was taken is written, or lost.
    fn ended(&self, written: bool) {
        let mut queue = self.lock();
        let told = if written {
            std::mem::take(&mut queue.lost)
        } else {
            queue.lost += 1;
            0
        };
        drop(queue);
        if !written {
            self.losses.lost();
        }
        if told > 0 {
            // What this says is queued before anybody may take the queue for empty.
            self.losses.recovered(told);
        }
        let mut queue = self.lock();
        queue.writing = false;
        queue.done += 1;
        drop(queue);
        self.moved.notify_all();
    }
}

/// Writes all of it. Whoever shares the place may have made it one that does not block: this thread may wait all the same.
fn write(mut file: &File, bytes: &[u8], written: &mut usize) -> io::Result<()> {
    while *written < bytes.len() {
        match file.write(&bytes[*written..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => *written += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // Interrupted, or not to be waited for: the next write tells.
                let _ = poll(&mut [PollFd::new(file, PollFlags::OUT)], None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{PipeReader, PipeWriter, Read, pipe},
        sync::{Mutex, mpsc},
    };

    use rustix::fs::{OFlags, fcntl_setfl};

    use super::*;

    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<(u64, Vec<u64>)>>);

    impl Losses for Told {
        fn lost(&self) {
            self.0.lock().unwrap().0 += 1;
        }
        fn recovered(&self, lines: u64) {
            self.0.lock().unwrap().1.push(lines);
        }
    }

    impl Told {
        #[track_caller]
        fn check(&self, lost: u64, recovered: &[u64]) {
            assert_eq!(*self.0.lock().unwrap(), (lost, recovered.to_vec()), "lost, and told when it was over");
        }
    }

    fn lines(place: &impl AsFd) -> (Lines, Told) {
        let told = Told::default();
        (Lines::to(place, "test", told.clone()).unwrap(), told)
    }

    /// A pipe that takes nothing more, and how much it holds.
    fn full() -> (PipeReader, PipeWriter, usize) {
        let (reader, mut writer) = pipe().unwrap();
        fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        let mut held = 0;
        while let Ok(n) = writer.write(&[b'.'; 4096]) {
            held += n;
        }
        (reader, writer, held)
    }

    fn text(n: usize) -> String {
        (0..n).map(|i| format!("line {i}\n")).collect()
    }

    #[test]
    fn lines_come_whole_and_in_order() {
        let (mut reader, writer) = pipe().unwrap();
        let (lines, told) = lines(&writer);
        drop(writer);
        let read = thread::spawn(move || {
            let mut read = vec![0; text(20_000).len()];
            reader.read_exact(&mut read).unwrap();
            String::from_utf8(read).unwrap()
        });
        for i in 0..20_000 {
            lines.say(format!("line {i}\n"));
        }
        lines.finish();
        assert!(read.join().unwrap() == text(20_000), "torn, lost or out of order");
        told.check(0, &[]);
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_that_are_counted_and_nobody_any_time() {
        for blocks in [true, false] {
            let (mut reader, writer, held) = full();
            if blocks {
                fcntl_setfl(&writer, OFlags::empty()).unwrap();
            }
            let (lines, told) = lines(&writer);
            let line = vec![b'x'; QUEUE / 4];
            lines.say("first\n");
            // Once the thread has taken the first one, which it cannot write, all of the room is there for the others.
            while !lines.0.lock().writing {
                thread::yield_now();
            }
            for _ in 0..7 {
                lines.say(line.clone());
            }
            told.check(3, &[]);
            let mut read = vec![0; held + 6 + QUEUE];
            reader.read_exact(&mut read).unwrap();
            assert!(read[held..].starts_with(b"first\nxxx"));
            lines.finish();
            told.check(3, &[3]);
        }
    }

    #[test]
    fn an_end_does_not_wait_for_a_reader_that_stalls() {
        let (_reader, writer, _) = full();
        let (lines, told) = lines(&writer);
        lines.say("never\n");
        let (done, ended) = mpsc::channel();
        thread::spawn(move || {
            lines.finish();
            done.send(()).unwrap();
        });
        ended.recv_timeout(Duration::from_secs(60)).expect("it waits for ever");
        told.check(0, &[]);
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (reader, gone) = pipe().unwrap();
        drop(reader);
        for place in [full.as_fd(), gone.as_fd()] {
            let (lines, told) = lines(&place);
            for _ in 0..5 {
                lines.say("lost\n");
            }
            lines.finish();
            told.check(5, &[]);
        }
    }
}
