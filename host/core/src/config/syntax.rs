//! Text to a tree of spanned TOML values, as far as it can be read. Never looks at what the values mean.

use toml::{
    Spanned,
    de::{DeTable, DeValue, Error},
};

use super::sink::{Finding, Sink};

/// Parses `text`, reporting every syntax error; the tree holds what could be understood in spite of them.
pub(super) fn parse<'t>(text: &'t str, sink: &Sink<'_>) -> DeTable<'t> {
    let (tree, mut errors) = DeTable::parse_recoverable(text);
    let mut tree = tree.into_inner();
    if let Some(open) = unclosed(&mut tree, &errors, text) {
        let bracket = text[open..].chars().next().unwrap_or('[');
        let close = if bracket == '{' { '}' } else { ']' };
        let finding = Finding::syntax(open..open + 1, format!("this `{bracket}` is never closed"));
        sink.report(finding.expected(format!("a matching `{close}`")));
        errors.retain(|error| start(error) < open);
    }
    errors.sort_by_key(start);
    let mut before = None;
    for error in &errors {
        // The parser stumbles several times over one mistake: the first error of a line says it best.
        let at = start(error).min(text.len());
        if before.is_none_or(|before| text.as_bytes()[before..at].contains(&b'\n')) {
            sink.report(describe(error, error.span().unwrap_or(0..0)));
        }
        before = Some(at);
    }
    tree
}

fn start(error: &Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

/// The parser's message is "what, expected a, b".
fn describe(error: &Error, span: std::ops::Range<usize>) -> Finding {
    let message = error.message().lines().next().unwrap_or("not TOML");
    // The parser takes whatever it cannot read as a value for a string without quotes, even nothing at all.
    if message.starts_with("string values must be quoted") {
        let message = if span.is_empty() { "there is no value" } else { "this is not a value" };
        let expected = "\"text\" in quotes, a number, true, false, [an array] or { a = \"table\" }";
        return Finding::syntax(span, message).expected(expected);
    }
    if message.starts_with("key with no value") {
        return Finding::syntax(span, "key with no value").expected("`key = value`: the configuration is TOML");
    }
    match message.split_once(", expected ") {
        Some((what, "nothing")) => Finding::syntax(span, what),
        Some((what, expected)) => Finding::syntax(span, what).expected(expected),
        None => Finding::syntax(span, message),
    }
}

/// Where the bracket opens that swallows the rest of the file, if one does. All the parser says after it is noise, and
/// so is what it read: the value is taken out of the tree.
fn unclosed<'t>(tree: &mut DeTable<'t>, errors: &[Error], text: &str) -> Option<usize> {
    let at_end = |e: &&Error| {
        let message = e.message();
        (message.starts_with("unclosed array,") || message.starts_with("unclosed inline table")) && start(e) > 0
    };
    let end = errors.iter().filter(at_end).map(start).max()?;
    take_swallower(tree, end).filter(|open| text.is_char_boundary(*open) && text.as_bytes().get(*open).is_some())
}

/// Removes the value that reaches to `end` from the table in which it stands, and says where it opens: the
/// outermost bracket of those that are open at the end.
fn take_swallower(table: &mut DeTable<'_>, end: usize) -> Option<usize> {
    let key = table.iter().find(|(_, value)| reaches(value, end)).map(|(key, _)| key.clone());
    if let Some(key) = key {
        return table.remove(&key).map(|value| value.span().start);
    }
    table.iter_mut().find_map(|(_, value)| match value.get_mut() {
        DeValue::Table(table) => take_swallower(table, end),
        DeValue::Array(items) => items.iter_mut().find_map(|item| match item.get_mut() {
            DeValue::Table(table) => take_swallower(table, end),
            _ => None,
        }),
        _ => None,
    })
}

/// Headers such as `[[route]]` have the span of the header only, so only a value in brackets can reach so far.
fn reaches(value: &Spanned<DeValue<'_>>, end: usize) -> bool {
    value.span().end == end && matches!(value.get_ref(), DeValue::Array(_) | DeValue::Table(_))
}
