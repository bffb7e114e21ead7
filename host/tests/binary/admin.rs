//! Who may ask the admin API of a real process, what is written down of it, and what never is.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Instant,
};

use serde_json::Value;
use witgate_tests::{
    client::{Client, Response},
    origin::Origin,
    tls::{Authority, Pair},
    wait_for,
};

use crate::process::{PREAMBLE, Room, Said, Serving, admin_request, answering, ended};

const READS: &str = "[admin]\nread_token_file = \"read.token\"";

/// A room whose API has a token that only reads.
fn room(origin: &Origin) -> Room {
    let room = Room::proxying(origin, "");
    let text = fs::read_to_string(room.config()).expect("a configuration");
    room.configure(&text.replacen("[admin]", READS, 1));
    room
}

fn read_token(room: &Room) -> String {
    fs::read_to_string(room.path("read.token")).expect("the token's file").trim().to_owned()
}

fn ask(serving: &Serving, token: &str, method: &str, path: &str, body: &[u8]) -> Response {
    Client::connect(serving.admin()).ask(admin_request(token, method, path, body))
}

/// Starts `witgate run` with a log of objects.
fn start_with_json(room: &Room) -> Serving {
    let mut command = room.command(&["run", "--log", "json", "-c"]);
    command.arg(room.config());
    serving_of(room, command)
}

fn serving_of(room: &Room, mut command: Command) -> Serving {
    let log = fs::File::options().create(true).append(true).open(room.path("stderr.log")).expect("a file for stderr");
    room.serving(command.stdout(Stdio::piped()).stderr(log).spawn().expect("the binary starts"))
}

/// What is written down under `audit`.
fn audit(room: &Room) -> Vec<Value> {
    let log = room.log();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["target"] == "audit").collect()
}

fn field<'e>(event: &'e Value, name: &str) -> &'e Value {
    &event[name]
}

#[test]
fn a_unix_sockets_file_never_has_a_wider_mode_than_is_configured() {
    for (line, mode) in [("", 0o600), ("mode = \"0660\"", 0o660)] {
        let listen = format!("listen = \"unix:admin.sock\"\n{line}");
        let room = Room::with(&PREAMBLE.replacen("listen = \"127.0.0.1:0\"", &listen, 1));
        let (path, done) = (room.path("admin.sock"), AtomicBool::new(false));
        let seen = thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut seen = Vec::new();
                loop {
                    let last = done.load(Relaxed);
                    let found = fs::symlink_metadata(&path).map(|found| found.permissions().mode() & 0o777);
                    seen.extend(found.ok().filter(|found| seen.last() != Some(found)));
                    if last {
                        return seen;
                    }
                }
            });
            // Nothing but the process itself narrows what it makes.
            let mut command = Command::new("sh");
            command
                .args(["-c", "umask 0 && exec \"$0\" run -c \"$1\"", env!("CARGO_BIN_EXE_witgate")])
                .arg(room.config());
            let serving = serving_of(&room, command);
            done.store(true, Relaxed);
            let seen = watcher.join().expect("the watcher sees");
            serving.end();
            seen
        });
        assert_eq!(seen, [mode], "{seen:?}, wanted {mode:o}");
    }
}

