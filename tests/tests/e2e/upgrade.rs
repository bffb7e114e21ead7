//! Connections that go on in another protocol: who may, that every byte arrives both ways, and how they end.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use witgate_tests::{
    client::{Client, Response},
    http2,
    origin::{Origin, respond},
    proxy::{self, PREAMBLE, Running, start_before},
    wait_for,
};

const ASK: &str = "GET /chat HTTP/1.1\r\nhost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
                   sec-websocket-key: k\r\n\r\n";
const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nsec-websocket-accept: a\r\n\r\n";
const PLAIN: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// An origin that reads a head and not a byte more: what comes behind it is for `then`.
fn origin(then: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Origin {
    Origin::raw(move |stream| {
        while let Some(head) = read_head(stream) {
            then(&head, stream);
        }
    })
}

fn read_head(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

/// Switches and sends back what comes, and, when nothing more does, "end".
fn echo(stream: &mut TcpStream) {
    let mut piece = [0; 64 << 10];
    let mut said = stream.write_all(SWITCHED.as_bytes());
    while let (Ok(()), Ok(n)) = (&said, stream.read(&mut piece)) {
        if n == 0 {
            let _ = stream.write_all(b"end");
            return drop(stream.shutdown(Shutdown::Both));
        }
        said = stream.write_all(&piece[..n]);
    }
}

/// Echoes over what has switched, and answers 200 to any other request.
fn echoing() -> Origin {
    origin(|head, stream| {
        if head.contains("upgrade: ") {
            return echo(stream);
        }
        respond(stream, 200, &[], b"plain");
    })
}

/// A client that has switched.
#[track_caller]
fn switched(running: &Running) -> Client {
    let mut client = running.client();
    let response = client.ask(ASK);
    assert_eq!((response.status, response.header("upgrade")), (101, Some("websocket")), "{response:?}");
    client
}

#[track_caller]
fn check_echo(client: &mut Client, said: &str) {
    client.send(said).expect("it is taken");
    assert_eq!(String::from_utf8(client.exactly(said.len())).expect("text"), said);
}

#[track_caller]
fn wait_for_metric(running: &Running, line: &str) {
    wait_for(line, || running.has_metric(line).then_some(()));
}

#[track_caller]
fn check_refused(response: &Response, status: u16, reason: &str) {
    assert_eq!((response.status, response.header("x-witgate-error")), (status, Some(reason)), "{response:?}");
}

#[test]
fn behind_a_switch_every_byte_goes_both_ways() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    let origin = origin(move |head, stream| {
        seen.lock().unwrap().push(head.to_owned());
        echo(stream);
    });
    let running = start_before(&[&origin], "response_headers = { set = { x-by = \"wg\" } }", "");
    let mut client = running.client();
    let response = client.ask(ASK);
    assert_eq!(response.status, 101, "{response:?}");
    let told = ["connection", "upgrade", "sec-websocket-accept", "x-by", "content-length", "transfer-encoding"];
    let told = told.map(|name| response.header(name));
    assert_eq!(told, [Some("upgrade"), Some("websocket"), Some("a"), Some("wg"), None, None], "{response:?}");
    let head = heads.lock().unwrap().remove(0).to_lowercase();
    for line in ["\r\nconnection: upgrade\r\n", "\r\nupgrade: websocket\r\n", "\r\nsec-websocket-key: k\r\n"] {
        assert_eq!(head.matches(line).count(), 1, "{line:?} in {head}");
    }
    assert!(!head.contains("keep-alive") && !head.contains("content-length"), "{head}");

    check_echo(&mut client, "hello");
    let sent: Vec<u8> = (0..5 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (mut sender, whole) = (client.clone(), sent.clone());
    let sending = thread::spawn(move || sender.send(whole).map(|()| sender.finish()));
    let mut expected = sent;
    expected.extend_from_slice(b"end");
    assert!(client.rest() == expected, "what came back is not what was sent");
    sending.join().unwrap().unwrap();
}

#[test]
fn it_counts_until_it_ends_and_its_connection_is_not_used_again() {
    let origin = echoing();
    let running = start_before(&[&origin], "", "");
    let in_flight = |n: u32| format!("witgate_endpoint_in_flight{{cluster=\"c\",endpoint=\"{}\"}} {n}", origin.address);
    let ended = |n: u32| format!("witgate_requests_total{{route=\"all\",code_class=\"1xx\"}} {n}");
    let mut client = switched(&running);
    check_echo(&mut client, "hello");
    for line in [&in_flight(1), &ended(0), "witgate_upgrades_total 1", "witgate_upgrades_active 1"] {
        assert!(running.has_metric(line), "{line}");
    }
    client.finish();
    assert_eq!(client.rest(), b"end");
    for line in [&in_flight(0), &ended(1), "witgate_upgrades_total 1", "witgate_upgrades_active 0"] {
        wait_for_metric(&running, line);
    }
    assert_eq!(running.client().ask(PLAIN).body, "plain");
    assert_eq!(origin.connections(), 2);
    assert!(running.has_metric("witgate_upstream_reused_total 0"));
}

#[test]
fn what_is_said_too_early_is_not_lost() {
    for size in [5, 300_000] {
        let origin = origin(move |_, stream| {
            let early = [SWITCHED.as_bytes(), &vec![b'o'; size]].concat();
            // Both at once: the client's early bytes may be more than what a socket holds.
            let mut writer = stream.try_clone().unwrap();
            let writing = thread::spawn(move || writer.write_all(&early));
            let mut read = vec![0; size];
            let _ = stream.read_exact(&mut read);
            let _ = writing.join();
            let _ = stream.write_all(if read.iter().all(|b| *b == b'c') { b"all" } else { b"bad" });
            let _ = stream.shutdown(Shutdown::Write);
        });
        let running = start_before(&[&origin], "", "");
        let mut client = running.client();
        let mut sender = client.clone();
        let sending = thread::spawn(move || sender.send([ASK.as_bytes(), &vec![b'c'; size]].concat()));
        assert_eq!(client.response(false).unwrap().status, 101);
        assert!(client.exactly(size).iter().all(|b| *b == b'o'), "{size}");
        assert_eq!(client.exactly(3), b"all", "{size}");
        sending.join().unwrap().unwrap();
    }
}

#[test]
fn that_one_side_has_ended_is_passed_on_and_the_other_may_go_on() {
    let (tell, told) = mpsc::channel();
    let origin = origin(move |head, stream| {
        stream.write_all(SWITCHED.as_bytes()).unwrap();
        let mut read = String::new();
        if head.starts_with("GET /chat ") {
            stream.read_to_string(&mut read).unwrap();
            stream.write_all(format!("after {read}").as_bytes()).unwrap();
        } else {
            stream.write_all(b"before").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            stream.read_to_string(&mut read).unwrap();
            tell.send(read).unwrap();
        }
        let _ = stream.shutdown(Shutdown::Both);
    });
    let running = start_before(&[&origin], "", "");
    let mut client = switched(&running);
    client.send("all").unwrap();
    client.finish();
    assert_eq!(client.rest(), b"after all");

    let mut client = running.client();
    assert_eq!(client.ask(ASK.replace("/chat", "/other")).status, 101);
    assert_eq!(client.rest(), b"before");
    client.send("and").unwrap();
    client.send(" more").unwrap();
    client.finish();
    assert_eq!(told.recv_timeout(witgate_tests::PATIENCE).unwrap(), "and more");
    wait_for_metric(&running, "witgate_upgrades_active 0");
}

#[test]
fn a_side_that_breaks_takes_the_other_with_it() {
    let (tell, told) = mpsc::channel();
    let origin = Origin::raw(move |stream| {
        let head = read_head(stream).unwrap();
        stream.write_all(SWITCHED.as_bytes()).unwrap();
        if head.starts_with("GET /chat ") {
            stream.read_exact(&mut [0; 4]).unwrap();
            // Its end is a reset.
            socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap();
        } else {
            tell.send(stream.read(&mut [0; 16]).map_err(|error| error.kind())).unwrap();
        }
    });
    let running = start_before(&[&origin], "", "");
    let mut client = switched(&running);
    client.send("four").unwrap();
    assert!(client.closed());
    wait_for_metric(&running, "witgate_upgrades_active 0");

    let mut client = running.client();
    assert_eq!(client.ask(ASK.replace("/chat", "/other")).status, 101);
    client.reset();
    let reset = std::io::ErrorKind::ConnectionReset;
    assert_eq!(told.recv_timeout(witgate_tests::PATIENCE).unwrap(), Err(reset), "no right end here either");
    wait_for_metric(&running, "witgate_upgrades_active 0");
}

#[test]
fn who_does_not_read_makes_the_other_side_wait() {
    const ALL: usize = 128 << 20;
    let release = Arc::new(AtomicBool::new(false));
    let go = Arc::clone(&release);
    let origin = origin(move |_, stream| {
        stream.write_all(SWITCHED.as_bytes()).unwrap();
        wait_for("leave to read", || go.load(SeqCst).then_some(()));
        let read = std::io::copy(stream, &mut std::io::sink()).unwrap();
        let _ = stream.write_all(read.to_string().as_bytes());
        let _ = stream.shutdown(Shutdown::Both);
    });
    let running = start_before(&[&origin], "", "");
    let mut client = switched(&running);
    let sent = Arc::new(AtomicUsize::new(0));
    let (mut sender, count) = (client.clone(), Arc::clone(&sent));
    let sending = thread::spawn(move || {
        let piece = vec![0; 64 << 10];
        while count.load(SeqCst) < ALL {
            sender.send(&piece).unwrap();
            count.fetch_add(piece.len(), SeqCst);
        }
        sender.finish();
    });
    let mut before = 0;
    let stalled = wait_for("the client to be stopped", || {
        thread::sleep(Duration::from_millis(200));
        let now = sent.load(SeqCst);
        (std::mem::replace(&mut before, now) == now && now > 0).then_some(now)
    });
    assert!(stalled < ALL / 2, "{stalled} bytes were taken, which nobody read");
    release.store(true, SeqCst);
    assert_eq!(client.rest(), ALL.to_string().as_bytes());
    sending.join().unwrap();
}

#[test]
fn an_answer_without_a_switch_is_like_any_other() {
    let origin = Origin::scripted(|_, stream| respond(stream, 426, &[("sec-websocket-version", "13")], b"no"));
    let running = start_before(&[&origin], "", "");
    let mut client = running.client();
    for _ in 0..3 {
        let response = client.ask(ASK);
        assert_eq!((response.status, response.body.as_str()), (426, "no"), "{response:?}");
        assert_eq!(response.header("sec-websocket-version"), Some("13"), "{response:?}");
    }
    assert_eq!((origin.connections(), origin.seen().len()), (1, 3), "both connections are used again");
    assert!(running.has_metric("witgate_upgrades_total 0"));
}

#[test]
fn a_switch_that_was_not_asked_for_is_malformed() {
    let other = SWITCHED.replace("Upgrade: websocket", "Upgrade: x-other");
    let both = SWITCHED.replace("Upgrade: websocket", "Upgrade: websocket, x-other");
    let none = SWITCHED.replace("Upgrade: websocket\r\n", "");
    let plain = (PLAIN, SWITCHED.to_owned());
    let h2c = (&*ASK.replace("WebSocket", "h2c"), SWITCHED.replace("websocket", "h2c"));
    for (request, answer) in [plain, h2c, (ASK, other), (ASK, both), (ASK, none)] {
        let said = answer.clone();
        let origin = origin(move |_, stream| drop(stream.write_all(said.as_bytes())));
        let running = start_before(&[&origin], "", "");
        let response = running.client().ask(request);
        assert_eq!(
            (response.status, response.header("x-witgate-error")),
            (502, Some("upstream-malformed")),
            "{answer}"
        );
        assert!(running.has_metric("witgate_upgrades_total 0"));
    }
}

/// What the origin saw of the headers about a switch, of a request with these headers and what comes behind them.
#[track_caller]
fn check_passed_on(running: &Running, origin: &Origin, request: &str, expected: Option<&str>) {
    let before = origin.seen().len();
    assert_eq!(running.client().ask(request).status, 200, "{request}");
    let seen = origin.seen().remove(before);
    assert_eq!(seen.header("upgrade"), expected, "{request}: {seen:?}");
    assert_eq!(seen.header("connection"), expected.map(|_| "upgrade"), "{request}: {seen:?}");
    assert_eq!(seen.header("http2-settings"), None, "{request}: {seen:?}");
}

#[test]
fn only_what_may_be_asked_for_is_passed_on() {
    let origin = Origin::named("o");
    let running = start_before(&[&origin], "", "");
    let get = |headers: &str| format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n\r\n");
    let both = |protocol: &str| {
        get(&format!("connection: upgrade, http2-settings\r\nhttp2-settings: x\r\nupgrade: {protocol}"))
    };
    for protocol in ["websocket", "WEBSOCKET"] {
        check_passed_on(&running, &origin, &both(protocol), Some(protocol));
    }
    check_passed_on(
        &running,
        &origin,
        &get("connection: a\r\nconnection: b , UPGRADE\r\nupgrade: websocket"),
        Some("websocket"),
    );
    let post = "POST / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
    check_passed_on(&running, &origin, &format!("{post}content-length: 0\r\n\r\n"), Some("websocket"));
    for dropped in [
        both("h2c"),
        both("HTTP/2.0"),
        both("websocket/13"),
        both("websocket, h2c"),
        both("h2c\r\nupgrade: websocket"),
        both(""),
        get("upgrade: websocket"),
        get("connection: keep-alive\r\nupgrade: websocket"),
        both("websocket").replace("HTTP/1.1", "HTTP/1.0"),
        format!("{post}content-length: 2\r\n\r\nhi"),
        format!("{post}transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
    ] {
        check_passed_on(&running, &origin, &dropped, None);
    }
    let wider = start_before(&[&origin], "upgrade = [\"x-proto/1\", \"X-Other\"]", "");
    for (protocol, expected) in [("X-Proto/1", true), ("x-other", true), ("x-proto", false), ("websocket", false)] {
        check_passed_on(&wider, &origin, &both(protocol), expected.then_some(protocol));
    }
    check_passed_on(&start_before(&[&origin], "upgrade = []", ""), &origin, &both("websocket"), None);
}

#[test]
fn a_drain_lets_it_go_on_until_its_timeout() {
    let origin = echoing();
    let route = |timeout: &str, limits: &str| {
        format!(
            "drain_timeout = \"{timeout}\"\n[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\nlimits = {{ {limits} }}\n\
             [[route]]\nname = \"all\"\ncluster = \"c\"\n\
             [[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{}\" }}]\n",
            origin.address
        )
    };
    let mut running = proxy::start(&route("1h", "requests_per_connection = 1"));
    let (mut client, mut idle) = (switched(&running), running.client());
    running.drain();
    wait_for("an idle connection to be closed", || idle.closed().then_some(()));
    check_echo(&mut client, "still here");
    client.finish();
    assert_eq!(client.rest(), b"end");
    running.wait();

    let mut running = proxy::start(&route("300ms", ""));
    let mut client = switched(&running);
    running.drain();
    running.wait();
    assert!(client.closed());
}

#[test]
fn a_listener_that_goes_cuts_it_at_the_drains_timeout() {
    let origin = echoing();
    let config = |listener: &str| {
        format!(
            "drain_timeout = \"300ms\"\n[[listener]]\nname = \"{listener}\"\nlisten = \"127.0.0.1:0\"\n\
             [[route]]\nname = \"all\"\ncluster = \"c\"\n\
             [[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{}\" }}]\n",
            origin.address
        )
    };
    let running = proxy::start(&config("web"));
    let mut client = switched(&running);
    let other = format!("{PREAMBLE}{}", config("other"));
    assert_eq!(running.call("PUT", "/v1/config", other.as_bytes()).status, 200);
    assert!(client.closed());
    wait_for_metric(&running, "witgate_upgrades_active 0");
}

#[test]
fn who_is_silent_for_too_long_is_closed() {
    let (tell, told) = mpsc::channel();
    let origin = origin(move |_, stream| {
        stream.write_all(SWITCHED.as_bytes()).unwrap();
        tell.send(stream.read(&mut [0; 16]).ok()).unwrap();
        let _ = stream.shutdown(Shutdown::Both);
    });
    let running = proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\nlimits = {{ idle_timeout = \"300ms\" }}\n\
         [[route]]\nname = \"all\"\ncluster = \"c\"\n[[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{}\" }}]\n",
        origin.address
    ));
    let mut client = switched(&running);
    assert_eq!(client.rest(), b"");
    assert_eq!(told.recv_timeout(witgate_tests::PATIENCE).unwrap(), Some(0));
    wait_for_metric(&running, "witgate_upgrades_active 0");
}

#[test]
fn the_routes_timeout_is_for_the_switch_alone() {
    let origin = origin(|head, stream| match head.starts_with("GET /chat ") {
        true => echo(stream),
        false => drop(stream.read(&mut [0])),
    });
    let running = start_before(&[&origin], "timeout = \"300ms\"", "");
    check_refused(&running.client().ask(ASK.replace("/chat", "/slow")), 504, "timeout");
    // Once may not be in time, on a machine that is busy.
    let mut client = wait_for("a switch", || {
        let mut client = running.client();
        (client.ask(ASK).status == 101).then_some(client)
    });
    // Longer than that, and than what a client that stopped reading is given beyond it.
    thread::sleep(Duration::from_millis(2_000));
    check_echo(&mut client, "still here");
}

#[test]
fn it_is_tried_again_before_the_switch() {
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let origin = origin(move |_, stream| match count.fetch_add(1, SeqCst) {
        0 => drop(stream.shutdown(Shutdown::Both)),
        1 => drop(respond(stream, 503, &[], b"")),
        _ => echo(stream),
    });
    let running = start_before(&[&origin], "retry = { attempts = 2, on = [\"reset\", \"5xx\"] }", "");
    check_echo(&mut switched(&running), "hello");
    assert_eq!(tries.load(SeqCst), 3);
    assert!(running.has_metric("witgate_upstream_retries_total 2"));
}

#[test]
fn it_goes_to_one_endpoint_at_a_time_and_to_no_mirror() {
    let tries = Arc::new(AtomicUsize::new(0));
    let script = |tries: &Arc<AtomicUsize>| {
        let count = Arc::clone(tries);
        origin(move |_, stream| match count.fetch_add(1, SeqCst) {
            // Until the proxy gives it up, which with a hedge it would not.
            0 => drop(stream.read(&mut [0])),
            _ => echo(stream),
        })
    };
    let (one, other, mirror) = (script(&tries), script(&tries), Origin::named("m"));
    let retry =
        "retry = { attempts = 10, per_try_timeout = \"200ms\", hedge = true, backoff = \"0s\" }\ntimeout = \"5m\"";
    let running = start_before(
        &[&one, &other],
        &format!("{retry}\nmirror = {{ cluster = \"shadow\", percent = 100 }}"),
        &format!(
            "retry_budget = {{ min = 100 }}\n[[cluster]]\nname = \"shadow\"\nendpoints = [{{ address = \"{}\" }}]",
            mirror.address
        ),
    );
    check_echo(&mut switched(&running), "hello");
    assert!(running.has_metric("witgate_upstream_hedges_total 0"));
    for outcome in ["sent", "failed", "dropped"] {
        assert!(running.has_metric(&format!("witgate_mirror_requests_total{{outcome=\"{outcome}\"}} 0")), "{outcome}");
    }
    assert_eq!(mirror.connections(), 0);
}

#[test]
fn it_holds_its_place_among_connections_and_requests() {
    let origin = echoing();
    for pool in ["max_connections = 1, max_pending = 0", "max_requests = 1"] {
        let running = start_before(&[&origin], "", &format!("pool = {{ {pool} }}"));
        let mut client = switched(&running);
        check_refused(&running.client().ask(PLAIN), 503, "circuit-open");
        client.finish();
        assert_eq!(client.rest(), b"end");
        wait_for_metric(&running, "witgate_upgrades_active 0");
        assert_eq!(running.client().ask(PLAIN).status, 200, "{pool}");
    }
}

#[test]
fn it_outlives_its_endpoint_and_its_generation() {
    let (origin, next) = (echoing(), Origin::named("next"));
    let running = start_before(&[&origin], "", "");
    let mut client = switched(&running);
    let config = format!(
        "{PREAMBLE}[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n[[route]]\nname = \"new\"\ncluster = \"d\"\n\
         [[cluster]]\nname = \"d\"\nendpoints = [{{ address = \"{}\" }}]\n",
        next.address
    );
    assert_eq!(running.call("PUT", "/v1/config", config.as_bytes()).status, 200);
    assert_eq!(running.client().ask(PLAIN).body, "next");
    check_echo(&mut client, "still here");
    client.finish();
    assert_eq!(client.rest(), b"end");
    wait_for_metric(&running, "witgate_upgrades_active 0");
}

#[test]
fn a_route_may_ask_for_it() {
    let (sockets, pages) = (echoing(), Origin::named("pages"));
    let running = proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"ws\"\nheaders = {{ upgrade = {{ regex = \"(?i)^websocket$\" }} }}\ncluster = \"ws\"\n\
         [[route]]\nname = \"rest\"\ncluster = \"pages\"\n\
         [[cluster]]\nname = \"ws\"\nendpoints = [{{ address = \"{}\" }}]\n\
         [[cluster]]\nname = \"pages\"\nendpoints = [{{ address = \"{}\" }}]\n",
        sockets.address, pages.address
    ));
    check_echo(&mut switched(&running), "hello");
    assert_eq!(running.client().ask(PLAIN).body, "pages");
    let named = "GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n";
    assert_eq!(running.client().ask(named).body, "pages", "it is no question without `Connection`");
}

/// A request for another protocol by HTTP/2 (RFC 8441).
fn extended(running: &Running, protocol: &'static str) -> http::Request<()> {
    let mut request = http::Request::builder()
        .method("CONNECT")
        .uri(format!("http://{}/chat", running.web()))
        .header("sec-websocket-version", "13")
        .body(())
        .expect("a request");
    request.extensions_mut().insert(h2::ext::Protocol::from_static(protocol));
    request
}

/// A client's connection by HTTP/2, once the proxy has said that it takes such requests.
async fn taking(running: &Running) -> h2::client::SendRequest<Bytes> {
    let client = http2::connect(running.web()).await;
    while !client.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    client
}

#[test]
fn streams_of_http_2_switch_protocols_too() {
    let origin = echoing();
    let running = start_before(&[&origin], "response_headers = { set = { x-by = \"route\" } }", "");
    http2::runtime().block_on(async {
        let mut client = taking(&running).await;
        for round in 0..2 {
            let (response, mut saying) = client.send_request(extended(&running, "websocket"), false).expect("a stream");
            let response = response.await.expect("a switch");
            assert_eq!((response.status().as_u16(), &response.headers()["x-by"]), (200, &"route".parse().unwrap()));
            for gone in ["connection", "upgrade", "sec-websocket-accept"] {
                assert!(!response.headers().contains_key(gone), "{response:?}");
            }
            let mut heard = response.into_body();
            for said in ["one", "two"] {
                saying.send_data(Bytes::from(said), false).expect("it is taken");
                assert_eq!(heard.data().await.expect("an echo").expect("no error"), said, "round {round}");
            }
            // Other requests go on beside it.
            client = client.ready().await.expect("it takes streams");
            let plain = http::Request::get(format!("http://{}/", running.web())).body(()).expect("a request");
            let (response, _) = client.send_request(plain, true).expect("a stream");
            assert_eq!(response.await.expect("an answer").status(), 200);
            // The client ends, and then the endpoint.
            saying.send_data(Bytes::new(), true).expect("it is taken");
            let (rest, _) = http2::read(heard).await.expect("a right end");
            assert_eq!(rest, b"end");
            client = client.ready().await.expect("it takes streams");
        }
    });
    let ended = |n: u32| format!("witgate_requests_total{{route=\"all\",code_class=\"1xx\"}} {n}");
    wait_for("both to be counted", || running.has_metric(&ended(2)).then_some(()));
    // Nothing is left in flight: a drain ends at once.
    running.drain();
}

#[test]
fn a_stream_that_may_not_switch_is_refused_and_one_that_breaks_ends() {
    let breaking = origin(|head, stream| {
        if !head.contains("upgrade: ") {
            respond(stream, 200, &[], b"plain");
            return;
        }
        assert!(head.starts_with("GET /chat HTTP/1.1\r\n") && head.contains("sec-websocket-key: "), "{head}");
        let _ = stream.write_all(SWITCHED.as_bytes());
        let _ = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
        let _ = stream.read(&mut [0; 5]);
        // The next read of a head fails with the connection.
        let _ = stream.shutdown(Shutdown::Read);
    });
    let running = start_before(&[&breaking], "", "");
    http2::runtime().block_on(async {
        let mut client = taking(&running).await;
        let (response, _saying) = client.send_request(extended(&running, "chess"), false).expect("a stream");
        assert_eq!(response.await.expect("an answer").status(), 405);
        client = client.ready().await.expect("it takes streams");
        let (response, mut saying) = client.send_request(extended(&running, "websocket"), false).expect("a stream");
        let response = response.await.expect("a switch");
        assert_eq!(response.status(), 200);
        saying.send_data(Bytes::from_static(b"break"), false).expect("it is taken");
        let (rest, _) = http2::read(response.into_body()).await.expect("an end");
        assert_eq!(rest, b"");
    });
    // An endpoint that takes the request for another does not make a switch of it.
    let plain = Origin::named("plain");
    let running = start_before(&[&plain], "", "");
    http2::runtime().block_on(async {
        let mut client = taking(&running).await;
        let (response, _saying) = client.send_request(extended(&running, "websocket"), false).expect("a stream");
        let response = response.await.expect("an answer");
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-witgate-error"]),
            (502, &"upstream-malformed".parse().unwrap())
        );
    });
}

