//! Makes one connection to one endpoint. Never retries: who calls decides that.

use std::{io, sync::Arc, time::Duration};

use tokio::net::TcpStream;
use witgate_core::endpoint::Endpoint;

use super::{Connection, Stream};

/// Why no connection was made. Nothing was sent: trying elsewhere is safe.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address could not be resolved or the endpoint refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// `connect_timeout` passed.
    #[error("not connected within {0:?}")]
    Timeout(Duration),
}

/// Connects within `timeout`.
pub async fn connect(
    endpoint: &Arc<Endpoint>,
    timeout: Duration,
    pool: &witgate_core::config::Pool,
) -> Result<Box<Connection>, ConnectError> {
    // A DNS name is resolved by the system, on a thread of its own; an IP address is not.
    let stream = tokio::time::timeout(timeout, TcpStream::connect(endpoint.address()))
        .await
        .map_err(|_| ConnectError::Timeout(timeout))??;
    // Small requests must not wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    Ok(Box::new(Connection::new(Stream::Tcp(stream), Arc::clone(endpoint), pool.clone(), std::time::Instant::now())))
}
