//! The PROXY protocol before HTTP and before TLS: who the client is, and who may say so.

use std::io::Write as _;

use witgate_tests::{
    client::Client,
    origin::Origin,
    proxy::{self, Running},
    scratch,
    tls::{Authority, connect_over},
    wait_for,
};

const V1: &str = "PROXY TCP4 192.0.2.7 192.0.2.1 12345 80\r\n";
const GET: &str = "GET / HTTP/1.1\r\nhost: t\r\nx-forwarded-for: 198.51.100.1\r\n\r\n";

fn before(origin: &Origin, listener: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\nlimits = {{ header_timeout = \"1h\" }}\n{listener}\n[[route]]\n\
         name = \"all\"\ncluster = \"c\"\n[[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{}\" }}]\n",
        origin.address
    )
}

fn start(listener: &str) -> (Origin, Running) {
    let origin = Origin::named("o");
    let running = proxy::start(&before(&origin, listener));
    (origin, running)
}

/// Whom the origin was told of last.
fn forwarded_for(origin: &Origin) -> Option<String> {
    origin.seen().last()?.header("x-forwarded-for").map(str::to_owned)
}

#[test]
fn the_client_that_a_proxy_names_is_the_client() {
    let (origin, running) = start("proxy_protocol = \"require\"");
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x09\xc0\0\x02\x01\x30\x39\0\x50";
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let cases: [(&[u8], &str); 4] =
        [(V1.as_bytes(), "192.0.2.7"), (v2, "192.0.2.9"), (local, "127.0.0.1"), (b"PROXY UNKNOWN\r\n", "127.0.0.1")];
    for (header, client) in cases {
        let mut connection = Client::connect(running.web());
        assert_eq!(connection.ask([header, GET.as_bytes()].concat()).status, 200);
        assert_eq!(forwarded_for(&origin).as_deref(), Some(client), "what the client says of others is replaced");
        // It is for the whole connection.
        assert_eq!(connection.ask(GET).status, 200);
        assert_eq!(forwarded_for(&origin).as_deref(), Some(client));
    }
    // However it is cut up.
    let mut connection = Client::connect(running.web());
    for byte in v2 {
        connection.send([*byte]).expect("it is read");
    }
    assert_eq!(connection.ask(GET).status, 200);
    assert_eq!(forwarded_for(&origin).as_deref(), Some("192.0.2.9"));
}

#[test]
fn where_a_header_is_required_nothing_else_is_served() {
    let (origin, running) = start("proxy_protocol = \"require\"");
    for (number, first) in [GET, "PROXY TCP4 192.0.2.7\r\n", "PROXY TCP4 a b c d\r\n"].iter().enumerate() {
        let mut connection = Client::connect(running.web());
        connection.send(first).expect("it is read");
        assert!(connection.closed(), "{first}");
        let counted = format!("witgate_proxy_protocol_refused_total {}", number + 1);
        wait_for(&counted, || running.has_metric(&counted).then_some(()));
    }
    // One that breaks off in its middle.
    let mut connection = Client::connect(running.web());
    connection.send("PROXY TCP4 192").expect("it is read");
    connection.finish();
    assert!(connection.closed());
    assert!(origin.seen().is_empty());
}

#[test]
fn only_trusted_proxies_may_name_another_client() {
    let (origin, running) = start("proxy_protocol = \"accept\"\ntrusted_proxies = [\"127.0.0.0/8\", \"192.0.2.8\"]");
    let mut direct = Client::connect(running.web());
    assert_eq!(direct.ask(GET).status, 200);
    assert_eq!(forwarded_for(&origin).as_deref(), Some("198.51.100.1"), "a trusted proxy may also speak HTTP only");
    assert_eq!(Client::connect(running.web()).ask(format!("{V1}{GET}")).status, 200);
    assert_eq!(forwarded_for(&origin).as_deref(), Some("192.0.2.7"), "the client is not trusted because its proxy is");
    let trusted = V1.replace("192.0.2.7", "192.0.2.8");
    assert_eq!(Client::connect(running.web()).ask(format!("{trusted}{GET}")).status, 200);
    let all = origin.seen().last().map(|seen| seen.all("x-forwarded-for").join(", "));
    assert_eq!(all.as_deref(), Some("198.51.100.1, 192.0.2.8"));

    let (origin, running) = start("proxy_protocol = \"accept\"\ntrusted_proxies = [\"192.0.2.0/24\"]");
    assert_eq!(Client::connect(running.web()).ask(format!("{V1}{GET}")).status, 400, "it is no HTTP");
    assert!(origin.seen().is_empty());
}

#[test]
fn the_header_comes_before_tls() {
    let (authority, origin, dir) = (Authority::new("servers"), Origin::named("o"), scratch());
    authority.issue("a", &["a.test"]).write(dir.path(), "a");
    let listener = "proxy_protocol = \"require\"\ntls = { certificates = [{ cert = \"a.pem\", key = \"a.key\" }] }";
    let running = proxy::start_in(dir, &before(&origin, listener));
    let mut stream = std::net::TcpStream::connect(running.web()).expect("somebody listens");
    stream.write_all(V1.as_bytes()).expect("it is read");
    let mut client = connect_over(stream, "a.test", &authority.client(&[], None)).expect("a handshake");
    assert_eq!(client.ask(GET).status, 200);
    assert_eq!(forwarded_for(&origin).as_deref(), Some("192.0.2.7"));
}

#[test]
fn who_does_not_say_it_in_time_is_cut_off() {
    let (_origin, running) = start("proxy_protocol = \"require\"\n");
    let text = std::fs::read_to_string(running.dir.path().join("test.toml")).expect("the configuration");
    assert_eq!(running.call("PUT", "/v1/config", text.replace("\"1h\"", "\"10ms\"").as_bytes()).status, 200);
    let mut silent = Client::connect(running.web());
    silent.send("PROXY TCP4 192").expect("it is read");
    assert!(silent.closed());
}
