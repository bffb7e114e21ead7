//! `witgate demo`: origins, the proxy with the shipped plugins, clients, and a plugin swapped under load, all in this
//! process; what comes of it is shown and checked. Needs no network beyond loopback and leaves nothing behind.

mod canary;
mod load;
mod next;
mod origins;
mod report;
mod scorer;
mod session;
mod swap;
mod tenant;
mod world;

use std::{path::PathBuf, time::Instant};

use self::{report::Report, world::World};
use super::{
    Outcome,
    logging::{self, Format},
    show::{say, time},
};

/// Where `cargo xtask plugins` puts what it builds.
const PLUGINS: &str = "target/plugins";

/// Watch four plugins decide about real traffic, and one of them being swapped under load.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The built plugins
    #[arg(long, value_name = "DIR", default_value = PLUGINS)]
    plugins: PathBuf,
    /// Users of the canary phase
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    users: u32,
    /// Keep serving afterwards, until Ctrl-C
    #[arg(long)]
    stay: bool,
}

pub(super) fn command(arguments: &Arguments) -> Outcome {
    logging::start(Format::Text, "warn")?;
    let began = Instant::now();
    let mut report = Report::new();
    say!("{}", report.paint.bold("Witgate: four plugins decide about real traffic"));
    say!();
    let world = World::start(&arguments.plugins)?;
    say!();
    say!("  clients ──► {} ──► {} origins, all in this process", world.web, origins::ORIGINS.len());
    let phases: [&dyn Fn(&mut Report) -> Outcome; 5] = [
        &|report| canary::show(&world, report, arguments.users),
        &|report| tenant::show(&world, report),
        &|report| session::show(&world, report),
        &|report| scorer::show(&world, report),
        &|report| swap::show(&world, report),
    ];
    for phase in phases {
        phase(&mut report)?;
        world.on()?;
    }
    next::plugins(&world, &report);
    let outcome = report.end();
    say!("{}", report.paint.dim(format_args!("It took {}.", time(began.elapsed()))));
    next::show(&world, &report, &arguments.plugins, arguments.stay);
    if arguments.stay {
        world.serve();
    }
    outcome
}
