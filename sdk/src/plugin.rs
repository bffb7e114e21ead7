//! The traits that a plugin implements: [`Plugin`], and one for each question that it answers.

use core::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::affinity::Sticky;
use crate::endpoints::Endpoints;
use crate::field::Fields;
use crate::offer::Offer;
use crate::request::Request;
use crate::router::Decision;

/// How a plugin is made ready. Every plugin implements this.
///
/// A value of the type lives in one instance of the component. The host keeps several (one a worker, and it replaces
/// them when it likes), so what a plugin remembers is a matter of speed or smoothness, never of correctness.
pub trait Plugin: Sized + 'static {
    /// The type of the plugin's `config` table; [`NoConfig`] for none. Where it derives `Deserialize` with
    /// `#[serde(deny_unknown_fields)]` a misspelt key is refused, with the key named.
    type Config: DeserializeOwned;

    /// Makes an instance, and declares the request fields that it reads.
    ///
    /// Must give the same answer for the same configuration.
    ///
    /// # Errors
    /// What the operator got wrong: name the key, and what would be right. The version is refused with this text.
    fn configure(config: Self::Config, fields: &mut Fields) -> Result<Self, String>;
}

/// The configuration of a plugin that has none: any key is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// Which cluster gets a request. Asked once for a request, after the route was matched.
pub trait Router: Plugin {
    /// Decides; [`Decision::pass`] leaves it to the route.
    fn route(&mut self, request: &Request<'_>) -> Decision;
}

/// Which of a route's weighted clusters a request belongs to.
pub trait Splitter: Plugin {
    /// The index of the choice, below `offer.len()`, or `None` for the native split.
    fn split(&mut self, request: &Request<'_>, offer: &Offer<'_>) -> Option<usize>;
}

/// What keeps a client on one endpoint.
pub trait Affinity: Plugin {
    /// The key and perhaps a cookie, or `None` for the route's own affinity.
    fn stick(&mut self, request: &Request<'_>) -> Option<Sticky>;
}

/// How good each endpoint is.
///
/// A score is finite and not negative; twice the score is twice the traffic. The host multiplies it by the configured
/// weight and by slow start. Exactly 0 takes an endpoint out; any other score keeps the host's exploration floor.
pub trait Scorer: Plugin {
    /// Asked off the request path, once an interval, about the whole cluster, always in the same instance. `now` is a
    /// monotonic clock. Returns a score for each endpoint.
    fn weigh(&mut self, now: Duration, endpoints: &Endpoints) -> Vec<f32>;

    /// Asked for a request about a few endpoints that the host drew; the best score × weight gets the request. The
    /// default is what [`weigh`](Self::weigh) says of them, which suits a scorer that keeps no history.
    fn pick(&mut self, request: &Request<'_>, endpoints: &Endpoints) -> Vec<f32> {
        let _ = request;
        self.weigh(crate::now(), endpoints)
    }
}
