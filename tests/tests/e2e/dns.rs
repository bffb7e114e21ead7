//! Endpoints that are names: all addresses of a name, looked up again as it grows old, and kept while nobody answers.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use serde_json::Value;
use witgate_tests::{
    origin::Origin,
    proxy::{self, Running},
    wait_for,
};

/// A name server that knows one answer for every name: these addresses, for one second. None: it says nothing at all.
struct NameServer {
    address: SocketAddr,
    answer: Arc<Mutex<Option<Vec<Ipv4Addr>>>>,
    asked: Arc<AtomicUsize>,
}

impl NameServer {
    fn start(answer: &[Ipv4Addr]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("it works on loopback");
        let (answer, asked) = (Arc::new(Mutex::new(Some(answer.to_vec()))), Arc::<AtomicUsize>::default());
        let (says, counts) = (Arc::clone(&answer), Arc::clone(&asked));
        // Ends with the process.
        thread::spawn(move || {
            let mut query = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut query) {
                counts.fetch_add(1, SeqCst);
                if let Some(addresses) = &*says.lock().expect("nobody panics with it") {
                    let _ = socket.send_to(&response(&query[..length], addresses), client);
                }
            }
        });
        Self { address, answer, asked }
    }

    fn say(&self, answer: Option<&[Ipv4Addr]>) {
        *self.answer.lock().expect("nobody panics with it") = answer.map(<[_]>::to_vec);
    }

    fn wait_until_asked(&self, times: usize) {
        let before = self.asked.load(SeqCst);
        wait_for("the name server to be asked", || (self.asked.load(SeqCst) >= before + times).then_some(()));
    }
}

/// RFC 1035 §4: the query's header and question, and the addresses where it asks for A.
fn response(query: &[u8], addresses: &[Ipv4Addr]) -> Vec<u8> {
    let end_of_name = 12 + query[12..].iter().position(|byte| *byte == 0).expect("a name ends") + 1;
    let is_a = query[end_of_name..][..2] == [0, 1];
    let answers: Vec<_> = addresses.iter().filter(|_| is_a).collect();
    let mut bytes = query[..end_of_name + 4].to_vec();
    bytes[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, answers.len() as u8, 0, 0, 0, 0]);
    for address in answers {
        bytes.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        bytes.extend_from_slice(&address.octets());
    }
    bytes
}

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn start(server: &NameServer, port: u16) -> Running {
    let dir = witgate_tests::scratch();
    let config = format!(
        "resolvers = [\"{}\"]\n[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n[[route]]\nname = \"all\"\n\
         cluster = \"c\"\n[[cluster]]\nname = \"c\"\nbalance = \"round-robin\"\n\
         endpoints = [{{ address = \"origin.test:{port}\", weight = 2 }}]\n",
        server.address
    );
    proxy::start_in(dir, &config)
}

fn addresses(running: &Running) -> Vec<String> {
    let cluster = running.call("GET", "/v1/clusters/c", b"").json();
    let all = cluster["endpoints"].as_array().cloned().unwrap_or_default();
    all.iter().map(|e| e["address"].as_str().unwrap_or_default().to_owned()).collect()
}

fn wait_for_addresses(running: &Running, port: u16, want: &[Ipv4Addr]) {
    let want: Vec<String> = want.iter().map(|ip| format!("{ip}:{port}")).collect();
    wait_for(&format!("{want:?}"), || (addresses(running) == want).then_some(()));
}

#[test]
fn all_addresses_of_a_name_are_endpoints_and_follow_it() {
    let a = Origin::named("a");
    let b = Origin::beside(&a, "b");
    let port = a.address.port();
    let server = NameServer::start(&[FIRST]);
    let running = start(&server, port);
    let mut client = running.client();
    assert_eq!(client.get("/", "").body, "a", "known before it serves");
    server.say(Some(&[SECOND, FIRST]));
    wait_for_addresses(&running, port, &[FIRST, SECOND]);
    let bodies: Vec<String> = (0..4).map(|_| client.get("/", "").body).collect();
    assert_eq!(bodies.iter().filter(|body| *body == "a").count(), 2, "{bodies:?}");
    let shown = running.call("GET", "/v1/clusters/c", b"").json()["endpoints"][0].clone();
    assert_eq!(shown["authority"], format!("origin.test:{port}"));
    assert_eq!(shown["weight"], 2);
    assert!(shown["requests"].as_u64() >= Some(3), "who stays keeps what is known of it: {shown}");
    server.say(Some(&[SECOND]));
    wait_for_addresses(&running, port, &[SECOND]);
    assert_eq!(client.get("/", "").body, "b");
    drop(b);
}

#[test]
fn what_is_known_is_kept_while_nobody_answers() {
    let a = Origin::named("a");
    let port = a.address.port();
    let server = NameServer::start(&[FIRST]);
    let running = start(&server, port);
    let mut client = running.client();
    for outage in [None, Some(&[][..])] {
        server.say(outage);
        server.wait_until_asked(3);
        for _ in 0..20 {
            assert_eq!(client.get("/", "").body, "a", "{outage:?}");
        }
        wait_for_addresses(&running, port, &[FIRST]);
    }
}

#[test]
fn one_address_of_a_name_can_be_drained() {
    let a = Origin::named("a");
    let b = Origin::beside(&a, "b");
    let port = a.address.port();
    let server = NameServer::start(&[FIRST, SECOND]);
    let running = start(&server, port);
    let patched = running.call("PATCH", &format!("/v1/clusters/c/endpoints/{FIRST}:{port}"), br#"{"state": "drain"}"#);
    assert_eq!(patched.status, 200, "{patched:?}");
    let mut client = running.client();
    for _ in 0..10 {
        assert_eq!(client.get("/", "").body, "b");
    }
    let states: Vec<Value> =
        patched.json()["endpoints"].as_array().unwrap().iter().map(|e| e["state"].clone()).collect();
    assert_eq!(states, ["draining", "active"]);
    drop(b);
}
