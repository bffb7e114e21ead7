//! The demo's clients: kept connections that send requests and read whole responses, a fixed number of requests or until
//! they are told to stop. Every request ends as an answer or as a failure; none is repeated.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use indicatif::ProgressBar;
use tokio::{
    net::TcpStream,
    runtime::{Builder, LocalOptions},
    sync::mpsc,
    time::timeout,
};

use super::{super::Failed, Outcome, origins::ORIGIN};

/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a response's body.
const MAX_BODY: usize = 64 << 10;
/// Requests that a [`Flow`] remembers; it ends there.
const MAX_RECORDS: usize = 2_000_000;
/// Failures in a row after which a connection of a [`Flow`] gives up.
const MAX_FAILURES: u32 = 100;

/// A GET to be made.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    path: &'static str,
    host: &'static str,
    headers: Vec<(&'static str, String)>,
}

impl Ask {
    pub(super) fn new(path: &'static str) -> Self {
        Self { path, host: "demo", headers: Vec::new() }
    }

    pub(super) fn host(self, host: &'static str) -> Self {
        Self { host, ..self }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn request(self) -> Result<Request<Empty<Bytes>>, String> {
        let request = Request::get(self.path).header(header::HOST, self.host);
        let request = self.headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        request.body(Empty::new()).map_err(|error| format!("{}: {error}", self.path))
    }
}

/// A whole response.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// A header's text; empty where there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Who answered; empty where the proxy did.
    pub(super) fn origin(&self) -> &str {
        self.header(ORIGIN)
    }
}

/// One kept connection, opened anew after a failure.
struct Connection {
    to: SocketAddr,
    sender: Option<SendRequest<Empty<Bytes>>>,
}

impl Connection {
    async fn ask(&mut self, ask: Ask) -> Result<Answer, String> {
        let outcome = timeout(PATIENCE, self.exchange(ask)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
        if outcome.is_err() {
            self.sender = None;
        }
        outcome
    }

    async fn exchange(&mut self, ask: Ask) -> Result<Answer, String> {
        let request = ask.request()?;
        let sender = match &mut self.sender {
            Some(sender) if !sender.is_closed() => sender,
            vacant => vacant.insert(connect(self.to).await?),
        };
        sender.ready().await.map_err(|error| error.to_string())?;
        let (head, body) = sender.send_request(request).await.map_err(|error| error.to_string())?.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| error.to_string())?;
        match head.status.as_u16() {
            status @ 500.. => Err(format!("{status}: {}", String::from_utf8_lossy(&body.to_bytes()).trim())),
            status => Ok(Answer { status, headers: head.headers, body: body.to_bytes() }),
        }
    }
}

async fn connect(to: SocketAddr) -> Result<SendRequest<Empty<Bytes>>, String> {
    let stream = TcpStream::connect(to).await.map_err(|error| format!("connect {to}: {error}"))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Ends with its sender; its errors come out of the requests as well.
    tokio::task::spawn_local(connection);
    Ok(sender)
}

/// Makes `count` requests over `connections` and hears every outcome, in the order they come in. Returns when all have
/// ended.
pub(super) fn each(
    to: SocketAddr,
    connections: usize,
    count: u32,
    ask: impl Fn(u32) -> Ask + 'static,
    mut hear: impl FnMut(u32, Result<Answer, String>),
) -> Outcome {
    let bar = ProgressBar::new(count.into());
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let runtime = runtime.map_err(|error| Failed::new(format!("the clients have no runtime: {error}")))?;
    runtime.block_on(async {
        let (outcomes, mut heard) = mpsc::channel(connections.max(1));
        let (ask, next) = (Rc::new(ask), Rc::new(Cell::new(0)));
        for _ in 0..connections {
            let (ask, next, outcomes) = (Rc::clone(&ask), Rc::clone(&next), outcomes.clone());
            tokio::task::spawn_local(async move {
                let mut connection = Connection { to, sender: None };
                while next.get() < count {
                    let mine = next.replace(next.get() + 1);
                    let outcome = connection.ask(ask(mine)).await;
                    if outcomes.send((mine, outcome)).await.is_err() {
                        return;
                    }
                }
            });
        }
        drop(outcomes);
        while let Some((which, outcome)) = heard.recv().await {
            hear(which, outcome);
            bar.inc(1);
        }
    });
    bar.finish_and_clear();
    Ok(())
}

/// One request of a [`Flow`].
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) began: Instant,
    pub(super) ended: Instant,
    /// What the answer was judged to be, or why there is none.
    pub(super) outcome: Result<u8, Box<str>>,
}

/// The same request over and over, on every connection as fast as answers come, from a thread of its own.
pub(super) struct Flow {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<Vec<Record>>>,
}

impl Flow {
    pub(super) fn start(to: SocketAddr, connections: usize, ask: Ask, judge: fn(&Answer) -> u8) -> Outcome<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let run = move || {
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
            let records = Rc::new(RefCell::new(Vec::new()));
            runtime.block_on(async {
                let client = |_| {
                    let connection = Connection { to, sender: None };
                    tokio::task::spawn_local(repeat(
                        connection,
                        ask.clone(),
                        judge,
                        Arc::clone(&stopped),
                        Rc::clone(&records),
                    ))
                };
                let clients: Vec<_> = (0..connections).map(client).collect();
                for client in clients {
                    client.await?;
                }
                Ok::<_, std::io::Error>(())
            })?;
            Ok(records.take())
        };
        let thread = thread::Builder::new().name("demo-load".to_owned()).spawn(run);
        let thread = thread.map_err(|error| Failed::new(format!("the clients have no thread: {error}")))?;
        Ok(Self { stop, thread })
    }

    /// Ends it once what is in flight has been answered; the records are in the order in which they ended.
    pub(super) fn stop(self) -> Outcome<Vec<Record>> {
        self.stop.store(true, Relaxed);
        let ended = self.thread.join().map_err(|_| Failed::new("the clients' thread panicked"))?;
        ended.map_err(|error| Failed::new(format!("the clients could not run: {error}")))
    }
}

async fn repeat(
    mut connection: Connection,
    ask: Ask,
    judge: fn(&Answer) -> u8,
    stop: Arc<AtomicBool>,
    records: Rc<RefCell<Vec<Record>>>,
) {
    let mut failures = 0;
    while !stop.load(Relaxed) && records.borrow().len() < MAX_RECORDS && failures < MAX_FAILURES {
        let began = Instant::now();
        let outcome = connection.ask(ask.clone()).await;
        let ended = Instant::now();
        failures = if outcome.is_ok() { 0 } else { failures + 1 };
        let outcome = outcome.map(|answer| judge(&answer)).map_err(String::into_boxed_str);
        records.borrow_mut().push(Record { began, ended, outcome });
    }
}
