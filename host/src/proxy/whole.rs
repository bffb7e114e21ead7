//! A connection to an endpoint that carries whatever it is: for clients of TCP listeners, and for CONNECT. Never reads a byte of
//! it.

use std::{sync::Arc, time::Instant};

use witgate_core::{
    endpoint::{Endpoint, InFlight, Outcome},
    limits::Counted,
};

use super::exchange::{record, tell_unconnected};
use crate::{
    generation::Cluster,
    upstream::{self, ConnectError, Full, Granted, Place, Stream},
    worker::Worker,
};

/// Endpoints that are tried for one connection, at the most: HAProxy's.
const TRIES: usize = 3;

/// A connection to an endpoint, with what is counted while it lives.
pub struct Opened {
    /// Bytes both ways.
    pub stream: Stream,
    /// Counts it at its endpoint.
    pub in_flight: InFlight,
    /// And in the cluster, where that is limited.
    pub admitted: Option<Counted>,
    /// Its place among the cluster's connections, where those are.
    pub place: Option<Place>,
}

/// Why a connection goes nowhere.
#[derive(Debug, thiserror::Error)]
pub enum Unopened {
    /// Nobody is there to be picked.
    #[error("the cluster has no healthy endpoint")]
    NoHealthyEndpoint,
    /// A limit of the cluster is reached.
    #[error("the cluster has as many connections as it may")]
    Full,
    /// None of those that were tried.
    #[error("no endpoint could be connected to: {0}")]
    Connect(#[from] ConnectError),
}

impl From<Full> for Unopened {
    fn from(Full: Full) -> Self {
        Self::Full
    }
}

/// Opens a connection to an endpoint of the cluster, or to another where that failed. Begins with `header`, if any.
///
/// # Errors
/// There is none.
pub async fn open(
    worker: &Worker,
    cluster: &Cluster,
    hash: Option<u64>,
    header: Option<&[u8]>,
) -> Result<Opened, Unopened> {
    let admitted = cluster.circuit.as_ref().map(|circuit| circuit.admit()).transpose()?.flatten();
    let (mut tried, mut failed) = (Vec::new(), None);
    for _ in 0..TRIES.min(cluster.endpoints.len()) {
        let began = Instant::now();
        let picked = cluster.picker(began).pick(&cluster.cursor, hash, &tried, began, &mut || worker.random());
        let Some((index, endpoint)) = picked.and_then(|index| Some((index, cluster.endpoints.get(index)?))) else {
            break;
        };
        let in_flight = endpoint.begin();
        match open_to(worker, cluster, endpoint, header).await {
            Ok((stream, place)) => {
                let now = Instant::now();
                let took = now.saturating_duration_since(began);
                record(worker, Some(cluster), endpoint, now, Some(took), Outcome::Success);
                worker.cells().connected.up();
                return Ok(Opened { stream, in_flight, admitted, place });
            }
            Err(ConnectError::Full) => return Err(Unopened::Full),
            Err(error) => {
                worker.cells().connect_failed.up();
                record(worker, Some(cluster), endpoint, Instant::now(), None, Outcome::Local);
                tell_unconnected(worker, cluster, endpoint, &error);
                tried.push(u32::try_from(index).unwrap_or(u32::MAX));
                failed = Some(error);
            }
        }
    }
    Err(failed.map_or(Unopened::NoHealthyEndpoint, Unopened::Connect))
}

/// A connection to this endpoint, with a place among those that the cluster may have.
async fn open_to(
    worker: &Worker,
    cluster: &Cluster,
    endpoint: &Arc<Endpoint>,
    header: Option<&[u8]>,
) -> Result<(Stream, Option<Place>), ConnectError> {
    let timeout = cluster.config.connect_timeout;
    let place = match cluster.circuit.as_ref().filter(|circuit| circuit.limits_connections()) {
        None => None,
        Some(circuit) => {
            let ask = || worker.live.shared().note_crowded();
            match worker.upstreams.grant(circuit, endpoint, timeout, ask).await? {
                Granted::Place(place) => Some(place),
                Granted::Connection(connection) => connection.into_place(),
            }
        }
    };
    let tls = cluster.tls.as_ref().map(|tls| (&**tls, tls.bare()));
    Ok((upstream::open(endpoint, timeout, tls, header).await?, place))
}
