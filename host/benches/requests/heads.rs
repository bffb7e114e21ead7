//! What is done to heads: a request's headers checked and rewritten, a response's head read, a request's head written.

use std::{rc::Rc, time::Duration};

use bytes::BytesMut;
use ipnet::IpNet;
use witgate::internals::{
    self, Conn, Found, Layout, Line, Stamp, check, client_address, remove_hop_by_hop, set_forwarded, take_head,
    to_origin,
};
use witgate_core::{config::LogFormat, request::Head};

use crate::{
    inputs::{IN_FRONT, KEEP_ALIVE, UPGRADE_INSECURE, head, response},
    operation::{Operation, ROUNDS},
};

/// The network of those who may speak for others, and a peer in it and one outside.
const TRUSTED: &str = "10.0.0.0/8";
const INSIDE: &str = "10.1.2.3:40000";
const OUTSIDE: &str = "203.0.113.7:40000";

pub(crate) fn operations() -> Vec<Operation> {
    let browser = [UPGRADE_INSECURE];
    let kept = [KEEP_ALIVE];
    let relayed: Vec<_> = browser.into_iter().chain(IN_FRONT).collect();
    let relayed_kept: Vec<_> = kept.into_iter().chain(IN_FRONT).collect();
    vec![
        found("find and check headers", &kept),
        rewritten("headers of a request", false, &browser),
        rewritten("headers of a request, keep-alive", false, &kept),
        rewritten("headers of a request, trusted peer", true, &relayed),
        rewritten("headers of a request, trusted peer, keep-alive", true, &relayed_kept),
        written(),
        told("a line of the access log", &LogFormat::Json),
        read(),
    ]
}

fn conn(trusted: bool) -> Rc<Conn> {
    let peer = if trusted { INSIDE } else { OUTSIDE };
    Conn::new(0, peer.parse().expect("an address"), trusted, 64 << 10)
}

fn found(name: &str, more: &[(&'static str, &'static str)]) -> Operation {
    let head = head(more);
    Operation::new(name, ROUNDS, move || {
        let conn = conn(false);
        (|| (), move |()| check(&head, &Found::of(&head.headers), &conn).is_ok())
    })
}

/// All that is done to a request's headers on its way, and letting go of them.
fn rewritten(name: &str, trusted: bool, more: &[(&'static str, &'static str)]) -> Operation {
    let head = head(more);
    Operation::new(name, ROUNDS, move || {
        let conn = conn(trusted);
        let networks: Vec<IpNet> = vec![TRUSTED.parse().expect("a network")];
        let rewrite = move |mut head: Head| {
            let found = Found::of(&head.headers);
            let sound = check(&head, &found, &conn).is_ok();
            if conn.trusted() {
                head.client = client_address(&head.headers, &conn, &networks);
            }
            remove_hop_by_hop(&mut head.headers, &found);
            set_forwarded(&mut head, &found, &conn, || 7);
            to_origin(&mut head, None);
            (sound, head)
        };
        assert!(rewrite(head.clone()).0);
        (move || head.clone(), rewrite)
    })
}

/// A request's head as it goes to an endpoint, into the room of the one before.
fn written() -> Operation {
    Operation::new("write a request's head", ROUNDS, || {
        let (head, mut lines) = (head(&[UPGRADE_INSECURE]), Vec::new());
        let write = move |()| {
            lines = internals::begin(&head, std::mem::take(&mut lines));
            lines.len()
        };
        (|| (), write)
    })
}

/// A request that ended as a line, in the room of the one before.
fn told(name: &str, format: &LogFormat) -> Operation {
    let layout = Layout::of(format);
    Operation::new(name, ROUNDS, move || {
        let (mut out, mut stamp) = (Vec::new(), Stamp::default());
        let write = move |line: Line<'_>| {
            out.clear();
            layout.write(&mut out, &line, &mut stamp);
            out.len()
        };
        (ended, write)
    })
}

/// What is known of a request of a browser.
fn ended() -> Line<'static> {
    Line {
        request_id: Some(b"4bf92f3577b34da6a3ce929d0e0e4736"),
        client: Some(b"203.0.113.7"),
        peer: Some((b"203.0.113.7", 40_000)),
        listener: Some("web"),
        method: Some("GET"),
        scheme: Some("http"),
        host: Some(b"www.example.com"),
        path: Some("/assets/app.js?v=20260131"),
        protocol: Some("HTTP/1.1"),
        status: Some(200),
        duration: Some(Duration::from_micros(1_234)),
        upstream: Some(Duration::from_micros(1_010)),
        bytes_out: 128,
        route: Some("all"),
        cluster: Some("stable"),
        endpoint: Some("192.0.2.1:80"),
        attempts: 1,
        user_agent: Some(b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
        referer: Some(b"https://www.example.com/"),
        ..Line::default()
    }
}

/// A response's head off what was read, with what is for the client.
fn read() -> Operation {
    Operation::new("read a response's head", ROUNDS, || {
        let response = response(b'.', 128);
        let read = |mut read: BytesMut| (take_head(&mut read), read);
        assert!(read(BytesMut::from(&response[..])).0.is_some());
        (move || BytesMut::from(&response[..]), read)
    })
}
