//! Picks an endpoint among those that are eligible. Never decides who is eligible, and never waits or allocates.

mod consistent;
mod levels;
mod maglev;
mod picks;
mod sampler;
mod schedule;
mod shares;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use smallvec::SmallVec;

use crate::{
    config::Algorithm,
    eligible::{Eligible, Rules, eligible},
    endpoint::Endpoint,
    hash::scale,
};
use consistent::Consistent;
use levels::Levels;
use sampler::Sampler;
use schedule::Schedule;

pub use shares::FLOOR;

/// How far round-robin has come. One for each cluster, shared by the workers and carried across rebuilds, so that
/// round-robin neither starts over with each nor herds.
#[derive(Debug, Default)]
pub struct Cursor(AtomicU64);

impl Cursor {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Relaxed)
    }
}

/// Picks endpoints of a cluster. Immutable; made anew off the request path when endpoints change ([`new`](Self::new)), when
/// their states, weights or health do ([`renewed`](Self::renewed)), or only scores ([`rescore`](Self::rescore)).
///
/// What is read per pick beside the tables is the endpoints' in-flight count, so what changed since the picker was made
/// has no effect on it.
#[derive(Debug, Clone)]
pub struct Picker {
    base: Arc<Base>,
    scored: Option<Scored>,
}

/// What does not depend on scores. A candidate is known by its position among the eligible endpoints.
#[derive(Debug)]
struct Base {
    endpoints: Arc<[Arc<Endpoint>]>,
    algorithm: Algorithm,
    rules: Rules,
    /// Index in `endpoints` of each candidate, ascending.
    indices: Box<[u32]>,
    /// What keys are spread by, above 0: the configured weight of each candidate, but for its level's share.
    lasting: Box<[u32]>,
    lasting_sum: f64,
    /// Effective weight of each candidate, above 0, in units.
    weights: Box<[u32]>,
    /// What an endpoint of weight 1 has for its effective weight when it is warm.
    unit: u32,
    /// None where there is only one.
    levels: Option<Levels>,
    panic: bool,
    method: Method,
    /// (endpoint id, position), ascending.
    ids: Arc<[(u64, u32)]>,
    /// For requests with a hash. Made at once for the hashing algorithms, else when first needed. Shared by pickers that
    /// differ in nothing that it depends on.
    consistent: Arc<OnceLock<Consistent>>,
}

/// How a candidate is picked for a request without a hash.
#[derive(Debug)]
enum Method {
    RoundRobin(Schedule),
    LeastRequest(Sampler),
    PeakEwma(Sampler),
    Random(Sampler),
    /// A hashing algorithm: by a random hash.
    Hash,
}

#[derive(Debug, Clone)]
struct Scored {
    /// Positions with a score above 0, ascending.
    live: Arc<[u32]>,
    /// Share of the traffic for each position, 0 where the score is 0; the sum is 1.
    shares: Arc<[f64]>,
    /// Draws from `live`.
    sampler: Arc<Sampler>,
    /// What it was made of: a score for each endpoint.
    given: Arc<[f32]>,
}

impl Picker {
    /// Makes the tables of an algorithm over the endpoints that are eligible now.
    ///
    /// O(n log n); up to tens of milliseconds for ring and table of a large cluster, so never on a worker.
    pub fn new(endpoints: Arc<[Arc<Endpoint>]>, algorithm: Algorithm, rules: Rules, now: Instant) -> Self {
        let eligible = eligible(&endpoints, &rules, now);
        Self::among(endpoints, algorithm, rules, eligible, None)
    }

    /// The same over the endpoints that are eligible now, with the same scores; none where nothing has changed.
    #[must_use]
    pub fn renewed(&self, now: Instant) -> Option<Self> {
        let Base { endpoints, algorithm, rules, .. } = &*self.base;
        let eligible = eligible(endpoints, rules, now);
        if self.base.is_of(&eligible) {
            return None;
        }
        let renewed = Self::among(Arc::clone(endpoints), *algorithm, rules.clone(), eligible, Some(&self.base));
        Some(renewed.rescore(self.scores()))
    }

