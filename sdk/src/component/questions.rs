//! The functions behind a component's exports, under the names by which wit-bindgen's export macros call them. Each takes its
//! arguments over, asks, and leaves the answer for the host to read.
#![allow(unsafe_code, clippy::missing_safety_doc)] // The host calls them, by the canonical ABI; nobody else can.

/// As the generated modules are nested.
pub mod exports {
    #[allow(missing_docs)]
    pub mod witgate {
        pub mod policy {
            pub mod router {
                pub use super::super::super::super::route as _export_route_cabi;
                pub use super::super::super::super::stays as __post_return_route;
                pub use crate::component::router::exports::witgate::policy::router::__export_witgate_policy_router_0_1_0_cabi;
            }
            pub mod splitter {
                pub use super::super::super::super::split as _export_split_cabi;
                pub use crate::component::splitter::exports::witgate::policy::splitter::__export_witgate_policy_splitter_0_1_0_cabi;
            }
            pub mod affinity {
                pub use super::super::super::super::stays as __post_return_stick;
                pub use super::super::super::super::stick as _export_stick_cabi;
                pub use crate::component::affinity::exports::witgate::policy::affinity::__export_witgate_policy_affinity_0_1_0_cabi;
            }
            pub mod scorer {
                pub use super::super::super::super::pick as _export_pick_cabi;
                pub use super::super::super::super::stays as __post_return_pick;
                pub use super::super::super::super::stays as __post_return_weigh;
                pub use super::super::super::super::weigh as _export_weigh_cabi;
                pub use crate::component::scorer::exports::witgate::policy::scorer::__export_witgate_policy_scorer_0_1_0_cabi;
            }
        }
    }
}

use core::time::Duration;

use super::answers::{self, Kept, ROUTED, Routed};
use super::arguments::{List, Timed, Values, record};
use super::{Exported, imports};
use crate::affinity::Sticky;
use crate::endpoints::{Column, Endpoints};
use crate::plugin::{Affinity, Router, Scorer, Splitter};

std::thread_local! {
    static ROUTE: Kept<Routed, ROUTED> = const { Kept::new() };
    static SPLIT: Kept<Option<usize>, 2> = const { Kept::new() };
    static STICK: Kept<Option<Sticky>, 18> = const { Kept::new() };
    static SCORES: Kept<Vec<f32>, 2> = const { Kept::new() };
}

/// `router.route`.
pub unsafe fn route<E: Exported<Plugin: Router>>(at: *mut u8, len: usize) -> *mut u8 {
    // SAFETY: the host's arguments of this question.
    let values = unsafe { Values::new(at, len) };
    E::ask(|instance| ROUTE.with(|kept| kept.put_decision(instance.route(&values, &imports::field))))
}

/// `splitter.split`.
pub unsafe fn split<E: Exported<Plugin: Splitter>>(
    at: *mut u8,
    len: usize,
    offer: i64,
    weights: *mut u8,
    weights_len: usize,
) -> *mut u8 {
    // SAFETY: as in `route`.
    let (values, weights) = unsafe { (Values::new(at, len), List::<u32>::new(weights, weights_len)) };
    let offer = (offer.cast_unsigned(), &*weights);
    let choice = E::ask(|instance| instance.split(&values, &imports::field, offer, &imports::offered_clusters));
    SPLIT.with(|kept| kept.put(choice, |choice, to| answers::choice(*choice, to)))
}

/// `affinity.stick`.
pub unsafe fn stick<E: Exported<Plugin: Affinity>>(at: *mut u8, len: usize) -> *mut u8 {
    // SAFETY: as in `route`.
    let values = unsafe { Values::new(at, len) };
    let sticky = E::ask(|instance| instance.stick(&values, &imports::field));
    STICK.with(|kept| kept.put(sticky, |sticky, to| answers::stick(sticky.as_ref(), to)))
}

/// `scorer.weigh`.
pub unsafe fn weigh<E: Exported<Plugin: Scorer>>(at: *mut u8) -> *mut u8 {
    // SAFETY: as in `route`; the first two words are the time.
    let ([low, high], endpoints) = unsafe { endpoints::<Timed>(at) };
    let now = Duration::from_millis((high as u64) << 32 | low as u64);
    let scores = E::ask(|instance| instance.weigh(now, &endpoints));
    SCORES.with(|kept| kept.put(scores, answers::scores))
}

/// `scorer.pick`.
pub unsafe fn pick<E: Exported<Plugin: Scorer>>(at: *mut u8) -> *mut u8 {
    // SAFETY: as in `route`; the first two words are the values.
    let ([at, len], endpoints) = unsafe { endpoints::<[[usize; 2]; 9]>(at) };
    // SAFETY: as above.
    let values = unsafe { Values::new(core::ptr::with_exposed_provenance_mut(at), len) };
    let scores = E::ask(|instance| instance.pick(&values, &imports::field, &endpoints));
    SCORES.with(|kept| kept.put(scores, answers::scores))
}

/// # Safety
/// As [`record`].
unsafe fn endpoints<R: Copy + Into<[[usize; 2]; 9]>>(at: *mut u8) -> ([usize; 2], Endpoints) {
    fn take<T>([at, len]: [usize; 2]) -> Column<T> {
        // SAFETY: one of the record's lists, each of which is taken once.
        Column::lent(unsafe { List::new(core::ptr::with_exposed_provenance_mut(at), len) })
    }
    // SAFETY: by the caller's promise.
    let [first, id, in_flight, latency_ms, success_rate, request_rate, weight, zone, age_s] =
        unsafe { record::<R>(at) };
    let endpoints = Endpoints {
        id: take(id),
        in_flight: take(in_flight),
        latency_ms: take(latency_ms),
        success_rate: take(success_rate),
        request_rate: take(request_rate),
        weight: take(weight),
        zone: take(zone),
        age_s: take(age_s),
    };
    (first, endpoints)
}

/// After the host has read an answer: it stays until the next one.
pub unsafe fn stays<E>(_: *mut u8) {}
