//! What `cargo xtask soak` runs beside the proxy: clients of every kind, an origin that echoes, and what is made once before.
//! Knows no fault: it says what clients saw and when, and others judge.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "lines on standard output are what it is for")]

mod clients;
mod echo;
#[path = "../fixtures/mod.rs"]
mod fixtures;
mod http;
mod kinds;
mod ledger;
mod made;
mod raw;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: soak made DIR | soak echo ADDRESS NUMBER | soak load HTTP TLS TCP AUTHORITY SEED RATE";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["made", dir] => made::all(Path::new(dir)),
        ["echo", address, number] => echo::serve(address, number),
        ["load", ref words @ ..] => match clients::Asked::parse(words) {
            Some(asked) => clients::run(asked),
            None => Err(std::io::Error::other(USAGE)),
        },
        _ => Err(std::io::Error::other(USAGE)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}
