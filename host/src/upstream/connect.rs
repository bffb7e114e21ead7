//! Makes one connection to one endpoint. Never retries: who calls decides that.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use proxy_header::{ProxiedAddress, ProxyHeader};
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use witgate_core::{
    config::{self, Protocol, ProxyVersion},
    endpoint::Endpoint,
};

use super::{
    Connection, Full, Stream,
    circuit::Place,
    h2::{Session, handshake},
};
use crate::tls;

/// Why no connection was made. Nothing was sent: trying elsewhere is safe.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The endpoint refused, or there is no way to it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It does not prove who it is, or speaks TLS otherwise.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// `connect_timeout` passed.
    #[error("not connected within {0:?}")]
    Timeout(Duration),
    /// The cluster has as many connections as it may, and none was to be had in time.
    #[error("the cluster has as many connections as it may")]
    Full,
}

impl From<Full> for ConnectError {
    fn from(Full: Full) -> Self {
        Self::Full
    }
}

/// Where a connection is to lead, and how.
pub struct Target<'t> {
    /// To whom.
    pub endpoint: &'t Arc<Endpoint>,
    /// What is spoken.
    pub protocol: Protocol,
    /// And below that.
    pub tls: Option<&'t Arc<tls::Client>>,
    /// Limits of the pool that it is for.
    pub pool: &'t config::Pool,
    /// For connecting, the handshake of TLS included.
    pub timeout: Duration,
    /// How long an endpoint may be silent that is asked whether it is still there.
    pub patience: Duration,
}

/// What was made.
pub(super) enum Made {
    /// For one request at a time.
    Http1(Box<Connection>),
    /// For many.
    Http2(Rc<Session>),
}

impl Target<'_> {
    /// A connection that carries one request at a time over this stream.
    fn alone(&self, stream: Stream, place: Option<Place>) -> Box<Connection> {
        let endpoint = Arc::clone(self.endpoint);
        let mut connection = Box::new(Connection::new(stream, endpoint, self.pool.clone(), Instant::now()));
        connection.secured_by(self.tls.cloned());
        if let Some(place) = place {
            connection.take_place(place);
        }
        connection
    }
}

/// Connects for HTTP/1.1. The connection holds its place, where it needs one, until it is closed.
pub async fn connect(target: &Target<'_>, place: Option<Place>) -> Result<Box<Connection>, ConnectError> {
    let tls = target.tls.map(|tls| (&**tls, tls.http1()));
    let stream = open(target.endpoint, target.timeout, tls, None).await?;
    Ok(target.alone(stream, place))
}

/// Connects for HTTP/2, or for whichever of both the endpoint chooses (ALPN). `freed` is told when a stream over it has ended.
pub(super) async fn either(
    target: &Target<'_>,
    place: Option<Place>,
    freed: &Rc<Notify>,
) -> Result<Made, ConnectError> {
    let may_choose = target.protocol == Protocol::Auto;
    let tls = target.tls.map(|tls| (&**tls, if may_choose { tls.either() } else { tls.http2() }));
    let stream = open(target.endpoint, target.timeout, tls, None).await?;
    let is_http2 = match &stream {
        Stream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        _ => !may_choose,
    };
    if is_http2 {
        return handshake(stream, target, place, freed).await.map(Made::Http2);
    }
    if may_choose {
        return Ok(Made::Http1(target.alone(stream, place)));
    }
    let why = "the endpoint does not choose h2 (ALPN)";
    Err(ConnectError::Tls(io::Error::new(io::ErrorKind::Unsupported, why)))
}

/// A header of the PROXY protocol (v1 or v2): whom a connection is from, and where that came to; none: this proxy itself.
pub fn proxy_header(version: ProxyVersion, named: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    // Addresses of one family only: an IPv4 address that came over an IPv6 socket is mapped back.
    let named =
        named.map(|(from, to)| if from.is_ipv4() == to.is_ipv4() { (from, to) } else { (mapped(from), mapped(to)) });
    let header = match named {
        Some((from, to)) => ProxyHeader::with_address(ProxiedAddress::stream(from, to)),
        None => ProxyHeader::with_local(),
    };
    let mut bytes = Vec::new();
    let encoded = match version {
        ProxyVersion::V1 => header.encode_v1(&mut bytes),
        ProxyVersion::V2 => header.encode_v2(&mut bytes),
    };
    debug_assert!(encoded.is_ok(), "there is room, and nothing that v1 has no words for");
    bytes
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// A stream to an endpoint within `timeout`, over TLS where that is spoken, and as this says. Begins with `header`, if any.
pub async fn open(
    endpoint: &Endpoint,
    timeout: Duration,
    tls: Option<(&tls::Client, &Arc<ClientConfig>)>,
    header: Option<&[u8]>,
) -> Result<Stream, ConnectError> {
    let stream = async {
        let mut stream = TcpStream::connect(endpoint.address()).await?;
        // Small requests must not wait for the acknowledgement of the one before.
        stream.set_nodelay(true)?;
        if let Some(header) = header {
            stream.write_all(header).await?;
        }
        Ok::<_, ConnectError>(match tls {
            None => Stream::Tcp(stream),
            // On the heap, as a handshake is large.
            Some((tls, config)) => Stream::Tls(Box::new(
                Box::pin(secured(stream, config, tls, endpoint.authority())).await.map_err(ConnectError::Tls)?,
            )),
        })
    };
    tokio::time::timeout(timeout, stream).await.map_err(|_| ConnectError::Timeout(timeout))?
}

/// TLS over a connection to an endpoint of this authority, which must prove that it is who it should be.
pub(super) async fn secured<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    config: &Arc<ClientConfig>,
    tls: &tls::Client,
    authority: &str,
) -> io::Result<TlsStream<S>> {
    let name = tls.name_of(authority).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{authority:?} is no name for a certificate: {error}"))
    })?;
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}
