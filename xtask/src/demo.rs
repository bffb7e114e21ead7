//! `cargo xtask demo`: from a fresh checkout to `witgate demo` in one command. Only builds and hands over.

use std::process::Command;

use crate::plugins;
use crate::run::{self, Outcome};

/// `arguments` go to `witgate demo` as they are.
pub(crate) fn command(arguments: &[String]) -> Outcome {
    plugins::command(&plugins::Options::for_demo())?;
    println!("building the proxy as users get it: the first time, link-time optimisation takes some minutes");
    run::run(run::cargo().args(["build", "--release", "--package", "witgate", "--bin", "witgate"]))?;
    let mut demo = Command::new(run::target_dir().join("release/witgate"));
    run::without_outer_cargo(&mut demo);
    run::run(demo.arg("demo").arg("--plugins").arg(plugins::output_dir()).args(arguments))
}
