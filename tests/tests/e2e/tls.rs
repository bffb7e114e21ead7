//! TLS of clients and to endpoints: certificates by name, and renewed; clients' certificates; what is refused.

use std::{
    io::{self, Read as _, Write as _},
    path::Path,
};

use rustls::HandshakeKind;
use witgate_tests::{
    client::{self, Client, Response},
    origin::Origin,
    proxy::{self, PREAMBLE, Running},
    scratch,
    tls::{Authority, Front, TlsClient, connect, hello},
    wait_for,
};

const GET: &str = "GET / HTTP/1.1\r\nhost: a.test\r\n";

fn listener(tls: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\ntls = {tls}\nlimits = {{ header_timeout = \"1h\" }}\n"
    )
}

fn to(origin: &Origin) -> String {
    let address = origin.address;
    format!(
        "[[route]]\nname = \"all\"\ncluster = \"c\"\n[[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{address}\" }}]\n"
    )
}

/// A proxy whose one certificate is for `a.test`, with more in its `tls`, and what is before it.
struct Served {
    authority: Authority,
    origin: Origin,
    running: Running,
}

fn serve(more: &str) -> Served {
    let (authority, origin, dir) = (Authority::new("servers"), Origin::named("o"), scratch());
    authority.issue("a", &["a.test"]).write(dir.path(), "a");
    let tls = format!("{{ certificates = [{{ cert = \"a.pem\", key = \"a.key\" }}], {more} }}");
    std::fs::write(dir.path().join("clients.pem"), authority.pem()).expect("a file can be written");
    let running = proxy::start_in(dir, &format!("{}{}", listener(&tls), to(&origin)));
    Served { authority, origin, running }
}

impl Served {
    fn connect(&self) -> TlsClient {
        connect(self.running.web(), "a.test", &self.authority.client(&[], None)).expect("a handshake")
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.running.dir.path().join(name), text).expect("a file can be written");
    }
}

/// The subject of the certificate that the proxy shows who asks for `name`.
fn shown(running: &Running, authority: &Authority, name: &str) -> Result<Vec<u8>, io::Error> {
    let client = connect(running.web(), name, &authority.client(&[], None))?;
    Ok(client.stream().conn.peer_certificates().expect("it shows one")[0].to_vec())
}

#[test]
fn the_name_that_is_asked_for_decides_which_certificate_is_shown() {
    let (authority, dir) = (Authority::new("servers"), scratch());
    authority.issue("a", &["a.test", "b.test"]).write(dir.path(), "a");
    authority.issue("w", &["*.w.test"]).write(dir.path(), "w");
    let tls = "{ certificates = [{ cert = \"a.pem\", key = \"a.key\" }, { cert = \"w.pem\", key = \"w.key\" }] }";
    let route = "[[route]]\nname = \"all\"\nrespond = { status = 200 }\n";
    let running = proxy::start_in(dir, &format!("{}{route}", listener(tls)));
    let first = shown(&running, &authority, "a.test").expect("its own");
    assert_eq!(shown(&running, &authority, "B.test").expect("its second name"), first);
    assert_ne!(shown(&running, &authority, "x.w.test").expect("a wildcard's"), first);
    for name in ["w.test", "x.y.w.test", "c.test"] {
        let refused =
            shown(&running, &authority, name).expect_err("the first certificate is shown, which is not for it");
        assert!(refused.to_string().contains("not valid for name"), "{name}: {refused}");
    }
}

#[test]
fn http_1_and_2_are_spoken_over_tls() {
    let served = serve("");
    let config = |protocols: &[&str]| served.authority.client(protocols, None);
    let chosen = |protocols: &[&str]| {
        let client = connect(served.running.web(), "a.test", &config(protocols)).expect("a handshake");
        client.stream().conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned())
    };
    assert_eq!(chosen(&["http/1.1", "h2"]).as_deref(), Some("h2"));
    assert_eq!(chosen(&["http/1.1"]).as_deref(), Some("http/1.1"));
    assert_eq!(chosen(&[]), None);
    let mut client = served.connect();
    assert_eq!(client.get("/one", "").body, "o");
    assert_eq!(client.get("/two", "connection: close\r\n").body, "o");
    assert!(client.rest().is_empty(), "it ends as TLS says, which is no error");
    let seen = served.origin.seen();
    assert_eq!(seen[0].header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.len(), 2);

    let (status, version) = over_http2(&served);
    assert_eq!((status, version), (200, http::Version::HTTP_2));
}