    fn among(
        endpoints: Arc<[Arc<Endpoint>]>,
        algorithm: Algorithm,
        rules: Rules,
        eligible: Eligible,
        before: Option<&Base>,
    ) -> Self {
        let Eligible { candidates, unit, shares, panic } = eligible;
        let indices: Box<[u32]> = candidates.iter().map(|c| narrow(c.index)).collect();
        let lasting: Box<[u32]> = candidates.iter().map(|c| c.lasting).collect();
        let lasting_sum = lasting.iter().map(|&weight| f64::from(weight)).sum();
        let weights: Box<[u32]> = candidates.iter().map(|c| c.effective).collect();
        let levels =
            (shares.len() > 1).then(|| Levels::new(candidates.iter().map(|c| c.level).collect(), &shares, &weights));
        let method = match algorithm {
            Algorithm::RoundRobin if unit > 1 => Method::RoundRobin(Schedule::for_now(&weights)),
            Algorithm::RoundRobin => Method::RoundRobin(Schedule::new(&weights)),
            Algorithm::LeastRequest => Method::LeastRequest(Sampler::by_weight(&weights)),
            Algorithm::PeakEwma => Method::PeakEwma(Sampler::by_weight(&weights)),
            Algorithm::Random => Method::Random(Sampler::by_weight(&weights)),
            Algorithm::RingHash | Algorithm::Maglev => Method::Hash,
        };
        let (ids, consistent) = match before {
            // An endpoint that warms up changes its weight many times, and not whose clients it has.
            Some(before) if before.indices == indices && before.lasting == lasting => {
                (Arc::clone(&before.ids), Arc::clone(&before.consistent))
            }
            _ => {
                let ids = (0u32..).zip(&candidates).map(|(position, c)| (endpoints[c.index].id(), position));
                let mut ids: Vec<_> = ids.collect();
                ids.sort_unstable();
                (ids.into(), Arc::default())
            }
        };
        let base = Base {
            endpoints,
            algorithm,
            rules,
            indices,
            lasting,
            lasting_sum,
            weights,
            unit,
            levels,
            panic,
            method,
            ids,
            consistent,
        };
        // Who had the table will want it again.
        if matches!(base.method, Method::Hash) || before.is_some_and(|before| before.consistent.get().is_some()) {
            base.consistent();
        }
        Self { base: Arc::new(base), scored: None }
    }

    /// The same picker with other scores or without: states and weights are as they were when it was made, and its tables
    /// are shared. O(n).
    ///
    /// `scores` has one element for each endpoint and was accepted already. With scores, requests without a hash are
    /// spread at random in proportion to score × weight ([`FLOOR`] holds, 0 is out, and levels keep their shares) whatever
    /// the algorithm; requests with a hash keep their endpoint while its score is not 0. Scores that would leave none of the eligible
    /// endpoints, or of the wrong number, count as none.
    #[must_use]
    pub fn rescore(&self, scores: Option<&Arc<[f32]>>) -> Self {
        let scored = scores.filter(|scores| scores.len() == self.base.endpoints.len()).and_then(|given| {
            let scores: Vec<f32> = self.base.indices.iter().map(|&index| given[wide(index)]).collect();
            Scored::new(&scores, &self.base, given)
        });
        Self { base: Arc::clone(&self.base), scored }
    }

    /// The scores that it was given, where they count.
    pub fn scores(&self) -> Option<&Arc<[f32]>> {
        self.scored.as_ref().map(|scored| &scored.given)
    }

    /// What was configured of who may be picked.
    pub fn rules(&self) -> &Rules {
        &self.base.rules
    }

    /// Whether so few endpoints are available that all are picked.
    pub fn is_panicking(&self) -> bool {
        self.base.panic
    }

    /// Makes the table for requests with a hash now. Call it off the request path where a route with affinity leads
    /// to the cluster; without, the first such request makes it.
    pub fn prepare_affinity(&self) {
        self.base.consistent();
    }

    /// Whether the table for requests with a hash is there.
    pub fn is_prepared_for_affinity(&self) -> bool {
        self.base.consistent.get().is_some()
    }

