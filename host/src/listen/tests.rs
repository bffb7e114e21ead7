//! Connections that rest between two requests, over a stream in memory and, but for drains, without a clock; and what a client of
//! TLS says first.

use std::{path::Path, rc::Rc, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime::{Builder, LocalOptions},
    sync::mpsc,
    task::JoinHandle,
};
use witgate_core::config;
use witgate_policy::{Engine, EngineOptions, Store};

use super::{http, tcp};
use crate::{
    Control, Source,
    control::{Sockets, Start},
    drain::{Drain, Phase},
    inherited::Inherited,
    telemetry::access_log::AccessLogs,
    tls::Tls,
    worker::{
        Worker,
        conn::{Conn, Signal},
    },
};

const CONFIG: &str = r#"
[[listener]]
name = "web"
listen = "127.0.0.1:0"
[[route]]
name = "all"
respond = { status = 200, body = "here" }
"#;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A connection that is served, seen from both sides.
struct Served {
    worker: Rc<Worker>,
    conn: Rc<Conn>,
    client: DuplexStream,
    serving: JoinHandle<()>,
}

impl Served {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config::parse(CONFIG, "witgate.toml", Path::new(".")).unwrap().config;
        let engine = Engine::new(EngineOptions { memory_ceiling: 16 << 20, max_instances: 2, cache: None }).unwrap();
        let store = Store::open(&dir.path().join("state")).unwrap();
        let sockets = Sockets::bind(&config, None, 1, &mut Inherited::default()).unwrap();
        let (orders, _obeying) = mpsc::unbounded_channel();
        let (config, source, orders) = (Arc::new(config), Source::default(), vec![orders]);
        let (control, _opening) = Control::start(Start {
            config,
            source,
            engine,
            store,
            cookie_secret: [7; 32],
            sockets,
            tls: Tls::default(),
            orders,
            access_logs: AccessLogs::default(),
            access_log: None,
            spans: Arc::default(),
            traces: None,
            drain: Drain::default(),
            is_successor: false,
        });
        let live = Arc::clone(&control.live);
        let worker = Worker::new(0, live, Arc::clone(&control.telemetry), control.drain.clone(), 1);
        let conn = Conn::new(0, "192.0.2.1:1".parse().unwrap(), false, 64 << 10);
        let (client, stream) = duplex(64 << 10);
        let serving = {
            let (worker, conn) = (Rc::clone(&worker), Rc::clone(&conn));
            tokio::task::spawn_local(async move { http::serve(&worker, &conn, stream).await })
        };
        Self { worker, conn, client, serving }
    }

    async fn ask(&mut self, request: &[u8]) {
        self.client.write_all(request).await.unwrap();
        self.answered().await;
    }

    async fn answered(&mut self) {
        let mut response = Vec::new();
        while !response.ends_with(b"\r\n\r\nhere") {
            assert_ne!(self.client.read_buf(&mut response).await.unwrap(), 0, "{}", String::from_utf8_lossy(&response));
        }
        assert!(response.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&response));
        self.settle().await;
    }

    /// Lets the connection do all that it has to do: nothing here waits for a clock or the system.
    async fn settle(&self) {
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
    }

    async fn rest(&self) {
        self.conn.ask_to_rest();
        self.settle().await;
    }
}

fn check<F: Future<Output = ()>>(test: impl FnOnce(Served) -> F) {
    let runtime = Builder::new_current_thread().enable_time().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async { test(Served::start()).await });
}

/// One that rests after a request.
fn check_resting<F: Future<Output = ()>>(test: impl FnOnce(Served) -> F) {
    check(|mut served| async move {
        served.ask(REQUEST).await;
        served.rest().await;
        test(served).await;
    });
}

#[test]
fn a_connection_that_rested_serves_as_before() {
    check(|mut served| async move {
        served.ask(REQUEST).await;
        for rested in 1..4 {
            served.rest().await;
            assert_eq!(served.worker.rested(), rested);
            let (start, end) = REQUEST.split_at(7);
            served.client.write_all(start).await.unwrap();
            served.settle().await;
            assert!(served.conn.reading_head());
            served.ask(end).await;
        }
        assert!(!served.serving.is_finished());
    });
}

