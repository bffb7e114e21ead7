//! Four servers within this process, for what nginx cannot be told to do: work that takes time, or much more time, and answers of
//! 503 to a random half. They note when each request came. Their checks always succeed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::origins::COUNT;
use crate::run::Failed;

/// How much a server gets done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    /// Requests that it works on at once; others wait in their order.
    at_once: usize,
    /// What each takes.
    work: Duration,
}

/// As an origin: an eighth of it is used by a quarter of the load, and a slow one is not enough for that.
pub(super) const ORIGIN: Pace = Pace { at_once: 8, work: Duration::from_millis(4) };
/// Behind an nginx: about five requests are in flight at each when something happens to it.
pub(super) const BEHIND: Pace = Pace { at_once: 256, work: Duration::from_millis(20) };
/// How many times longer it takes one that is slow.
const SLOW: u32 = 10;

/// Enough for one connection.
const STACK: usize = 96 << 10;
const BODY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What is wrong with one.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(u8)]
pub(super) enum Ill {
    Not = 0,
    Half503 = 1,
    Slow = 2,
    /// It closes the connection on which a request comes.
    Resets = 3,
}

/// The four. Dropping them ends them; who is connected has to go by itself.
pub(super) struct Made {
    origins: Vec<Arc<Origin>>,
    /// Each has a listener.
    accepting: Vec<JoinHandle<()>>,
}

struct Origin {
    number: usize,
    address: SocketAddr,
    pace: Pace,
    ill: AtomicU8,
    over: AtomicBool,
    work: Mutex<Work>,
}

/// What has come, and what is being worked on.
#[derive(Default)]
struct Work {
    arrivals: Vec<Instant>,
    /// When each of the places is free again.
    places: BinaryHeap<Reverse<Instant>>,
}

impl Work {
    /// Takes the place that is free first and says when the work there ends.
    fn place(&mut self, now: Instant, at_once: usize, takes: Duration) -> Instant {
        let free = if self.places.len() < at_once { now } else { self.places.pop().map_or(now, |Reverse(free)| free) };
        let ends = free.max(now) + takes;
        self.places.push(Reverse(ends));
        ends
    }
}

impl Made {
    pub(super) fn start(addresses: [SocketAddr; COUNT], pace: Pace) -> Result<Made, Failed> {
        let failed = |error: io::Error| Failed::new(format!("an origin could not be started: {error}"));
        let mut made = Made { origins: Vec::new(), accepting: Vec::new() };
        for (number, address) in addresses.into_iter().enumerate() {
            let listener = TcpListener::bind(address).map_err(failed)?;
            let (ill, over) = (AtomicU8::new(Ill::Not as u8), AtomicBool::new(false));
            let origin = Arc::new(Origin { number, address, pace, ill, over, work: Mutex::default() });
            let own = origin.clone();
            made.accepting.push(spawn(move || own.accept(&listener)).map_err(failed)?);
            made.origins.push(origin);
        }
        Ok(made)
    }

    pub(super) fn set(&self, number: usize, ill: Ill) {
        self.origins[number].ill.store(ill as u8, Ordering::Relaxed);
    }

    /// When requests came to one, in order; checks are none.
    pub(super) fn arrivals(&self, number: usize) -> Vec<Instant> {
        self.origins[number].work().arrivals.clone()
    }

