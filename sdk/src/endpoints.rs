//! The endpoints that a scorer judges, as the columns of numbers in which they cross the boundary.

use core::fmt;
use core::ops::Deref;
use std::borrow::Cow;

#[cfg(target_arch = "wasm32")]
use crate::component::List;
#[cfg(not(target_arch = "wasm32"))]
use std::vec::Vec as List;

/// Numbers to read, one of each endpoint. In a component they lie where the host wrote them.
pub struct Column<T>(List<T>);

/// Endpoints as parallel columns: every list has the same length, one element an endpoint.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Endpoints {
    /// Stable identity of the endpoint, for state kept between calls. Says nothing of its address.
    pub id: Column<u64>,
    /// Requests in flight now, over all workers.
    pub in_flight: Column<u32>,
    /// Moving average of the time to the response's head, in milliseconds; 0 where nothing was measured yet.
    pub latency_ms: Column<f32>,
    /// Moving average of the share of requests that did not fail, 0 to 1; 1 where nothing was measured yet.
    pub success_rate: Column<f32>,
    /// Requests finished in the last interval, per second.
    pub request_rate: Column<f32>,
    /// The configured weight, which the host applies to the score by itself.
    pub weight: Column<u32>,
    /// 0 in this proxy's own zone, or where zones are not configured; otherwise an index of the zone.
    pub zone: Column<u32>,
    /// Seconds since the endpoint last became available.
    pub age_s: Column<f32>,
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

    /// The same endpoints with no number missing (see [`Endpoints::iter`]): every column is as long as `id`. For those who
    /// read by columns.
    pub fn filled(&self) -> Cow<'_, Endpoints> {
        let all = self.len();
        let Endpoints { id: _, in_flight, latency_ms, success_rate, request_rate, weight, zone, age_s } = self;
        let floats = [latency_ms, success_rate, request_rate, age_s];
        let whole = [in_flight, weight, zone];
        if floats.iter().all(|column| column.len() == all) && whole.iter().all(|column| column.len() == all) {
            Cow::Borrowed(self)
        } else {
            Cow::Owned(self.iter().collect())
        }
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
        let rows: Vec<Endpoint> = rows.into_iter().collect();
        fn column<T>(rows: &[Endpoint], number: impl Fn(&Endpoint) -> T) -> Column<T> {
            rows.iter().map(number).collect()
        }
        Endpoints {
            id: column(&rows, |row| row.id),
            in_flight: column(&rows, |row| row.in_flight),
            latency_ms: column(&rows, |row| row.latency_ms),
            success_rate: column(&rows, |row| row.success_rate),
            request_rate: column(&rows, |row| row.request_rate),
            weight: column(&rows, |row| row.weight),
            zone: column(&rows, |row| row.zone),
            age_s: column(&rows, |row| row.age_s),
        }
    }
}

impl<T> Column<T> {
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn lent(list: List<T>) -> Self {
        Column(list)
    }
}

impl<T> Deref for Column<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'a, T> IntoIterator for &'a Column<T> {
    type Item = &'a T;
    type IntoIter = core::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> From<Vec<T>> for Column<T> {
    fn from(numbers: Vec<T>) -> Self {
        numbers.into_iter().collect()
    }
}

impl<T> FromIterator<T> for Column<T> {
    fn from_iter<I: IntoIterator<Item = T>>(numbers: I) -> Self {
        Column(List::from_iter(numbers))
    }
}

impl<T> Default for Column<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<T: Clone> Clone for Column<T> {
    fn clone(&self) -> Self {
        self.to_vec().into()
    }
}

impl<T: PartialEq> PartialEq for Column<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: fmt::Debug> fmt::Debug for Column<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
