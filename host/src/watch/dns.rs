//! Follows the names of endpoints: each is looked up again when its answer has grown old. What is known is kept until there
//! is something better: an outage of the name servers, or an answer without an address, changes nothing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::task::JoinHandle;

use crate::{
    control::Control,
    drain::Phase,
    upstream::dns::{Found, Resolver, names_of},
};

/// How long to wait after a failure; twice as long after each further one in a row.
const BACK_OFF: Duration = Duration::from_secs(1);

/// The longest of these waits.
const MAX_BACK_OFF: Duration = Duration::from_secs(30);

/// Runs until the proxy stops.
pub async fn run(control: Arc<Control>) {
    let mut phase = control.drain.watch();
    let mut configured = control.live.subscribe_config();
    let mut running: HashMap<String, JoinHandle<()>> = HashMap::new();
    let mut resolver = None;
    loop {
        configured.borrow_and_update();
        let config = Arc::clone(&control.live.load().config);
        let names = names_of(&config);
        running.retain(|name, task| {
            names.contains(name) || {
                task.abort();
                false
            }
        });
        if resolver.is_none() && !names.is_empty() {
            resolver = Resolver::new(&config.runtime.resolvers)
                .inspect_err(|error| tracing::error!(error, "names cannot be looked up"))
                .ok();
        }
        if let Some(resolver) = &resolver {
            for name in names {
                running.entry(name).or_insert_with_key(|name| {
                    tokio::task::spawn_local(follow(Arc::clone(&control), resolver.clone(), name.clone()))
                });
            }
        }
        tokio::select! {
            _ = configured.changed() => {}
            _ = phase.wait_for(|p| *p >= Phase::Stop) => return,
        }
    }
}

/// One name. Never returns.
async fn follow(control: Arc<Control>, resolver: Resolver, name: String) {
    let mut failures = 0;
    loop {
        let wait = match resolver.look_up(&name).await {
            Ok(Found { addresses, ttl }) => {
                if failures > 0 {
                    tracing::info!(name, "the name is answered for again");
                }
                failures = 0;
                let (control, name) = (Arc::clone(&control), name.clone());
                // Off this thread: tables may have to be made anew.
                if let Err(error) = tokio::task::spawn_blocking(move || control.name_found(&name, addresses)).await {
                    tracing::error!(%error, "a change of addresses broke off");
                }
                ttl
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(name, error, "the name is not answered for; what is known of it stays");
                }
                failures += 1;
                BACK_OFF.saturating_mul(1 << (failures - 1).min(10)).min(MAX_BACK_OFF)
            }
        };
        tokio::time::sleep(wait).await;
    }
}
