//! One health check of one endpoint, over a connection of its own. Says whether it is well; decides nothing.

mod grpc;
mod http;

use std::{io, ops::RangeInclusive, time::Duration};

use ::http::{StatusCode, uri::Scheme};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use witgate_core::{
    config::{Health, Probe, Protocol, ProxyVersion},
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
    Request(#[from] ::http::Error),
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

/// Whom a check is for, and how it is spoken to.
pub struct Whom<'w> {
    /// Where it is.
    pub address: &'w str,
    /// What it is called.
    pub authority: &'w str,
    /// What is spoken to it, and below that.
    pub protocol: Protocol,
    /// None: nothing.
    pub tls: Option<&'w tls::Client>,
    /// None: it is not told whom a connection is from.
    pub proxy_protocol: Option<ProxyVersion>,
}

/// Checks an endpoint once, within the time that is configured.
///
/// # Errors
/// What is wrong with it, or that it takes no new requests.
pub async fn probe(whom: &Whom<'_>, health: &Health) -> Result<(), Complaint> {
    let checked = async {
        let mut stream = TcpStream::connect(whom.address).await?;
        if let Some(version) = whom.proxy_protocol {
            stream.write_all(&proxy_header(version, None)).await?;
        }
        let Some(tls) = whom.tls else {
            return ask(stream, (Scheme::HTTP, whom.authority), health, whom.protocol == Protocol::Http2).await;
        };
        let config = match (&health.probe, whom.protocol) {
            (Probe::Http(_), Protocol::Http1) => tls.http1(),
            (Probe::Http(_), Protocol::Auto) => tls.either(),
            (Probe::Http(_), Protocol::Http2) | (Probe::Grpc(_), _) => tls.http2(),
            (Probe::Tcp { .. }, _) => tls.bare(),
        };
        let stream = secured(stream, config, tls, whom.authority).await?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2") || whom.protocol == Protocol::Http2;
        ask(stream, (Scheme::HTTPS, whom.authority), health, is_http2).await
    };
    tokio::time::timeout(health.timeout, checked).await.map_err(|_| Complaint::Timeout(health.timeout))?
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    (scheme, authority): (Scheme, &str),
    health: &Health,
    is_http2: bool,
) -> Result<(), Complaint> {
    match &health.probe {
        Probe::Http(probe) if is_http2 => http::http2(stream, (scheme, authority), probe).await,
        Probe::Http(probe) => http::http1(stream, authority, probe).await,
        Probe::Tcp { send, expect } => tcp(stream, send.as_deref(), expect.as_deref()).await,
        Probe::Grpc(probe) => grpc::check(stream, (scheme, authority), probe, health.timeout).await,
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
