//! Makes one connection to one endpoint. Never retries: who calls decides that.

use std::{io, sync::Arc, time::Duration};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use witgate_core::endpoint::Endpoint;

use super::Connection;

/// Why no connection was made. Nothing was sent: trying elsewhere is safe.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address could not be resolved or the endpoint refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// `connect_timeout` passed.
    #[error("not connected within {0:?}")]
    Timeout(Duration),
    /// HTTP could not be begun.
    #[error("{0}")]
    Handshake(#[from] hyper::Error),
}

/// Connects within `timeout`. Must run on a worker: the connection's task belongs to it.
pub async fn connect(
    endpoint: &Arc<Endpoint>,
    timeout: Duration,
    pool: &witgate_core::config::Pool,
) -> Result<Connection, ConnectError> {
    // A DNS name is resolved by the system, on a thread of its own; an IP address is not.
    let stream = tokio::time::timeout(timeout, TcpStream::connect(endpoint.address()))
        .await
        .map_err(|_| ConnectError::Timeout(timeout))??;
    // Small requests must not wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::Builder::new().handshake(TokioIo::new(stream)).await?;
    // The connection ends with an error where the endpoint breaks off; whoever waits for the response is told the same.
    tokio::task::spawn_local(async move { drop(connection.await) });
    Ok(Connection::new(sender, Arc::clone(endpoint), pool.clone(), std::time::Instant::now()))
}
