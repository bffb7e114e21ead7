//! Which endpoints may be picked, and with what weight. Never picks one.

use std::sync::Arc;

use crate::endpoint::{Endpoint, State};

/// Index and effective weight of each endpoint that may be picked, by ascending index.
///
/// An endpoint is a candidate while it is active and its weight is above 0. Whatever else keeps an endpoint out
/// (health, ejection) belongs in `candidate`; whatever looks at all of them (priority, zone, panic) belongs after it.
pub fn eligible(endpoints: &[Arc<Endpoint>]) -> Vec<(usize, u32)> {
    endpoints.iter().enumerate().filter_map(|(i, e)| candidate(e).map(|weight| (i, weight))).collect()
}

/// The effective weight of one endpoint by itself; none where it may not be picked.
fn candidate(endpoint: &Endpoint) -> Option<u32> {
    (endpoint.state() == State::Active).then(|| endpoint.weight()).filter(|&weight| weight > 0)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::config;

    #[test]
    fn draining_and_weightless_endpoints_are_out() {
        let now = Instant::now();
        let new = |weight| {
            let config = config::Endpoint { address: format!("10.0.0.{weight}:80"), weight, zone: None };
            Arc::new(Endpoint::new(&config, now))
        };
        let all = [new(1), new(0), new(2), new(3)];
        all[3].set_state(State::Draining, now);
        assert_eq!(eligible(&all), [(0, 1), (2, 2)]);
        all[3].set_state(State::Active, now);
        all[0].set_weight(0);
        assert_eq!(eligible(&all), [(2, 2), (3, 3)]);
    }
}
