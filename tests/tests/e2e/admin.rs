//! The admin API over TLS: who gets in, and what is taken up of files that are renewed.

use std::{fs, io};

use witgate_tests::{
    client::{Client, Response},
    proxy::{self, Running},
    scratch,
    tls::{Authority, Pair, TlsClient, connect},
    wait_for,
};

struct Served {
    servers: Authority,
    running: Running,
}

fn serve(client_ca: Option<&Authority>) -> Served {
    let (servers, dir) = (Authority::new("servers"), scratch());
    servers.issue("first", &["localhost"]).write(dir.path(), "a");
    let mut tls = "[admin.tls]\ncert = \"a.pem\"\nkey = \"a.key\"\n".to_owned();
    if let Some(authority) = client_ca {
        fs::write(dir.path().join("clients.pem"), authority.pem()).expect("a file can be written");
        tls.push_str("client_ca = \"clients.pem\"\n");
    }
    let running = proxy::start_in(dir, &format!("{tls}[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n"));
    Served { servers, running }
}

impl Served {
    fn connect(&self, identity: Option<&Pair>) -> io::Result<TlsClient> {
        connect(self.running.admin(), "localhost", &self.servers.client(&["h2", "http/1.1"], identity))
    }

    fn token(&self) -> String {
        self.running.proxy.as_ref().expect("it runs").token().to_owned()
    }

    fn request(&self, path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n", self.token())
    }

    /// The answer to a request on a connection of its own; none where there is no connection to be had.
    fn get(&self, identity: Option<&Pair>) -> io::Result<Response> {
        let mut client = self.connect(identity)?;
        // Of TLS 1.3 a client learns only after its handshake that its certificate is not taken.
        client.send(self.request("/v1/listeners"))?;
        client.response(false)
    }
}

#[test]
fn over_tls_a_token_is_needed_and_nothing_is_said_without_tls() {
    let served = serve(None);
    assert_eq!(served.get(None).expect("an answer").status, 200);
    let mut client = served.connect(None).expect("a handshake");
    assert_eq!(client.stream().conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(client.get("/readyz", "").status, 200);
    let mut client = served.connect(None).expect("a handshake");
    assert_eq!(client.ask("GET /v1/listeners HTTP/1.1\r\nhost: localhost\r\n\r\n").status, 401);
    let mut plain = Client::connect(served.running.admin());
    plain.send(served.request("/v1/listeners")).expect("it is sent");
    let said = String::from_utf8_lossy(&plain.rest()).into_owned();
    assert!(!said.contains("HTTP/"), "{said}");
}

#[test]
fn who_shows_no_certificate_or_a_strangers_gets_in_nowhere() {
    let operators = Authority::new("operators");
    let served = serve(Some(&operators));
    let (operator, stranger) =
        (operators.issue("ops", &["ops.test"]), Authority::new("operators").issue("ops", &["ops.test"]));
    assert_eq!(served.get(Some(&operator)).expect("an answer").status, 200);
    for identity in [None, Some(&stranger)] {
        served.get(identity).expect_err("a certificate is needed");
        let mut probe = match served.connect(identity) {
            Ok(probe) => probe,
            Err(_) => continue,
        };
        // The connection may be gone before all of this is sent.
        let _ = probe.send("GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n");
        probe.response(false).expect_err("nor is a probe answered");
    }
    let mut without = served.connect(Some(&operator)).expect("a handshake");
    assert_eq!(without.ask("GET /v1/listeners HTTP/1.1\r\nhost: localhost\r\n\r\n").status, 401, "the token, too");
}

#[test]
fn renewed_files_are_taken_up_and_those_who_are_no_longer_believed_are_let_go() {
    let (operators, others) = (Authority::new("operators"), Authority::new("others"));
    let served = serve(Some(&operators));
    let (operator, other) = (operators.issue("ops", &["ops.test"]), others.issue("ops", &["ops.test"]));
    let mut kept = served.connect(Some(&operator)).expect("a handshake");
    assert_eq!(kept.ask(served.request("/v1/listeners")).status, 200);
    let shown = |identity| {
        let client: TlsClient = served.connect(Some(identity)).expect("a handshake");
        client.stream().conn.peer_certificates().and_then(|chain| chain.first()).expect("a certificate").to_vec()
    };
    let first = shown(&operator);
    // Neither pair is taken up half: a key that is none leaves the one that was there in use.
    let dir = served.running.dir.path();
    fs::write(dir.join("clients.pem"), others.pem()).expect("a file can be written");
    served.servers.issue("second", &["localhost"]).write(dir, "a");
    wait_for("the other certificate", || {
        // Asked now and then, so that it does not count as idle.
        let answer = kept.ask(served.request("/v1/listeners"));
        (answer.status == 421).then_some(()).or_else(|| {
            assert_eq!(answer.status, 200, "{answer:?}");
            None
        })
    });
    assert!(kept.closed(), "a connection of somebody who is no longer believed is closed");
    served.get(Some(&operator)).expect_err("it is not believed any more");
    assert_eq!(served.get(Some(&other)).expect("an answer").status, 200);
    assert_ne!(shown(&other), first);
    fs::write(dir.join("a.key"), "nonsense").expect("a file can be written");
    let put = |text: &str| {
        let length = text.len();
        let head = served.request("/v1/config").replacen("GET", "PUT", 1);
        let head = head.replacen("\r\n\r\n", &format!("\r\ncontent-length: {length}\r\n\r\n"), 1);
        served.connect(Some(&other)).expect("a handshake").ask(format!("{head}{text}"))
    };
    let text = fs::read_to_string(dir.join("test.toml")).expect("its configuration");
    assert_eq!(put(&format!("{text}# more\n")).status, 200, "what is in use stays");
    let answer = put(&text.replace("client_ca", "# client_ca"));
    assert_eq!(answer.status, 409, "{answer:?}");
    assert!(answer.body.contains("admin.tls"), "{}", answer.body);
    assert_eq!(served.get(Some(&other)).expect("an answer").status, 200);
}
