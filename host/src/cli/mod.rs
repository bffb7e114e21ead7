//! The command line: arguments in, exit codes out, one file a command. Decides nothing about traffic: `run` and `demo`
//! start a [`Proxy`](crate::Proxy), the other commands ask one that runs.

mod check;
mod client;
mod demo;
mod drain;
mod explain;
mod lines;
mod load;
mod logging;
mod plugin;
mod replacement;
mod run;
mod secure;
mod show;
mod signals;
mod supervisor;
mod target;

use std::{fmt, process::ExitCode};

use clap::{Parser, Subcommand};

/// Where client commands look, as help texts say it.
const WHERE: &str = "\
Client commands find the admin API and its token in the configuration file of `-c FILE`; without it in WITGATE_ADMIN \
(127.0.0.1:9901, https://admin.example.com:9901 or unix:/run/witgate.sock) and WITGATE_TOKEN; without those in ./witgate.toml. \
WITGATE_CA, WITGATE_CERT and WITGATE_KEY name files for TLS: who signs the API's certificate, and what to show it.

Exit codes: 0 fine, 1 refused or failed, 2 usage.";

#[derive(Parser)]
#[command(name = "witgate", version, about = "An edge proxy whose policy is WebAssembly and whose mechanism is native")]
#[command(after_help = WHERE, arg_required_else_help = true, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve traffic until SIGTERM, which drains
    Run(run::Arguments),
    /// Say everything that is wrong with a configuration file
    Check(check::Arguments),
    /// Say what the running proxy would do with a request, without sending it anywhere
    Explain(explain::Arguments),
    /// Watch four plugins decide about real traffic, and one of them being swapped under load
    Demo(demo::Arguments),
    /// Upload, list, activate, roll back and inspect plugins
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// Begin a graceful shutdown of the running proxy
    Drain(drain::Arguments),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    // Last of all, and however this ends: what was logged is to be read.
    let _end = logging::End;
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => run::command(arguments),
        Command::Check(arguments) => check::command(&arguments),
        Command::Explain(arguments) => explain::command(&arguments),
        Command::Demo(arguments) => demo::command(&arguments),
        Command::Plugin(command) => plugin::command(command),
        Command::Drain(arguments) => drain::command(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            failed.show();
            ExitCode::FAILURE
        }
    }
}

/// What a command comes to. An error is exit code 1; usage errors (2) end in clap already.
type Outcome<T = ()> = Result<T, Failed>;

/// Why a command did not do what it was asked to.
#[derive(Debug, PartialEq, Eq)]
struct Failed {
    /// Empty where all was said already.
    message: String,
}

impl Failed {
    fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string() }
    }

    /// The reasons are on the screen already.
    fn said() -> Self {
        Self { message: String::new() }
    }

    fn show(&self) {
        if !self.message.is_empty() {
            let paint = show::Paint::stderr();
            show::warn_line(format_args!("{} {}", paint.red("error:"), self.message));
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[track_caller]
    fn check(line: &str, accepted: bool) {
        let words = std::iter::once("witgate").chain(line.split_whitespace());
        let got = Arguments::try_parse_from(words);
        assert_eq!(got.is_ok(), accepted, "witgate {line}: {:?}", got.err().map(|e| e.to_string()));
    }

    #[test]
    fn commands_as_the_manual_has_them() {
        check("run", true);
        check("run -c a.toml --log json", true);
        check("run a.toml", true);
        check("run a.toml -c b.toml", false);
        check("run --log xml", false);
        check("check a.toml", true);
        check("check", false);
        check("explain -c a.toml -X GET -H a:b http://localhost/", true);
        check("explain", false);
        check("explain -H nonsense http://localhost/", false);
        check("explain localhost/a", false);
        check("demo --plugins target/plugins --users 1000 --stay", true);
        check("demo --users 0", false);
        check("plugin push a.wasm --name canary --activate", true);
        check("plugin push a.wasm", false);
        check("plugin list -c a.toml", true);
        check("plugin activate canary 3", true);
        check("plugin activate canary 3f5a9c", true);
        check("plugin activate canary three", false);
        check("plugin rollback canary", true);
        check("plugin inspect a.wasm", true);
        check("plugin", false);
        check("drain", true);
        check("reticulate", false);
    }
}
