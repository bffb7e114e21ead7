//! Addresses that names stand for: looked up before a change that needs them, and replaced when they change.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Arc, PoisonError},
};

use super::Control;
use crate::{
    assemble,
    generation::Generation,
    upstream::dns::{self, Names},
};

impl Control {
    /// What is known of names now.
    pub(super) fn names(&self) -> Arc<Names> {
        Arc::clone(&self.names.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has those looked up of which nothing is known. Blocks until they are, or for [`dns::FIRST`].
    pub(super) fn learn(&self, wanted: BTreeSet<String>) {
        let known = self.names();
        let unknown: BTreeSet<String> = wanted.into_iter().filter(|name| !known.contains_key(name)).collect();
        if unknown.is_empty() {
            return;
        }
        let found = dns::look_up_all(&self.live.load().config.runtime.resolvers, unknown);
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        *names = Arc::new(names.iter().map(|(name, of)| (name.clone(), of.clone())).chain(found).collect());
    }

    /// A name stands for these addresses: where that is news, its endpoints follow, in one step.
    pub fn name_found(&self, name: &str, addresses: Vec<IpAddr>) {
        let _turn = self.turn();
        {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            if names.get(name) == Some(&addresses) {
                return;
            }
            tracing::info!(name, ?addresses, "the name stands for other addresses");
            let mut next = Names::clone(&names);
            next.insert(name.to_owned(), addresses);
            *names = Arc::new(next);
        }
        let next = |present: &Generation| {
            let parts = self.parts(present, Arc::clone(&present.plugins));
            Ok::<_, std::convert::Infallible>(Some(assemble::assemble(Arc::clone(&present.config), &parts)))
        };
        let Ok(_published) = self.live.publish(next);
    }
}
