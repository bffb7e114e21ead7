//! Reads Rust source just far enough to know which paths it names: comments, literals and test-only items are left out, `use`
//! trees and local names are spelled in full. Judges nothing; `layering` does.

use std::collections::HashMap;

/// A path as the file means it: `crate::…` inside the crate, else with the name of the other crate first. A macro call ends in `!`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) line: usize,
    pub(crate) path: String,
}

/// Every path of a file. `module` is the file's own module, outermost first; `[]` at the root of the crate.
///
/// Names brought in by `use` anywhere in the file are resolved everywhere in it: enough for judging, and never too little.
pub(crate) fn paths(text: &str, module: &[String]) -> Vec<Named> {
    let tokens = without_tests(&tokens(text));
    let mut found = Vec::new();
    let mut aliases = HashMap::new();
    let mut at = 0;
    while at < tokens.len() {
        at = match &tokens[at].kind {
            Kind::Word(word) if word == "use" && matches!(tokens.get(at + 1), Some(next) if next.opens_path()) => {
                use_tree(&tokens, at + 1, &[], &mut |line, path, alias| {
                    found.push((line, path.clone()));
                    aliases.insert(alias, path);
                })
            }
            Kind::Word(_) => plain_path(&tokens, at, &mut found),
            _ => at + 1,
        };
    }
    let spell = |(line, path): (usize, Vec<String>)| {
        let path = resolve(path, module, &aliases);
        Named { line, path: path.join("::") }
    };
    found.into_iter().map(spell).collect()
}

/// The lines on which `word` stands as a word of code, test code included.
pub(crate) fn lines_with(text: &str, word: &str) -> Vec<usize> {
    tokens(text).into_iter().filter(|token| token.is(word)).map(|token| token.line).collect()
}

/// A path of code outside of `use`; alone-standing names are of no interest, as `use` has told where they come from.
fn plain_path(tokens: &[Token], start: usize, found: &mut Vec<(usize, Vec<String>)>) -> usize {
    let mut path = Vec::new();
    let mut at = start;
    while let Some(Kind::Word(word)) = tokens.get(at).map(|token| &token.kind) {
        path.push(word.clone());
        at += 1;
        match tokens.get(at).map(|token| &token.kind) {
            Some(Kind::PathSeparator) => at += 1,
            _ => break,
        }
    }
    let after_dot = start > 0 && tokens[start - 1].kind == Kind::Other('.');
    let bang = tokens.get(at).is_some_and(|token| token.kind == Kind::Other('!'))
        && !tokens.get(at + 1).is_some_and(|token| token.kind == Kind::Other('='));
    if let (true, Some(last)) = (bang, path.last_mut()) {
        last.push('!');
    }
    if !after_dot && (path.len() > 1 || bang) {
        found.push((tokens[start].line, path));
    }
    at
}

/// One branch of a `use`; calls `leaf(line, path, name it has here)` for each end. Returns where it stopped.
fn use_tree(
    tokens: &[Token],
    mut at: usize,
    stem: &[String],
    leaf: &mut impl FnMut(usize, Vec<String>, String),
) -> usize {
    let mut path = stem.to_vec();
    while let Some(token) = tokens.get(at) {
        at += 1;
        match &token.kind {
            Kind::Word(word) if word == "self" && !path.is_empty() => {}
            Kind::Word(word) => path.push(word.clone()),
            Kind::PathSeparator => continue,
            Kind::Other('*') => path.push("*".to_string()),
            Kind::Other('{') => {
                while tokens.get(at).is_some_and(|next| next.kind != Kind::Other('}')) {
                    at = use_tree(tokens, at, &path, leaf);
                    at += usize::from(tokens.get(at).is_some_and(|next| next.kind == Kind::Other(',')));
                }
                return at + 1;
            }
            _ => return at,
        }
        match tokens.get(at).map(|next| &next.kind) {
            Some(Kind::PathSeparator) => {}
            Some(Kind::Word(word)) if word == "as" => {
                let alias = tokens.get(at + 1).and_then(Token::word).unwrap_or_default();
                leaf(token.line, path, alias.to_string());
                return at + 2;
            }
            _ => {
                let alias = path.last().cloned().unwrap_or_default();
                leaf(token.line, path, alias);
                return at;
            }
        }
    }
    at
}

fn resolve(path: Vec<String>, module: &[String], aliases: &HashMap<String, Vec<String>>) -> Vec<String> {
    let path = match aliases.get(&path[0]) {
        Some(full) if full.len() > 1 && full != &path => [full.as_slice(), &path[1..]].concat(),
        _ => path,
    };
    let ups = path.iter().take_while(|word| *word == "super").count();
    let relative = path[0] == "self" || ups > 0;
    if !relative {
        return path;
    }
    let base = &module[..module.len().saturating_sub(ups)];
    let rest = &path[ups.max(1)..];
    std::iter::once("crate".to_string()).chain(base.iter().cloned()).chain(rest.iter().cloned()).collect()
}

/// The tokens less every item that carries `#[cfg(test)]` (or a `cfg` that names `test` without `not`).
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match test_attribute(tokens, at) {
            Some(after) => at = item_end(tokens, after),
            None => {
                kept.push(tokens[at].clone());
                at += 1;
            }
        }
    }
    kept
}

/// Where the attribute that starts at `at` ends, when it makes an item test-only.
fn test_attribute(tokens: &[Token], at: usize) -> Option<usize> {
    if !(tokens[at].is("#") && tokens.get(at + 1)?.is("[") && tokens.get(at + 2)?.is("cfg")) {
        return None;
    }
    let length = tokens[at..].iter().position(|token| token.is("]"))?;
    let inside = &tokens[at..at + length];
    let names = |word: &str| inside.iter().any(|token| token.is(word));
    (names("test") && !names("not")).then_some(at + length + 1)
}

