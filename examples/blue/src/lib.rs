//! `blue`, a router: sends every request to the cluster `blue` and says so in `x-release`. With `green` it makes two versions
//! of one plugin that differ in two places at once, so that a response that is half the one and half the other shows.

use witgate_sdk::prelude::*;

/// The plugin.
pub struct Blue;

impl Plugin for Blue {
    type Config = NoConfig;

    fn configure(_: NoConfig, _: &mut Fields) -> Result<Self, String> {
        Ok(Blue)
    }
}

impl Router for Blue {
    fn route(&mut self, _: &Request<'_>) -> Decision {
        Decision::cluster("blue").set_header("x-release", "blue")
    }
}

export!(Blue: router);
