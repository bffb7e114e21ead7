//! Names to addresses. Asks name servers and keeps nothing; who asks decides what an answer, or none, is good for.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use tokio::{runtime::Builder, task::JoinSet};
use witgate_core::config::{self, Config};

/// What is known of names: addresses in ascending order, at least one.
pub type Names = BTreeMap<String, Vec<IpAddr>>;

/// The shortest time that an answer is taken to be good for, whatever it says.
const MIN_TTL: Duration = Duration::from_secs(1);

/// The longest.
const MAX_TTL: Duration = Duration::from_secs(3600);

/// For one query to one server, of which there are two.
const QUERY: Duration = Duration::from_secs(2);

/// How long all names that are not known yet may take together: a start or a change waits for them.
pub const FIRST: Duration = Duration::from_secs(5);

/// Asks name servers.
#[derive(Clone)]
pub struct Resolver(TokioResolver);

/// What a name stands for.
pub struct Found {
    /// In ascending order, at least one.
    pub addresses: Vec<IpAddr>,
    /// How long that is good for.
    pub ttl: Duration,
}

impl Resolver {
    /// Asks these servers; where there are none, those of `/etc/resolv.conf`, and `/etc/hosts` before them.
    ///
    /// # Errors
    /// That file cannot be used.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, String> {
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio().map_err(|error| error.to_string())?
        } else {
            let server = |address: &SocketAddr| {
                let mut server = NameServerConfig::udp_and_tcp(address.ip());
                server.connections.iter_mut().for_each(|c: &mut ConnectionConfig| c.port = address.port());
                server
            };
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        // Who asks knows when it has to ask again.
        options.cache_size = 0;
        options.timeout = QUERY;
        options.attempts = 2;
        // An address that this machine has no way to would fail for each request that goes there.
        options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        builder.build().map(Self).map_err(|error| error.to_string())
    }

    /// Asks for a name.
    ///
    /// # Errors
    /// No answer, or one without an address.
    pub async fn look_up(&self, name: &str) -> Result<Found, String> {
        // With a final dot it is looked up as it is, without the search list.
        let found = self.0.lookup_ip(name).await.map_err(|error| error.to_string())?;
        let mut addresses: Vec<IpAddr> = found.iter().collect();
        addresses.sort_unstable();
        addresses.dedup();
        let ttl = found.valid_until().saturating_duration_since(Instant::now()).clamp(MIN_TTL, MAX_TTL);
        if addresses.is_empty() { Err("it has no address".to_owned()) } else { Ok(Found { addresses, ttl }) }
    }
}

/// The name in an endpoint's address, and its port; none where that is an IP address.
pub fn name_of(address: &str) -> Option<(&str, u16)> {
    if address.parse::<SocketAddr>().is_ok() {
        return None;
    }
    let (name, port) = address.rsplit_once(':')?;
    Some((name, port.parse().ok()?))
}

/// All names of a configuration's endpoints.
pub fn names_of(config: &Config) -> BTreeSet<String> {
    names_in(config.clusters.iter().flat_map(|cluster| &cluster.endpoints))
}

/// All names of these endpoints.
pub fn names_in<'a>(endpoints: impl IntoIterator<Item = &'a config::Endpoint>) -> BTreeSet<String> {
    endpoints.into_iter().filter_map(|endpoint| name_of(&endpoint.address)).map(|(name, _)| name.to_owned()).collect()
}

/// Looks names up, all at once, and waits for [`FIRST`] at the most. What is not found by then is not in the answer, and is
/// told. Blocks: call it off the workers.
pub fn look_up_all(servers: &[SocketAddr], names: BTreeSet<String>) -> Names {
    if names.is_empty() {
        return Names::new();
    }
    let looked = || -> Result<Names, String> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        let resolver = Resolver::new(servers)?;
        Ok(runtime.block_on(look_up_each(&resolver, names)))
    };
    // On a thread of its own, as the caller's may belong to a runtime.
    let looked = std::thread::scope(|scope| scope.spawn(looked).join());
    match looked {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::error!(error, "names cannot be looked up");
            Names::new()
        }
        Err(_) => Names::new(),
    }
}

async fn look_up_each(resolver: &Resolver, names: BTreeSet<String>) -> Names {
    let mut looking = JoinSet::new();
    for name in names {
        let resolver = resolver.clone();
        looking.spawn(async move {
            let found = tokio::time::timeout(FIRST, resolver.look_up(&name)).await;
            let found = found.unwrap_or_else(|_| Err(format!("no answer within {FIRST:?}")));
            (name, found)
        });
    }
    let mut names = Names::new();
    while let Some(Ok((name, found))) = looking.join_next().await {
        match found {
            Ok(Found { addresses, .. }) => _ = names.insert(name, addresses),
            Err(error) => {
                tracing::error!(name, error, "a name is not known, and its endpoints are left out until it is")
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_addresses() {
        for (address, want) in [
            ("10.0.0.1:80", None),
            ("[::1]:80", None),
            ("origin.internal:8080", Some(("origin.internal", 8080))),
            ("localhost:1", Some(("localhost", 1))),
        ] {
            assert_eq!(name_of(address), want, "{address}");
        }
    }
}