/// Where the item that starts at `at` ends: at a `;`, or at the brace that closes its body.
fn item_end(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.kind {
            Kind::Other('(' | '[' | '{') => depth += 1,
            Kind::Other(')' | ']') => depth = depth.saturating_sub(1),
            Kind::Other('}') if depth <= 1 => return index + 1,
            Kind::Other('}') => depth -= 1,
            Kind::Other(';') if depth == 0 => return index + 1,
            _ => {}
        }
    }
    tokens.len()
}

#[derive(Debug, Clone, PartialEq)]
struct Token {
    line: usize,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Word(String),
    PathSeparator,
    Other(char),
}

impl Token {
    fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }

    fn is(&self, text: &str) -> bool {
        match &self.kind {
            Kind::Word(word) => word == text,
            Kind::PathSeparator => text == "::",
            Kind::Other(character) => text.chars().eq([*character]),
        }
    }

    /// What may follow `use` at the head of an import; `use<'a>` in a type may not.
    fn opens_path(&self) -> bool {
        matches!(self.kind, Kind::Word(_) | Kind::PathSeparator | Kind::Other('{'))
    }
}

/// Words, `::` and single characters of the code; comments, strings, characters and lifetimes are dropped.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (length, kind) = match first {
            '"' => (string_length(rest), None),
            '\'' => (quote_length(rest), None),
            _ if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), None),
            _ if rest.starts_with("/*") => (comment_length(rest), None),
            _ if rest.starts_with("::") => (2, Some(Kind::PathSeparator)),
            _ if is_word(first) => {
                let length = rest.find(|next| !is_word(next)).unwrap_or(rest.len());
                match raw_string_length(&rest[..length], &rest[length..]) {
                    Some(quoted) => (length + quoted, None),
                    None => (length, Some(Kind::Word(rest[..length].to_string()))),
                }
            }
            _ if first.is_whitespace() => (first.len_utf8(), None),
            _ => (first.len_utf8(), Some(Kind::Other(first))),
        };
        tokens.extend(kind.map(|kind| Token { line, kind }));
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

fn is_word(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

/// `"…"` with escapes.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (index, character) in text.char_indices().skip(1) {
        match character {
            '"' if !escaped => return index + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// What follows a prefix such as `r`, `br` or `b`, where it is a raw or byte string.
fn raw_string_length(prefix: &str, text: &str) -> Option<usize> {
    let raw = matches!(prefix, "r" | "br" | "cr");
    let hashes = text.chars().take_while(|character| *character == '#').count();
    if !raw || !text[hashes..].starts_with('"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = hashes + 1;
    Some(text[body..].find(&end).map_or(text.len(), |at| body + at + end.len()))
}

/// A character literal, or only the quote of a lifetime.
fn quote_length(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), Some((escaped, _))) => {
            let after = escaped + 1;
            text[after..].find('\'').map_or(text.len(), |at| after + at + 1)
        }
        (Some(_), Some((end, '\''))) => end + 1,
        _ => 1,
    }
}

/// Block comments nest.
fn comment_length(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(usize, &str)]) {
        let module = ["proxy".to_string(), "ask".to_string()];
        let got = paths(text, &module);
        let got: Vec<(usize, &str)> = got.iter().map(|named| (named.line, named.path.as_str())).collect();
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn spells_use_trees_in_full() {
        check("use a::b;", &[(1, "a::b")]);
        check(
            "pub(crate) use a::{b, c::{self, d as e},\n f::*};",
            &[(1, "a::b"), (1, "a::c"), (1, "a::c::d"), (2, "a::f::*")],
        );
        check(
            "use super::reply::X; use self::y; use crate::z::W;",
            &[(1, "crate::proxy::reply::X"), (1, "crate::proxy::ask::y"), (1, "crate::z::W")],
        );
        check("fn f<'a>() -> impl Sized + use<'a> { }", &[]);
    }

    #[test]
    fn resolves_names_in_code() {
        check(
            "use std::time::Instant; fn f() { Instant::now(); }",
            &[(1, "std::time::Instant"), (1, "std::time::Instant::now")],
        );
        check(
            "use wasmtime::Engine as E;\nlet x = E::new(c);",
            &[(1, "wasmtime::Engine"), (2, "wasmtime::Engine::new")],
        );
        check(
            "x.tokio; a != b; wit::bindgen!({}); crate::upstream::go()",
            &[(1, "wit::bindgen!"), (1, "crate::upstream::go")],
        );
    }

    #[test]
    fn leaves_out_comments_literals_and_tests() {
        check("// a::b\n/* a::b /* c::d */ */ \"a::b \\\" c::d\" r#\"a::b\"# b\"x::y\" 'c' '\\'' x::<'a>::y", &[]);
        check("#[cfg(test)] mod tests { use a::b; fn f() { c::d() } }\nuse e::f;", &[(2, "e::f")]);
        check("#[cfg(test)]\n#[path = \"x\"] mod t;\nuse e::f;", &[(3, "e::f")]);
        check("#[cfg(not(test))] use e::f;", &[(1, "e::f")]);
        check("#[cfg(test)] use a::b; use e::f;", &[(1, "e::f")]);
    }

    #[test]
    fn finds_words_of_code() {
        assert_eq!(lines_with("// unsafe\n\"unsafe\"\nunsafe { }\nunsafe_code", "unsafe"), [3]);
    }
}
