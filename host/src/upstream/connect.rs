//! Makes one connection to one endpoint. Never retries: who calls decides that.

use std::{io, sync::Arc, time::Duration};

use tokio::net::TcpStream;
use witgate_core::endpoint::Endpoint;

use super::{Connection, Full, Stream, circuit::Place};

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

/// Connects within `timeout`. The connection holds its place, where it needs one, until it is closed.
pub async fn connect(
    endpoint: &Arc<Endpoint>,
    timeout: Duration,
    pool: &witgate_core::config::Pool,
    place: Option<Place>,
) -> Result<Box<Connection>, ConnectError> {
    let stream = tokio::time::timeout(timeout, TcpStream::connect(endpoint.address()))
        .await
        .map_err(|_| ConnectError::Timeout(timeout))??;
    // Small requests must not wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    let now = std::time::Instant::now();
    let mut connection = Box::new(Connection::new(Stream::Tcp(stream), Arc::clone(endpoint), pool.clone(), now));
    if let Some(place) = place {
        connection.take_place(place);
    }
    Ok(connection)
}
