//! The project's own commands, as `cargo xtask COMMAND`: they install, build and judge. Nothing here is part of the product,
//! and nothing here asks a question, so that a machine without a person at it can run them all.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

mod bench;
mod demo;
mod deny;
mod instructions;
mod lab;
mod languages;
mod layering;
mod plugins;
mod resilience;
mod run;
mod scan;
mod setup;
mod spdx;
mod tally;
mod test;
mod toolchain;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  setup                     install what is missing: the wasm32 target of Rust, and the tools that tests need
  plugins [--example NAME]  build plugins/* (and examples/NAME) to target/plugins/<name>.wasm
  demo [ARG…]               build everything and run `witgate demo ARG…`
  test [--fast] [FILTER]    every check; --fast: without the crates that need hyper or wasmtime;
                            with FILTER: only the tests whose name contains it
  bench [--quick] [OPTION…] what it costs beside other proxies, into docs/performance.md; --quick: a look that writes
                            nothing; --only PART,…: plain, policy, tls, http2, bodies, churn, scale, busy, idle, swap,
                            small, decisions; --proxies WORD,…: only those with such a word in their name, and nothing is
                            written; --binary PATH: measure that proxy; --rounds N, --seconds N, --activations N;
                            --no-write
  resilience [--quick] [OPTION…]
                            what clients see of faults at the origins, here and through other proxies, into
                            docs/resilience.md; --quick: short faults, and nothing is written; --only SCENARIO,…: kill,
                            hung, black-hole, half-503, resets, rolling, slow, half-gone, dns, reload; --proxies WORD,…,
                            --binary PATH, --no-write: as above; --seconds N: how long a fault lasts
  soak [OPTION…]            one proxy under clients of every kind while every fault comes again and again, into
                            docs/resilience.md; --minutes N: 30 where it is not said; --rate N: requests a second; --seed N:
                            the same faults at the same times; --binary PATH, --no-write: as above
  instructions [--record|FILTER]
                            only the counts of instructions, of decisions, questions and requests; --record: write them
                            down instead of judging them; with FILTER: only the operations whose name contains it
  layering                  only the check of the house plan: who may import whom
  deny                      only the check of licences and dependencies against deny.toml

WITGATE_WASM=rustup|debian forces the one or the other way to the wasm32 target.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = arguments.split_first() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let asks = |word: &String| word == "-h" || word == "--help";
    let outcome = match (command.as_str(), rest) {
        // Of `witgate demo` it is witgate that tells.
        (of, rest) if of == "help" || asks(command) || of != "demo" && rest.iter().any(asks) => {
            println!("{USAGE}");
            Ok(())
        }
        ("setup", []) => setup::all(),
        ("plugins", rest) => plugins::options(rest).and_then(|options| plugins::command(&options)),
        ("demo", rest) => demo::command(rest),
        ("test", rest) => test::options(rest).and_then(|options| test::command(&options)),
        ("bench", rest) => bench::options(rest).and_then(|options| bench::command(&options)),
        ("resilience", rest) => resilience::command(rest),
        ("soak", rest) => resilience::soak::command(rest),
        ("instructions", rest) => instructions::options(rest).and_then(|options| instructions::command(&options)),
        ("layering", []) => layering::command(),
        ("deny", []) => deny::command(),
        _ => Err(run::Failed::usage(format!("unknown command: {}", arguments.join(" ")))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            if !failed.message.is_empty() {
                eprintln!("xtask: {}", failed.message);
            }
            if failed.code == 2 {
                eprintln!("{USAGE}");
            }
            ExitCode::from(failed.code)
        }
    }
}
