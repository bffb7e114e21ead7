//! `witgate plugin push`: uploads a module, and shows how it is sent, compiled and checked.

use std::{path::PathBuf, rc::Rc, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::{path, show_warnings};
use crate::{
    cli::{
        Failed, Outcome,
        client::{Client, Progress},
        show::{Paint, say},
        target::Connect,
    },
    files,
};

/// Upload a module as a new version.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// A component, or a core module with an embedded component type
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The plugin that it becomes a version of
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Make it live once it is stored
    #[arg(long)]
    activate: bool,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn command(arguments: &Arguments) -> Outcome {
    let file = &arguments.file;
    let module = files::read(file, files::MODULE).map_err(Failed::new)?;
    let client = Client::open(&arguments.connect)?;
    let resource = path(&arguments.name, &format!("?progress=true&activate={}", arguments.activate));
    // Draws to stderr, and nothing where that is no terminal.
    let bar = ProgressBar::new(module.len() as u64);
    bar.set_style(style("{msg:12} [{bar:32}] {bytes} of {total_bytes}"));
    bar.set_message("sending");
    let (sent, stages) = (bar.clone(), bar.clone());
    let progress = Progress {
        sent: Rc::new(move |bytes| sent.set_position(bytes)),
        stage: Rc::new(move |stage| {
            stages.set_style(style("{spinner} {msg} {elapsed}"));
            stages.enable_steady_tick(Duration::from_millis(80));
            stages.set_message(words(stage).to_owned());
        }),
    };
    let answer = client.upload(&resource, module, progress);
    bar.finish_and_clear();
    report(arguments, &answer?);
    Ok(())
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// What happens in a stage.
fn words(stage: &str) -> &str {
    match stage {
        "hash" => "hashing",
        "wrap" => "making a component of it",
        "load-artefact" => "loading the compiled artefact",
        "compile" => "compiling",
        "inspect" => "checking imports and exports",
        "configure" => "configuring",
        "rehearse" => "rehearsing every question",
        "store" => "storing",
        other => other,
    }
}

fn report(Arguments { name, connect, .. }: &Arguments, answer: &Value) {
    let version = &answer["version"];
    let exports: Vec<&str> = answer["exports"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let sha256: String = answer["sha256"].as_str().unwrap_or_default().chars().take(12).collect();
    let known = if answer["status"] == 200 { ", which was stored already" } else { "" };
    say!("{} version {version}{known}  ({}, sha256 {sha256}…)", Paint::stdout().bold(name), exports.join(", "));
    if answer["active"] == true {
        say!("it is live");
        show_warnings(answer);
    } else {
        say!("it is not live: witgate plugin activate {name} {version}{}", connect.as_typed());
    }
}
