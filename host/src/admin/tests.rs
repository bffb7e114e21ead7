//! The API from outside: a whole proxy, a socket, and what comes back.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use witgate_core::config::{Admin, AdminListen};

use super::{Access, AdminAddress};
use crate::Proxy;

const CONFIG: &str = r#"
[admin]
listen = "127.0.0.1:0"
[runtime]
workers = 1
[plugins]
max_upload = "4KiB"
[[listener]]
name = "web"
listen = "127.0.0.1:0"
[[route]]
name = "teapot"
path = "/teapot"
respond = { status = 418, body = "short and stout" }
[[route]]
name = "api"
path_prefix = "/api/"
split = [{ cluster = "stable", weight = 1 }]
plugins = { splitter = "canary" }
affinity = { by = [{ header = "x-user" }] }
[[route]]
name = "copied"
path_prefix = "/copied/"
cluster = "stable"
retry = { attempts = 2, on = ["reset", "5xx"], per_try_timeout = "1s" }
mirror = { cluster = "stable", percent = 12.5 }
[[cluster]]
name = "stable"
endpoints = [{ address = "127.0.0.1:1", zone = "a" }, { address = "127.0.0.1:2", weight = 3 }]
"#;

/// Ends a request that has no headers of its own.
const CLOSING: &str = " HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// Sends bytes and reads the answer to the end of the connection.
#[track_caller]
fn exchange(mut stream: TcpStream, request: &[u8]) -> Answer {
    stream.write_all(request).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

struct Running {
    proxy: Proxy,
    _dir: tempfile::TempDir,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Running {
    fn new() -> Self {
        Self::with(CONFIG)
    }

    fn with(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = witgate_core::config::parse(config, "test.toml", dir.path()).map(|parsed| parsed.config);
        let proxy = Proxy::start(config.unwrap_or_else(|errors| panic!("{errors}"))).unwrap();
        Self { proxy, _dir: dir }
    }

    fn connect(&self) -> TcpStream {
        let AdminAddress::Tcp(address) = self.proxy.admin() else { panic!("not TCP") };
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends a request with `headers` (each with its line break) and reads the answer to the end of the connection.
    #[track_caller]
    fn raw(&self, request: &str, headers: &str, body: &[u8]) -> Answer {
        let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let closing = CLOSING.trim_end();
        let head = format!("{request}{closing}\r\n{headers}{length}\r\n");
        self.bytes(&[head.as_bytes(), body].concat())
    }

    /// Sends bytes and reads the answer to the end of the connection.
    #[track_caller]
    fn bytes(&self, request: &[u8]) -> Answer {
        exchange(self.connect(), request)
    }

    /// The same, with the token.
    #[track_caller]
    fn ask(&self, request: &str, body: &str) -> Answer {
        self.raw(request, &format!("authorization: Bearer {}\r\n", self.proxy.token()), body.as_bytes())
    }

    #[track_caller]
    fn check(&self, request: &str, body: &str, status: u16, part: &str) {
        let answer = self.ask(request, body);
        assert!(
            answer.status == status && answer.body.contains(part),
            "{request} {body}: {} {}, want {status} and {part:?}",
            answer.status,
            answer.body
        );
        if status >= 400 {
            assert!(answer.json()["error"].is_string(), "{request}: {}", answer.body);
        }
    }
}

#[test]
fn probes_and_metrics_are_open_and_the_rest_is_not() {
    let running = Running::new();
    for (path, part) in [("/livez", "alive"), ("/readyz", "ready"), ("/metrics", "# EOF")] {
        let answer = running.raw(&format!("GET {path}"), "", b"");
        assert!(answer.status == 200 && answer.body.contains(part), "{path}: {} {}", answer.status, answer.body);
    }
    for path in ["/v1/plugins", "/v1/drain", "/nothing"] {
        let answer = running.raw(&format!("GET {path}"), "authorization: Bearer wrong\r\n", b"");
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
    }
    let answer = running.raw("GET /metrics", "origin: http://evil.example\r\n", b"");
    assert_eq!(answer.status, 403, "{}", answer.body);
}

#[test]
fn a_page_whose_name_was_made_to_stand_for_this_address_gets_nothing() {
    let running = Running::with(&CONFIG.replacen("[runtime]", "hosts = [\"admin.test\"]\n[runtime]", 1));
    let AdminAddress::Tcp(address) = *running.proxy.admin() else { panic!("not TCP") };
    let token = format!("authorization: Bearer {}\r\n", running.proxy.token());
    let check = |request: &str, host: &str, headers: &str, status: u16| {
        let head = format!("{request} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{token}{headers}\r\n");
        let answer = running.bytes(head.as_bytes());
        assert_eq!(answer.status, status, "{request} {host} {headers}: {} {}", answer.head, answer.body);
        if status >= 400 {
            assert!(answer.json()["error"].is_string(), "{}", answer.body);
        }
    };
    for own in [address.to_string(), "localhost:9901".to_owned(), "admin.test".to_owned(), "[::1]:1".to_owned()] {
        check("GET /v1/plugins", &own, "", 200);
        check("GET /metrics", &own, "", 200);
        check("GET /readyz", &own, "", 200);
    }
    for rebound in ["evil.example", "evil.example:9901", "admin.test.evil.example"] {
        check("GET /v1/plugins", rebound, "", 421);
        check("POST /v1/drain", rebound, "", 421);
        check("GET /metrics", rebound, "", 421);
        check("GET /nothing", rebound, "", 421);
        check("GET /readyz", rebound, "", 200);
    }
    check("GET /metrics", "witgate.monitoring.svc:9901", "", 200);
    check("POST /v1/drain", "localhost", "origin: http://evil.example\r\n", 403);
    check("POST /v1/drain", "localhost", "sec-fetch-site: cross-site\r\n", 403);
    check("GET /v1/plugins", "localhost:1", "origin: http://localhost:1\r\nsec-fetch-site: same-origin\r\n", 200);
    let ready = running.raw("GET /readyz", "", b"");
    assert_eq!(ready.status, 200, "no drain has begun: {}", ready.body);
}

#[test]
fn what_is_not_there_or_not_understood_is_said_so() {
    let running = Running::new();
    running.check("GET /v1/nothing", "", 404, "there is no /v1/nothing");
    running.check("GET /v1/clusters/x", "", 404, "there are: stable");
    running.check("GET /v1/plugins/x", "", 404, "there are: ");
    running.check("POST /v1/plugins/x/activate", r#"{"version": 1}"#, 404, "no plugin");
    running.check("POST /v1/plugins/x/activate", r#"{"version": [1]}"#, 400, "column");
    running.check("POST /v1/plugins/x/rollback", "", 404, "no plugin");
    running.check("DELETE /v1/plugins/x?force=yes", "", 400, "expected true or false");
    running.check("POST /v1/explain", "", 400, "there is no body");
    running.check("POST /v1/explain", r#"{"method": "CONNECT"}"#, 422, "method-not-allowed");
    running.check("POST /v1/explain", &" ".repeat(70_000), 413, "65536");
    let answer = running.ask("DELETE /v1/drain", "");
    assert!(answer.status == 405 && answer.head.contains("allow: post"), "{}", answer.head);
}

#[test]
fn unknown_parameters_are_refused_and_probes_have_any() {
    let running = Running::new();
    for call in [
        "GET /v1/plugins",
        "GET /v1/plugins/x",
        "GET /v1/clusters",
        "GET /v1/clusters/stable",
        "GET /v1/routes",
        "GET /v1/listeners",
        "POST /v1/plugins/x/activate",
        "POST /v1/plugins/x/rollback",
        "POST /v1/explain",
        "POST /v1/drain",
    ] {
        running.check(&format!("{call}?x=1"), "", 400, "unknown query parameter \\\"x\\\"; there is: none");
    }
    running.check("DELETE /v1/plugins/x?x=1", "", 400, "there is: force");
    for probe in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(running.raw(&format!("GET {probe}?x=1"), "", b"").status, 200, "{probe}");
    }
}

#[test]
fn a_request_that_could_end_in_two_places_is_refused() {
    let running = Running::new();
    let token = format!("authorization: Bearer {}\r\n", running.proxy.token());
    let lengths = ["content-length: 5\r\n", "transfer-encoding: chunked\r\n"];
    let ask = |path: &str, headers: &str| {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n2\r\n{{}}\r\n0\r\n\r\n"
        );
        running.bytes(request.as_bytes())
    };
    for [first, second] in [lengths, [lengths[1], lengths[0]]] {
        for headers in [format!("{first}{token}{second}"), format!("{first}{second}")] {
            let answer = ask("/v1/explain", &headers);
            assert_eq!(answer.status, 400, "{headers}: {}", answer.body);
            assert!(answer.body.contains("two places") && answer.head.contains("connection: close"), "{}", answer.head);
        }
    }
    let answer = ask("/v1/explain", &format!("{token}{}", lengths[1]));
    assert_eq!(answer.status, 200, "one of them is fine: {}", answer.body);
    // The first of two lengths came with the request before, and the parser has it.
    let mut stream = running.connect();
    let whole = format!("GET /livez HTTP/1.1\r\nhost: localhost\r\n{token}\r\n");
    let part = format!("POST /v1/explain HTTP/1.1\r\n{}", lengths[0]);
    stream.write_all(format!("{whole}{part}").as_bytes()).unwrap();
    assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
    stream.write_all(format!("{token}{}\r\n2\r\n{{}}\r\n0\r\n\r\n", lengths[1]).as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("two places"), "{text}");
    // Again on one connection, with a body that looks like a head.
    let mut stream = running.connect();
    for _ in 0..3 {
        write!(stream, "POST /v1/explain HTTP/1.1\r\nhost: localhost\r\n{token}{}\r\n", lengths[1]).unwrap();
        write!(stream, "19\r\n\r\ncontent-length: 9\r\n{{\r\n}}\r\n0\r\n\r\n").unwrap();
        let mut head = [0; 4096];
        let n = stream.read(&mut head).unwrap();
        let head = String::from_utf8_lossy(&head[..n]).into_owned();
        assert!(head.starts_with("HTTP/1.1 400") && head.contains("line"), "it was read: {head}");
    }
}

#[test]
fn what_the_parser_refuses_is_json_too() {
    let running = Running::new();
    let check = |request: &str, status: u16, part: &str| {
        let answer = running.bytes(request.as_bytes());
        let shown = format!("{:.60}: {} {}", request, answer.head, answer.body);
        assert_eq!(answer.status, status, "{shown}");
        assert!(answer.json()["error"].as_str().is_some_and(|error| error.contains(part)), "{shown}");
        let length = format!("content-length: {}", answer.body.len());
        for field in ["content-type: application/json", "cache-control: no-store", "connection: close", &length] {
            assert!(answer.head.contains(field), "{field}: {shown}");
        }
    };
    check("nonsense\r\n\r\n", 400, "not HTTP/1.1");
    check("GET /livez HTTP/9.9\r\n\r\n", 400, "not HTTP/1.1");
    check("GET /livez HTTP/1.1\r\nno colon\r\n\r\n", 400, "not HTTP/1.1");
    check("GET /livez HTTP/1.1\r\ncontent-length: many\r\n\r\n", 400, "not HTTP/1.1");
    // No more than is read: what is left unread would reset the connection under the answer.
    check(&format!("GET /livez HTTP/1.1\r\na: {}", "x".repeat((32 << 10) - 24)), 431, "32768 bytes");
    check(&format!("GET /livez HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101)), 431, "100 headers");
    // Errors with a body of their own are left alone.
    assert!(running.raw("GET /livez", "", b"").body.contains("alive"));
    running.check("GET /v1/nothing", "", 404, "there is no /v1/nothing");
}

#[test]
fn uploads_that_cannot_be_are_refused() {
    let running = Running::new();
    running.check("PUT /v1/plugins/canary", "this is not wasm", 422, "\"stage\"");
    running.check("PUT /v1/plugins/Bad_Name", "\0asm", 400, "is no plugin name");
    running.check("PUT /v1/plugins/canary", &"x".repeat(5_000), 413, "max_upload");
    running.check("PUT /v1/plugins/canary?actvate=true", "x", 400, "there is: activate, progress");
    let token = format!("authorization: Bearer {}\r\n", running.proxy.token());
    let form = running.raw("PUT /v1/plugins/canary", &format!("{token}content-type: multipart/form-data\r\n"), b"x");
    assert_eq!(form.status, 415, "{}", form.body);
    let streamed = running.ask("PUT /v1/plugins/canary?progress=true", "this is not wasm");
    assert_eq!(streamed.status, 200, "{}", streamed.body);
    assert!(streamed.body.contains("{\"stage\":\"hash\"}\n"), "{}", streamed.body);
    assert!(streamed.body.contains("\"status\":422"), "{}", streamed.body);
}

#[test]
fn the_live_state_is_shown() {
    let running = Running::new();
    let listeners = running.ask("GET /v1/listeners", "").json();
    let bound = running.proxy.listener("web").unwrap().to_string();
    assert_eq!(listeners["listeners"][0]["address"], bound);
    let routes = running.ask("GET /v1/routes", "").json();
    assert_eq!(routes["routes"][1]["match"]["path_prefix"], "/api/", "{routes}");
    assert_eq!(routes["routes"][1]["plugins"]["splitter"]["version"], Value::Null, "{routes}");
    let retry = json!({
        "attempts": 2, "on": ["reset", "5xx"], "per_try_timeout_ms": 1000, "backoff_ms": 25, "hedge": false
    });
    assert_eq!(routes["routes"][2]["retry"], retry, "{routes}");
    assert_eq!(routes["routes"][2]["mirror"], json!({ "cluster": "stable", "percent": 12.5 }), "{routes}");
    let cluster = running.ask("GET /v1/clusters/stable", "").json();
    let second = &cluster["endpoints"][1];
    assert_eq!((&second["address"], &second["weight"]), (&"127.0.0.1:2".into(), &3.into()), "{cluster}");
    assert_eq!((&cluster["balance"], &cluster["eligible"]), (&"least-request".into(), &2.into()), "{cluster}");
    let metrics = running.raw("GET /metrics", "", b"").body;
    for line in [
        "# TYPE witgate_requests counter\n",
        "witgate_requests_total{route=\"api\",code_class=\"2xx\"} 0\n",
        "witgate_request_duration_seconds_bucket{le=\"+Inf\",route=\"teapot\"} 0\n",
        "witgate_errors_total{reason=\"no-route\"} 0\n",
        "witgate_endpoint_in_flight{cluster=\"stable\",endpoint=\"127.0.0.1:2\"} 0\n",
        "process_resident_memory_bytes ",
    ] {
        assert!(metrics.contains(line), "{line:?} is not in\n{metrics}");
    }
}

#[test]
fn a_question_that_must_be_answered_and_cannot_be_asked_ends_the_request() {
    let config = CONFIG.replace("splitter = \"canary\"", "router = \"gate\", splitter = \"canary\"")
        + "[[plugin]]\nname = \"gate\"\non_error = \"reject\"\n";
    let shown = Running::with(&config).ask("POST /v1/explain", r#"{"path": "/api/x"}"#).json();
    assert_eq!((&shown["status"], &shown["reason"]), (&503.into(), &"plugin-failure".into()), "{shown}");
    assert_eq!(shown["questions"].as_array().map(Vec::len), Some(1), "no further question is come to: {shown}");
    assert_eq!(shown["questions"][0]["plugin"], "gate", "{shown}");
}

#[test]
fn explanations_send_nothing_and_say_everything() {
    let running = Running::new();
    let explain = |body: &str| running.ask("POST /v1/explain", body).json();
    let none = explain(r#"{"path": "/nowhere"}"#);
    assert_eq!(
        (&none["outcome"], &none["reason"], &none["status"]),
        (&"error".into(), &"no-route".into(), &404.into())
    );
    let own = explain(r#"{"path": "/teapot"}"#);
    assert_eq!((&own["reply"]["status"], &own["reply"]["body"]), (&418.into(), &"short and stout".into()), "{own}");
    let sent = explain(r#"{"path": "/api/x", "headers": {"x-user": "7"}}"#);
    assert_eq!((&sent["route"], &sent["cluster"]), (&"api".into(), &"stable".into()), "{sent}");
    assert_eq!(sent["candidates"][1]["share"], 0.75, "{sent}");
    assert_eq!(sent["picked"]["by"], "affinity", "{sent}");
    let unasked = &sent["questions"];
    assert_eq!(unasked.as_array().map(Vec::len), Some(1), "{sent}");
    assert_eq!((&unasked[0]["question"], &unasked[0]["plugin"]), (&"splitter".into(), &"canary".into()), "{sent}");
    assert_eq!((&unasked[0]["fallback"], &unasked[0]["version"]), (&"no version is live".into(), &Value::Null));
    let again = explain(r#"{"path": "/api/y", "headers": {"x-user": "7"}}"#);
    assert_eq!(sent["picked"], again["picked"], "the same key goes to the same endpoint");
    running.check("POST /v1/explain", r#"{"listener": "x"}"#, 400, "there are: web");
    assert_eq!(running.ask("GET /v1/clusters", "").json()["clusters"][0]["endpoints"][0]["requests"], 0);
}

#[test]
fn a_drain_is_accepted_and_seen() {
    // The admin API serves until the workers are done, and they wait for a request whose endpoint never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let running = Running::with(&CONFIG.replace("127.0.0.1:1", &silent.local_addr().unwrap().to_string()));
    let mut held = TcpStream::connect(running.proxy.listener("web").unwrap()).unwrap();
    held.write_all(b"GET /api/ HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let _asked = silent.accept().unwrap();
    let drained = running.ask("POST /v1/drain", "");
    assert_eq!((drained.status, &drained.json()["draining"]), (202, &true.into()));
    let ready = running.raw("GET /readyz", "", b"");
    assert_eq!(ready.status, 503, "{}", ready.body);
}

/// Kept connections whose one request, with the token, was answered; the first one is idle for longest.
fn kept(running: &Running, n: usize) -> Vec<TcpStream> {
    let ask = |stream: &mut TcpStream| {
        write!(
            stream,
            "GET /livez HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n",
            running.proxy.token()
        )
        .unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0, "it was closed");
    };
    let mut streams: Vec<TcpStream> = (0..n).map(|_| running.connect()).collect();
    streams.iter_mut().for_each(ask);
    streams
}

/// Whether the other side closes it.
fn closes(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 1]), Ok(0))
}

#[test]
fn idle_connections_give_way_to_those_that_come() {
    let running = Running::new();
    let mut idle = kept(&running, 64);
    // One at a time, each in the place of the one that has been idle for longest: its own place is free when it is done.
    for _ in 0..20 {
        assert!(running.raw("GET /livez", "", b"").body.contains("alive"));
    }
    assert!(closes(&mut idle[0]));
    let mut more = kept(&running, 10);
    assert!(idle[1..10].iter_mut().all(closes));
    for stream in idle[10..].iter_mut().chain(&mut more) {
        stream.set_nonblocking(true).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock, "closed without need");
    }
}

#[test]
fn connections_that_say_nothing_keep_nobody_out() {
    let running = Running::new();
    let _silent: Vec<TcpStream> = (0..200).map(|_| running.connect()).collect();
    for _ in 0..200 {
        assert!(running.raw("GET /readyz", "", b"").body.contains("ready"));
    }
}

#[test]
fn a_request_that_is_worked_on_is_not_cut_for_one_that_comes() {
    let running = Running::new();
    let head = format!(
        "POST /v1/explain HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n",
        running.proxy.token()
    );
    let mut busy: Vec<TcpStream> = (0..64).map(|_| running.connect()).collect();
    for stream in &mut busy {
        stream.write_all(head.as_bytes()).unwrap();
        let mut told = [0; 25];
        stream.read_exact(&mut told).unwrap();
        assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let mut late = running.connect();
    late.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut text = String::new();
    for (n, stream) in busy.iter_mut().enumerate() {
        stream.write_all(b"{}").unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0, "number {n} was cut");
        if n == 0 {
            late.read_to_string(&mut text).unwrap();
        }
    }
    assert!(text.contains("alive"), "{text}");
}

#[test]
fn who_has_no_token_keeps_no_connection() {
    let running = Running::new();
    let token = format!("authorization: Bearer {}\r\n", running.proxy.token());
    let check = |path: &str, headers: &str, kept: bool| {
        let mut stream = running.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n").unwrap();
        let mut head = [0; 64 << 10];
        let n = stream.read(&mut head).unwrap();
        let head = String::from_utf8_lossy(&head[..n]).to_ascii_lowercase();
        assert_eq!(!head.contains("\r\nconnection: close\r\n"), kept, "{path} {headers}: {head}");
    };
    for path in ["/livez", "/readyz", "/metrics", "/v1/plugins", "/nothing"] {
        check(path, "", false);
        check(path, "authorization: Bearer wrong\r\n", false);
        check(path, &token, true);
    }
}

#[test]
fn before_the_start_has_ended_it_lives_and_is_not_ready() {
    let config = Admin { listen: AdminListen::Tcp(([127, 0, 0, 1], 0).into()), ..Admin::default() };
    let admin = super::bind(&config, None).unwrap();
    let AdminAddress::Tcp(address) = *admin.address() else { panic!("not TCP") };
    let (open, started) = tokio::sync::watch::channel(None);
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        runtime.unwrap().block_on(async move {
            tokio::select! {
                () = admin.serve(started, Access::new(&config, "token", None, None)) => {}
                _ = &mut stopped => {}
            }
        });
    });
    for (path, status, part) in [
        ("/livez", 200, "alive"),
        ("/readyz", 503, "starting"),
        ("/v1/plugins", 503, "\"error\""),
        ("/x", 503, "error"),
    ] {
        let answer = exchange(TcpStream::connect(address).unwrap(), format!("GET {path}{CLOSING}").as_bytes());
        assert!(answer.status == status && answer.body.contains(part), "{path}: {} {}", answer.head, answer.body);
    }
    drop((stop, open));
    serving.join().unwrap();
}

#[test]
fn a_unix_socket_serves_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let text = CONFIG.replacen("127.0.0.1:0", &format!("unix:{}", path.display()), 1);
    let config = witgate_core::config::parse(&text, "test.toml", Path::new(dir.path())).map(|p| p.config);
    let proxy = Proxy::start(config.unwrap_or_else(|errors| panic!("{errors}"))).unwrap();
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("ready"), "{answer}");
    drop(proxy);
    assert!(!path.exists(), "the socket's file is left behind");
}
