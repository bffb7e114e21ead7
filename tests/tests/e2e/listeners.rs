//! Listeners that come, go, move, and take another name or limit while the proxy serves.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Mutex,
        atomic::{AtomicU8, Ordering::SeqCst},
        mpsc,
    },
    thread,
};

use witgate_tests::{
    client::{self, Client, Response},
    h2,
    origin::{self, Origin},
    proxy::{self, PREAMBLE, Running},
    wait_for,
};

const WEB: &str = "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n";

fn listener(name: &str, address: SocketAddr, more: &str) -> String {
    format!("[[listener]]\nname = \"{name}\"\nlisten = \"{address}\"\n{more}")
}

/// A route that only requests of this listener take, and that says which one.
fn says(name: &str) -> String {
    format!("[[route]]\nname = \"{name}\"\nlisteners = [\"{name}\"]\nrespond = {{ status = 200, body = \"{name}\" }}\n")
}

fn put(running: &Running, parts: &[&str]) -> Response {
    running.call("PUT", "/v1/config", format!("{PREAMBLE}{}", parts.concat()).as_bytes())
}

fn change(running: &Running, parts: &[&str]) {
    let put = put(running, parts);
    assert_eq!(put.status, 200, "{put:?}");
}

fn address(running: &Running, name: &str) -> SocketAddr {
    let all = running.call("GET", "/v1/listeners", b"").json();
    let all = all["listeners"].as_array().expect("a list").clone();
    let found = all.iter().find(|listener| listener["name"] == *name).expect("it is listed");
    found["address"].as_str().and_then(|address| address.parse().ok()).expect("an address")
}

/// At an address that nobody else uses: none of the loopback's that other tests have, and each of them once.
fn own() -> TcpListener {
    static LAST: AtomicU8 = AtomicU8::new(0);
    let ip = Ipv4Addr::new(127, 0, 7, LAST.fetch_add(1, SeqCst) + 1);
    TcpListener::bind((ip, 0)).expect("a free port")
}

fn free() -> SocketAddr {
    own().local_addr().expect("a bound socket has an address")
}

fn body(address: SocketAddr) -> String {
    client::get(address, "/", "").body
}

fn wait_until_refused(address: SocketAddr) {
    wait_for("the socket to be closed", || Client::try_connect(address).is_err().then_some(()));
}

#[test]
fn one_that_comes_serves_and_one_that_goes_lets_its_clients_finish() {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let slow = Origin::scripted(move |_, stream| {
        let _ = held.lock().expect("nobody panics with it").recv();
        origin::respond(stream, 200, &[], b"at last")
    });
    let running = proxy::start(&[WEB, &says("web")].concat());
    let mut web = running.client();
    assert_eq!(web.get("/", "").body, "web");

    let more = "[[listener]]\nname = \"more\"\nlisten = \"127.0.0.1:0\"\n";
    let waits = format!(
        "[[route]]\nname = \"slow\"\nlisteners = [\"more\"]\npath = \"/slow\"\ncluster = \"slow\"\n\
         [[cluster]]\nname = \"slow\"\nendpoints = [{{ address = \"{}\" }}]\n",
        slow.address
    );
    change(&running, &[WEB, more, &waits, &says("more"), &says("web")]);
    let at = address(&running, "more");
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(at)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/", "").body, "more");
    }
    let mut waiting = Client::connect(at);
    waiting.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    wait_for("the request at the origin", || (!slow.seen().is_empty()).then_some(()));
    let mut begun = Client::connect(at);
    begun.send("GET / HTTP/1.1\r\nhost: a\r\n").unwrap();

    change(&running, &[WEB, &says("web")]);
    wait_until_refused(at);
    for client in &mut clients {
        assert!(client.closed(), "nothing is in flight on it");
    }
    release.send(()).unwrap();
    let answer = waiting.response(false).unwrap();
    assert_eq!((answer.status, &*answer.body), (200, "at last"), "what is in flight is served");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(waiting.closed());
    let answer = begun.ask("\r\n");
    assert_eq!((answer.status, &*answer.body), (200, "more"), "as it was when it was begun");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(begun.closed());
    assert_eq!(web.get("/", "").body, "web", "on the connection that was there");
    assert_eq!(running.call("GET", "/v1/listeners", b"").json()["listeners"].as_array().map(Vec::len), Some(1));
}

#[test]
fn http2_clients_of_one_that_goes_are_told_and_finish() {
    let at = free();
    let running = proxy::start(&[WEB, &listener("more", at, ""), &says("more"), &says("web")].concat());
    let mut client = Client::connect(at);
    let get = |stream| {
        let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
        h2::headers(stream, &fields, true)
    };
    client.send([h2::hello(), get(1)].concat()).unwrap();
    wait_for("an answer", || {
        running.has_metric("witgate_requests_total{route=\"more\",code_class=\"2xx\"} 1").then_some(())
    });
    change(&running, &[WEB, &says("web")]);
    wait_until_refused(at);
    let kinds = h2::kinds(&client.rest());
    assert!(kinds.contains(&h2::GOAWAY), "{kinds:?}");
}

#[test]
fn one_that_moves_is_served_at_its_new_address_and_clients_of_the_old_one_finish() {
    let (first, second) = (free(), free());
    let text = |at| [WEB.to_owned(), listener("more", at, ""), says("more"), says("web")].concat();
    let running = proxy::start(&text(first));
    for (from, to) in [(first, second), (second, first), (first, second)] {
        let mut client = Client::connect(from);
        assert_eq!(client.get("/", "").body, "more");
        change(&running, &[&text(to)]);
        assert_eq!(body(to), "more");
        assert!(client.closed());
        wait_until_refused(from);
    }
}

