//! Listeners for TCP: bytes both ways, which endpoint, names in TLS that is passed on, and what ends a connection.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
};

use witgate_tests::{
    PATIENCE,
    client::{self, Client},
    origin::Origin,
    proxy::{self, Running},
    scratch,
    tls::{Authority, Front, connect},
    wait_for,
};

/// Says its name, then what it hears until the client has said all, then goodbye.
fn echo(name: &'static str) -> Origin {
    Origin::raw(move |stream| {
        let mut heard = Vec::new();
        let _ = stream.write_all(name.as_bytes()).and_then(|()| stream.read_to_end(&mut heard));
        let _ = stream.write_all(&heard).and_then(|()| stream.write_all(b" bye"));
    })
}

fn cluster(name: &str, endpoints: &[std::net::SocketAddr], more: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|address| format!("{{ address = \"{address}\" }}")).collect();
    format!("[[cluster]]\nname = \"{name}\"\nendpoints = [{}]\n{more}\n", endpoints.join(", "))
}

fn listener(more: &str) -> String {
    format!("[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\nprotocol = \"tcp\"\n{more}\n")
}

fn before(origins: &[&Origin], more: &str) -> Running {
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    proxy::start(&format!("{}{}", listener("cluster = \"c\""), cluster("c", &addresses, more)))
}

fn open(running: &Running) -> TcpStream {
    let stream = TcpStream::connect(running.web()).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// The first byte that comes: which origin it is.
fn who(stream: &mut TcpStream) -> u8 {
    let mut name = [0];
    stream.read_exact(&mut name).expect("an origin says its name");
    name[0]
}

#[test]
fn bytes_go_both_ways_and_each_side_may_end_first() {
    let origin = echo("a");
    let running = before(&[&origin], "");
    let mut stream = open(&running);
    assert_eq!(who(&mut stream), b'a');
    let sent: Vec<u8> = (0..4_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut sender = stream.try_clone().expect("a file descriptor");
    let said = sent.clone();
    let sending = thread::spawn(move || {
        sender.write_all(&said).expect("it is taken");
        sender.shutdown(std::net::Shutdown::Write).expect("an end");
    });
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).expect("all of it");
    sending.join().expect("it was sent");
    assert!(heard.strip_suffix(b" bye").is_some_and(|heard| heard == sent), "{} bytes", heard.len());
    assert!(running.has_metric("witgate_tcp_connections_total{outcome=\"opened\"} 1"));
}

#[test]
fn an_origin_that_ends_first_leaves_the_other_way_open() {
    let (said, hears) = std::sync::mpsc::channel();
    let said = std::sync::Mutex::new(said);
    let origin = Origin::raw(move |stream| {
        stream.shutdown(std::net::Shutdown::Write).expect("an end");
        let mut heard = String::new();
        stream.read_to_string(&mut heard).expect("what the client says");
        said.lock().expect("nobody panicked").send(heard).expect("somebody listens");
    });
    let running = before(&[&origin], "");
    let mut stream = open(&running);
    assert_eq!(stream.read(&mut [0]).expect("an end"), 0);
    stream.write_all(b"still here").expect("it is taken");
    drop(stream);
    assert_eq!(hears.recv_timeout(PATIENCE).expect("it was heard"), "still here");
}

#[test]
fn whoever_has_fewest_connections_gets_the_next() {
    let (a, b) = (echo("a"), echo("b"));
    let running = before(&[&a, &b], "balance = \"least-request\"");
    let mut open: Vec<(u8, TcpStream)> = Vec::new();
    for _ in 0..20 {
        let mut stream = self::open(&running);
        open.push((who(&mut stream), stream));
    }
    let of = |name| open.iter().filter(|(who, _)| *who == name).count();
    assert_eq!((of(b'a'), of(b'b')), (10, 10), "of two, the one with fewer is always among those that are drawn");
    let in_flight = running.call("GET", "/v1/clusters/c", b"").json()["endpoints"][0]["in_flight"].clone();
    assert_eq!(in_flight, 10);
    drop(open);
    wait_for("they are counted no more", || {
        (running.call("GET", "/v1/clusters/c", b"").json()["endpoints"][0]["in_flight"] == 0).then_some(())
    });
}

#[test]
fn a_client_stays_with_its_endpoint_where_the_cluster_hashes() {
    let origins = [echo("a"), echo("b"), echo("c"), echo("d")];
    let running = before(&origins.each_ref(), "balance = \"maglev\"");
    let first = who(&mut open(&running));
    assert!((0..8).all(|_| who(&mut open(&running)) == first));
}

#[test]
fn an_endpoint_that_cannot_be_connected_to_is_passed_over_and_ejected() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    let origin = echo("a");
    let more = "balance = \"round-robin\"\noutlier = { consecutive_local = 3, max_ejection_percent = 50 }";
    let text = format!("{}{}", listener("cluster = \"c\""), cluster("c", &[gone, origin.address], more));
    let running = proxy::start(&text);
    wait_for("it is ejected", || {
        assert_eq!(who(&mut open(&running)), b'a');
        let ejected = &running.call("GET", "/v1/clusters/c", b"").json()["endpoints"][0]["ejected"].clone();
        (!ejected.is_null() && *ejected != false).then_some(())
    });
}

