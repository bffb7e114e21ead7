//! The way down: nothing that was begun is lost.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use witgate_tests::{client::Client, h2, origin::Origin, proxy, wait_for};

const LISTENER: &str =
    "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n[[route]]\nname = \"r\"\ncluster = \"c\"\n";

#[test]
fn a_drain_lets_requests_finish_refuses_new_ones_and_ends() {
    let release = Arc::new(AtomicBool::new(false));
    let held = Arc::clone(&release);
    let origin = Origin::scripted(move |_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha");
        while !held.load(SeqCst) {
            std::thread::yield_now();
        }
        stream.write_all(b"lf").is_ok()
    });
    let mut running = proxy::start(&format!(
        "{LISTENER}[[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{}\" }}]\n",
        origin.address
    ));
    let web = running.web();
    let mut busy = running.client();
    busy.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut idle = running.client();
    wait_for("the origin to have the request", || (origin.seen().len() == 1).then_some(()));
    assert_eq!(running.call("GET", "/readyz", b"").status, 200);
    running.drain();
    wait_for("readyz to say no", || (running.call("GET", "/readyz", b"").status == 503).then_some(()));
    assert_eq!(running.call("GET", "/livez", b"").status, 200);
    wait_for("the idle connection to be closed", || idle.closed().then_some(()));
    wait_for("new connections to be refused", || std::net::TcpStream::connect(web).is_err().then_some(()));
    release.store(true, SeqCst);
    let response = busy.response(false).unwrap();
    assert_eq!((response.status, response.body.as_str()), (200, "half"), "{response:?}");
    running.wait();
}

#[test]
fn a_drain_does_not_wait_for_a_client_that_ignores_the_goodbye() {
    let origin = Origin::named("o");
    let mut running = proxy::start(&format!(
        "{LISTENER}[[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{}\" }}]\n",
        origin.address
    ));
    // Never answers the PING behind HTTP/2's GOAWAY.
    let mut idle = Client::connect(running.web());
    idle.send(h2::hello()).unwrap();
    idle.send(h2::headers(1, &[(":method", "GET"), (":scheme", "http"), (":path", "/")], true)).unwrap();
    wait_for("the origin to have the request", || (origin.seen().len() == 1).then_some(()));
    let began = std::time::Instant::now();
    running.drain();
    running.wait();
    // Its default is 30 s.
    assert!(began.elapsed() < witgate_tests::PATIENCE, "the drain took {:?}", began.elapsed());
}

#[test]
fn a_drain_ends_at_its_timeout_whatever_is_in_flight() {
    let origin = Origin::scripted(|_, stream| {
        let _ = std::io::Read::read(stream, &mut [0; 16]);
        false
    });
    let mut running = proxy::start(&format!(
        "drain_timeout = \"300ms\"\n{LISTENER}[[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{}\" }}]\n",
        origin.address
    ));
    let mut stuck = Client::connect(running.web());
    stuck.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    wait_for("the origin to have the request", || (origin.seen().len() == 1).then_some(()));
    running.drain();
    running.wait();
    assert!(stuck.closed());
}
