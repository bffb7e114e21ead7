//! `witgate drain`: the graceful shutdown of a running proxy.

use super::{Outcome, client::Client, show::say, target::Connect};

/// Begin a graceful shutdown of the running proxy.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn command(arguments: &Arguments) -> Outcome {
    let client = Client::open(&arguments.connect)?;
    client.post("/v1/drain", None)?;
    say!("draining: not ready any more; requests in flight finish within drain_timeout, then it exits");
    Ok(())
}
