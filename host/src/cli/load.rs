//! A configuration file from disk to [`Parsed`], with every diagnostic shown. The only place of the command line that reads one.

use std::path::{Path, PathBuf};

use witgate_core::config::{self, Diagnostics, Parsed};

use super::{
    Failed, Outcome,
    show::{Paint, warn_line},
};
use crate::{control::Source, files};

/// What commands read where nothing else is said.
pub(super) const DEFAULT: &str = "witgate.toml";

/// The same with where it came from, so that it can be read again.
pub(super) fn with_source(path: &Path) -> Outcome<(Parsed, Source)> {
    let text = read(path)?;
    let source = Source { text, file: Some(path.to_owned()), base: base(path) };
    Ok((checked(&source)?, source))
}

/// Reads and checks a file. Errors are on stderr when this fails; warnings are the caller's to show.
pub(super) fn config(path: &Path) -> Outcome<Parsed> {
    with_source(path).map(|(parsed, _)| parsed)
}

fn checked(source: &Source) -> Outcome<Parsed> {
    config::parse(&source.text, &source.name(), &source.base).map_err(|diagnostics| {
        show(&diagnostics);
        Failed::said()
    })
}

/// The same of the file that is read where none is named.
pub(super) fn default_with_source() -> Outcome<(Parsed, Source)> {
    let path = Path::new(DEFAULT);
    match files::open(path) {
        Err(error) if error.is_absent() => Err(Failed::new(format!("{error}; name it with -c FILE"))),
        _ => with_source(path),
    }
}

/// The text of a configuration file.
pub(super) fn read(path: &Path) -> Outcome<String> {
    files::read_text(path, files::CONFIG).map_err(Failed::new)
}

/// What relative paths in the file are relative to.
pub(super) fn base(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}

/// Prints diagnostics the way compilers do.
pub(super) fn show(diagnostics: &Diagnostics) {
    warn_line(format_args!("{}", painted(&diagnostics.to_string(), Paint::stderr())));
}

/// Colours for what the caret points at and for the words that say how bad it is.
pub(super) fn painted(text: &str, paint: Paint) -> String {
    if !paint.is_on() {
        return text.to_owned();
    }
    let lines: Vec<String> = text.lines().map(|line| painted_line(line, paint)).collect();
    lines.join("\n")
}

fn painted_line(line: &str, paint: Paint) -> String {
    if let Some(rest) = line.strip_prefix("error: ") {
        return format!("{} {}", paint.red("error:"), paint.bold(rest));
    }
    if let Some(rest) = line.strip_prefix("warning: ") {
        return format!("{} {}", paint.yellow("warning:"), paint.bold(rest));
    }
    if line.trim_start().starts_with("-->") {
        return paint.cyan(line);
    }
    match line.split_once(" | ") {
        Some((gutter, marks)) if gutter.trim().is_empty() && marks.trim_start().starts_with('^') => {
            format!("{gutter}{}{}", paint.dim(" | "), paint.red(marks))
        }
        Some((gutter, text)) if gutter.chars().all(|c| c.is_ascii_digit()) => {
            format!("{}{text}", paint.dim(format!("{gutter} | ")))
        }
        _ => line.to_owned(),
    }
}
