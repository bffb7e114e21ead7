//! The endpoints that a scorer judges, as the columns of numbers in which they cross the boundary.

/// Endpoints as parallel columns: every list has the same length, one element an endpoint.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Endpoints {
    /// Stable identity of the endpoint, for state kept between calls. Says nothing of its address.
    pub id: Vec<u64>,
    /// Requests in flight now, over all workers.
    pub in_flight: Vec<u32>,
    /// Moving average of the time to the response's head, in milliseconds; 0 where nothing was measured yet.
    pub latency_ms: Vec<f32>,
    /// Moving average of the share of requests that did not fail, 0 to 1; 1 where nothing was measured yet.
    pub success_rate: Vec<f32>,
    /// Requests finished in the last interval, per second.
    pub request_rate: Vec<f32>,
    /// The configured weight, which the host applies to the score by itself.
    pub weight: Vec<u32>,
    /// 0 in this proxy's own zone, or where zones are not configured; otherwise an index of the zone.
    pub zone: Vec<u32>,
    /// Seconds since the endpoint last became available.
    pub age_s: Vec<f32>,
}

/// One endpoint: a row of [`Endpoints`], with the same units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Endpoint {
    /// Stable identity.
    pub id: u64,
    /// Requests in flight now.
    pub in_flight: u32,
    /// Milliseconds to the response's head; 0 where nothing was measured yet.
    pub latency_ms: f32,
    /// 0 to 1.
    pub success_rate: f32,
    /// Requests per second.
    pub request_rate: f32,
    /// The configured weight.
    pub weight: u32,
    /// 0 is the proxy's own zone.
    pub zone: u32,
    /// Seconds since it last became available.
    pub age_s: f32,
}

impl Default for Endpoint {
    /// An idle, unmeasured endpoint of weight 1: the values that the host gives to a new one.
    fn default() -> Self {
        Endpoint {
            id: 0,
            in_flight: 0,
            latency_ms: 0.0,
            success_rate: 1.0,
            request_rate: 0.0,
            weight: 1,
            zone: 0,
            age_s: 0.0,
        }
    }
}

impl Endpoints {
    /// How many endpoints there are, and so how many scores are due.
    pub fn len(&self) -> usize {
        self.id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.id.is_empty()
    }

    /// The endpoints row by row, in order. A missing number (the host never leaves one out) reads as that of a new
    /// endpoint.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Endpoint> + '_ {
        let new = Endpoint::default();
        self.id.iter().enumerate().map(move |(at, &id)| Endpoint {
            id,
            in_flight: column(&self.in_flight, at, new.in_flight),
            latency_ms: column(&self.latency_ms, at, new.latency_ms),
            success_rate: column(&self.success_rate, at, new.success_rate),
            request_rate: column(&self.request_rate, at, new.request_rate),
            weight: column(&self.weight, at, new.weight),
            zone: column(&self.zone, at, new.zone),
            age_s: column(&self.age_s, at, new.age_s),
        })
    }

    /// A score for each endpoint by a function of that endpoint alone.
    pub fn scores(&self, score: impl FnMut(Endpoint) -> f32) -> Vec<f32> {
        self.iter().map(score).collect()
    }
}

fn column<T: Copy>(values: &[T], at: usize, missing: T) -> T {
    values.get(at).copied().unwrap_or(missing)
}

impl FromIterator<Endpoint> for Endpoints {
    fn from_iter<I: IntoIterator<Item = Endpoint>>(rows: I) -> Self {
        let mut columns = Endpoints::default();
        for row in rows {
            columns.id.push(row.id);
            columns.in_flight.push(row.in_flight);
            columns.latency_ms.push(row.latency_ms);
            columns.success_rate.push(row.success_rate);
            columns.request_rate.push(row.request_rate);
            columns.weight.push(row.weight);
            columns.zone.push(row.zone);
            columns.age_s.push(row.age_s);
        }
        columns
    }
}
