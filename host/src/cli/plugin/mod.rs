//! `witgate plugin …`: the versions of a running proxy's plugins, and what a file holds before it is uploaded.

mod inspect;
mod list;
mod push;

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{
    Outcome,
    client::Client,
    show::{say, warning},
    target::Connect,
};

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
        /// The version's number, or the first 6 or more digits of its SHA-256
        #[arg(value_name = "VERSION", value_parser = version)]
        version: Value,
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
            let plugin = client.post(&path(&name, "/activate"), Some(&json!({ "version": version })))?;
            say!("{name}: version {} is live", plugin["active"]);
            show_warnings(&plugin);
            Ok(())
        }
        Command::Rollback { name, connect } => {
            let plugin = Client::open(&connect)?.post(&path(&name, "/rollback"), None)?;
            say!("{name}: rolled back, version {} is live", plugin["active"]);
            show_warnings(&plugin);
            Ok(())
        }
        Command::Inspect { file } => inspect::command(&file),
    }
}

/// What the configuration wants of a plugin that is live now and it does not answer.
fn show_warnings(answer: &Value) {
    answer["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str).for_each(warning);
}

/// A version as the proxy takes it. What is written as numbers are is one.
fn version(text: &str) -> Result<Value, String> {
    if let Some(number) = text.parse::<u32>().ok().filter(|number| number.to_string() == text) {
        return Ok(number.into());
    }
    if (6..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.into());
    }
    Err("expected a number, such as 2, or 6 or more hexadecimal digits from the start of a SHA-256".to_owned())
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
    fn a_version_is_a_number_or_the_start_of_a_digest() {
        assert_eq!(version("3"), Ok(json!(3)));
        assert_eq!(version("123456"), Ok(json!(123_456)));
        assert_eq!(version("000123"), Ok(json!("000123")));
        assert_eq!(version("3f5A9c"), Ok(json!("3f5A9c")));
        assert_eq!(version(&"12".repeat(32)), Ok(json!("12".repeat(32))));
        for text in ["", "three", "-1", "3f5a9", "v1.2.3", &"0".repeat(65)] {
            assert!(version(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_encoded() {
        assert_eq!(path("canary-2", "/rollback"), "/v1/plugins/canary-2/rollback");
        assert_eq!(path("../a b", ""), "/v1/plugins/..%2Fa%20b");
    }
}