fn over_http2(served: &Served) -> (u16, http::Version) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(served.running.web()).await.expect("somebody listens");
        let connector = tokio_rustls::TlsConnector::from(served.authority.client(&["h2"], None));
        let stream = connector.connect("a.test".try_into().expect("a name"), stream).await.expect("a handshake");
        let (mut sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        let driver = tokio::spawn(connection);
        let request = http::Request::get("https://a.test/").body(()).expect("a request");
        let (response, _) = sender.send_request(request, true).expect("a stream");
        let response = response.await.expect("a response");
        driver.abort();
        (response.status().as_u16(), response.version())
    })
}

#[test]
fn an_old_version_is_refused_where_a_newer_one_is_wanted() {
    let served = serve("min_version = \"1.3\"");
    let old = connect(served.running.web(), "a.test", &served.authority.old_client());
    assert!(old.err().expect("it is too old").to_string().contains("ProtocolVersion"));
    served.connect();
    let both = serve("");
    connect(both.running.web(), "a.test", &both.authority.old_client()).expect("1.2 is spoken");
}

#[test]
fn a_client_is_known_by_its_certificate_and_by_nothing_that_it_says() {
    let served = serve("client_ca = \"clients.pem\"");
    let identity = served.authority.issue("me \"and\" you", &["URI:spiffe://x/me", "me.test"]);
    let config = served.authority.client(&[], Some(&identity));
    let mut client = connect(served.running.web(), "a.test", &config).expect("a handshake");
    client
        .get("/", "X-Forwarded-Client-Cert: Subject=\"CN=admin\"\r\nX_forwarded-Client_Cert: Subject=\"CN=admin\"\r\n");
    let seen = served.origin.seen();
    let said = seen[0].all("x-forwarded-client-cert");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(seen[0].headers.iter().all(|(name, _)| !name.contains('_')), "{:?}", seen[0].headers);
    let (hash, rest) = said[0].split_once(';').expect("elements");
    assert!(hash.len() == "Hash=".len() + 64 && hash.starts_with("Hash="), "{hash}");
    assert_eq!(rest, r#"Subject="CN=me \"and\" you";URI="spiffe://x/me";DNS="me.test""#);

    // One that shows none, and one that another authority signed.
    let other = Authority::new("servers").issue("me", &["me.test"]);
    for identity in [None, Some(&other)] {
        let client = connect(served.running.web(), "a.test", &served.authority.client(&[], identity));
        // The client has ended its part of the handshake when it is refused.
        let answered =
            client.and_then(|mut client| client.send(format!("{GET}\r\n")).and_then(|()| client.response(false)));
        assert!(answered.is_err(), "{answered:?}");
    }
    assert_eq!(served.origin.seen().len(), 1);
    wait_for("both are counted", || served.running.has_metric("witgate_tls_handshakes_failed_total 2").then_some(()));
}

#[test]
fn who_may_show_a_certificate_and_shows_none_has_no_name() {
    let served = serve("client_ca = \"clients.pem\", client_auth = \"optional\"");
    served.connect().get("/", "x-forwarded-client-cert: Subject=\"CN=admin\"\r\n");
    assert!(served.origin.seen()[0].header("x-forwarded-client-cert").is_none());
    let other = Authority::new("servers").issue("me", &["me.test"]);
    let client = connect(served.running.web(), "a.test", &served.authority.client(&[], Some(&other)));
    let answered =
        client.and_then(|mut client| client.send(format!("{GET}\r\n")).and_then(|()| client.response(false)));
    assert!(answered.is_err(), "one that cannot be verified is refused all the same");
}

#[test]
fn a_certificate_is_renewed_and_a_bad_one_is_not_used() {
    let served = serve("");
    let mut kept = served.connect();
    assert_eq!(kept.get("/", "").status, 200);
    let first = shown(&served.running, &served.authority, "a.test").expect("a handshake");

    let next = served.authority.issue("next", &["a.test"]);
    next.write(served.running.dir.path(), "a");
    let second = wait_for("the next one is shown", || {
        shown(&served.running, &served.authority, "a.test").ok().filter(|shown| *shown != first)
    });
    assert_eq!(kept.get("/", "").status, 200, "who was connected stays so");

    for (file, bad) in [("a.pem", "nothing of the kind"), ("a.key", next.cert.as_str())] {
        served.write(file, bad);
        let reload = served.running.call("PUT", "/v1/config", config_of(&served).as_bytes());
        assert_eq!(reload.status, 200, "what is in use stays: {reload:?}");
        assert_eq!(shown(&served.running, &served.authority, "a.test").expect("a handshake"), second);
        next.write(served.running.dir.path(), "a");
    }
    let third = served.authority.issue("third", &["a.test"]);
    third.write(served.running.dir.path(), "a");
    wait_for("it is mended", || {
        shown(&served.running, &served.authority, "a.test").ok().filter(|shown| *shown != second).map(drop)
    });
}

fn config_of(served: &Served) -> String {
    std::fs::read_to_string(served.running.dir.path().join("test.toml")).expect("the configuration")
}

#[test]
fn a_session_is_resumed_also_after_a_reload_but_not_under_other_authorities() {
    let served = serve("client_ca = \"clients.pem\"");
    let identity = served.authority.issue("me", &["me.test"]);
    let config = served.authority.client(&[], Some(&identity));
    let kind = || {
        let mut client = connect(served.running.web(), "a.test", &config).expect("a handshake");
        // Tickets come with the first answer.
        assert_eq!(client.get("/", "").status, 200);
        client.stream().conn.handshake_kind()
    };
    assert_eq!(kind(), Some(HandshakeKind::Full));
    assert_eq!(kind(), Some(HandshakeKind::Resumed));
    let more = format!(
        "{}[[route]]\nname = \"other\"\nhosts = [\"o.test\"]\nrespond = {{ status = 200 }}\n",
        config_of(&served)
    );
    assert_eq!(served.running.call("PUT", "/v1/config", more.as_bytes()).status, 200);
    assert_eq!(kind(), Some(HandshakeKind::Resumed));
    served.write("clients.pem", &format!("{}{}", served.authority.pem(), Authority::new("others").pem()));
    assert_eq!(served.running.call("PUT", "/v1/config", config_of(&served).as_bytes()).status, 200);
    assert_eq!(kind(), Some(HandshakeKind::Full));
}

#[test]
fn what_cannot_be_used_is_refused_with_every_reason_and_nothing_changes() {
    let served = serve("");
    let other = served.authority.issue("other", &["other.test"]);
    other.write(served.running.dir.path(), "other");
    served.write("text.pem", "no certificate");
    let cases: [(&str, &[&str]); 5] = [
        ("cert = \"absent.pem\", key = \"a.key\"", &["certificates[0].cert", "absent.pem", "No such file"]),
        ("cert = \"text.pem\", key = \"a.key\"", &["certificates[0].cert", "text.pem", "no certificate in it"]),
        ("cert = \"a.pem\", key = \"a.pem\"", &["certificates[0].key", "no private key in it"]),
        ("cert = \"a.pem\", key = \"other.key\"", &["certificates[0].key", "not the key of the certificate"]),
        ("cert = \"absent.pem\", key = \"gone.key\"", &["absent.pem", "gone.key"]),
    ];
    for (pair, parts) in cases {
        let tls = format!("{{ certificates = [{{ {pair} }}] }}");
        let text = format!("{PREAMBLE}{}{}", listener(&tls), to(&served.origin));
        let refused = served.running.call("PUT", "/v1/config", text.as_bytes());
        assert_eq!(refused.status, 422, "{refused:?}");
        assert!(parts.iter().all(|part| refused.body.contains(part)), "{parts:?}: {}", refused.body);
        let errors = &refused.json()["errors"];
        assert!(errors[0]["message"].as_str().is_some_and(|message| message.contains("listener \"web\"")), "{errors}");
        assert!(errors[0]["key"].as_str().is_some_and(|key| key.starts_with("tls.certificates[0].")), "{errors}");
    }
    assert_eq!(served.connect().get("/", "").status, 200);
    let text = format!("{PREAMBLE}{}", listener("{ certificates = [{ cert = \"x\", key = \"y\" }] }"));
    let config =
        witgate_core::config::parse(&text, "test.toml", Path::new("/nowhere")).expect("it is well-formed").config;
    let error = witgate::Proxy::start(config).err().expect("it cannot serve").to_string();
    assert!(error.contains("/nowhere/x") && error.contains("/nowhere/y"), "{error}");
}

#[test]
fn handshakes_are_bounded_in_number_and_in_time() {
    let served = serve("max_handshakes = 1");
    // One that says nothing more than hello is in its handshake; one that says nothing at all is not yet.
    let _silent = Client::connect(served.running.web());
    let hello = hello(served.running.web(), "a.test", &served.authority.client(&[], None));
    wait_for("another is refused", || {
        let refused = connect(served.running.web(), "a.test", &served.authority.client(&[], None)).is_err();
        (refused && served.running.has_metric("witgate_tls_handshakes_refused_total 1")).then_some(())
    });
    drop(hello);
    wait_for("there is room again", || {
        connect(served.running.web(), "a.test", &served.authority.client(&[], None)).ok()
    });

    let text = config_of(&served).replace("\"1h\"", "\"10ms\"");
    assert_eq!(served.running.call("PUT", "/v1/config", text.as_bytes()).status, 200);
    assert!(Client::connect(served.running.web()).closed(), "who says nothing is cut off");
}

#[test]
fn who_forgets_tls_is_told_so() {
    let served = serve("");
    let told = client::get(served.running.web(), "/", "");
    assert_eq!((told.status, told.header("x-witgate-error")), (400, Some("bad-request")));
    assert!(served.origin.seen().is_empty());
}

/// A proxy before an endpoint that speaks TLS.
struct Behind {
    authority: Authority,
    origin: Origin,
    front: Front,
    running: Running,
}

/// The endpoint's certificate is for `names`; `tls` and more of its cluster, where `ca.pem` is its authority.
fn behind(names: &[&str], clients: bool, tls: &str) -> Behind {
    let (authority, origin, dir) = (Authority::new("endpoints"), Origin::named("o"), scratch());
    let front = Front::before(origin.address, &authority.issue("o", names), clients.then_some(&authority));
    std::fs::write(dir.path().join("ca.pem"), authority.pem()).expect("a file can be written");
    std::fs::write(dir.path().join("other.pem"), Authority::new("endpoints").pem()).expect("a file can be written");
    authority.issue("proxy", &["proxy.test"]).write(dir.path(), "proxy");
    let running = proxy::start_in(dir, &before(&front, tls));
    Behind { authority, origin, front, running }
}

fn before(front: &Front, tls: &str) -> String {
    let port = front.address.port();
    format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n[[route]]\nname = \"all\"\ncluster = \"c\"\n\
         [[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"127.0.0.1:{port}\" }}]\n{tls}\n"
    )
}

