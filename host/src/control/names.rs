//! Addresses that names stand for: looked up before a change that needs them, and replaced when they change.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use super::{Basis, Control};
use crate::upstream::dns::{self, Names};

impl Control {
    /// Has those looked up of which nothing is known. Blocks until they are, or for [`dns::FIRST`]. To be called in a turn,
    /// as all that changes what is known.
    pub(super) fn learn(&self, wanted: BTreeSet<String>) {
        let known = self.names.load_full();
        let unknown: BTreeSet<String> = wanted.into_iter().filter(|name| !known.contains_key(name)).collect();
        if unknown.is_empty() {
            return;
        }
        let found = dns::look_up_all(&self.live.load().config.runtime.resolvers, unknown);
        let mut names = Names::clone(&known);
        names.extend(found);
        self.names.store(Arc::new(names));
    }

    /// A name stands for these addresses: where that is news, its endpoints follow, in one step.
    pub fn name_found(&self, name: &str, addresses: Vec<IpAddr>) {
        let _turn = self.turn();
        let known = self.names.load_full();
        if known.get(name) == Some(&addresses) {
            return;
        }
        let some = &addresses[..addresses.len().min(8)];
        tracing::info!(name, count = addresses.len(), addresses = ?some, "the name stands for other addresses");
        let mut names = Names::clone(&known);
        names.insert(name.to_owned(), addresses);
        self.names.store(Arc::new(names));
        self.publish_assembled(Basis::of);
    }
}
