//! The weighted clusters that a splitter chooses from. Asks the host for their names once an offer, never once a request.

use core::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// How many offers' names an instance keeps; beyond it the memory is emptied and filled anew. An offer belongs to a
/// route, and a configuration has few routes with a splitter.
const OFFERS_KEPT: usize = 1024;

/// The choices that a route offers.
pub struct Offer<'a> {
    id: u64,
    weights: &'a [u32],
    known: &'a KnownOffers,
    fetch: &'a dyn Fn() -> Vec<String>,
    clusters: OnceCell<Rc<[String]>>,
}

/// The names behind the offers that this instance has seen.
#[derive(Default)]
pub(crate) struct KnownOffers(RefCell<BTreeMap<u64, Rc<[String]>>>);

impl KnownOffers {
    fn names(&self, id: u64, fetch: &dyn Fn() -> Vec<String>) -> Rc<[String]> {
        if let Some(names) = self.0.borrow().get(&id) {
            return names.clone();
        }
        let names: Rc<[String]> = fetch().into();
        let mut known = self.0.borrow_mut();
        if known.len() >= OFFERS_KEPT {
            known.clear();
        }
        known.insert(id, names.clone());
        names
    }
}

impl<'a> Offer<'a> {
    pub(crate) fn new(id: u64, weights: &'a [u32], known: &'a KnownOffers, fetch: &'a dyn Fn() -> Vec<String>) -> Self {
        Offer { id, weights, known, fetch, clusters: OnceCell::new() }
    }

    /// Identifies the offered clusters and their order: what was derived from [`clusters`](Self::clusters) may be kept
    /// under it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// How many choices there are.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Whether there is no choice at all.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// The configured weight of each choice.
    pub fn weights(&self) -> &[u32] {
        self.weights
    }

    /// The cluster name of each choice.
    pub fn clusters(&self) -> &[String] {
        self.clusters.get_or_init(|| self.known.names(self.id, self.fetch))
    }

    /// The choice that leads to the cluster of this name.
    pub fn index_of(&self, cluster: &str) -> Option<usize> {
        self.clusters().iter().position(|name| name == cluster)
    }
}
