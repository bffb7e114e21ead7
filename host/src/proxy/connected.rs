//! A way to an endpoint for a try: a connection that is kept, a stream of one, one that is made, or, where the cluster may have no
//! more of them, one that is waited for. Sends nothing.

use std::{rc::Rc, sync::Arc, time::Duration};

use witgate_core::{
    config::Protocol,
    endpoint::{Endpoint, InFlight},
};

use crate::{
    generation::Cluster,
    upstream::{self, Channel, ConnectError, Granted, Target},
    worker::Worker,
};

/// A way to the endpoint within `time`, and whether its connection was there before. While it is waited for, the try is not in
/// `account`: nothing was asked of the endpoint yet, and whatever comes is not its fault.
pub async fn connected(
    worker: &Rc<Worker>,
    cluster: &Cluster,
    endpoint: &Arc<Endpoint>,
    time: Option<Duration>,
    account: &mut Option<InFlight>,
) -> Result<(Channel, bool), ConnectError> {
    let tls = cluster.tls.as_ref();
    let protocol = cluster.config.protocol;
    if protocol != Protocol::Http2
        && let Some(connection) = worker.upstreams.take(endpoint, tls)
    {
        worker.cells().reused.up();
        return Ok((Channel::Http1(connection), true));
    }
    if protocol == Protocol::Http2 || protocol == Protocol::Auto && tls.is_some() {
        return joined(worker, cluster, endpoint, time, account).await;
    }
    // On the heap, as it is large and rare: what a request's future holds is moved with it.
    Box::pin(async move {
        let target = target(cluster, endpoint, time);
        let mut place = None;
        if let Some(circuit) = cluster.circuit.as_ref().filter(|circuit| circuit.limits_connections()) {
            let aside = account.take();
            let ask = || worker.live.shared().note_crowded();
            let granted = worker.upstreams.grant(circuit, endpoint, target.timeout, ask).await?;
            *account = aside;
            match granted {
                Granted::Connection(connection) if connection.suits(tls) => {
                    worker.cells().reused.up();
                    return Ok((Channel::Http1(connection), true));
                }
                Granted::Connection(connection) => place = connection.into_place(),
                Granted::Place(granted) => place = Some(granted),
            }
        }
        let connection = upstream::connect(&target, place).await?;
        worker.cells().connected.up();
        Ok((Channel::Http1(connection), false))
    })
    .await
}

fn target<'t>(cluster: &'t Cluster, endpoint: &'t Arc<Endpoint>, time: Option<Duration>) -> Target<'t> {
    Target {
        endpoint,
        protocol: cluster.config.protocol,
        tls: cluster.tls.as_ref(),
        pool: &cluster.config.pool,
        timeout: cluster.config.connect_timeout.min(time.unwrap_or(Duration::MAX)),
        patience: cluster.config.connect_timeout,
    }
}

/// The same, where an endpoint speaks HTTP/2 or may choose to.
async fn joined(
    worker: &Rc<Worker>,
    cluster: &Cluster,
    endpoint: &Arc<Endpoint>,
    time: Option<Duration>,
    account: &mut Option<InFlight>,
) -> Result<(Channel, bool), ConnectError> {
    let tls = cluster.tls.as_ref();
    if let Some(slot) = worker.upstreams.join(endpoint, tls) {
        worker.cells().reused.up();
        return Ok((Channel::Http2(slot), true));
    }
    Box::pin(async move {
        let circuit = cluster.circuit.as_ref().filter(|circuit| circuit.limits_connections());
        let ask = || worker.live.shared().note_crowded();
        let aside = if circuit.is_some() { account.take() } else { None };
        let target = target(cluster, endpoint, time);
        let joined = upstream::join_or_connect(&worker.upstreams, &target, circuit, ask).await;
        if let Some(aside) = aside
            && !matches!(joined, Err(ConnectError::Full))
        {
            *account = Some(aside);
        }
        let (channel, reused) = joined?;
        let cells = worker.cells();
        if reused {
            cells.reused.up()
        } else {
            cells.connected.up()
        }
        Ok((channel, reused))
    })
    .await
}
