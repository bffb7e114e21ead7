//! The access log seen from outside: what a line says of each kind of request, and that nobody waits for it.

use std::{fs, os::unix::net::UnixDatagram, path::PathBuf, process::Command};

use serde_json::{Value, json};
use witgate_tests::{
    client::Client,
    h2,
    origin::{Origin, respond},
    proxy::{self, PREAMBLE, Running},
    wait_for,
};

const WEB: &str = "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n";
const JSON: &str = "[access_log]\npath = \"access.log\"\n";

/// A route (`all`, with more keys of it) to a cluster (`c`) with these endpoints.
fn site(origins: &[&Origin], route: &str) -> String {
    let endpoints: Vec<String> = origins.iter().map(|o| format!("{{ address = \"{}\" }}", o.address)).collect();
    format!(
        "{WEB}[[route]]\nname = \"all\"\npath_prefix = \"/\"\ncluster = \"c\"\n{route}\n\
         [[cluster]]\nname = \"c\"\nbalance = \"round-robin\"\nendpoints = [{}]\n",
        endpoints.join(", ")
    )
}

fn logging(log: &str, origins: &[&Origin]) -> Running {
    proxy::start(&format!("{log}{}", site(origins, "")))
}

fn file(running: &Running, name: &str) -> PathBuf {
    running.dir.path().join(name)
}

/// Waits for so many lines. In order of their text: each worker hands over its own.
fn lines(running: &Running, name: &str, many: usize) -> Vec<String> {
    wait_for(&format!("{many} lines"), || {
        let text = fs::read_to_string(file(running, name)).unwrap_or_default();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        (text.matches('\n').count() >= many).then_some(lines)
    })
}