#[test]
fn where_there_is_nobody_the_connection_is_closed() {
    let running = proxy::start(&format!("{}{}", listener("cluster = \"c\""), cluster("c", &[], "")));
    assert_eq!(open(&running).read(&mut [0]).unwrap_or(0), 0);
    wait_for("it is counted", || {
        running.has_metric("witgate_tcp_connections_total{outcome=\"failed\"} 1").then_some(())
    });
}

#[test]
fn a_cluster_may_have_so_many_connections() {
    let origin = echo("a");
    let running = before(&[&origin], "connect_timeout = \"1h\"\npool = { max_connections = 1, max_pending = 1 }");
    let mut first = open(&running);
    who(&mut first);
    let mut second = open(&running);
    wait_for("it waits", || running.has_metric("witgate_cluster_pending{cluster=\"c\"} 1").then_some(()));
    assert_eq!(open(&running).read(&mut [0]).unwrap_or(0), 0, "the third is one too many");
    drop(first);
    assert_eq!(who(&mut second), b'a');
}

#[test]
fn tls_is_passed_on_to_whom_its_name_is_for() {
    let authority = Authority::new("endpoints");
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let front = |origin: &Origin, name| Front::before(origin.address, &authority.issue(name, &[name]), None);
    let (front_a, front_b) = (front(&a, "a.test"), front(&b, "x.b.test"));
    let text = format!(
        "{}{}{}",
        listener(
            "sni = [{ hosts = [\"a.test\"], cluster = \"a\" }, { hosts = [\"*.b.test\"], cluster = \"b\" }]\n\
             limits = { header_timeout = \"1h\" }"
        ),
        cluster("a", &[front_a.address], ""),
        cluster("b", &[front_b.address], "")
    );
    let running = proxy::start(&text);
    let config = authority.client(&[], None);
    for (name, says) in [("a.test", "a"), ("x.b.test", "b"), ("A.TEST", "a")] {
        let mut client = connect(running.web(), name, &config).expect("a handshake with the endpoint");
        assert_eq!(client.get("/", "").body, says, "{name}");
    }
    for name in ["b.test", "c.test"] {
        assert!(connect(running.web(), name, &config).is_err(), "{name} is nobody's");
    }
    // What is no TLS has no name.
    let mut plain = Client::connect(running.web());
    plain.send("GET / HTTP/1.1\r\n\r\n").expect("it is taken");
    assert!(plain.closed());
    assert_eq!(front_a.shaken().len() + front_b.shaken().len(), 3);
}

#[test]
fn tls_is_taken_off() {
    let (authority, origin, dir) = (Authority::new("servers"), Origin::named("o"), scratch());
    authority.issue("a", &["a.test"]).write(dir.path(), "a");
    let tls = "cluster = \"c\"\ntls = { certificates = [{ cert = \"a.pem\", key = \"a.key\" }] }";
    let running = proxy::start_in(dir, &format!("{}{}", listener(tls), cluster("c", &[origin.address], "")));
    // What is spoken above it is nobody's business.
    let mut client = connect(running.web(), "a.test", &authority.client(&["postgresql"], None)).expect("a handshake");
    assert_eq!(client.get("/", "").body, "o");
    assert!(origin.seen()[0].header("x-forwarded-for").is_none());
}

#[test]
fn a_connection_that_is_silent_for_too_long_is_closed() {
    let origin = echo("a");
    let text = format!(
        "{}{}",
        listener("cluster = \"c\"\nlimits = { idle_timeout = \"20ms\" }"),
        cluster("c", &[origin.address], "")
    );
    let running = proxy::start(&text);
    let mut stream = open(&running);
    who(&mut stream);
    let mut rest = Vec::new();
    // Not by the origin, which waits for the client to end.
    stream.read_to_end(&mut rest).expect("it is closed");
    assert!(rest.is_empty());
}

