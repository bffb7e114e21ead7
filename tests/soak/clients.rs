//! All clients at once, each kind at its own fixed rate, whatever becomes of the answers, until SIGINT.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::http::{Body, Place, Pool};
use crate::kinds::{self, Kind, Rate, Way};
use crate::ledger::{self, Bad, Ledger};
use crate::raw;

/// A client's, for one request: longer than anything that the proxy allows.
const PATIENCE: Duration = Duration::from_secs(40);
/// Of one kind without an answer; what comes beyond it is not sent.
const MOST: usize = 1_000;
/// For what is without an answer when no more are sent.
const LAST: Duration = Duration::from_secs(45);

pub(crate) struct Asked {
    http: u16,
    tls: u16,
    tcp: u16,
    authority: PathBuf,
    seed: u64,
    rate: u32,
}

impl Asked {
    pub(crate) fn parse(words: &[&str]) -> Option<Asked> {
        let [http, tls, tcp, authority, seed, rate] = *words else { return None };
        let port = |word: &str| word.parse().ok();
        let (http, tls, tcp) = (port(http)?, port(tls)?, port(tcp)?);
        Some(Asked { http, tls, tcp, authority: authority.into(), seed: seed.parse().ok()?, rate: rate.parse().ok()? })
    }
}

struct Clients {
    asked: Asked,
    plain: Pool,
    tls: Pool,
    shared: Pool,
    ledger: Ledger,
    dice: Cell<u64>,
}

pub(crate) fn run(asked: Asked) -> io::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let place = |port, tls| Place { port, tls };
    let tls = |protocol| trusting(&asked, protocol).map(|config| place(asked.tls, Some(config)));
    let clients = Rc::new(Clients {
        plain: Pool::new(place(asked.http, None), false),
        tls: Pool::new(tls("http/1.1")?, false),
        shared: Pool::new(tls("h2")?, true),
        ledger: Ledger::default(),
        dice: Cell::new(asked.seed),
        asked,
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let all: Vec<_> = kinds::ALL.iter().map(|kind| clients.clone().come(kind, stopped.clone())).collect();
        let all: Vec<_> = all.into_iter().map(tokio::task::spawn_local).collect();
        // Without signals there is no way to be told to stop, so it does at once.
        let _ = tokio::signal::ctrl_c().await;
        let _ = stop.send(true);
        for one in all {
            let _ = one.await;
        }
        let since = Instant::now();
        while clients.ledger.open.get() > 0 && since.elapsed() < LAST {
            sleep(Duration::from_millis(20)).await;
        }
        for pool in [&clients.plain, &clients.tls, &clients.shared] {
            pool.close();
        }
        clients.ledger.close();
    });
    Ok(())
}

/// What a client does handshakes with that trusts the soak's authority.
fn trusting(asked: &Asked, protocol: &str) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(&asked.authority).map_err(io::Error::other)?;
    roots.add(authority).map_err(io::Error::other)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Ok(Arc::new(config))
}

impl Clients {
    /// Requests of one kind, until told to stop.
    async fn come(self: Rc<Self>, kind: &'static Kind, mut stopped: watch::Receiver<bool>) {
        let rate = match kind.rate {
            Rate::Share(share) => self.asked.rate * share / 100,
            Rate::Each(rate) => rate,
        };
        let mut due = interval(Duration::from_secs(1) / rate.max(1));
        due.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let open = Rc::new(Cell::new(0));
        loop {
            tokio::select! {
                _ = due.tick() => {}
                _ = stopped.changed() => return,
            }
            if open.get() >= MOST {
                self.ledger.skipped(kind.name);
                continue;
            }
            let (own, open) = (self.clone(), open.clone());
            count(&open, 1);
            count(&own.ledger.open, 1);
            tokio::task::spawn_local(async move {
                own.one(kind).await;
                count(&open, -1);
                count(&own.ledger.open, -1);
            });
        }
    }

    async fn one(&self, kind: &'static Kind) {
        let (began, since) = (ledger::now(), Instant::now());
        if let Way::GoesAway = kind.way {
            let _ = timeout(PATIENCE, raw::goes_away(self.asked.http, self.roll())).await;
            return self.ledger.gone(kind.name);
        }
        let again = |what: &str| self.ledger.again(kind.name, began, what);
        let http = self.asked.http;
        let done = timeout(PATIENCE, async {
            match kind.way {
                Way::Http1(method, path) => self.plain.exchange(request(method, path, path), again).await,
                Way::Tls(path) => self.tls.exchange(request("GET", path, path), again).await,
                Way::Http2(method, path) => {
                    self.shared.exchange(request(method, &format!("https://localhost{path}"), path), again).await
                }
                Way::Tcp => raw::tcp(self.asked.tcp).await,
                Way::Upgrade => raw::upgrade(http).await,
                Way::SlowSender => raw::slow_sender(http).await,
                Way::SlowReader => raw::slow_reader(http).await,
                Way::GoesAway => Ok(()),
            }
        });
        match done.await.unwrap_or_else(|_| Err(Bad::new("no end within a client's patience"))) {
            Ok(()) => self.ledger.well(kind.name, since),
            Err(bad) => self.ledger.failed(kind.name, began, &bad),
        }
    }

    /// splitmix64.
    fn roll(&self) -> u64 {
        let state = self.dice.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.dice.set(state);
        let bits = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

fn count(cell: &Cell<usize>, change: isize) {
    cell.set(cell.get().saturating_add_signed(change));
}

/// The path is named again, in a header, so that what an origin logs shows it.
fn request(method: &str, target: &str, path: &str) -> Request<Body> {
    let body = if method == "POST" { Bytes::from_static(&[b'x'; 2048]) } else { Bytes::new() };
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method.parse().unwrap_or_default();
    *request.uri_mut() = target.parse().unwrap_or_default();
    if target == path {
        request.headers_mut().insert("host", hyper::header::HeaderValue::from_static("soak"));
    }
    request
}
