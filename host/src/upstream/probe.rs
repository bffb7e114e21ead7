//! One health check of one endpoint, over a connection of its own. Says whether it is well; decides nothing.

mod grpc;

use std::{io, ops::RangeInclusive, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header, uri::Scheme};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use witgate_core::{
    config::{Health, HttpProbe, Probe, ProxyVersion},
    endpoint::Checked,
};

use super::connect::{proxy_header, secured};
use crate::tls;

/// Bytes that are looked through for what is expected.
const LOOK_THROUGH: usize = 64 << 10;

/// What checks say that they are.
const AGENT: &str = concat!("witgate-health/", env!("CARGO_PKG_VERSION"));

/// What is wrong with an endpoint, or why it is to take no new requests.
#[derive(Debug, thiserror::Error)]
pub enum Complaint {
    /// It cannot be connected to, or breaks off.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It does not speak HTTP.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// It does not speak HTTP/2.
    #[error("{0}")]
    Http2(#[from] h2::Error),
    /// What was configured makes no request.
    #[error("{0}")]
    Request(#[from] http::Error),
    /// Another status than those of a healthy endpoint.
    #[error("status {}, not {}", .0.as_u16(), show(.1))]
    Status(StatusCode, Vec<RangeInclusive<u16>>),
    /// A status by which it says that it takes no new requests.
    #[error("status {}: it takes no new requests", .0.as_u16())]
    Leaving(StatusCode),
    /// What it says lacks the text.
    #[error("no {0:?} in its answer")]
    Missing(String),
    /// A call of its health service failed: code, word, and what it says of it.
    #[error("grpc-status {0}")]
    Grpc(String),
    /// Its health service says that it does not serve.
    #[error("status {0}")]
    Serving(&'static str),
    /// Its health service answers what is none.
    #[error("its answer makes no sense: {0}")]
    Malformed(&'static str),
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl Complaint {
    /// What it makes of the check.
    pub fn checked(&self) -> Checked {
        if matches!(self, Self::Leaving(_)) { Checked::Leaving } else { Checked::Ill }
    }
}

fn show(expected: &[RangeInclusive<u16>]) -> String {
    let one = |range: &RangeInclusive<u16>| match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    expected.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Checks the endpoint at an address once, within the time that is configured; `authority` is what it is called.
///
/// # Errors
/// What is wrong with it, or that it takes no new requests.
pub async fn probe(
    address: &str,
    authority: &str,
    tls: Option<&tls::Client>,
    proxy_protocol: Option<ProxyVersion>,
    health: &Health,
) -> Result<(), Complaint> {
    let checked = async {
        let mut stream = TcpStream::connect(address).await?;
        if let Some(version) = proxy_protocol {
            stream.write_all(&proxy_header(version, None)).await?;
        }
        let Some(tls) = tls else { return ask(stream, (Scheme::HTTP, authority), health).await };
        let config = match health.probe {
            Probe::Http(_) => tls.http1(),
            Probe::Grpc(_) => tls.http2(),
            Probe::Tcp { .. } => tls.bare(),
        };
        ask(secured(stream, config, tls, authority).await?, (Scheme::HTTPS, authority), health).await
    };
    tokio::time::timeout(health.timeout, checked).await.map_err(|_| Complaint::Timeout(health.timeout))?
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    (scheme, authority): (Scheme, &str),
    health: &Health,
) -> Result<(), Complaint> {
    match &health.probe {
        Probe::Http(probe) => http(stream, authority, probe).await,
        Probe::Tcp { send, expect } => tcp(stream, send.as_deref(), expect.as_deref()).await,
        Probe::Grpc(probe) => grpc::check(stream, (scheme, authority), probe, health.timeout).await,
    }
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    authority: &str,
    probe: &HttpProbe,
) -> Result<(), Complaint> {
    let request = Request::builder()
        .method(&probe.method)
        .uri(&probe.path)
        .header(header::HOST, probe.host.as_deref().unwrap_or(authority))
        .header(header::USER_AGENT, AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let asked = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let among = |ranges: &[RangeInclusive<u16>]| ranges.iter().any(|range| range.contains(&status.as_u16()));
        if among(&probe.drain) {
            return Err(Complaint::Leaving(status));
        }
        if !among(&probe.expect) {
            return Err(Complaint::Status(status, probe.expect.clone()));
        }
        let Some(expected) = &probe.expect_body else { return Ok(()) };
        let (mut body, mut seen) = (response.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            seen.extend_from_slice(&data);
            if contains(&seen, expected) {
                return Ok(());
            }
            if seen.len() >= LOOK_THROUGH {
                break;
            }
        }
        Err(Complaint::Missing(expected.clone()))
    };
    // Dropped with the connection when there is an answer: nothing is left behind.
    let mut connection = std::pin::pin!(connection);
    let mut asked = std::pin::pin!(asked);
    tokio::select! {
        biased;
        answer = &mut asked => answer,
        // It ends when the endpoint closes it, after which what was read is still to be looked at.
        _ = &mut connection => asked.await,
    }
}

async fn tcp(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    send: Option<&str>,
    expect: Option<&str>,
) -> Result<(), Complaint> {
    if let Some(send) = send {
        stream.write_all(send.as_bytes()).await?;
        stream.flush().await?;
    }
    let Some(expected) = expect else { return Ok(()) };
    let mut seen = Vec::with_capacity(1 << 10);
    while seen.len() < LOOK_THROUGH && stream.read_buf(&mut seen).await? > 0 {
        if contains(&seen, expected) {
            return Ok(());
        }
    }
    Err(Complaint::Missing(expected.to_owned()))
}

fn contains(seen: &[u8], expected: &str) -> bool {
    memchr::memmem::find(seen, expected.as_bytes()).is_some()
}
