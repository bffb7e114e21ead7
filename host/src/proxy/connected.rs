//! A connection for a try: one that is kept, one that is made, or, where the cluster may have no more of them, one that is
//! waited for. Sends nothing.

use std::{rc::Rc, sync::Arc, time::Duration};

use witgate_core::endpoint::{Endpoint, InFlight};

use crate::{
    generation::Cluster,
    upstream::{self, ConnectError, Connection, Granted},
    worker::Worker,
};

/// A connection to the endpoint within `time`, and whether it was there before. While it is waited for, the try is not in
/// `account`: nothing was asked of the endpoint yet, and whatever comes is not its fault.
pub async fn connected(
    worker: &Rc<Worker>,
    cluster: &Cluster,
    endpoint: &Arc<Endpoint>,
    time: Option<Duration>,
    account: &mut Option<InFlight>,
) -> Result<(Box<Connection>, bool), ConnectError> {
    let tls = cluster.tls.as_ref();
    if let Some(connection) = worker.upstreams.take(endpoint, tls) {
        worker.cells().reused.up();
        return Ok((connection, true));
    }
    // On the heap, as it is large and rare: what a request's future holds is moved with it.
    Box::pin(async move {
        let timeout = cluster.config.connect_timeout.min(time.unwrap_or(Duration::MAX));
        let mut place = None;
        if let Some(circuit) = cluster.circuit.as_ref().filter(|circuit| circuit.limits_connections()) {
            let aside = account.take();
            let ask = || worker.live.shared().note_crowded();
            let granted = worker.upstreams.grant(circuit, endpoint, timeout, ask).await?;
            *account = aside;
            match granted {
                Granted::Connection(connection) if connection.suits(tls) => {
                    worker.cells().reused.up();
                    return Ok((connection, true));
                }
                Granted::Connection(connection) => place = connection.into_place(),
                Granted::Place(granted) => place = Some(granted),
            }
        }
        let connection = upstream::connect(endpoint, timeout, &cluster.config.pool, tls, place).await?;
        worker.cells().connected.up();
        Ok((connection, false))
    })
    .await
}
