//! Endpoints as a scoring plugin sees them, and what its scores come to. Asks nobody and keeps nothing.

use std::{sync::Arc, time::Instant};

use witgate_core::{balance::Picker, endpoint::Endpoint};
use witgate_policy::Columns;

/// How often, of 256 picks, the best score does not win: the exploration that keeps an endpoint with a low score
/// measured. About 2 %.
const EXPLORE: u64 = 5;

/// The columns of the contract's `scorer.endpoints`, of the cluster with this salt: an address that is in two clusters is two
/// endpoints, of which different things are known. Request rates are the caller's to fill in: they are 0 here.
pub fn columns<'a>(salt: u64, endpoints: impl Iterator<Item = &'a Arc<Endpoint>>, now: Instant) -> Columns {
    let mut columns = Columns::default();
    let mut zones = Vec::new();
    for endpoint in endpoints {
        columns.id.push(endpoint.id() ^ salt);
        columns.in_flight.push(endpoint.in_flight());
        columns.latency_ms.push(endpoint.latency_ms());
        columns.success_rate.push(endpoint.success_rate());
        columns.request_rate.push(0.0);
        columns.weight.push(endpoint.weight());
        columns.zone.push(zone_index(&mut zones, endpoint.zone()));
        columns.age_s.push(now.saturating_duration_since(endpoint.available_since()).as_secs_f32());
    }
    columns
}

/// 0 where there is no zone, else the place of its first appearance, from 1.
fn zone_index(zones: &mut Vec<Arc<String>>, zone: Option<Arc<String>>) -> u32 {
    let Some(zone) = zone else { return 0 };
    let place = zones.iter().position(|z| **z == *zone).unwrap_or_else(|| {
        zones.push(zone);
        zones.len() - 1
    });
    u32::try_from(place + 1).unwrap_or(u32::MAX)
}

/// The candidate with the highest score × weight; now and then any other whose score is not 0, so that none goes
/// unmeasured. Returns an index into the cluster's endpoints; none where every score is 0.
pub fn best(candidates: &[u32], scores: &[f32], picker: &Picker, random: u64) -> Option<usize> {
    if random % 256 < EXPLORE {
        let eligible = || candidates.iter().zip(scores).filter(|(_, score)| **score > 0.0);
        let n = eligible().count().max(1) as u64;
        let chosen = usize::try_from((random >> 8) % n).unwrap_or(0);
        return eligible().nth(chosen).map(|(candidate, _)| *candidate as usize);
    }
    picker.best(candidates, scores)
}

#[cfg(test)]
mod tests {
    use witgate_core::config;

    use super::*;

    #[test]
    fn an_address_of_two_clusters_is_two_endpoints() {
        let now = Instant::now();
        let endpoint = |address: &str| {
            Arc::new(Endpoint::new(
                &config::Endpoint { address: address.into(), weight: 1, zone: None, priority: 0 },
                now,
            ))
        };
        let endpoints = [endpoint("192.0.2.1:80"), endpoint("192.0.2.2:80")];
        let ids = |salt| columns(salt, endpoints.iter(), now).id;
        assert_eq!(ids(7), ids(7), "stable");
        let mut all = [ids(7), ids(8)].concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 4);
    }
}
