//! Endpoints that an operator changes while traffic flows: until the next start or configuration, which say it anew.

use std::time::Instant;

use witgate_core::{config, endpoint::State};

use super::{Basis, Control, ControlError};
use crate::{
    assemble,
    generation::{Cluster, Generation},
    upstream::dns,
};

/// What is to be different about an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndpointChange {
    /// Whether it takes new requests, as far as the operator is concerned.
    pub state: Option<State>,
    /// Its configured weight.
    pub weight: Option<u32>,
}

impl Control {
    /// Gives a cluster other endpoints. Those that stay keep their health, statistics and connections; those that go
    /// finish what they have. How many it has now.
    ///
    /// # Errors
    /// There is no such cluster.
    pub fn replace_endpoints(&self, cluster: &str, endpoints: Vec<config::Endpoint>) -> Result<usize, ControlError> {
        let _turn = self.turn()?;
        let count = endpoints.len();
        self.learn(dns::names_in(&endpoints));
        self.publish_endpoints(cluster, |_| Ok(endpoints))?;
        Ok(count)
    }

    /// Drains an endpoint, takes it back, or gives it another weight. New requests follow it from the moment on at which
    /// this returns; what is in flight there finishes.
    ///
    /// # Errors
    /// There is no such cluster, or no such endpoint in it.
    pub fn change_endpoint(&self, cluster: &str, address: &str, change: EndpointChange) -> Result<(), ControlError> {
        let _turn = self.turn()?;
        let EndpointChange { state, weight } = change;
        let now = Instant::now();
        self.publish_endpoints(cluster, |present| {
            let mut endpoints = present.config.endpoints.clone();
            let named = present.endpoints.iter().find(|e| e.address() == address);
            let endpoint = named.ok_or_else(|| unknown(present, address))?;
            // A weight is that of the name that the address belongs to.
            let wanted = endpoints.iter_mut().find(|e| e.address == endpoint.authority());
            if let (Some(weight), Some(wanted)) = (weight, wanted) {
                wanted.weight = weight;
            }
            if let Some(state) = state {
                endpoint.set_state(state, now);
            }
            Ok(endpoints)
        })
    }

    fn publish_endpoints(
        &self,
        cluster: &str,
        endpoints: impl FnOnce(&Cluster) -> Result<Vec<config::Endpoint>, ControlError>,
    ) -> Result<(), ControlError> {
        let next = |present: &Generation| {
            let index = present.find_cluster(cluster).map_err(ControlError::NotFound)?;
            let endpoints = endpoints(&present.clusters[index])?;
            let parts = self.parts(present, &Basis::of(present));
            Ok::<_, ControlError>(assemble::with_endpoints(present, index, endpoints, &parts))
        };
        self.live.publish(next).map(|_published| ())
    }
}

fn unknown(cluster: &Cluster, address: &str) -> ControlError {
    const SHOWN: usize = 10;
    let known: Vec<&str> = cluster.endpoints.iter().take(SHOWN).map(|e| e.address()).collect();
    let more = if cluster.endpoints.len() > SHOWN { ", …" } else { "" };
    let (name, known) = (&cluster.config.name, known.join(", "));
    ControlError::NotFound(format!("cluster {name:?} has no endpoint {address:?}; it has: {known}{more}"))
}
