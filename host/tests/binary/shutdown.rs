//! The way down of a real process: by signal, by call and by command; what is in flight finishes, whatever is around it.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use witgate_tests::{
    client::{self, Client},
    origin::{self, Origin},
    wait_for,
};

use crate::process::{Room, Serving, answering};

/// An origin that holds the second half of what it says to `/held` until it is released, and answers everything else.
pub struct Holding {
    pub origin: Origin,
    pub release: Arc<AtomicBool>,
    held: Arc<AtomicUsize>,
}

impl Holding {
    pub fn new() -> Self {
        let (release, held) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (go, count) = (Arc::clone(&release), Arc::clone(&held));
        let origin = Origin::scripted(move |seen, stream| {
            if !seen.line.contains("/held") {
                return origin::respond(stream, 200, &[], b"whole");
            }
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha").is_err() {
                return false;
            }
            count.fetch_add(1, SeqCst);
            while !go.load(SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
            stream.write_all(b"lf").is_ok()
        });
        Self { origin, release, held }
    }

    /// Clients whose responses are half there.
    pub fn hold(&self, serving: &Serving, n: usize) -> Vec<Client> {
        let clients = (0..n).map(|_| {
            let mut client = serving.client();
            client.send("GET /held HTTP/1.1\r\nhost: a\r\n\r\n").expect("it listens");
            client
        });
        let clients = clients.collect();
        wait_for("the origin to hold the requests", || (self.held.load(SeqCst) == n).then_some(()));
        clients
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.release.store(true, SeqCst);
    }
}

/// Clients that ask as fast as they can over kept connections until the listener is gone. A connection that is closed
/// between two requests is no failure; part of a response is one, and so is any other status.
pub fn load(web: SocketAddr, clients: usize) -> (Vec<thread::JoinHandle<usize>>, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let one = |asked: Arc<AtomicUsize>| {
        move || {
            let mut whole = 0;
            while let Ok(mut client) = Client::try_connect(web) {
                while client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").is_ok() {
                    match client.response(false) {
                        Ok(response) => assert_eq!((response.status, response.body.as_str()), (200, "whole")),
                        Err(error) => {
                            let clean = matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
                                || error.to_string() == "closed after \"\"";
                            assert!(clean, "half a response: {error}");
                            break;
                        }
                    }
                    whole += 1;
                    asked.fetch_add(1, SeqCst);
                }
            }
            whole
        }
    };
    ((0..clients).map(|_| thread::spawn(one(Arc::clone(&asked)))).collect(), asked)
}

/// Begins a drain under load in the given way and expects all that was begun to end well.
#[track_caller]
fn check(begin: impl FnOnce(&Room, &Serving)) {
    let holding = Holding::new();
    let room = Room::proxying(&holding.origin, "");
    let mut serving = room.start();
    let (clients, asked) = load(serving.web(), 3);
    wait_for("the load to begin", || (asked.load(SeqCst) > 20).then_some(()));
    let mut held = holding.hold(&serving, 4);
    assert_eq!(client::get(serving.admin(), "/readyz", "").status, 200);
    begin(&room, &serving);
    wait_for("readyz to say no", || (client::get(serving.admin(), "/readyz", "").status == 503).then_some(()));
    assert_eq!(client::get(serving.admin(), "/livez", "").status, 200);
    wait_for("the listener to close", || TcpStream::connect(serving.web()).is_err().then_some(()));
    for client in clients {
        assert!(client.join().expect("no response was cut") > 0);
    }
    holding.release.store(true, SeqCst);
    for client in &mut held {
        let response = client.response(false).unwrap_or_else(|error| panic!("{error}\n{}", room.log()));
        assert_eq!((response.status, response.body.as_str()), (200, "half"));
    }
    let status = serving.wait();
    assert_eq!(status.code(), Some(0), "{}", room.log());
    assert!(room.log().contains("drained"), "{}", room.log());
    assert!(TcpStream::connect(serving.admin()).is_err());
}

#[test]
fn sigterm_under_load_finishes_what_is_in_flight_and_exits_0() {
    check(|_, serving| serving.signal(Signal::TERM));
}

#[test]
fn so_does_sigint() {
    check(|_, serving| serving.signal(Signal::INT));
}

