//! `witgate plugin …`: the versions of a running proxy's plugins, and what a file holds before it is uploaded.

mod inspect;
mod list;
mod push;

use std::path::PathBuf;

use serde_json::json;

use super::{Outcome, client::Client, show::say, target::Connect};

/// Upload, list, activate, roll back and inspect plugins.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Upload a module as a new version
    Push(push::Arguments),
    /// Show plugins, their versions, and how the live ones do
    List(list::Arguments),
    /// Make a stored version live
    Activate {
        /// The plugin
        #[arg(value_name = "NAME")]
        name: String,
        /// The version's number
        #[arg(value_name = "VERSION")]
        version: u32,
        #[command(flatten)]
        connect: Connect,
    },
    /// Make the version live that was live before
    Rollback {
        /// The plugin
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        connect: Connect,
    },
    /// Say what a module exports and imports, and whether a proxy would take it; needs no proxy
    Inspect {
        /// A component, or a core module with an embedded component type
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

pub(super) fn command(command: Command) -> Outcome {
    match command {
        Command::Push(arguments) => push::command(&arguments),
        Command::List(arguments) => list::command(&arguments),
        Command::Activate { name, version, connect } => {
            let client = Client::open(&connect)?;
            client.post(&path(&name, "/activate"), Some(&json!({ "version": version })))?;
            say!("{name}: version {version} is live");
            Ok(())
        }
        Command::Rollback { name, connect } => {
            let plugin = Client::open(&connect)?.post(&path(&name, "/rollback"), None)?;
            say!("{name}: rolled back, version {} is live", plugin["active"]);
            Ok(())
        }
        Command::Inspect { file } => inspect::command(&file),
    }
}

/// The resource of a plugin. Whatever is no letter, digit, `-`, `_` or `.` is percent-encoded: the proxy says what is
/// wrong with such a name.
fn path(name: &str, call: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let name: String = name
        .bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    format!("/v1/plugins/{name}{call}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded() {
        assert_eq!(path("canary-2", "/rollback"), "/v1/plugins/canary-2/rollback");
        assert_eq!(path("../a b", ""), "/v1/plugins/..%2Fa%20b");
    }
}
