//! SIGTERM while long downloads and slow uploads are in flight: to the byte, all that ends before the deadline is whole, and
//! what does not is cut then and not before.

use std::{
    io::{self, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use witgate_tests::{
    client::{self, Response},
    origin::{self, Origin, Seen},
    wait_for,
};

use crate::{
    process::{PREAMBLE, Room, Serving},
    shutdown::load,
};

/// What one direction of a request consists of, and how much of it moves before the signal.
const PIECES: usize = 64;
const BEFORE: usize = 8;
/// What begins with this never gets any further than that.
const STUCK: &str = "stuck-";
/// Of each kind, half of them with a length and half in chunks.
const EACH: usize = 4;

/// A piece of 16 KiB that is no other's.
fn piece(name: &str, nth: usize) -> String {
    format!("{name}/{nth:05};").repeat((16 << 10) / (name.len() + 7))
}

fn whole(name: &str) -> String {
    (0..PIECES).map(|nth| piece(name, nth)).collect()
}

/// How many pieces may move.
#[derive(Clone, Default)]
struct Tap(Arc<AtomicUsize>);

impl Tap {
    fn open_to(&self, pieces: usize) {
        self.0.store(pieces, SeqCst);
    }

    fn lets(&self, name: &str, nth: usize) -> bool {
        let open = self.0.load(SeqCst);
        open > nth && (open == usize::MAX || nth < BEFORE || !name.starts_with(STUCK))
    }

    /// Sends what a name stands for, piece by piece as the tap allows it.
    fn send(&self, name: &str, chunked: bool, mut write: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        for nth in 0..PIECES {
            while !self.lets(name, nth) {
                thread::sleep(Duration::from_millis(1));
            }
            let piece = piece(name, nth);
            if chunked {
                write(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes())?;
            } else {
                write(piece.as_bytes())?;
            }
        }
        if chunked { write(b"0\r\n\r\n") } else { Ok(()) }
    }
}

fn framing(name: &str, chunked: bool) -> String {
    match chunked {
        true => "transfer-encoding: chunked".to_owned(),
        false => format!("content-length: {}", whole(name).len()),
    }
}

/// Streams `/down/NAME` as the tap allows, sends the body of `/up/NAME` back, and answers everything else at once.
fn origin(tap: &Tap) -> Origin {
    let tap = tap.clone();
    Origin::scripted(move |Seen { line, body, .. }, stream| {
        let path = line.split(' ').nth(1).unwrap_or_default();
        if path.starts_with("/up/") {
            return origin::respond(stream, 200, &[], body);
        }
        let Some(name) = path.strip_prefix("/down/") else { return origin::respond(stream, 200, &[], b"whole") };
        let chunked = is_chunked(name);
        stream.write_all(format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", framing(name, chunked)).as_bytes()).is_ok()
            && tap.send(name, chunked, |bytes| stream.write_all(bytes)).is_ok()
    })
}

fn is_chunked(name: &str) -> bool {
    name.ends_with(['1', '3'])
}

/// Retries are off, so that nothing is mended.
fn room(origin: &Origin, drain_timeout: &str) -> Room {
    let preamble = PREAMBLE.replace("workers = 1", &format!("workers = 2\ndrain_timeout = \"{drain_timeout}\""));
    Room::with(&format!(
        "{preamble}[[route]]\nname = \"r\"\ncluster = \"c\"\ntimeout = \"0s\"\nretry = {{ attempts = 0 }}\n\
         [[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{}\" }}]\n",
        origin.address
    ))
}

/// When a request ended, and how.
type End = (Instant, io::Result<Response>);

/// One request in flight.
struct Flight {
    name: String,
    ends: JoinHandle<End>,
}

impl Flight {
    fn new(name: String, end: impl FnOnce() -> io::Result<Response> + Send + 'static) -> Self {
        let ends = thread::spawn(move || {
            let end = end();
            (Instant::now(), end)
        });
        Self { name, ends }
    }
}

fn download(serving: &Serving, name: String) -> Flight {
    let mut client = serving.client();
    client.send(format!("GET /down/{name} HTTP/1.1\r\nhost: a\r\n\r\n")).expect("it listens");
    Flight::new(name, move || client.response(false))
}

fn upload(serving: &Serving, name: String, tap: &Tap) -> Flight {
    let (mut client, tap, of) = (serving.client(), tap.clone(), name.clone());
    let chunked = is_chunked(&name);
    let head = format!("POST /up/{name} HTTP/1.1\r\nhost: a\r\n{}\r\n\r\n", framing(&name, chunked));
    client.send(head).expect("it listens");
    Flight::new(name, move || {
        tap.send(&of, chunked, |bytes| client.send(bytes))?;
        client.response(false)
    })
}

/// One that sends no more than it has sent, and only waits.
fn stuck_upload(serving: &Serving) -> Flight {
    let (mut client, name) = (serving.client(), format!("{STUCK}u0"));
    client
        .send(format!("POST /up/{name} HTTP/1.1\r\nhost: a\r\n{}\r\n\r\n", framing(&name, false)))
        .expect("it listens");
    (0..BEFORE).for_each(|nth| client.send(piece(&name, nth)).expect("it reads"));
    Flight::new(name, move || client.response(false))
}

/// Downloads and uploads of which a part has moved.
fn fly(serving: &Serving, tap: &Tap) -> Vec<Flight> {
    let downloads = (0..EACH).map(|n| download(serving, format!("d{n}")));
    let uploads = (0..EACH).map(|n| upload(serving, format!("u{n}"), tap));
    let flights = downloads.chain(uploads).collect();
    tap.open_to(BEFORE);
    wait_for("all of them to be in flight", || (in_flight(serving) == 2 * EACH as u64).then_some(()));
    flights
}

/// Requests at the endpoint.
fn in_flight(serving: &Serving) -> u64 {
    let shown = serving.call("GET", "/v1/clusters/c", b"").json();
    shown["endpoints"][0]["in_flight"].as_u64().unwrap_or_else(|| panic!("{shown}"))
}

fn readyz(serving: &Serving) -> u16 {
    client::get(serving.admin(), "/readyz", "").status
}

/// Begins a drain and waits until it shows: not ready at first, and then nobody is let in.
fn terminate(serving: &Serving) {
    assert_eq!(readyz(serving), 200);
    serving.signal(Signal::TERM);
    wait_for("readyz to say no", || (readyz(serving) == 503).then_some(()));
    wait_for("the listener to close", || TcpStream::connect(serving.web()).is_err().then_some(()));
}

/// Expects a request to have ended well, to the byte.
#[track_caller]
fn check(name: &str, end: io::Result<Response>, room: &Room) {
    match end {
        Ok(response) if response.status == 200 => assert!(response.body == whole(name), "{name} is not what was sent"),
        Ok(response) => panic!("{name}: {} {:?}\n{}", response.status, response.headers, room.log()),
        Err(error) => {
            let error = error.to_string();
            panic!("{name} was cut: {}\n{}", error.get(..200).unwrap_or(&error), room.log());
        }
    }
}

#[test]
fn sigterm_cuts_no_download_and_no_upload() {
    let tap = Tap::default();
    let origin = origin(&tap);
    let room = room(&origin, "10m");
    let mut serving = room.start();
    let flights = fly(&serving, &tap);
    let (clients, asked) = load(serving.web(), 3);
    wait_for("the load to begin", || (asked.load(SeqCst) > 20).then_some(()));
    terminate(&serving);
    for client in clients {
        assert!(client.join().expect("no response was cut") > 0);
    }
    wait_for("only these to go on", || (in_flight(&serving) == 2 * EACH as u64).then_some(()));
    for pieces in BEFORE..PIECES {
        tap.open_to(pieces);
        assert_eq!((readyz(&serving), client::get(serving.admin(), "/livez", "").status), (503, 200));
    }
    assert!(flights.iter().all(|flight| !flight.ends.is_finished()), "the last piece has not moved yet");
    tap.open_to(PIECES);
    for Flight { name, ends } in flights {
        let (_, end) = ends.join().expect("it only sends and receives");
        check(&name, end, &room);
    }
    assert_eq!(serving.wait().code(), Some(0), "{}", room.log());
    assert!(room.log().contains("drained") && !room.log().contains("drain timeout"), "{}", room.log());
}

#[test]
fn at_the_deadline_what_is_left_is_cut_and_not_before() {
    const DEADLINE: Duration = Duration::from_secs(3);
    let tap = Tap::default();
    let origin = origin(&tap);
    let room = room(&origin, "3s");
    let mut serving = room.start();
    let flights = fly(&serving, &tap);
    let stuck = [download(&serving, format!("{STUCK}d0")), stuck_upload(&serving)];
    wait_for("those as well", || (in_flight(&serving) == 2 * EACH as u64 + 2).then_some(()));
    let began = Instant::now();
    terminate(&serving);
    tap.open_to(PIECES);
    for flight in flights {
        let (at, end) = flight.ends.join().expect("it only sends and receives");
        // A machine may be so slow that the deadline comes for these, too.
        if end.is_ok() || at < began + DEADLINE {
            check(&flight.name, end, &room);
        }
    }
    for Flight { name, ends } in stuck {
        let (at, end) = ends.join().expect("it only sends and receives");
        assert!(end.is_err(), "{name} cannot have ended: {end:?}");
        assert!(at >= began + DEADLINE, "{name} was cut after {:?}\n{}", at - began, room.log());
    }
    assert_eq!(serving.wait().code(), Some(0), "{}", room.log());
    assert!(room.log().contains("drain timeout") && room.log().contains("drained"), "{}", room.log());
    tap.open_to(usize::MAX);
}
