//! Text to [`Config`], or every diagnostic at once. Never opens a file or a socket.
//!
//! `syntax` makes a tree of spanned values of the text, `decode` reads the tree through `reader`, key by key, and
//! `references` checks what only the whole file can tell. All report to a `sink` and go on, so that one look at the file
//! finds everything that is wrong with it.

mod decode;
mod diagnostic;
mod endpoints;
mod model;
mod patterns;
mod reader;
mod references;
mod sink;
mod suggest;
mod syntax;
mod value;

use std::path::Path;

pub use diagnostic::{Diagnostic, Diagnostics, Excerpt, MAX_DIAGNOSTICS, Severity};
pub use endpoints::{MAX_WEIGHT, WantedEndpoint, endpoints};
pub use model::*;

/// A file that can be used.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// What it says.
    pub config: Config,
    /// What is perhaps not what was meant, such as a route that names a plugin which no `[[plugin]]` has, while another
    /// `[[plugin]]` has nearly that name. (Plugins may arrive by upload alone, so the name itself is no error.)
    pub warnings: Diagnostics,
}

/// Reads a configuration. `file` is the name that diagnostics show; relative paths in the text, and those of defaults,
/// are joined to `base_dir`, the directory of the file.
///
/// # Errors
/// Everything that is wrong with the text, in its order. Where the text is not TOML, what it seems to lack is not
/// reported beside that. Warnings are not part of the error.
pub fn parse(text: &str, file: &str, base_dir: &Path) -> Result<Parsed, Diagnostics> {
    let sink = sink::Sink::new(file, text);
    let tree = syntax::parse(text, &sink);
    let mut references = references::References::default();
    let config = decode::config(reader::Table::root(&tree, &sink), base_dir, &mut references);
    references.check(&sink, &config);
    drop(references);
    let found = sink.finish();
    if found.errors.is_empty() { Ok(Parsed { config, warnings: found.warnings }) } else { Err(found.errors) }
}