/// Waits for so many objects.
fn objects(running: &Running, many: usize) -> Vec<Value> {
    let lines = lines(running, "access.log", many);
    lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn count(running: &Running, metric: &str) -> u64 {
    let metrics = running.call("GET", "/metrics", b"").body;
    let prefix = format!("witgate_access_log_{metric}_total ");
    let found = metrics.lines().find_map(|line| line.strip_prefix(&prefix));
    found.unwrap_or_else(|| panic!("no {prefix}in {metrics}")).parse().expect("a number")
}

#[track_caller]
fn check(line: &Value, want: Value) {
    for (field, want) in want.as_object().expect("an object") {
        assert_eq!(&line[field], want, "{field} of {line:#}");
    }
}

#[test]
fn a_line_says_all_of_a_request_and_none_of_its_secrets() {
    let origin = Origin::scripted(|_, stream| respond(stream, 201, &[], b"hello world"));
    let running = logging(JSON, &[&origin]);
    let response = running.client().ask(
        "POST /a%20b?c=d&e HTTP/1.1\r\nhost: Example.com:8080\r\nuser-agent: test/1 (\"x\")\r\nreferer: http://r/\r\n\
         authorization: Bearer hush\r\ncookie: sid=hush\r\nx-request-id: forged\r\n\
         traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\ncontent-length: 5\r\n\r\nabcde",
    );
    assert_eq!(response.status, 201);
    let line = &objects(&running, 1)[0];
    let (address, seen) = (origin.address.to_string(), origin.seen());
    check(
        line,
        json!({
            "request_id": seen[0].header("x-request-id"), "client": "127.0.0.1", "listener": "web", "method": "POST",
            "scheme": "http", "host": "Example.com:8080", "path": "/a%20b?c=d&e", "protocol": "HTTP/1.1", "status": 201,
            "error": null, "bytes_in": 5, "bytes_out": 11, "route": "all", "cluster": "c", "endpoint": address,
            "attempts": 1, "user_agent": "test/1 (\"x\")", "referer": "http://r/",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        }),
    );
    assert!(line["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{line}");
    let (whole, upstream) = (line["duration_ms"].as_f64().unwrap(), line["upstream_ms"].as_f64().unwrap());
    assert!(0.0 < upstream && upstream <= whole, "{line}");
    let time = line["time"].as_str().unwrap();
    assert!(time.len() == "2026-01-31T23:59:59.999Z".len() && time.ends_with('Z'), "{time}");
    assert_eq!(line.as_object().unwrap().len(), 23, "{line}");
    assert!(!line.to_string().contains("hush"), "{line}");
    wait_for("the count", || (count(&running, "lines") == 1).then_some(()));
}

#[test]
fn what_the_proxy_answers_by_itself_says_why() {
    let config = format!(
        "{JSON}{WEB}[[route]]\nname = \"said\"\npath = \"/said\"\nrespond = {{ status = 200, body = \"four\" }}\n\
         [[route]]\nname = \"headed\"\npath = \"/headed\"\nrespond = {{ status = 200, body = \"four\" }}\n\
         [[route]]\nname = \"limited\"\npath = \"/limited\"\nrespond = {{ status = 200 }}\n\
         rate_limit = {{ rate = 1, per = \"1h\", burst = 1 }}\n\
         [[route]]\nname = \"empty\"\npath = \"/empty\"\ncluster = \"none\"\n[[cluster]]\nname = \"none\"\nendpoints = []\n"
    );
    let running = proxy::start(&config);
    let ask = |request: &str| Client::connect(running.web()).ask(request).status;
    let get = |path: &str| ask(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
    let statuses = [get("/said"), get("/none"), get("/empty"), get("/limited"), get("/limited")];
    assert_eq!(statuses, [200, 404, 503, 200, 429]);
    assert_eq!(ask("HEAD /headed HTTP/1.1\r\nhost: a\r\n\r\n"), 200);
    // Refused by what is said in the head, and by the parser.
    assert_eq!(ask("GET /two HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"), 400);
    assert_eq!(ask("GET http://user:hush@a/ HTTP/1.1\r\nhost: a\r\n\r\n"), 400);
    assert_eq!(ask("no request\r\n\r\n"), 400);
    let all = objects(&running, 9);
    let find = |field: &str, value: &str| {
        let mut found = all.iter().filter(|line| line[field] == value);
        found.next().unwrap_or_else(|| panic!("no {field} {value} in {all:#?}"))
    };
    let made = json!({ "cluster": null, "endpoint": null, "attempts": 0, "upstream_ms": null, "bytes_in": 0 });
    all.iter().filter(|line| line["path"] != "/empty").for_each(|line| check(line, made.clone()));
    check(find("path", "/said"), json!({ "status": 200, "error": null, "route": "said", "bytes_out": 4 }));
    check(find("method", "HEAD"), json!({ "status": 200, "route": "headed", "bytes_out": 0 }));
    check(find("path", "/none"), json!({ "status": 404, "error": "no-route", "route": null }));
    check(find("error", "no-healthy-endpoint"), json!({ "status": 503, "route": "empty", "cluster": "none" }));
    check(find("error", "rate-limited"), json!({ "status": 429, "route": "limited" }));
    check(find("path", "/"), json!({ "status": 400, "host": "a" }));
    check(find("path", "/two"), json!({ "status": 400, "error": "bad-request", "client": null, "request_id": null }));
    check(
        all.iter().find(|line| line["method"] == Value::Null).unwrap(),
        json!({ "status": 400, "error": "bad-request" }),
    );
    assert!(!all.iter().any(|line| line.to_string().contains("hush")), "{all:#?}");
}

#[test]
fn a_client_that_goes_away_is_told_as_such() {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let stopped = std::sync::Mutex::new(stopped);
    let silent = Origin::scripted(move |_, _| {
        let _ = stopped.lock().map(|stopped| stopped.recv());
        false
    });
    let running = logging(JSON, &[&silent]);
    let mut client = running.client();
    client.send("GET /gone HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    wait_for("the request", || (!silent.seen().is_empty()).then_some(()));
    drop(client);
    let want = json!({ "path": "/gone", "status": null, "error": "client-aborted", "cluster": "c", "attempts": 1,
                       "endpoint": silent.address.to_string(), "upstream_ms": null, "bytes_out": 0 });
    check(&objects(&running, 1)[0], want);
    drop(stop);
}

#[test]
fn an_endpoint_that_breaks_off_is_told_as_such() {
    let origin = Origin::scripted(|_, stream| {
        use std::io::Write as _;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this");
        false
    });
    let running = logging(JSON, &[&origin]);
    let mut client = running.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert!(client.response(false).is_err());
    check(&objects(&running, 1)[0], json!({ "status": 200, "error": "upstream-reset", "bytes_out": 9 }));
}

#[test]
fn tries_are_counted_and_the_last_one_is_told() {
    let bad = Origin::scripted(|_, _| false);
    let good = Origin::named("good");
    let running = logging(JSON, &[&bad, &good]);
    for n in 0..4 {
        assert_eq!(running.client().get(&format!("/{n}"), "").status, 200);
    }
    let all = objects(&running, 4);
    let tries: u64 = all.iter().map(|line| line["attempts"].as_u64().unwrap()).sum();
    assert_eq!(tries, (bad.seen().len() + good.seen().len()) as u64, "{all:#?}");
    assert!(all.iter().any(|line| line["attempts"] == 2), "{all:#?}");
    all.iter().for_each(|line| check(line, json!({ "endpoint": good.address.to_string(), "status": 200 })));

    let running = logging(JSON, &[&bad]);
    assert_eq!(running.client().get("/", "").status, 502);
    let want = json!({ "error": "upstream-reset", "upstream_ms": null, "endpoint": bad.address.to_string() });
    check(&objects(&running, 1)[0], want);
}

#[test]
fn a_try_beside_another_counts_and_the_endpoint_is_the_one_that_answered() {
    let silent = Origin::raw(|stream| {
        let _ = std::io::copy(stream, &mut std::io::sink());
    });
    let good = Origin::named("good");
    let route = "timeout = \"5m\"\nretry = { hedge = true, per_try_timeout = \"20ms\" }";
    let running = proxy::start(&format!("{JSON}{}", site(&[&silent, &good], route)));
    for n in 0..4 {
        assert_eq!(running.client().get(&format!("/{n}"), "").status, 200);
    }
    let all = objects(&running, 4);
    all.iter().for_each(|line| check(line, json!({ "endpoint": good.address.to_string(), "status": 200 })));
    assert!(all.iter().any(|line| line["attempts"].as_u64() > Some(1)), "{all:#?}");
}

#[test]
fn a_stream_of_http_2_is_a_line() {
    let origin = Origin::named("origin");
    let running = logging(JSON, &[&origin]);
    let mut client = running.client();
    let get = [(":method", "GET"), (":scheme", "http"), (":authority", "b:1"), (":path", "/h2")];
    client.send([h2::hello(), h2::headers(1, &get, true)].concat()).unwrap();
    check(
        &objects(&running, 1)[0],
        json!({ "protocol": "HTTP/2", "status": 200, "path": "/h2", "host": "b:1", "bytes_out": 6 }),
    );
}

#[test]
fn no_client_forges_a_line_or_a_field() {
    let origin = Origin::named("origin");
    let text =
        "[access_log]\npath = \"access.log\"\nformat = '{status} \"{user_agent}\" {host} {{{path}}} {referer}'\n";
    let hostile: &[u8] = b"GET /p HTTP/1.1\r\nhost: a\r\nuser-agent: \" 500 \\\tx\xff\xc2\x85\xe2\x80\xa8\r\n\r\n";
    let running = logging(text, &[&origin]);
    assert_eq!(running.client().ask(hostile).status, 200);
    let want = r#"200 "\x22 500 \x5c\x09x\xff\xc2\x85\xe2\x80\xa8" a {/p} -"#;
    assert_eq!(lines(&running, "access.log", 1), [want]);

    let running = logging(JSON, &[&origin]);
    assert_eq!(running.client().ask(hostile).status, 200);
    let line = &lines(&running, "access.log", 1)[0];
    assert!(line.contains(r#""user_agent":"\" 500 \\\u0009x"#) && line.contains(r"\u0085\u2028"), "{line}");
    assert!(!line.contains(char::is_control), "{line}");
}

#[test]
fn a_sample_has_every_failure() {
    let origin =
        Origin::scripted(|seen, stream| respond(stream, if seen.line.contains("/bad") { 500 } else { 200 }, &[], b"x"));
    let running = logging(&format!("{JSON}sample = 0.0\n"), &[&origin]);
    for n in 0..20 {
        assert_eq!(running.client().get(&format!("/good/{n}"), "").status, 200);
        assert_eq!(running.client().get(&format!("/bad/{n}"), "").status, 500);
    }
    let all = objects(&running, 20);
    assert!(all.len() == 20 && all.iter().all(|line| line["status"] == 500), "{all:#?}");
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew() {
    let origin = Origin::named("origin");
    let running = logging("[access_log]\npath = \"access.log\"\nformat = \"{path}\"\n", &[&origin]);
    assert_eq!(running.client().get("/1", "").status, 200);
    lines(&running, "access.log", 1);
    fs::rename(file(&running, "access.log"), file(&running, "access.log.1")).unwrap();
    running.proxy.as_ref().unwrap().reopen_access_log();
    wait_for("the new file", || file(&running, "access.log").exists().then_some(()));
    assert_eq!(running.client().get("/2", "").status, 200);
    assert_eq!(lines(&running, "access.log", 1), ["/2"]);
    assert_eq!(lines(&running, "access.log.1", 1), ["/1"]);
}

#[test]
fn a_full_disk_holds_no_request_up() {
    let origin = Origin::named("origin");
    let running = logging("[access_log]\npath = \"/dev/full\"\n", &[&origin]);
    let mut client = running.client();
    (0..100).for_each(|n| assert_eq!(client.get(&format!("/{n}"), "").status, 200));
    wait_for("lost lines to be counted", || (count(&running, "dropped") == 100).then_some(()));
    assert!(count(&running, "write_errors") > 0);
    assert_eq!(count(&running, "lines"), 0);
}

#[test]
fn a_pipe_that_nobody_reads_holds_neither_requests_nor_the_end_up() {
    let dir = witgate_tests::scratch();
    let pipe = dir.path().join("access.log");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let origin = Origin::named("origin");
    let config = format!("{JSON}buffer = \"64KiB\"\n{}", site(&[&origin], ""));
    let mut running = proxy::start_in(dir, &config);
    let mut client = running.client();
    assert_eq!(client.get("/unheard", "").status, 200);
    wait_for("a lost line to be counted", || (count(&running, "dropped") == 1).then_some(()));
    // A reader that holds it open and takes nothing.
    let reader = fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let long = format!("referer: {}\r\n", "r".repeat(4_000));
    (0..200).for_each(|n| assert_eq!(client.get(&format!("/{n}"), &long).status, 200));
    wait_for("lost lines to be counted", || (count(&running, "dropped") > 1).then_some(()));
    drop(client);
    running.drain();
    running.wait();
    drop(reader);
}

#[test]
fn a_drain_ends_with_every_line_written() {
    let origin = Origin::named("origin");
    let mut running = logging("[access_log]\npath = \"access.log\"\nformat = \"{path}\"\n", &[&origin]);
    (0..50).for_each(|n| assert_eq!(running.client().get(&format!("/{n}"), "").status, 200));
    running.drain();
    running.wait();
    let text = fs::read_to_string(file(&running, "access.log")).unwrap();
    assert!((0..50).all(|n| text.lines().filter(|line| *line == format!("/{n}")).count() == 1), "{text}");
}

#[test]
fn a_reload_changes_the_log_or_is_refused() {
    let origin = Origin::named("origin");
    let running = proxy::start(&site(&[&origin], ""));
    let put = |log: &str| {
        let config = format!("{PREAMBLE}{log}{}", site(&[&origin], ""));
        running.call("PUT", "/v1/config", config.as_bytes())
    };
    let get = |path: &str| assert_eq!(running.client().get(path, "").status, 200);
    let text = |name: &str| format!("[access_log]\npath = \"{name}\"\nformat = \"{{path}}\"\n");
    get("/untold");
    assert_eq!(put(&text("a.log")).status, 200);
    get("/a");
    assert_eq!(put(&text("b.log")).status, 200);
    get("/b");
    let refused = put(&text("no/such/place.log"));
    assert_eq!(refused.status, 409);
    assert!(refused.body.contains("no/such/place.log"), "{refused:?}");
    get("/b2");
    assert_eq!(lines(&running, "b.log", 2), ["/b", "/b2"]);
    assert_eq!(lines(&running, "a.log", 1), ["/a"]);
    assert_eq!(put("").status, 200);
    get("/untold");
    assert_eq!(put(&text("a.log")).status, 200);
    get("/a2");
    assert_eq!(lines(&running, "a.log", 2), ["/a", "/a2"]);
    assert_eq!(lines(&running, "b.log", 2).len(), 2);
}

#[test]
fn syslog_gets_a_datagram_a_line() {
    let origin = Origin::named("origin");
    let dir = witgate_tests::scratch();
    let unix = UnixDatagram::bind(dir.path().join("log.sock")).unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    unix.set_read_timeout(Some(witgate_tests::PATIENCE)).unwrap();
    udp.set_read_timeout(Some(witgate_tests::PATIENCE)).unwrap();
    let log = |to: &str| format!("[access_log]\nsyslog = \"{to}\"\nformat = \"{{path}}\"\n{}", site(&[&origin], ""));
    let mut got = [0; 4096];

    let running = proxy::start_in(dir, &log("unix:log.sock"));
    assert_eq!(running.client().get("/unix", "").status, 200);
    let size = unix.recv(&mut got).unwrap();
    is_message(&got[..size], "/unix");

    let running = proxy::start(&log(&format!("udp://{}", udp.local_addr().unwrap())));
    assert_eq!(running.client().get("/udp", "").status, 200);
    let size = udp.recv(&mut got).unwrap();
    is_message(&got[..size], "/udp");
}

#[track_caller]
fn is_message(message: &[u8], says: &str) {
    let text = std::str::from_utf8(message).expect("text");
    let words: Vec<&str> = text.split(' ').collect();
    let [priority, _time, _host, name, _id, kind, data, said] = words[..] else { panic!("{text:?}") };
    assert_eq!((priority, name, kind, data, said), ("<190>1", "witgate", "access", "-", says), "{text:?}");
}

#[test]
fn a_switch_of_protocols_has_its_line_when_it_is_made() {
    let origin = Origin::scripted(|_, stream| {
        use std::io::Write as _;
        let _ =
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        false
    });
    let running = logging(JSON, &[&origin]);
    let mut client = Client::connect(running.web());
    let response = client.get("/chat", "connection: upgrade\r\nupgrade: websocket\r\n");
    assert_eq!(response.status, 101);
    check(&objects(&running, 1)[0], json!({ "path": "/chat", "status": 101, "error": null }));
}