#[test]
fn so_does_the_admin_call_and_may_be_repeated() {
    check(|_, serving| {
        for _ in 0..2 {
            let answer = serving.call("POST", "/v1/drain", b"");
            assert_eq!((answer.status, &answer.json()["draining"]), (202, &true.into()), "{answer:?}");
        }
    });
}

#[test]
fn so_does_the_command() {
    check(|room, serving| {
        let mut command = room.command(&["drain"]);
        command.env("WITGATE_ADMIN", &serving.admin).env("WITGATE_TOKEN", &serving.token);
        let said = crate::process::ended(command);
        said.check(0, &[]);
        assert!(said.stdout.contains("draining"), "{said:#?}");
    });
}

#[test]
fn a_second_sigterm_exits_at_once() {
    for second in [Signal::TERM, Signal::INT] {
        let holding = Holding::new();
        let room = Room::proxying(&holding.origin, "");
        let config = fs::read_to_string(room.config()).unwrap();
        let config = config.replace("[runtime]\n", "[runtime]\ndrain_timeout = \"10m\"\n");
        room.configure(&config.replacen("127.0.0.1:0", "unix:admin.sock", 1));
        let mut serving = room.start();
        let mut held = holding.hold(&serving, 1);
        assert!(room.path("admin.sock").exists());
        serving.signal(Signal::TERM);
        wait_for("the drain", || room.log().contains("draining").then_some(()));
        serving.signal(second);
        // It would wait for ten minutes, which nobody has the patience for.
        let status = serving.wait();
        assert!(!room.path("admin.sock").exists(), "its socket's file is left behind");
        assert_eq!(status.code(), Some(1), "requests were cut: that is not fine: {}", room.log());
        assert!(room.log().contains("at once"), "{}", room.log());
        assert!(held[0].response(false).is_err());
    }
}

#[test]
fn sigterm_during_a_start_drains_what_was_started() {
    let origin = Origin::named("origin");
    for round in 0..8 {
        let room = Room::proxying(&origin, "[[plugin]]\nname = \"flip\"\npath = \"flip.wasm\"\n");
        fs::write(room.path("flip.wasm"), answering(250, 0)).unwrap();
        let mut child = room.spawn();
        // Made before the sockets are bound and the plugin is compiled.
        wait_for("the start", || room.path("state/lock").exists().then_some(()));
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let status = wait_for("the end", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "round {round}: {status}\n{}", room.log());
        assert!(room.log().contains("drained"), "round {round}: {}", room.log());
    }
}

#[test]
fn sighup_has_the_configuration_read_again() {
    let origin = Origin::named("origin");
    let room = Room::proxying(&origin, "");
    let serving = room.start();
    serving.signal(Signal::HUP);
    // Also where the file says what it said: what it names may have changed.
    wait_for("another configuration", || room.log().contains("another configuration is live").then_some(()));
    assert_eq!(serving.status(), 200);
    std::fs::write(room.config(), "nonsense").unwrap();
    serving.signal(Signal::HUP);
    wait_for("a refusal", || room.log().contains("the live one stays").then_some(()));
    assert_eq!(serving.status(), 200);
    serving.end();
}

/// What the kernel has accepted for the proxy before the drain began is answered, however much it is: the process is
/// stopped, so that all of it waits, and finds the signal and the connections at the same moment.
#[test]
fn connections_that_wait_in_the_kernel_when_a_drain_begins_are_served() {
    const WAITING: usize = 900;
    let origin = Origin::named("origin");
    let room = Room::proxying(&origin, "");
    let mut serving = room.start();
    serving.signal(Signal::STOP);
    let mut clients: Vec<Client> = (0..WAITING).map(|_| serving.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    }
    serving.signal(Signal::TERM);
    serving.signal(Signal::CONT);
    let lost: Vec<String> = clients
        .iter_mut()
        .filter_map(|client| match client.response(false) {
            Ok(response) if response.status == 200 => None,
            other => Some(format!("{other:?}")),
        })
        .collect();
    assert!(lost.is_empty(), "{} of {WAITING} lost, the first by {}\n{}", lost.len(), lost[0], room.log());
    drop(clients);
    assert_eq!(serving.wait().code(), Some(0), "{}", room.log());
    assert!(!room.log().contains("drain timeout"), "nothing is in flight: {}", room.log());
}