#[test]
fn one_that_is_asked_twice_rests_once() {
    check_resting(|mut served| async move {
        served.rest().await;
        assert_eq!(served.worker.rested(), 1);
        served.ask(REQUEST).await;
        assert_eq!(served.worker.rested(), 1);
    });
}

#[test]
fn one_without_a_request_has_nothing_to_let_go() {
    check(|mut served| async move {
        served.settle().await;
        served.rest().await;
        assert_eq!(served.worker.rested(), 0);
        served.ask(REQUEST).await;
        served.rest().await;
        assert_eq!(served.worker.rested(), 1);
    });
}

#[test]
fn part_of_a_next_head_is_not_lost_and_stops_the_rest() {
    check(|mut served| async move {
        let (start, end) = REQUEST.split_at(20);
        served.ask(&[REQUEST, start].concat()).await;
        served.rest().await;
        assert_eq!(served.worker.rested(), 0);
        assert!(served.conn.reading_head(), "part of it is here");
        served.ask(end).await;
        served.rest().await;
        assert_eq!(served.worker.rested(), 1);
    });
}

#[test]
fn an_empty_line_behind_a_body_is_no_head() {
    check(|mut served| async move {
        served.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx\r\n").await;
        served.rest().await;
        assert_eq!((served.worker.rested(), served.conn.reading_head()), (1, false));
        served.ask(REQUEST).await;
    });
}

#[test]
fn one_that_rests_ends_when_it_is_told_to_and_when_its_client_goes() {
    for signal in [Signal::Finish, Signal::Kill] {
        check_resting(|served| async move {
            served.conn.ask(signal);
            served.settle().await;
            assert!(served.serving.is_finished(), "{signal:?}");
        });
    }
    check_resting(|mut served| async move {
        served.client.shutdown().await.unwrap();
        served.settle().await;
        assert!(served.serving.is_finished());
    });
}

#[test]
fn a_request_that_came_while_it_is_told_to_finish_is_answered() {
    check_resting(|mut served| async move {
        served.client.write_all(REQUEST).await.unwrap();
        served.conn.ask(Signal::Finish);
        served.answered().await;
        assert!(served.serving.is_finished());
    });
}

/// A drain begins when the connection has been idle: for a moment, and for so long that it rests.
fn check_drained<F: Future<Output = ()>>(test: impl Fn(Served) -> F) {
    for rests in [false, true] {
        check(async |mut served| {
            served.ask(REQUEST).await;
            if rests {
                served.rest().await;
            }
            served.worker.drain.advance(Phase::Drain);
            served.conn.ask(Signal::Finish);
            served.settle().await;
            test(served).await;
        });
    }
}

#[test]
fn a_request_that_is_on_its_way_when_a_drain_begins_is_the_last() {
    check_drained(|mut served| async move {
        assert!(!served.serving.is_finished(), "it may be on its way");
        served.client.write_all(REQUEST).await.unwrap();
        let mut response = String::new();
        served.client.read_to_string(&mut response).await.unwrap();
        assert!(response.starts_with("HTTP/1.1 200 ") && response.contains("connection: close\r\n"), "{response}");
        served.settle().await;
        assert!(served.serving.is_finished());
    });
}

#[test]
fn a_drain_does_not_wait_for_one_that_does_not_come() {
    check_drained(|mut served| async move {
        let mut response = Vec::new();
        // As long as it takes on this machine; a test that hangs is one that fails.
        served.client.read_to_end(&mut response).await.unwrap();
        assert_eq!(response, b"");
    });
}

#[test]
fn http2_does_not_begin_after_a_rest() {
    check_resting(|mut served| async move {
        served.client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut response = Vec::new();
        served.client.read_to_end(&mut response).await.unwrap();
        assert_eq!(response, b"", "it ends; HTTP/2 would begin with settings");
    });
}

#[test]
fn the_name_that_a_client_asks_for_is_the_same_however_it_comes() {
    witgate_tests::fuzz::run("client_hello", |bytes| {
        let whole = tcp::name_in(bytes);
        // Every so many bytes: a hello has hundreds.
        for length in (0..bytes.len()).step_by(1 + bytes.len() / 16) {
            let some = tcp::name_in(&bytes[..length]);
            assert!(some.is_none() || some == whole, "{some:?} after {length} bytes, then {whole:?}");
        }
        whole.is_some()
    });
}
