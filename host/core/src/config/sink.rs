//! Where findings are collected while a file is read, and where byte offsets become lines and columns.
//! Never stops the reading.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    ops::Range,
};

use super::{
    diagnostic::{Diagnostic, Diagnostics, Excerpt, MAX_DIAGNOSTICS, Severity},
    patterns::Patterns,
    reader::Spot,
    suggest,
};

/// Words compared per file to find what was meant: each search walks all names of a kind, and a broken file may have
/// thousands of names and thousands of slips.
const MAX_COMPARISONS: usize = 50_000;
/// Characters shown before and after the start of a finding in a long line.
const WINDOW: (usize, usize) = (60, 100);

/// What kind of mistake a finding is: it says whether a syntax error may have caused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The text is not TOML.
    Syntax,
    /// Something that stands in the file is wrong.
    Content,
    /// Something is not in the file, or was not read. Not reported beside syntax errors, which may well have hidden it.
    Absence,
}

/// A diagnostic that does not yet know its line.
#[derive(Debug)]
pub(super) struct Finding {
    severity: Severity,
    cause: Cause,
    span: Range<usize>,
    key: String,
    within: Option<String>,
    message: String,
    expected: Option<String>,
    help: Option<String>,
    other: Option<usize>,
}

impl Finding {
    /// Something that stands at `spot` is wrong.
    pub(super) fn error(spot: &Spot<'_>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            cause: Cause::Content,
            span: spot.span.clone(),
            key: spot.place.path(),
            within: spot.place.within(),
            message: message.into(),
            expected: None,
            help: None,
            other: None,
        }
    }

    /// The file is used all the same.
    pub(super) fn warning(spot: &Spot<'_>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(spot, message) }
    }

    /// Something that should be at `spot`, or that it refers to, is not there.
    pub(super) fn absence(spot: &Spot<'_>, message: impl Into<String>) -> Self {
        Self { cause: Cause::Absence, ..Self::error(spot, message) }
    }

    /// The text at `span` is not TOML.
    pub(super) fn syntax(span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            cause: Cause::Syntax,
            span,
            key: String::new(),
            within: None,
            message: message.into(),
            expected: None,
            help: None,
            other: None,
        }
    }

    /// Says what would be accepted.
    pub(super) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Says what was perhaps meant.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says "did you mean" where there is something to say.
    pub(super) fn did_you_mean(mut self, word: Option<&str>) -> Self {
        if let Some(word) = word {
            self.help = Some(format!("did you mean `{word}`?"));
        }
        self
    }

    /// Names the line of the other end of a conflict.
    pub(super) fn first_at(mut self, other: &Spot<'_>) -> Self {
        self.other = Some(other.span.start);
        self
    }
}

/// Collects findings about one text.
pub(super) struct Sink<'t> {
    file: &'t str,
    text: &'t str,
    found: RefCell<Vec<Finding>>,
    comparisons: Cell<usize>,
    /// What is left for regular expressions.
    pub(super) patterns: Patterns,
}

/// What came of it.
pub(super) struct Found {
    pub(super) errors: Diagnostics,
    pub(super) warnings: Diagnostics,
}

impl<'t> Sink<'t> {
    /// `file` is the name that diagnostics show.
    pub(super) fn new(file: &'t str, text: &'t str) -> Self {
        Self { file, text, found: RefCell::default(), comparisons: Cell::new(0), patterns: Patterns::default() }
    }

    /// Adds a finding.
    pub(super) fn report(&self, finding: Finding) {
        self.found.borrow_mut().push(finding);
    }

    /// [`suggest::nearest`], until too many words were compared.
    pub(super) fn nearest<'c>(&self, word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
        let within_limit = |_: &&str| {
            self.comparisons.set(self.comparisons.get() + 1);
            self.comparisons.get() <= MAX_COMPARISONS
        };
        suggest::nearest(word, candidates.into_iter().take_while(within_limit))
    }

    /// Everything reported, in the order of the file.
    pub(super) fn finish(self) -> Found {
        let mut found = self.found.into_inner();
        found.sort_by_key(|finding| finding.span.start);
        let lines = Lines::new(self.text);
        hide_consequences(&lines, &mut found);
        let (errors, warnings) = found.into_iter().partition(|finding| finding.severity == Severity::Error);
        Found { errors: locate(self.file, &lines, errors), warnings: locate(self.file, &lines, warnings) }
    }
}

/// Drops what is likely only the consequence of a syntax error: everything about absence, and what else is said about
/// the same line.
fn hide_consequences(lines: &Lines<'_>, found: &mut Vec<Finding>) {
    let broken: HashSet<usize> =
        found.iter().filter(|f| f.cause == Cause::Syntax).map(|f| lines.index(f.span.start)).collect();
    if broken.is_empty() {
        return;
    }
    found.retain(|finding| match finding.cause {
        Cause::Syntax => true,
        Cause::Content => !broken.contains(&lines.index(finding.span.start)),
        Cause::Absence => false,
    });
}

fn locate(file: &str, lines: &Lines<'_>, found: Vec<Finding>) -> Diagnostics {
    let omitted = found.len().saturating_sub(MAX_DIAGNOSTICS);
    // Findings come in the order of the file: a column is counted on from the one before it, so that a file that is
    // one long line is not walked once for each.
    let mut counted = (0, 0);
    let items = found.into_iter().take(MAX_DIAGNOSTICS).map(|finding| {
        let start = lines.text.floor_char_boundary(finding.span.start);
        let end = lines.text.ceil_char_boundary(finding.span.end).max(start);
        let line = lines.index(start);
        let line_start = lines.starts[line];
        if counted.0 < line_start {
            counted = (line_start, 0);
        }
        counted = (start, counted.1 + lines.text[counted.0..start].chars().count());
        let first = finding.other.map(|offset| format!("the first is on line {}", lines.index(offset) + 1));
        Diagnostic {
            severity: finding.severity,
            file: file.to_owned(),
            line: line + 1,
            column: counted.1 + 1,
            key: finding.key,
            within: finding.within,
            message: finding.message,
            expected: finding.expected,
            help: finding.help.or(first),
            excerpt: lines.excerpt(start..end),
        }
    });
    Diagnostics::new(items.collect(), omitted)
}

/// Where the lines of a text begin.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// 0-based.
    fn index(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// The line around `span`, which lies on character boundaries.
    fn excerpt(&self, span: Range<usize>) -> Excerpt {
        let line = self.index(span.start);
        let start = self.starts[line];
        let end = self.starts.get(line + 1).map_or(self.text.len(), |next| next - 1);
        let (before, after) = (&self.text[start..span.start.min(end)], &self.text[span.start.min(end)..end]);
        let after = after.strip_suffix('\r').unwrap_or(after);
        let from = before.char_indices().rev().nth(WINDOW.0).map(|(at, _)| at);
        let to = after.char_indices().nth(WINDOW.1).map(|(at, _)| at);

        let mut text = String::new();
        text.extend(from.map(|_| '…'));
        text.extend(before[from.unwrap_or(0)..].chars().map(printable));
        let indent = text.chars().count();
        let shown = &after[..to.unwrap_or(after.len())];
        text.extend(shown.chars().map(printable));
        text.extend(to.map(|_| '…'));
        let width = shown.char_indices().take_while(|(at, _)| span.start + at < span.end).count();
        Excerpt { text, indent, width: width.max(1) }
    }
}

/// A file comes from anywhere: what it holds must not move the cursor of the terminal that shows it, and a tab must not
/// move the caret.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() || c == '\u{feff}' => '\u{fffd}',
        c => c,
    }
}
