//! Write Witgate policy plugins in Rust. Translates between the plugin contract and plain Rust; holds no policy itself.
//!
//! A plugin is a type that implements [`Plugin`] and one trait for each question that it answers: [`Router`],
//! [`Splitter`], [`Affinity`], [`Scorer`]. This is a whole one:
//!
//! ```
//! use witgate_sdk::prelude::*;
//!
//! struct Beta;
//!
//! impl Plugin for Beta {
//!     type Config = NoConfig;
//!     fn configure(_: NoConfig, fields: &mut Fields) -> Result<Self, String> {
//!         fields.cookie("beta");
//!         Ok(Beta)
//!     }
//! }
//!
//! impl Router for Beta {
//!     fn route(&mut self, request: &Request<'_>) -> Decision {
//!         if request.cookie("beta") == Some("1") { Decision::cluster("beta") } else { Decision::pass() }
//!     }
//! }
//!
//! export!(Beta: router);
//!
//! # fn main() {
//! // Its logic is tested natively, without a proxy or a Wasm toolchain.
//! use witgate_sdk::testing::{Harness, Request as Sent, json};
//! let mut beta = Harness::<Beta>::new(json!({})).unwrap();
//! assert_eq!(beta.route(&Sent::get("/").cookie("beta", "1")), Decision::cluster("beta"));
//! # }
//! ```
//!
//! The crate is a `cdylib`, built for wasm32 (`cargo xtask plugins` does it for those shipped with Witgate). Fields that
//! are declared in `configure` cross into the component once with the question and are then free to read; any other
//! field of the request can be read as well, at the price of a host call each.
//!
//! Answers are plain data. What is malformed (an unknown cluster, an index that was not offered, a score that is not a
//! number) costs a fallback to the native decision; [`testing::Harness`] fails the test on it instead.

mod affinity;
mod config;
mod endpoints;
mod export;
mod field;
pub mod host;
mod instance;
mod offer;
mod plugin;
mod request;
mod router;

#[cfg(all(feature = "allocator", any(test, target_arch = "wasm32")))]
mod allocator;
#[doc(hidden)]
#[cfg(target_arch = "wasm32")]
pub mod component;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use affinity::{Cookie, MAX_KEY, SameSite, Sticky};
pub use config::duration;
pub use endpoints::{Column, Endpoint, Endpoints};
pub use field::{Field, Fields, Handle};
pub use host::{Level, now, random};
#[doc(hidden)]
pub use instance::Instance;
pub use offer::Offer;
pub use plugin::{Affinity, NoConfig, Plugin, Router, Scorer, Splitter};
pub use request::Request;
pub use router::{Action, Decision};

/// Everything that a plugin names, in one line.
pub mod prelude {
    pub use crate::{
        Action, Affinity, Cookie, Decision, Endpoint, Endpoints, Field, Fields, Handle, NoConfig, Offer, Plugin,
        Request, Router, SameSite, Scorer, Splitter, Sticky, export,
    };
    pub use serde::Deserialize;
}
