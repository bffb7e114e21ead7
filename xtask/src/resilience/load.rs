//! Load at a fixed rate, whatever the answers do: each request has a time at which it is due, and its latency counts from then.
//! A closed loop would send nothing while it waits and so hide an outage. Judges nothing.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::http::{self, Connection};
use crate::run::Failed;

/// Requests that are due in a second.
pub(super) const RATE: u64 = 1_000;
/// As many may be without an answer before others have to wait for them. A request takes any that is free, so that each
/// connection is used about twice a second.
const CONNECTIONS: usize = 512;
/// A client's patience for each step, beyond that of the proxies.
const PATIENCE: Duration = Duration::from_secs(5);
/// Enough for one request.
const STACK: usize = 96 << 10;

/// One request, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    /// Since the load began.
    pub(super) due: Duration,
    /// From when it was due to its end.
    pub(super) took: Duration,
    /// How much later than due it was sent: what of `took` is this program's.
    pub(super) late: Duration,
    pub(super) end: End,
}

/// What a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Answered(u16),
    NotConnected,
    /// The connection ended before the answer did.
    Reset,
    TimedOut,
    Malformed,
}

impl End {
    pub(super) fn is_well(self) -> bool {
        self == End::Answered(200)
    }

    fn of_error(error: &io::Error) -> End {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => End::TimedOut,
            io::ErrorKind::InvalidData => End::Malformed,
            _ => End::Reset,
        }
    }
}

/// The time of a load, for those who do something meanwhile.
#[derive(Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn now(self) -> Duration {
        self.0.elapsed()
    }

    /// The time of the load that an instant is.
    pub(super) fn at(self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.0)
    }
}

/// What the clients share: the next request that nobody has taken yet.
struct Schedule {
    clock: Clock,
    port: u16,
    next: AtomicU64,
    over: AtomicBool,
}

/// Sends requests to `port` for as long as `meanwhile` takes, and returns what it returned with all requests in the order in
/// which they were due.
pub(super) fn during<T>(port: u16, meanwhile: impl FnOnce(Clock) -> T) -> Result<(T, Vec<Sample>), Failed> {
    let clock = Clock(Instant::now());
    let schedule = Schedule { clock, port, next: AtomicU64::new(0), over: AtomicBool::new(false) };
    thread::scope(|scope| {
        let mut clients = Vec::with_capacity(CONNECTIONS);
        let mut failed = None;
        for _ in 0..CONNECTIONS {
            match thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || client(&schedule)) {
                Ok(client) => clients.push(client),
                Err(error) => failed = Some(Failed::new(format!("no thread for a client: {error}"))),
            }
        }
        let outcome = if failed.is_none() { Some(meanwhile(clock)) } else { None };
        schedule.over.store(true, Ordering::Relaxed);
        let joined = clients.into_iter().filter_map(|client| client.join().ok());
        let mut samples: Vec<Sample> = joined.flatten().collect();
        samples.sort_by_key(|sample| sample.due);
        match (outcome, failed) {
            (Some(outcome), _) => Ok((outcome, samples)),
            (None, failed) => Err(failed.unwrap_or_else(|| Failed::new("no clients"))),
        }
    })
}

/// One connection: takes the next request, waits until it is due, sends it.
fn client(schedule: &Schedule) -> Vec<Sample> {
    let request = http::request("GET", "/", &[], b"");
    let (mut samples, mut connection) = (Vec::new(), None);
    loop {
        let due = due(schedule.next.fetch_add(1, Ordering::Relaxed));
        thread::sleep(due.saturating_sub(schedule.clock.now()));
        if schedule.over.load(Ordering::Relaxed) {
            return samples;
        }
        let late = schedule.clock.now().saturating_sub(due);
        let end = exchange(schedule.port, &mut connection, &request);
        samples.push(Sample { due, took: schedule.clock.now().saturating_sub(due), late, end });
    }
}

fn due(ticket: u64) -> Duration {
    Duration::from_micros(ticket * 1_000_000 / RATE)
}

/// On the connection that is there or a new one; it is kept where the answer lets it.
fn exchange(port: u16, kept: &mut Option<Connection>, request: &[u8]) -> End {
    let connection = match kept.take() {
        Some(open) => Ok(open),
        None => Connection::open_within(port, PATIENCE),
    };
    let Ok(mut open) = connection else { return End::NotConnected };
    match open.exchange(request) {
        Ok(answer) => {
            let closes = answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            *kept = (!closes).then_some(open);
            End::Answered(answer.status)
        }
        Err(error) => End::of_error(&error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn times_are_fixed() {
        let check = |ticket, millis| assert_eq!(due(ticket), Duration::from_millis(millis), "{ticket}");
        check(0, 0);
        check(1, 1);
        check(RATE * 60, 60_000);
    }

    #[test]
    fn what_an_error_is() {
        let check = |kind: io::ErrorKind, end| assert_eq!(End::of_error(&kind.into()), end, "{kind}");
        check(io::ErrorKind::WouldBlock, End::TimedOut);
        check(io::ErrorKind::ConnectionReset, End::Reset);
        check(io::ErrorKind::UnexpectedEof, End::Reset);
        check(io::ErrorKind::InvalidData, End::Malformed);
        assert!(End::Answered(200).is_well() && !End::Answered(503).is_well() && !End::Reset.is_well());
    }

    /// Answers once on each connection, as `answer` says, and closes it.
    fn ended(answer: &'static [u8]) -> End {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).unwrap();
            stream.write_all(answer).unwrap();
        });
        let mut kept = None;
        let end = exchange(port, &mut kept, &http::request("GET", "/", &[], b""));
        server.join().unwrap();
        assert_eq!(kept.is_some(), end == End::Answered(200), "{end:?}");
        end
    }

    #[test]
    fn what_a_request_came_to() {
        assert_eq!(ended(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), End::Answered(200));
        assert_eq!(ended(b"HTTP/1.1 503 No\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n"), End::Answered(503));
        assert_eq!(ended(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"), End::Reset);
        assert_eq!(ended(b"\r\n\r\n"), End::Malformed);
        assert_eq!(exchange(1, &mut None, b""), End::NotConnected);
    }
}