impl Behind {
    fn ask(&self) -> Response {
        client::get(self.running.web(), "/", "")
    }

    fn reload(&self, tls: &str) {
        let text = format!("{PREAMBLE}{}", before(&self.front, tls));
        let done = self.running.call("PUT", "/v1/config", text.as_bytes());
        assert_eq!(done.status, 200, "{done:?}");
    }
}

#[test]
fn an_endpoint_is_verified_by_whom_it_is_signed_and_by_its_name() {
    let it = behind(&["127.0.0.1", "o.test"], false, "tls = { ca = \"ca.pem\" }");
    let mut client = Client::connect(it.running.web());
    assert!((0..2).all(|_| client.get("/", "").body == "o"));
    assert_eq!(
        it.front.shaken(),
        [Ok(String::new())],
        "a connection is used again, and an address is no name to ask for"
    );
    // Each with settings of its own: connections that are kept are of no use for them.
    it.reload("tls = { ca = \"ca.pem\", sni = \"o.test\" }");
    assert_eq!(it.ask().body, "o");
    assert_eq!(it.front.shaken()[1], Ok("o.test".to_owned()));
    for tls in ["tls = { ca = \"ca.pem\", sni = \"p.test\" }", "tls = { ca = \"other.pem\" }"] {
        it.reload(tls);
        let refused = it.ask();
        assert_eq!((refused.status, refused.header("x-witgate-error")), (502, Some("connect-failure")), "{tls}");
    }
    it.reload("tls = { verify = false, sni = \"p.test\" }");
    assert_eq!(it.ask().body, "o");
    assert_eq!(it.origin.seen().len(), 4);
    // Not TLS at all: the front takes it for a broken handshake.
    it.reload("");
    assert_eq!(it.ask().status, 502);
}

