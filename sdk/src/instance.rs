//! One configured plugin with what the SDK keeps beside it: the same for a component's instance and for native tests.
//! Knows nothing of generated types.

use core::cell::RefCell;
use core::time::Duration;

use crate::affinity::Sticky;
use crate::config;
use crate::endpoints::Endpoints;
use crate::field::{Declared, Field, Fields};
use crate::offer::{KnownOffers, Offer};
use crate::plugin::{Affinity, Plugin, Router, Scorer, Splitter};
use crate::request::{Request, Value};
use crate::router::Decision;

/// Values of the declared fields, in their order.
pub(crate) type Values = [Value];

/// Answers for fields that were not declared.
pub(crate) type Fetch<'f> = &'f dyn Fn(&Field) -> Option<String>;

/// The place where `export!` keeps the plugin. Empty until configured; a question asked before that gets no opinion,
/// which the host never sees because it configures first.
pub struct Instance<P>(RefCell<Option<Configured<P>>>);

struct Configured<P> {
    plugin: P,
    declared: Vec<Declared>,
    offers: KnownOffers,
}

impl<P: Plugin> Instance<P> {
    /// An empty place.
    pub const fn new() -> Self {
        Instance(RefCell::new(None))
    }

    /// Configures the plugin from JSON and returns the fields that it declared.
    pub fn configure(&self, json: &str) -> Result<Vec<Field>, String> {
        let mut fields = Fields::default();
        let plugin = P::configure(config::parse(json)?, &mut fields)?;
        let (declared, manifest) = fields.into_parts();
        *self.0.borrow_mut() = Some(Configured { plugin, declared, offers: KnownOffers::default() });
        Ok(manifest)
    }

    /// Asks the router.
    pub fn route(&self, values: &Values, fetch: Fetch<'_>) -> Decision
    where
        P: Router,
    {
        match &mut *self.0.borrow_mut() {
            Some(p) => p.plugin.route(&Request::new(&p.declared, values, fetch)),
            None => Decision::pass(),
        }
    }

    /// Asks the splitter; `names` answers with the offered clusters, and is called at most once for an offer.
    pub fn split(
        &self,
        values: &Values,
        fetch: Fetch<'_>,
        (id, weights): (u64, &[u32]),
        names: &dyn Fn() -> Vec<String>,
    ) -> Option<usize>
    where
        P: Splitter,
    {
        self.ask(|p| {
            let offer = Offer::new(id, weights, &p.offers, names);
            p.plugin.split(&Request::new(&p.declared, values, fetch), &offer)
        })?
    }

    /// Asks for affinity.
    pub fn stick(&self, values: &Values, fetch: Fetch<'_>) -> Option<Sticky>
    where
        P: Affinity,
    {
        self.ask(|p| p.plugin.stick(&Request::new(&p.declared, values, fetch)))??.bounded()
    }

    /// Asks the scorer about a whole cluster.
    pub fn weigh(&self, now: Duration, endpoints: &Endpoints) -> Vec<f32>
    where
        P: Scorer,
    {
        self.ask(|p| p.plugin.weigh(now, endpoints)).unwrap_or_default()
    }

    /// Asks the scorer about the candidates for a request.
    pub fn pick(&self, values: &Values, fetch: Fetch<'_>, endpoints: &Endpoints) -> Vec<f32>
    where
        P: Scorer,
    {
        self.ask(|p| p.plugin.pick(&Request::new(&p.declared, values, fetch), endpoints)).unwrap_or_default()
    }

    fn ask<T>(&self, question: impl FnOnce(&mut Configured<P>) -> T) -> Option<T> {
        self.0.borrow_mut().as_mut().map(question)
    }
}

impl<P: Plugin> Default for Instance<P> {
    fn default() -> Self {
        Self::new()
    }
}
