//! Native tests of plugins: a [`Harness`] that asks as the proxy would and refuses what the proxy would refuse.
//! Absent from components.
//!
//! The host functions are deterministic here and belong to the test's thread: [`seed`], [`advance`] and [`take_log`]
//! steer and read them.

use core::cell::Cell;
use core::time::Duration;

pub use serde_json::{Value, json};

use crate::affinity::Sticky;
use crate::endpoints::Endpoints;
use crate::field::Field;
use crate::host::{Level, native};
use crate::instance::Instance;
use crate::plugin::{Affinity, Plugin, Router, Scorer, Splitter};
use crate::router::{Action, Decision};

/// Starts the sequence of [`crate::random`] anew; every thread starts as after `seed(0)`.
pub fn seed(seed: u64) {
    native::SEED.set(seed);
}

/// Moves [`crate::now`] on; every thread starts at zero.
pub fn advance(by: Duration) {
    native::CLOCK.set(native::CLOCK.get() + by);
}

/// What was logged since the last call.
pub fn take_log() -> Vec<(Level, String)> {
    native::LOG.take()
}

/// A request to ask a plugin about.
#[derive(Debug, Clone)]
pub struct Request {
    fields: Vec<(Field, String)>,
}

impl Request {
    /// A request with this method and target (`/path` or `/path?query`), for `http://localhost` from 127.0.0.1.
    pub fn new(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let request = Request { fields: Vec::new() }
            .field(Field::Method, method)
            .field(Field::Path, path)
            .field(Field::Host, "localhost")
            .field(Field::Scheme, "http")
            .field(Field::ClientAddress, "127.0.0.1");
        let Some(query) = query else { return request };
        query.split('&').fold(request.field(Field::QueryString, query), |request, pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            request.query(name, value)
        })
    }

    /// A `GET`.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// With this host, in lower case and without a port.
    #[must_use]
    pub fn host(self, host: &str) -> Self {
        self.field(Field::Host, host)
    }

    /// From this client address.
    #[must_use]
    pub fn client(self, address: &str) -> Self {
        self.field(Field::ClientAddress, address)
    }

    /// With this header.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        self.field(Field::Header(name.to_owned()), value)
    }

    /// With this cookie.
    #[must_use]
    pub fn cookie(self, name: &str, value: &str) -> Self {
        self.field(Field::Cookie(name.to_owned()), value)
    }

    /// With this query parameter, decoded. Those in the target of [`Request::new`] are taken as they stand.
    #[must_use]
    pub fn query(self, name: &str, value: &str) -> Self {
        self.field(Field::Query(name.to_owned()), value)
    }

    /// With this value of any field, in place of an earlier one.
    #[must_use]
    pub fn field(mut self, field: Field, value: &str) -> Self {
        self.fields.retain(|(known, _)| !known.name().same(field.name()));
        self.fields.push((field, value.to_owned()));
        self
    }

    fn value(&self, field: &Field) -> Option<String> {
        self.fields.iter().find(|(known, _)| known.name().same(field.name())).map(|(_, value)| value.clone())
    }
}

/// A configured plugin. Every question fails the test where the proxy would call the answer malformed.
pub struct Harness<P> {
    instance: Instance<P>,
    declared: Vec<Field>,
    host_calls: Cell<usize>,
}

impl<P: Plugin> Harness<P> {
    /// Configures a plugin with this `config` table.
    ///
    /// # Errors
    /// What the operator would be told.
    pub fn new(config: Value) -> Result<Self, String> {
        let instance = Instance::new();
        let declared = instance.configure(&config.to_string())?;
        Ok(Harness { instance, declared, host_calls: Cell::new(0) })
    }

    /// The manifest: the fields that the plugin declared.
    pub fn declared(&self) -> &[Field] {
        &self.declared
    }

    /// How many host calls the plugin has cost so far: reads of fields that it did not declare, and one for the names of
    /// each offer. A plugin that declares what it reads keeps this at the number of offers.
    pub fn host_calls(&self) -> usize {
        self.host_calls.get()
    }

    fn values(&self, request: &Request) -> Vec<Option<String>> {
        self.declared.iter().map(|field| request.value(field)).collect()
    }

    fn call<T>(&self, answer: T) -> T {
        self.host_calls.set(self.host_calls.get() + 1);
        answer
    }

    /// Asks the router.
    pub fn route(&mut self, request: &Request) -> Decision
    where
        P: Router,
    {
        let fetch = |field: &Field| self.call(request.value(field));
        let decision = self.instance.route(&self.values(request), &fetch);
        let acceptable = match &decision.action {
            Action::Pass | Action::Cluster(_) => true,
            Action::Respond { status, body, .. } => (200..=599).contains(status) && body.len() <= 64 * 1024,
            Action::Redirect { status, .. } => matches!(status, 301 | 302 | 303 | 307 | 308),
        } && decision.set_headers.len() <= 32
            && decision.remove_headers.len() <= 32;
        assert!(acceptable, "malformed answer {decision:?} to {request:?}");
        decision
    }

    /// Asks the splitter to choose among these clusters and their weights; the name of the choice.
    pub fn split<'o>(&mut self, request: &Request, offered: &[(&'o str, u32)]) -> Option<&'o str>
    where
        P: Splitter,
    {
        let weights: Vec<u32> = offered.iter().map(|(_, weight)| *weight).collect();
        let names = || self.call(offered.iter().map(|(name, _)| (*name).to_owned()).collect());
        let fetch = |field: &Field| self.call(request.value(field));
        let choice = self.instance.split(&self.values(request), &fetch, (offer_id(offered), &weights), &names)?;
        let chosen = offered.get(choice).map(|(name, _)| *name);
        assert!(chosen.is_some(), "malformed answer {choice} to {request:?}: only {offered:?} were offered");
        chosen
    }

    /// Asks for affinity.
    pub fn stick(&mut self, request: &Request) -> Option<Sticky>
    where
        P: Affinity,
    {
        let fetch = |field: &Field| self.call(request.value(field));
        self.instance.stick(&self.values(request), &fetch)
    }

    /// Asks the scorer about a whole cluster, at the time that [`advance`] made.
    pub fn weigh(&mut self, endpoints: &Endpoints) -> Vec<f32>
    where
        P: Scorer,
    {
        accept(self.instance.weigh(native::now(), endpoints), endpoints)
    }

    /// Asks the scorer about the candidates for a request.
    pub fn pick(&mut self, request: &Request, endpoints: &Endpoints) -> Vec<f32>
    where
        P: Scorer,
    {
        let fetch = |field: &Field| self.call(request.value(field));
        accept(self.instance.pick(&self.values(request), &fetch, endpoints), endpoints)
    }
}

/// The rules of `scorer.wit`: one score each, finite, not negative, not all 0.
fn accept(scores: Vec<f32>, endpoints: &Endpoints) -> Vec<f32> {
    let acceptable = scores.len() == endpoints.len()
        && scores.iter().all(|score| score.is_finite() && *score >= 0.0)
        && (scores.is_empty() || scores.iter().any(|score| *score > 0.0));
    assert!(acceptable, "malformed scores {scores:?} for {endpoints:?}");
    scores
}

/// The same names in the same order have the same id, as the contract promises (FNV-1a over the names).
fn offer_id(offered: &[(&str, u32)]) -> u64 {
    let bytes = offered.iter().flat_map(|(name, _)| name.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
