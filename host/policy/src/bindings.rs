//! The only `bindgen!`: generated types, and their translation to and from the plain types of `witgate_core`. It must
//! never decide anything about an answer.

use http::HeaderName;
use wasmtime::component::{Instance, InstancePre};
use wasmtime::{AsContextMut, Result};
use witgate_core::answer::{RawAction, RawCookie, RawRoute, RawStick, SameSite};
use witgate_core::request::FieldName;

use crate::Exports;
use generated::exports::witgate::policy::{affinity, lifecycle, router, scorer, splitter};
pub(crate) use generated::exports::witgate::policy::{scorer::Endpoints, splitter::Offer};
pub(crate) use generated::witgate::policy::{
    host,
    types::{self, Field, Manifest, Values},
};

// The macro's output implements wasmtime's unsafe `Lift` and `Lower` traits; it is checked against the WIT by the macro.
#[allow(unsafe_code, missing_docs, unreachable_pub, rust_2018_idioms)]
mod generated {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "every-question",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// Where the questions are among a component's exports; looked up once for a component.
#[derive(Clone)]
pub(crate) struct Indices {
    lifecycle: lifecycle::GuestIndices,
    router: Option<router::GuestIndices>,
    splitter: Option<splitter::GuestIndices>,
    affinity: Option<affinity::GuestIndices>,
    scorer: Option<scorer::GuestIndices>,
}

/// The questions of one instance.
pub(crate) struct Questions {
    pub(crate) lifecycle: lifecycle::Guest,
    pub(crate) router: Option<router::Guest>,
    pub(crate) splitter: Option<splitter::Guest>,
    pub(crate) affinity: Option<affinity::Guest>,
    pub(crate) scorer: Option<scorer::Guest>,
}

impl Indices {
    /// Errors where an interface lacks a function.
    pub(crate) fn new<T>(pre: &InstancePre<T>, exports: Exports) -> Result<Self> {
        Ok(Self {
            lifecycle: lifecycle::GuestIndices::new(pre)?,
            router: exports.router.then(|| router::GuestIndices::new(pre)).transpose()?,
            splitter: exports.splitter.then(|| splitter::GuestIndices::new(pre)).transpose()?,
            affinity: exports.affinity.then(|| affinity::GuestIndices::new(pre)).transpose()?,
            scorer: exports.scorer.then(|| scorer::GuestIndices::new(pre)).transpose()?,
        })
    }

    /// Errors where a function's type is not the contract's; inspection has excluded that.
    pub(crate) fn load(&self, mut store: impl AsContextMut, instance: &Instance) -> Result<Questions> {
        let mut cx = store.as_context_mut();
        Ok(Questions {
            lifecycle: self.lifecycle.load(&mut cx, instance)?,
            router: self.router.as_ref().map(|i| i.load(&mut cx, instance)).transpose()?,
            splitter: self.splitter.as_ref().map(|i| i.load(&mut cx, instance)).transpose()?,
            affinity: self.affinity.as_ref().map(|i| i.load(&mut cx, instance)).transpose()?,
            scorer: self.scorer.as_ref().map(|i| i.load(&mut cx, instance)).transpose()?,
        })
    }
}

/// The Rust types of each function, for the type check that inspection makes before anything runs.
pub(crate) mod signature {
    use super::*;

    pub(crate) type Configure = ((&'static str,), (std::result::Result<Manifest, String>,));
    pub(crate) type Route = ((Values<'static>,), (router::Decision,));
    pub(crate) type Split = ((Values<'static>, Offer<'static>), (Option<u32>,));
    pub(crate) type Stick = ((Values<'static>,), (Option<affinity::Sticky>,));
    pub(crate) type Weigh = ((u64, Endpoints<'static>), (Vec<f32>,));
    pub(crate) type Pick = ((Values<'static>, Endpoints<'static>), (Vec<f32>,));
}

/// Endpoints as parallel columns, one element an endpoint; the meaning of each is in `wit/scorer.wit`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns {
    /// Stable identity.
    pub id: Vec<u64>,
    /// Requests in flight.
    pub in_flight: Vec<u32>,
    /// Milliseconds to the response's head; 0 where nothing was measured.
    pub latency_ms: Vec<f32>,
    /// 0 to 1; 1 where nothing was measured.
    pub success_rate: Vec<f32>,
    /// Per second.
    pub request_rate: Vec<f32>,
    /// As configured.
    pub weight: Vec<u32>,
    /// 0 is this proxy's own.
    pub zone: Vec<u32>,
    /// Seconds since the endpoint became available.
    pub age_s: Vec<f32>,
}

impl Columns {
    /// Number of endpoints.
    pub fn len(&self) -> usize {
        self.id.len()
    }

    /// Whether there is no endpoint.
    pub fn is_empty(&self) -> bool {
        self.id.is_empty()
    }

    /// Removes every endpoint and keeps the room, for reuse from call to call.
    pub fn clear(&mut self) {
        let Self { id, in_flight, latency_ms, success_rate, request_rate, weight, zone, age_s } = self;
        id.clear();
        in_flight.clear();
        latency_ms.clear();
        success_rate.clear();
        request_rate.clear();
        weight.clear();
        zone.clear();
        age_s.clear();
    }

    pub(crate) fn view(&self) -> Endpoints<'_> {
        Endpoints {
            id: &self.id,
            in_flight: &self.in_flight,
            latency_ms: &self.latency_ms,
            success_rate: &self.success_rate,
            request_rate: &self.request_rate,
            weight: &self.weight,
            zone: &self.zone,
            age_s: &self.age_s,
        }
    }
}

/// The field's name; none where a header's name is no HTTP token.
pub(crate) fn field_name(field: Field) -> Option<FieldName> {
    Some(match field {
        Field::Method => FieldName::Method,
        Field::Path => FieldName::Path,
        Field::Host => FieldName::Host,
        Field::Scheme => FieldName::Scheme,
        Field::ClientAddress => FieldName::ClientAddress,
        Field::QueryString => FieldName::QueryString,
        Field::Header(name) => FieldName::Header(HeaderName::from_bytes(name.as_bytes()).ok()?),
        Field::Cookie(name) => FieldName::Cookie(name),
        Field::Query(name) => FieldName::Query(name),
    })
}

impl From<router::Decision> for RawRoute {
    fn from(it: router::Decision) -> Self {
        let action = match it.action {
            router::Action::Pass => RawAction::Pass,
            router::Action::Cluster(name) => RawAction::Cluster(name),
            router::Action::Respond(router::Response { status, headers, body }) => {
                RawAction::Respond { status, headers, body }
            }
            router::Action::Redirect(router::Redirect { status, location }) => RawAction::Redirect { status, location },
        };
        Self { action, set_headers: it.set_headers, remove_headers: it.remove_headers }
    }
}

impl From<affinity::Sticky> for RawStick {
    fn from(it: affinity::Sticky) -> Self {
        let set_cookie = it.set_cookie.map(|c| RawCookie {
            name: c.name,
            value: c.value,
            max_age: c.max_age,
            path: c.path,
            secure: c.secure,
            http_only: c.http_only,
            same_site: c.same_site.map(|s| match s {
                affinity::SameSite::Strict => SameSite::Strict,
                affinity::SameSite::Lax => SameSite::Lax,
                affinity::SameSite::None => SameSite::None,
            }),
        });
        Self { key: it.key, set_cookie }
    }
}