    /// All endpoints of the cluster, eligible or not.
    pub fn endpoints(&self) -> &Arc<[Arc<Endpoint>]> {
        &self.base.endpoints
    }

    /// The algorithm it was built for.
    pub fn algorithm(&self) -> Algorithm {
        self.base.algorithm
    }

    /// Endpoints that may be picked.
    pub fn eligible_count(&self) -> usize {
        match &self.scored {
            Some(scored) => scored.live.len(),
            None => self.base.indices.len(),
        }
    }

    /// Picks an endpoint; its index in [`endpoints`](Self::endpoints). None only where nothing is eligible.
    ///
    /// With a `hash` the choice is consistent whatever the algorithm: the same hash, the same endpoint, and few
    /// others move when an endpoint comes or goes. `tried` are indices that are avoided while another is eligible.
    ///
    /// - round-robin: smooth and weighted, in the order of the cursor; after a failure from any place of that order, so that
    ///   first tries keep theirs.
    /// - random: in proportion to the weights.
    /// - least-request: power of two choices ([Mitzenmacher 2001](https://doi.org/10.1109/71.963420)): two distinct
    ///   candidates are drawn in proportion to their weights, and the one with fewer requests in flight for its weight
    ///   is picked, the first where they are level. An endpoint of weight w stands for w endpoints of weight 1 that
    ///   share its requests evenly: so an idle cluster gets traffic in proportion to its weights, and a busy one has
    ///   requests in flight in proportion to them.
    /// - peak-ewma: the same two, and the one at which a request [costs](Endpoint::cost) less for its weight.
    /// - ring-hash, maglev: by the hash, or by random bits where there is none. Where `hash_balance_factor` is set, whoever
    ///   has more than its part in flight is passed over ("consistent hashing with bounded loads", Mirrokni et al. 2018).
    pub fn pick(
        &self,
        cursor: &Cursor,
        hash: Option<u64>,
        tried: &[u32],
        now: Instant,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<usize> {
        if self.eligible_count() == 0 {
            return None;
        }
        let position = match (hash, &self.scored, &self.base.method) {
            (Some(hash), _, _) => self.by_hash(hash, tried),
            (None, Some(scored), _) => self.untried(tried, || wide(scored.live[scored.sampler.draw(random())])),
            (None, None, Method::RoundRobin(schedule)) if tried.is_empty() => schedule.at(cursor.next()),
            // Where each failure moved the sequence on, the next request would be the bad endpoint's again.
            (None, None, Method::RoundRobin(schedule)) => self.untried(tried, || schedule.at(random())),
            (None, None, Method::Random(sampler)) => self.untried(tried, || sampler.draw(random())),
            (None, None, Method::LeastRequest(sampler)) => self.less_loaded(sampler, tried, random),
            (None, None, Method::PeakEwma(sampler)) => self.cheaper(sampler, tried, now, random),
            (None, None, Method::Hash) => self.by_hash(random(), tried),
        };
        Some(wide(self.base.indices[position]))
    }

    /// The endpoint with this id, where it is eligible; its index in [`endpoints`](Self::endpoints).
    pub fn by_id(&self, id: u64) -> Option<usize> {
        let found = self.base.ids.binary_search_by_key(&id, |&(id, _)| id).ok()?;
        let position = wide(self.base.ids[found].1);
        self.is_live(position).then(|| wide(self.base.indices[position]))
    }

    /// Up to `n` distinct eligible endpoints of one level for a scorer to choose from, all equally likely: the weight counts
    /// when the [`best`](Self::best) is taken. Indices in [`endpoints`](Self::endpoints), in random order. Up to 8 do not
    /// allocate.
    pub fn draw(&self, n: usize, random: &mut dyn FnMut() -> u64) -> SmallVec<[u32; 8]> {
        let of_level = self.base.levels.as_ref().filter(|_| self.scored.is_none()).map(|levels| levels.draw(random()));
        let count = of_level.map_or(self.eligible_count(), <[u32]>::len);
        let index = |nth: usize| self.base.indices[of_level.map_or_else(|| self.nth_live(nth), |of| wide(of[nth]))];
        let mut drawn = SmallVec::new();
        while drawn.len() < n.min(count) {
            let mut nth = scale(random(), count);
            // A step on instead of another draw, so that this ends whatever the random bits are.
            while drawn.contains(&index(nth)) {
                nth = (nth + 1) % count;
            }
            drawn.push(index(nth));
        }
        drawn
    }

    /// The best by score × weight of candidates that were [drawn](Self::draw), the first of equals; one with a score
    /// of 0 is out. None where all are.
    pub fn best(&self, candidates: &[u32], scores: &[f32]) -> Option<usize> {
        let mut best = (None, 0.0);
        for (&index, &score) in candidates.iter().zip(scores) {
            let value = f64::from(score) * self.weight_of(wide(index));
            if value > best.1 {
                best = (Some(wide(index)), value);
            }
        }
        best.0
    }

    /// For display: the weight that `index` is picked by. Without scores the configured weight, or the part of it that an
    /// endpoint has that warms up; with scores, what the
    /// configured weight would have to be for its share, so that the sum over the cluster stays the same. 0 where it
    /// is never picked.
    pub fn effective_weight(&self, index: usize) -> f32 {
        let weight = match (&self.scored, self.position(index)) {
            (Some(scored), Some(position)) => {
                scored.shares[position] * self.base.weights.iter().map(|&w| f64::from(w)).sum::<f64>()
            }
            _ => self.weight_of(index),
        };
        (weight / f64::from(self.base.unit)) as f32
    }

    fn position(&self, index: usize) -> Option<usize> {
        self.base.indices.binary_search(&narrow(index)).ok()
    }

    fn weight_of(&self, index: usize) -> f64 {
        self.position(index).map_or(0.0, |position| f64::from(self.base.weights[position]))
    }
}

impl Base {
    /// Whether it was made of this.
    fn is_of(&self, eligible: &Eligible) -> bool {
        self.unit == eligible.unit
            && self.panic == eligible.panic
            && self.indices.len() == eligible.candidates.len()
            && eligible.candidates.iter().enumerate().all(|(at, c)| {
                wide(self.indices[at]) == c.index && self.lasting[at] == c.lasting && self.weights[at] == c.effective
            })
    }