/// A proxy that takes CONNECT for one host.
fn connecting(origin: &Origin) -> Running {
    proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"tunnel\"\nhosts = [\"db.example\"]\nmethods = [\"CONNECT\"]\nupgrade = [\"connect\"]\ncluster = \"c\"\n\
         [[route]]\nname = \"all\"\ncluster = \"c\"\n\
         [[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{}\" }}]\n",
        origin.address
    ))
}

/// Sends back what comes, and "end" when nothing more does.
fn parrot() -> Origin {
    Origin::raw(|stream| {
        let mut piece = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut piece) {
            if stream.write_all(&piece[..n]).is_err() {
                return;
            }
        }
        let _ = stream.write_all(b"end");
    })
}

#[test]
fn connect_is_refused_but_where_a_route_has_it() {
    let origin = parrot();
    let running = connecting(&origin);
    let mut client = running.client();
    client.send("CONNECT db.example:5432 HTTP/1.1\r\nhost: db.example:5432\r\n\r\nearly").expect("it is taken");
    let response = client.response(true).expect("a response");
    assert_eq!((response.status, response.header("content-length")), (200, None), "{response:?}");
    assert_eq!(client.exactly(5), b"early");
    check_echo(&mut client, "late");
    client.finish();
    assert_eq!(client.rest(), b"end");
    wait_for_metric(&running, "witgate_requests_total{route=\"tunnel\",code_class=\"2xx\"} 1");
    for (request, status) in [
        // Another host, no port, no authority, another than `Host` says, and one with a body.
        ("CONNECT other.example:443 HTTP/1.1\r\nhost: other.example:443\r\n\r\n", 405),
        ("CONNECT db.example HTTP/1.1\r\nhost: db.example\r\n\r\n", 400),
        ("CONNECT / HTTP/1.1\r\nhost: db.example\r\n\r\n", 400),
        ("CONNECT http://db.example:1/x HTTP/1.1\r\nhost: db.example\r\n\r\n", 400),
        ("CONNECT user@db.example:1 HTTP/1.1\r\nhost: db.example\r\n\r\n", 400),
        ("CONNECT db.example:1 HTTP/1.1\r\nhost: db.example\r\ncontent-length: 1\r\n\r\nx", 400),
    ] {
        let mut client = running.client();
        client.send(request).expect("it is taken");
        assert_eq!(client.response(true).expect("a response").status, status, "{request}");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn connect_is_a_stream_of_http_2_as_well() {
    let origin = parrot();
    let running = connecting(&origin);
    http2::runtime().block_on(async {
        let mut client = http2::connect(running.web()).await;
        for (authority, status) in [("db.example:5432", 200), ("other.example:1", 405)] {
            let request = http::Request::connect(authority).body(()).expect("a request");
            let (response, mut saying) = client.send_request(request, false).expect("a stream");
            let response = response.await.expect("an answer");
            assert_eq!(response.status().as_u16(), status);
            if status == 200 {
                saying.send_data(Bytes::from_static(b"hello"), true).expect("it is taken");
                let (heard, _) = http2::read(response.into_body()).await.expect("a right end");
                assert_eq!(heard, b"helloend");
            }
            client = client.ready().await.expect("it takes streams");
        }
    });
}
