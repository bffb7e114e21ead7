//! End-to-end tests by feature, in one binary so that they link once.

mod drain;
#[path = "../../fixtures/mod.rs"]
mod fixtures;
mod framing;
mod plugins;
mod proxying;
mod routing;