#[test]
fn an_endpoint_is_shown_the_proxys_own_certificate() {
    let shows = "tls = { ca = \"ca.pem\", cert = \"proxy.pem\", key = \"proxy.key\" }";
    let it = behind(&["127.0.0.1"], true, shows);
    assert_eq!(it.ask().body, "o");
    it.reload("tls = { ca = \"ca.pem\" }");
    assert_eq!(it.ask().status, 502);
    it.reload(shows);
    assert_eq!(it.ask().body, "o");
    let before = it.front.shaken().len();
    it.authority.issue("proxy again", &["proxy.test"]).write(it.running.dir.path(), "proxy");
    wait_for("the new one is shown", || {
        assert_eq!(it.ask().body, "o");
        (it.front.shaken().len() > before).then_some(())
    });
}

#[test]
fn a_body_goes_both_ways_over_tls() {
    let it = behind(&["127.0.0.1"], false, "tls = { ca = \"ca.pem\" }");
    let body = "x".repeat(3 << 20);
    let mut client = Client::connect(it.running.web());
    for _ in 0..2 {
        let length = body.len();
        assert_eq!(
            client.ask(format!("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: {length}\r\n\r\n{body}")).status,
            200
        );
    }
    let seen = it.origin.seen();
    assert!(seen.iter().all(|seen| seen.body.len() == body.len()), "all of it arrived");
}

