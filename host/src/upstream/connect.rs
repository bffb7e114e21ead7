//! Makes one connection to one endpoint. Never retries: who calls decides that.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use witgate_core::endpoint::Endpoint;

use super::{Connection, Full, Stream, circuit::Place};
use crate::tls;

/// Why no connection was made. Nothing was sent: trying elsewhere is safe.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The endpoint refused, or there is no way to it.
    #[error("{0}")]
    Io(#[from] io::Error),
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

/// Connects within `timeout`, the handshake of TLS included where that is spoken. The connection holds its place, where it
/// needs one, until it is closed.
pub async fn connect(
    endpoint: &Arc<Endpoint>,
    timeout: Duration,
    pool: &witgate_core::config::Pool,
    tls: Option<&Arc<tls::Client>>,
    place: Option<Place>,
) -> Result<Box<Connection>, ConnectError> {
    let stream = open(endpoint, timeout, tls.map(|tls| (&**tls, tls.http1()))).await?;
    let mut connection = Box::new(Connection::new(stream, Arc::clone(endpoint), pool.clone(), Instant::now()));
    connection.secured_by(tls.cloned());
    if let Some(place) = place {
        connection.take_place(place);
    }
    Ok(connection)
}

/// A stream to an endpoint within `timeout`, over TLS where that is spoken, and as this says.
pub async fn open(
    endpoint: &Endpoint,
    timeout: Duration,
    tls: Option<(&tls::Client, &Arc<ClientConfig>)>,
) -> Result<Stream, ConnectError> {
    let stream = async {
        let stream = TcpStream::connect(endpoint.address()).await?;
        // Small requests must not wait for the acknowledgement of the one before.
        stream.set_nodelay(true)?;
        Ok::<_, io::Error>(match tls {
            None => Stream::Tcp(stream),
            // On the heap, as a handshake is large.
            Some((tls, config)) => {
                Stream::Tls(Box::new(Box::pin(secured(stream, config, tls, endpoint.authority())).await?))
            }
        })
    };
    Ok(tokio::time::timeout(timeout, stream).await.map_err(|_| ConnectError::Timeout(timeout))??)
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