#[test]
fn a_drain_lets_connections_finish() {
    let origin = echo("a");
    let mut running = before(&[&origin], "");
    let mut stream = open(&running);
    who(&mut stream);
    running.drain();
    wait_for("nobody is let in", || TcpStream::connect(running.web()).is_err().then_some(()));
    stream.write_all(b"in time").and_then(|()| stream.shutdown(std::net::Shutdown::Write)).expect("it is taken");
    let mut heard = String::new();
    stream.read_to_string(&mut heard).expect("an answer");
    assert_eq!(heard, "in time bye");
    running.wait();
}

#[test]
fn http_is_served_beside_it() {
    let (origin, http) = (echo("a"), Origin::named("h"));
    let text = format!(
        "{}[[listener]]\nname = \"http\"\nlisten = \"127.0.0.1:0\"\n[[route]]\nname = \"all\"\ncluster = \"h\"\n{}{}",
        listener("cluster = \"c\""),
        cluster("c", &[origin.address], ""),
        cluster("h", &[http.address], "")
    );
    let running = proxy::start(&text);
    let address = running.proxy.as_ref().and_then(|proxy| proxy.listener("http")).expect("it listens");
    assert_eq!(client::get(address, "/", "").body, "h");
    assert_eq!(who(&mut open(&running)), b'a');
}

#[test]
fn an_endpoint_is_told_who_the_client_is() {
    for version in ["v1", "v2"] {
        // Another proxy, which believes what it is told.
        let origin = Origin::named("o");
        let behind = proxy::start(&format!(
            "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\nproxy_protocol = \"require\"\n[[route]]\nname = \"all\"\n\
             cluster = \"c\"\n{}",
            cluster("c", &[origin.address], "")
        ));
        let more = format!(
            "proxy_protocol = \"{version}\"\nhealth = {{ http = {{ path = \"/well\" }}, interval = \"10ms\" }}"
        );
        let running = proxy::start(&format!(
            "{}{}",
            listener("cluster = \"c\"\nproxy_protocol = \"require\""),
            cluster("c", &[behind.web()], &more)
        ));
        let mut client = Client::connect(running.web());
        client.send("PROXY TCP4 192.0.2.7 192.0.2.1 1234 80\r\n").expect("it is taken");
        assert_eq!(client.get("/mine", "").body, "o");
        let seen = wait_for("the health check as well", || {
            let seen = origin.seen();
            let of = |path: &str| seen.iter().find(|seen| seen.line.contains(path)).cloned();
            of("/well").zip(of("/mine"))
        });
        assert_eq!(seen.0.header("x-forwarded-for"), Some("127.0.0.1"), "{version}");
        assert_eq!(seen.1.header("x-forwarded-for"), Some("192.0.2.7"), "{version}");
    }
}

#[test]
fn who_goes_before_it_has_said_a_name_is_sent_to_nobody() {
    let origin = echo("a");
    let text = format!(
        "{}{}",
        listener(
            "cluster = \"c\"\nsni = [{ hosts = [\"a.test\"], cluster = \"c\" }]\nlimits = { header_timeout = \"1h\" }"
        ),
        cluster("c", &[origin.address], "")
    );
    let running = proxy::start(&text);
    for said in [&[][..], &[22, 3, 1, 0]] {
        let mut client = Client::connect(running.web());
        client.send(said).expect("it is taken");
        client.finish();
        assert!(client.closed());
    }
    wait_for("it is counted", || {
        running.has_metric("witgate_tcp_connections_total{outcome=\"failed\"} 2").then_some(())
    });
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_side_that_breaks_is_no_right_end_for_the_other() {
    let origin = Origin::raw(|stream| {
        let _ = stream.write_all(b"a").and_then(|()| stream.read_exact(&mut [0]));
        let _ = socket2::SockRef::from(&*stream).set_linger(Some(std::time::Duration::ZERO));
    });
    let running = before(&[&origin], "");
    let mut stream = open(&running);
    who(&mut stream);
    stream.write_all(b"x").expect("it is taken");
    let ended = stream.read(&mut [0]).expect_err("a reset");
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn what_a_drain_cuts_does_not_look_whole() {
    let origin = echo("a");
    let text = format!("{}{}", listener("cluster = \"c\""), cluster("c", &[origin.address], ""));
    let dir = scratch();
    let text = format!("[runtime]\nworkers = 2\ndrain_timeout = \"10ms\"\n{text}");
    let parsed =
        witgate_core::config::parse(&format!("[admin]\nlisten = \"127.0.0.1:0\"\n{text}"), "t.toml", dir.path());
    let mut config = parsed.expect("a configuration").config;
    config.runtime.state_dir = dir.path().join("state");
    let proxy = witgate::Proxy::start(config).expect("it starts");
    let mut stream = TcpStream::connect(proxy.listener("web").expect("it listens")).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    who(&mut stream);
    proxy.drain();
    let ended = stream.read(&mut [0]).expect_err("a reset");
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
    proxy.wait();
}