#[test]
fn one_that_takes_another_name_keeps_its_connections() {
    let (a, b) = (free(), free());
    let text = |first: &str, second: &str| {
        [WEB.to_owned(), listener(first, a, ""), listener(second, b, ""), says("x"), says("y"), says("web")].concat()
    };
    let running = proxy::start(&text("x", "y"));
    let (mut on_a, mut on_b) = (Client::connect(a), Client::connect(b));
    assert_eq!((on_a.get("/", "").body, on_b.get("/", "").body), ("x".into(), "y".into()));
    change(&running, &[&text("y", "x")]);
    assert_eq!((on_a.get("/", "").body, on_b.get("/", "").body), ("y".into(), "x".into()));
    assert_eq!((body(a), body(b)), ("y".into(), "x".into()));
}

#[test]
fn an_address_that_cannot_be_had_changes_nothing() {
    let taken = own();
    let (other, at) = (free(), taken.local_addr().unwrap());
    let running = proxy::start(&[WEB, &says("web")].concat());
    let wanted = [WEB, &listener("one", other, ""), &listener("two", at, ""), &says("web"), &says("one"), &says("two")];
    let refused = put(&running, &wanted);
    assert_eq!(refused.status, 409, "{refused:?}");
    let error = refused.json()["error"].as_str().unwrap_or_default().to_owned();
    assert!(error.starts_with(&format!("listener \"two\" cannot listen on {at}: ")), "{error}");
    assert!(Client::try_connect(other).is_err(), "what was bound for it is not any more");
    assert_eq!(running.client().get("/", "").body, "web");
    drop(taken);
    change(&running, &wanted);
    assert_eq!((body(other), body(at)), ("one".into(), "two".into()));
}

#[test]
fn limits_of_connections_grow_and_shrink_under_those_who_are_there() {
    let at = free();
    let text = |most: usize| {
        let limit = format!("limits = {{ connections = {most} }}\n");
        [WEB.to_owned(), listener("more", at, &limit), says("more"), says("web")].concat()
    };
    let running = proxy::start(&text(1));
    // Whether one is served is seen by the requests that were answered: it may wait, for a while, without being refused.
    let answered = |count: usize| {
        let line = format!("witgate_requests_total{{route=\"more\",code_class=\"2xx\"}} {count}");
        wait_for(&line, || running.has_metric(&line).then_some(()));
    };
    let ask = || {
        let mut client = Client::connect(at);
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        client
    };
    let mut first = ask();
    answered(1);
    let mut second = ask();
    change(&running, &[&text(2)]);
    answered(2);
    assert_eq!(first.response(false).unwrap().body, "more");
    assert_eq!(second.response(false).unwrap().body, "more");

    change(&running, &[&text(1)]);
    let mut third = ask();
    drop(first);
    // One is there still, and one is allowed. Nobody else was let in while that one asked.
    for count in 3..50 {
        assert_eq!(second.get("/", "").body, "more");
        answered(count);
    }
    drop(second);
    assert_eq!(third.response(false).unwrap().body, "more");
    answered(50);
}

#[test]
fn what_is_left_of_one_that_went_is_cut_at_the_deadline_and_nothing_else() {
    let silent = Origin::scripted(|_, _| {
        thread::park();
        false
    });
    let (first, second) = (free(), free());
    let hangs = format!(
        "[[route]]\nname = \"hangs\"\nlisteners = [\"more\"]\npath = \"/hangs\"\ncluster = \"silent\"\n\
         [[cluster]]\nname = \"silent\"\nendpoints = [{{ address = \"{}\" }}]\n",
        silent.address
    );
    let text = |at| {
        let (soon, more) = ("drain_timeout = \"100ms\"\n", listener("more", at, ""));
        [soon, WEB, &more, &hangs, &says("more"), &says("web")].concat()
    };
    let running = proxy::start(&text(first));
    let mut hanging = Client::connect(first);
    hanging.send("GET /hangs HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    wait_for("the request at the origin", || (!silent.seen().is_empty()).then_some(()));
    let mut idle = Client::connect(first);
    assert_eq!(idle.get("/", "").body, "more");
    change(&running, &[&text(second)]);
    assert!(idle.closed());
    wait_until_refused(first);
    change(&running, &[&text(first)]);
    let mut other = Client::connect(first);
    assert!(hanging.closed(), "without an answer");
    for _ in 0..50 {
        assert_eq!(other.get("/", "").body, "more", "those who came since are none of that deadline's");
    }
}

#[test]
fn no_request_fails_while_listeners_come_and_go_beside_it() {
    let at = free();
    let with = [WEB, &listener("more", at, ""), &says("more"), &says("web")].concat();
    let without = [WEB, &says("web")].concat();
    let running = proxy::start(&without);
    let (stop, stopped) = mpsc::channel::<()>();
    let mut client = running.client();
    let asking = thread::spawn(move || {
        let mut count = 0;
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            assert_eq!(client.get("/", "").body, "web");
            count += 1;
        }
        count
    });
    for _ in 0..20 {
        change(&running, &[&with]);
        assert_eq!(body(at), "more");
        change(&running, &[&without]);
    }
    drop(stop);
    assert!(asking.join().unwrap() > 0);
    wait_until_refused(at);
}