    /// Requests that came to any of them so far.
    pub(super) fn served(&self) -> usize {
        self.origins.iter().map(|origin| origin.work().arrivals.len()).sum()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for origin in &self.origins {
            origin.over.store(true, Ordering::Relaxed);
            // So that it looks; if it is gone already, it need not.
            let _ = TcpStream::connect(origin.address);
        }
        for accepting in self.accepting.drain(..) {
            // The next to have these addresses must find them free.
            let _ = accepting.join();
        }
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().stack_size(STACK).spawn(work)
}

impl Origin {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let own = self.clone();
            // Without a thread the connection is closed, and the proxy's client sees it.
            let _ = stream.and_then(|stream| spawn(move || drop(own.serve(&stream))));
        }
    }

    /// Until the proxy closes the connection, which is the error that ends it.
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        loop {
            let target = head(&mut reader)?;
            let status = if target == "/healthz" { "200 OK" } else { self.work_on() };
            if status.is_empty() {
                return Ok(());
            }
            let number = self.number;
            let length = BODY.len();
            let answer = format!("HTTP/1.1 {status}\r\nX-Origin: {number}\r\nContent-Length: {length}\r\n\r\n{BODY}");
            reader.get_mut().write_all(answer.as_bytes())?;
        }
    }

    /// Takes its time and says with which status; with none where there is no answer.
    fn work_on(&self) -> &'static str {
        let ill = self.ill.load(Ordering::Relaxed);
        let now = Instant::now();
        let (ends, count) = {
            let mut work = self.work();
            work.arrivals.push(now);
            let takes = if ill == Ill::Slow as u8 { self.pace.work * SLOW } else { self.pace.work };
            (work.place(now, self.pace.at_once, takes), work.arrivals.len())
        };
        thread::sleep(ends.saturating_duration_since(Instant::now()));
        if ill == Ill::Resets as u8 {
            return "";
        }
        if ill == Ill::Half503 as u8 && is_chosen(count as u64) { "503 Service Unavailable" } else { "200 OK" }
    }

    fn work(&self) -> std::sync::MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The target of the next request, whose head is read whole and which has no body.
fn head(reader: &mut impl BufRead) -> io::Result<String> {
    let mut first = String::new();
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" if !first.is_empty() => return Ok(first.split(' ').nth(1).unwrap_or_default().to_string()),
            text if first.is_empty() => first = text.to_string(),
            _ => {}
        }
    }
}

/// Half of all numbers, without a pattern (splitmix64), and the same in every run.
fn is_chosen(number: u64) -> bool {
    let mut bits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits ^ (bits >> 31)) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_without_a_pattern() {
        let chosen: Vec<bool> = (0..1000).map(is_chosen).collect();
        let count = chosen.iter().filter(|chosen| **chosen).count();
        assert!((450..550).contains(&count), "{count}");
        assert!(chosen.windows(5).any(|five| five.iter().all(|chosen| *chosen)), "five in a row");
    }

    #[test]
    fn what_is_too_much_waits() {
        let (mut work, now) = (Work::default(), Instant::now());
        let Pace { at_once, work: takes } = ORIGIN;
        let mut ends = || work.place(now, at_once, takes) - now;
        let first: Vec<Duration> = (0..at_once).map(|_| ends()).collect();
        assert!(first.iter().all(|end| *end == takes), "{first:?}");
        assert_eq!(ends(), takes * 2);
        let later = now + takes * 5;
        assert_eq!(work.place(later, at_once, takes), later + takes, "all is done by then");
    }

    #[test]
    fn ended_and_started_again() {
        let port = crate::lab::process::free_port().unwrap();
        let addresses = std::array::from_fn(|number| SocketAddr::from(([127, 0, 4, number as u8 + 1], port)));
        for round in 0..3 {
            let made = Made::start(addresses, ORIGIN).unwrap_or_else(|failed| panic!("{round}: {failed:?}"));
            let mut stream = TcpStream::connect(addresses[1]).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            let mut status = String::new();
            BufReader::new(&stream).read_line(&mut status).unwrap();
            assert_eq!((status.as_str(), made.served()), ("HTTP/1.1 200 OK\r\n", 1));
        }
    }

    #[test]
    fn heads() {
        let mut bytes: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\nGET /cut";
        assert_eq!(head(&mut bytes).unwrap(), "/healthz");
        assert_eq!(head(&mut bytes).unwrap(), "/");
        assert!(head(&mut bytes).is_err());
    }
}