    /// Requests that an endpoint may have in flight for each unit of its lasting weight; none where loads are not bounded:
    /// its part of all that are in flight in the cluster and the one that is to be, times the factor. So there is always
    /// room for that one somewhere.
    fn most_in_flight(&self) -> Option<f64> {
        let factor = f64::from(self.rules.hash_balance_factor?) / 100.0;
        let first = self.indices.first().and_then(|&index| self.endpoints.get(wide(index)))?;
        let all = f64::from(first.cluster_in_flight()?) + 1.0;
        Some(factor * all / self.lasting_sum)
    }

    /// Ring or Maglev table over the lasting weights. Scores and slow start have no part in it: they change ten times a
    /// second, and a client's endpoint must not.
    fn consistent(&self) -> &Consistent {
        self.consistent.get_or_init(|| {
            let members: Vec<_> = self.ids.iter().map(|&(id, p)| (id, p, self.lasting[wide(p)])).collect();
            match self.algorithm {
                Algorithm::Maglev => maglev::table(&members),
                _ => consistent::ring(&members),
            }
        })
    }
}

impl Scored {
    /// None where no score is above 0.
    fn new(scores: &[f32], base: &Base, given: &Arc<[f32]>) -> Option<Self> {
        let shares = match &base.levels {
            None => shares::shares(scores, &base.weights)?,
            Some(levels) => levels.shares(scores, &base.weights)?,
        };
        let live: Arc<[u32]> = (0u32..).zip(&shares).filter(|(_, share)| **share > 0.0).map(|(p, _)| p).collect();
        let alive: Vec<f64> = live.iter().map(|&p| shares[wide(p)]).collect();
        Some(Self {
            live,
            shares: shares.into(),
            sampler: Arc::new(Sampler::by_share(&alive)),
            given: Arc::clone(given),
        })
    }
}

/// Indices are kept as `u32`: a cluster has fewer endpoints than that.
fn narrow(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

fn wide(index: u32) -> usize {
    index as usize
}