#[test]
fn health_is_asked_over_tls() {
    let check = "health = { http = { path = \"/well\" }, interval = \"10ms\", fall = 1, rise = 1 }";
    let it = behind(&["127.0.0.1"], false, &format!("tls = {{ ca = \"ca.pem\" }}\n{check}"));
    let state = |wanted: &str| {
        wait_for(wanted, || {
            let cluster = it.running.call("GET", "/v1/clusters/c", b"").json();
            (cluster["endpoints"][0]["health"] == wanted).then_some(())
        });
    };
    state("healthy");
    it.reload(&format!("tls = {{ ca = \"other.pem\" }}\n{check}"));
    state("unhealthy");
}

#[test]
fn a_connection_goes_on_in_another_protocol_over_tls() {
    let (authority, dir) = (Authority::new("both"), scratch());
    let origin = Origin::scripted(|_, stream| {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nearly ";
        let mut heard = [0; 5];
        let _ =
            stream.write_all(head).and_then(|()| stream.read_exact(&mut heard)).and_then(|()| stream.write_all(&heard));
        false
    });
    let front = Front::before(origin.address, &authority.issue("o", &["127.0.0.1"]), None);
    authority.issue("a", &["a.test"]).write(dir.path(), "a");
    std::fs::write(dir.path().join("ca.pem"), authority.pem()).expect("a file can be written");
    let text = format!(
        "{}[[route]]\nname = \"all\"\ncluster = \"c\"\n[[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{}\" }}]\n\
         tls = {{ ca = \"ca.pem\" }}\n",
        listener("{ certificates = [{ cert = \"a.pem\", key = \"a.key\" }] }"),
        front.address
    );
    let running = proxy::start_in(dir, &text);
    let mut client = connect(running.web(), "a.test", &authority.client(&["http/1.1"], None)).expect("a handshake");
    assert_eq!(client.get("/", "connection: upgrade\r\nupgrade: websocket\r\n").status, 101);
    client.send("hello").expect("it is taken");
    assert_eq!(client.rest(), b"early hello");
}

#[test]
fn every_right_end_is_said() {
    let served = serve("");
    // One that asked for another protocol, and did not get it.
    let mut client = served.connect();
    assert_eq!(client.get("/", "connection: upgrade\r\nupgrade: websocket\r\n").status, 200);
    assert_eq!(client.get("/", "connection: close\r\n").status, 200);
    assert!(client.rest().is_empty());
    // One that has rested.
    let text =
        config_of(&served).replace("header_timeout = \"1h\"", "header_timeout = \"1h\", idle_timeout = \"1500ms\"");
    assert_eq!(served.running.call("PUT", "/v1/config", text.as_bytes()).status, 200);
    let mut client = served.connect();
    assert_eq!(client.get("/", "").status, 200);
    assert!(client.rest().is_empty());
}

#[test]
fn who_is_connected_does_not_stay_where_other_proofs_are_asked_for() {
    let served = serve("");
    let mut client = served.connect();
    assert_eq!(client.get("/", "").status, 200);
    let same = config_of(&served).replace("\"1h\"", "\"2h\"");
    assert_eq!(served.running.call("PUT", "/v1/config", same.as_bytes()).status, 200);
    assert_eq!(client.get("/", "").status, 200, "another limit asks for nothing");
    let text = same.replace("key = \"a.key\" }]", "key = \"a.key\" }], client_ca = \"clients.pem\"");
    assert_eq!(served.running.call("PUT", "/v1/config", text.as_bytes()).status, 200);
    assert!(client.rest().is_empty());
}

#[test]
fn an_answer_that_is_cut_short_does_not_look_whole_to_an_old_client() {
    let origin = Origin::raw(|stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
    });
    let running = proxy::start_before(&[&origin], "", "");
    let mut client = std::net::TcpStream::connect(running.web()).expect("somebody listens");
    client.write_all(b"GET / HTTP/1.0\r\nhost: t\r\n\r\n").expect("it is taken");
    let mut heard = Vec::new();
    assert!(client.read_to_end(&mut heard).is_err(), "a right end: {}", String::from_utf8_lossy(&heard));
}