#[test]
fn who_may_only_read_changes_nothing_and_sees_no_secrets() {
    let origin = Origin::named("origin");
    let room = room(&origin);
    let serving = room.start();
    serving.upload("flip", &answering(250, 0));
    let token = read_token(&room);
    assert_ne!(token, serving.token);
    let mode = fs::metadata(room.path("read.token")).expect("it was made").permissions().mode() & 0o777;
    assert_eq!((mode, token.len()), (0o600, 64));
    let reads = |method: &str, path: &str, body: &[u8]| ask(&serving, &token, method, path, body);
    for path in ["/v1/listeners", "/v1/routes", "/v1/clusters", "/v1/clusters/c", "/v1/plugins", "/v1/plugins/flip"] {
        assert_eq!(reads("GET", path, b"").status, 200, "{path}");
    }
    assert_eq!(reads("POST", "/v1/explain", b"{}").status, 200);
    let before = serving.call("GET", "/v1/config", b"").body;
    let other = answering(251, 0);
    let cases: [(&str, &str, &[u8]); 9] = [
        ("GET", "/v1/config", b""),
        ("PUT", "/v1/config", b"[[listener]]\n"),
        ("PUT", "/v1/plugins/flip?activate=true", &other),
        ("DELETE", "/v1/plugins/flip?force=true", b""),
        ("POST", "/v1/plugins/flip/activate", br#"{"version": 1}"#),
        ("POST", "/v1/plugins/flip/rollback", b""),
        ("PUT", "/v1/clusters/c/endpoints", br#"{"endpoints": []}"#),
        ("PATCH", &format!("/v1/clusters/c/endpoints/{}", origin.address), br#"{"state": "drain"}"#),
        ("POST", "/v1/drain", b""),
    ];
    for (method, path, body) in cases {
        let answer = reads(method, path, body);
        assert_eq!(answer.status, 403, "{method} {path}: {answer:?}");
        let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(error.contains("only reads") && error.contains("token_file"), "{error}");
    }
    assert_eq!(serving.call("GET", "/v1/config", b"").body, before);
    assert_eq!((serving.status(), serving.call("GET", "/readyz", b"").status), (250, 200));
    serving.end();
    // The same token for both would make the second one's bounds a lie.
    fs::write(room.path("read.token"), room.token()).expect("it is ours");
    room.refuse().check(1, &["read.token", "opens everything"]);
}

#[test]
fn no_token_is_ever_in_the_log() {
    let origin = Origin::named("origin");
    let room = room(&origin);
    let serving = room.start_with_environment("WITGATE_LOG", "trace");
    let (admin, read) = (serving.token.clone(), read_token(&room));
    let wrong = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
    serving.upload("flip", &answering(250, 0));
    for token in [admin.as_str(), &read, wrong] {
        for (method, path) in [("GET", "/v1/plugins"), ("GET", "/v1/config"), ("POST", "/v1/plugins/flip/rollback")] {
            ask(&serving, token, method, path, b"");
        }
        // In places where it does not belong.
        ask(&serving, "x", "GET", &format!("/v1/plugins?token={token}"), b"");
        for header in ["authorization: Basic", "authorization: ", "x-token:", "cookie: token="] {
            let request = format!("GET /v1/plugins HTTP/1.1\r\nhost: localhost\r\n{header} {token}\r\n\r\n");
            assert_eq!(Client::connect(serving.admin()).ask(request).status, 401, "{header}");
        }
        let cut = format!("GET /v1/plugins HTTP/1.1\r\nauthorization: Bearer {token}\r\nno colon\r\n\r\n");
        assert_eq!(Client::connect(serving.admin()).ask(cut).status, 400);
        let mut command = room.command(&["plugin", "list"]);
        command.env("WITGATE_ADMIN", &serving.admin).env("WITGATE_TOKEN", token).env("WITGATE_LOG", "trace");
        let said = ended(command);
        assert!(!format!("{said:?}").contains(token), "{said:#?}");
    }
    assert_eq!(serving.call("POST", "/v1/drain", b"").status, 202);
    wait_for("the drain to be told of", || room.log().contains("drain").then_some(()));
    let (printed, log) = (serving.first_lines.join("\n"), room.log());
    assert!(log.contains("DEBUG") && log.contains("the token is not the right one"), "{log}");
    for token in [admin.as_str(), &read, wrong] {
        assert!(!log.contains(token) && !printed.contains(token), "{token} is in {log}");
    }
}

#[test]
fn each_change_is_written_down_and_refusals_within_bounds() {
    let origin = Origin::named("origin");
    let room = room(&origin);
    let serving = start_with_json(&room);
    let read = read_token(&room);
    let changes =
        || -> Vec<Value> { audit(&room).into_iter().filter(|event| field(event, "message") == "changed").collect() };
    let refusals =
        || -> Vec<Value> { audit(&room).into_iter().filter(|event| field(event, "message") == "refused").collect() };
    serving.upload("flip", &answering(250, 0));
    serving.upload("flip", &answering(251, 0));
    assert_eq!(serving.call("POST", "/v1/plugins/flip/rollback", b"").status, 200);
    let config = serving.call("GET", "/v1/config", b"").body;
    assert_eq!(serving.call("PUT", "/v1/config", format!("{config}\n# x\n").as_bytes()).status, 200);
    let told = wait_for("four changes", || Some(changes()).filter(|told| told.len() == 4));
    let shown: Vec<_> = told
        .iter()
        .map(|event| {
            (field(event, "change").as_str(), field(event, "version").as_u64(), field(event, "status").as_u64())
        })
        .collect();
    let want = [("upload", Some(1), 201), ("upload", Some(2), 201), ("rollback", Some(1), 200), ("config", None, 200)];
    assert_eq!(shown, want.map(|(change, version, status)| (Some(change), version, Some(status))), "{told:#?}");
    for event in &told {
        assert_eq!((&event["level"], field(event, "who")), (&"INFO".into(), &"admin".into()), "{event}");
        assert!(field(event, "peer").as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{event}");
        assert!(field(event, "generation").as_u64().is_some_and(|generation| generation > 0), "{event}");
    }
    let first = (field(&told[0], "method"), field(&told[0], "path"), field(&told[0], "of"));
    assert_eq!(first, (&"PUT".into(), &"/v1/plugins/flip".into(), &"flip".into()));
    // One that is not made.
    assert_eq!(serving.call("PUT", "/v1/config", b"nonsense").status, 422);
    let failed = wait_for("what was not changed", || {
        audit(&room).into_iter().find(|event| field(event, "message") == "not changed")
    });
    assert_eq!((field(&failed, "status"), field(&failed, "who")), (&422.into(), &"admin".into()), "{failed}");

    assert_eq!(ask(&serving, &read, "POST", "/v1/drain", b"").status, 403);
    let one = wait_for("a refusal", || refusals().pop());
    let shown = ["who", "method", "path", "status"].map(|name| field(&one, name).clone());
    assert_eq!(shown, ["read".into(), "POST".into(), "/v1/drain".into(), Value::from(403)], "{one}");

    let since = Instant::now();
    for _ in 0..300 {
        assert_eq!(ask(&serving, "wrong", "GET", "/v1/plugins", b"").status, 401);
    }
    assert_eq!(serving.call("POST", "/v1/plugins/flip/rollback", b"").status, 200);
    wait_for("the change after so many refusals", || (changes().len() == 5).then_some(()));
    let (told, bound) = (refusals(), 11 + since.elapsed().as_secs());
    assert!(told.len() as u64 <= bound && told.len() >= 10, "{} of at most {bound}", told.len());
    assert!(told.iter().skip(1).all(|event| field(event, "who") == "unknown"), "{told:#?}");
}

/// What an API over TLS is configured with, and clients of it.
struct Secured {
    room: Room,
    operator: Pair,
    stranger: Pair,
}

/// An API over TLS with a certificate for `localhost`, which wants one of its clients.
fn secured(listen: &str) -> Secured {
    let (servers, operators, others) =
        (Authority::new("servers"), Authority::new("operators"), Authority::new("others"));
    let tls = "tls = { cert = \"a.pem\", key = \"a.key\", client_ca = \"operators.pem\" }";
    let preamble = PREAMBLE.replacen("listen = \"127.0.0.1:0\"", &format!("listen = \"{listen}\"\n{tls}"), 1);
    let room = Room::with(&preamble);
    servers.issue("a", &["localhost", "127.0.0.1"]).write(&room.path(""), "a");
    fs::write(room.path("operators.pem"), operators.pem()).expect("it is ours");
    fs::write(room.path("servers.pem"), servers.pem()).expect("it is ours");
    let (operator, stranger) = (operators.issue("ops", &["ops.test"]), others.issue("ops", &["ops.test"]));
    operator.write(&room.path(""), "ops");
    stranger.write(&room.path(""), "stranger");
    Secured { room, operator, stranger }
}

impl Secured {
    fn list(&self, serving: &Serving, by_file: bool, ca: &str, identity: Option<&str>) -> Said {
        let mut command = self.room.command(&["plugin", "list"]);
        if by_file {
            command.arg("-c").arg(self.room.config());
        } else {
            command.env("WITGATE_ADMIN", format!("https://{}", serving.admin)).env("WITGATE_TOKEN", &serving.token);
            command.env("WITGATE_CA", self.room.path(ca));
        }
        if let Some(name) = identity {
            command.env("WITGATE_CERT", self.room.path(&format!("{name}.pem")));
            command.env("WITGATE_KEY", self.room.path(&format!("{name}.key")));
        }
        ended(command)
    }
}

#[test]
fn commands_speak_tls_and_show_their_certificate() {
    let by_env = secured("127.0.0.1:0");
    let serving = start_with_json(&by_env.room);
    let said = by_env.list(&serving, false, "servers.pem", Some("ops"));
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:#?}");
    by_env.list(&serving, false, "servers.pem", None).check(1, &["did not answer", "WITGATE_CERT"]);
    by_env.list(&serving, false, "servers.pem", Some("stranger")).check(1, &["did not answer", "WITGATE_CERT"]);
    by_env.list(&serving, false, "operators.pem", Some("ops")).check(1, &["handshake", "UnknownIssuer"]);
    by_env.list(&serving, false, "none.pem", Some("ops")).check(1, &["none.pem", "No such file"]);
    let mut plain = by_env.room.command(&["plugin", "list"]);
    plain.env("WITGATE_ADMIN", &serving.admin).env("WITGATE_TOKEN", &serving.token);
    ended(plain).check(1, &["did not answer as it should", &format!("https://{}", serving.admin)]);
    // Who was refused is written down, and so is who changes something, by the certificate that was shown.
    wait_for("refused handshakes to be written down", || {
        let refused = audit(&by_env.room).into_iter().filter(|event| field(event, "message") == "handshake refused");
        (refused.count() == 2).then_some(())
    });
    let mut drain = by_env.room.command(&["drain"]);
    drain.env("WITGATE_ADMIN", format!("https://localhost:{}", serving.admin.rsplit_once(':').expect("a port").1));
    drain.env("WITGATE_TOKEN", &serving.token).env("WITGATE_CA", by_env.room.path("servers.pem"));
    drain.env("WITGATE_CERT", by_env.room.path("ops.pem")).env("WITGATE_KEY", by_env.room.path("ops.key"));
    assert_eq!(ended(drain).code, Some(0));
    let told =
        wait_for("the drain", || audit(&by_env.room).into_iter().find(|event| field(event, "change") == "drain"));
    assert!(field(&told, "certificate").as_str().is_some_and(|subject| subject.contains("CN=ops")), "{told}");
    assert_ne!(by_env.operator.cert, by_env.stranger.cert);

    let by_file = secured("unix:admin.sock");
    let serving = by_file.room.start();
    let said = by_file.list(&serving, true, "", Some("ops"));
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:#?}");
    // Its own certificate stands in, which these authorities have not signed.
    by_file.list(&serving, true, "", None).check(1, &["did not answer", "WITGATE_CERT"]);
    // The file's certificate is the one that is believed, and no other.
    let other = Authority::new("servers").issue("a", &["localhost"]);
    let running = fs::read(by_file.room.path("a.pem")).expect("it is ours");
    let elsewhere = by_file.room.path("other.pem");
    fs::write(&elsewhere, &other.cert).expect("it is ours");
    let text = fs::read_to_string(by_file.room.config()).expect("a configuration");
    let config = by_file.room.path("other.toml");
    fs::write(&config, text.replace("\"a.pem\"", "\"other.pem\"")).expect("it is ours");
    let mut command = by_file.room.command(&["plugin", "list", "-c"]);
    command.arg(&config).env("WITGATE_CERT", by_file.room.path("ops.pem"));
    command.env("WITGATE_KEY", by_file.room.path("ops.key"));
    ended(command).check(1, &["handshake"]);
    assert_eq!(fs::read(by_file.room.path("a.pem")).expect("it is ours"), running);
}

#[test]
fn files_that_cannot_be_used_are_named_and_nothing_is_started() {
    let secured = secured("127.0.0.1:0");
    fs::write(secured.room.path("a.key"), "nonsense").expect("it is ours");
    secured.room.refuse().check(1, &["the admin API: `tls.key`", "a.key", "no private key"]);
    let check = secured.room.say(&["check", &secured.room.config().display().to_string()]);
    check.check(1, &["the admin API: `tls.key`"]);
}
