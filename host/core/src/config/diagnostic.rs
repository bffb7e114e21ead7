//! What is wrong with a configuration file, as data that compares, serialises and prints. Never decides what is wrong.

use std::fmt;

use serde::{Serialize, Serializer};

/// At most this many diagnostics are kept for one file; the rest are only counted.
pub const MAX_DIAGNOSTICS: usize = 1_000;

/// Whether a diagnostic keeps the file from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is used, and does perhaps not what was meant.
    Warning,
}

/// One thing that is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Whether it keeps the file from being used.
    pub severity: Severity,
    /// The file's name, as it was given to [`parse`](super::parse).
    pub file: String,
    /// 1-based.
    pub line: usize,
    /// 1-based, in characters.
    pub column: usize,
    /// The key's path, such as `cluster[1].endpoints[0].weight`; empty where the file as a whole is meant.
    pub key: String,
    /// The named thing that the key belongs to, such as `cluster "api"`, where its name is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// What is wrong, without a full stop.
    pub message: String,
    /// What would be accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What was perhaps meant, or where the other end of a conflict is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The line, or a window of it where it is long, to print above the caret.
    #[serde(skip)]
    pub excerpt: Excerpt,
}

/// A piece of one line of the file, safe to print: control characters are replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Excerpt {
    /// The text.
    pub text: String,
    /// Characters of `text` before the caret.
    pub indent: usize,
    /// Characters underlined, at least 1.
    pub width: usize,
}

/// Everything that is wrong with a file, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics {
    items: Vec<Diagnostic>,
    omitted: usize,
}

impl Diagnostics {
    /// `items` in the order in which they are to be shown; `omitted` more were found and dropped.
    pub(super) fn new(items: Vec<Diagnostic>, omitted: usize) -> Self {
        Self { items, omitted }
    }

    /// The diagnostics, in the order of the file; at most [`MAX_DIAGNOSTICS`].
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.items.iter()
    }

    /// How many were found, those dropped included.
    pub fn count(&self) -> usize {
        self.items.len() + self.omitted
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A list of the diagnostics. What was dropped for its number is not in it.
impl Serialize for Diagnostics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.items.serialize(serializer)
    }
}

/// The way compilers print: message, place, line, caret, notes.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        writeln!(f, "{severity}: {}", self.message)?;
        write!(f, "{gutter}--> {}:{}:{}", self.file, self.line, self.column)?;
        match (self.key.as_str(), &self.within) {
            ("", _) => writeln!(f)?,
            (key, None) => writeln!(f, " ({key})")?,
            (key, Some(within)) => writeln!(f, " ({key}, {within})")?,
        }
        let Excerpt { text, indent, width } = &self.excerpt;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{}", format!("{number} | {text}").trim_end())?;
        writeln!(f, "{gutter} | {}{}", " ".repeat(*indent), "^".repeat((*width).max(1)))?;
        for (label, note) in [("expected", &self.expected), ("help", &self.help)] {
            if let Some(note) = note {
                writeln!(f, "{gutter} = {label}: {note}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.items {
            writeln!(f, "{diagnostic}")?;
        }
        if self.omitted > 0 {
            writeln!(f, "… and {} more", self.omitted)?;
        }
        let warnings = self.items.iter().filter(|d| d.severity == Severity::Warning).count();
        let errors = self.count() - warnings;
        let (count, word) = if errors > 0 { (errors, "error") } else { (warnings, "warning") };
        write!(f, "{count} {word}{}", if count == 1 { "" } else { "s" })
    }
}

impl std::error::Error for Diagnostics {}
