//! `green`, a router: sends every request to the cluster `green` and says so in `x-release`. With `blue` it makes two versions
//! of one plugin that differ in two places at once, so that a response that is half the one and half the other shows.

use witgate_sdk::prelude::*;

/// The plugin.
pub struct Green;

impl Plugin for Green {
    type Config = NoConfig;

    fn configure(_: NoConfig, _: &mut Fields) -> Result<Self, String> {
        Ok(Green)
    }
}

impl Router for Green {
    fn route(&mut self, _: &Request<'_>) -> Decision {
        Decision::cluster("green").set_header("x-release", "green")
    }
}

export!(Green: router);
