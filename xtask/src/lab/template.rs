//! Templates to the configuration of one start: parts are put in, lists are made, names get their values. Knows no folder and
//! no list by name.

use std::fs;
use std::path::Path;

use crate::run::Failed;

/// What is put in for `@NAME@`.
pub(crate) type Values = [(&'static str, String)];

/// What makes the list that a template calls by `@GENERATE NAME@`; none where nothing is called so.
pub(crate) type Lists = fn(&str) -> Option<String>;

/// Parts have no parts of parts of parts.
const DEPTH: usize = 3;

/// The text of a template in `dir`, complete. A name without a value is an error.
pub(crate) fn fill(dir: &Path, name: &str, values: &Values, lists: Lists) -> Result<String, Failed> {
    let mut text = expand(dir, name, lists, DEPTH)?;
    for (own, value) in values {
        text = text.replace(&format!("@{own}@"), value);
    }
    match left_over(&text) {
        None => Ok(text),
        Some(own) => Err(Failed::new(format!("{name}: there is no value for @{own}@"))),
    }
}

/// With `@INCLUDE FILE@` and `@GENERATE LIST@`, each on a line of its own, replaced.
fn expand(dir: &Path, name: &str, lists: Lists, depth: usize) -> Result<String, Failed> {
    let file = dir.join(name);
    let source = fs::read_to_string(&file).map_err(|error| Failed::new(format!("{}: {error}", file.display())))?;
    let mut text = String::with_capacity(source.len());
    for line in source.lines() {
        match line.trim().strip_suffix('@').and_then(|line| line.strip_prefix('@')).and_then(|l| l.split_once(' ')) {
            Some(("INCLUDE", part)) if depth > 0 => text.push_str(&expand(dir, part, lists, depth - 1)?),
            Some(("GENERATE", list)) => {
                let made = lists(list);
                text.push_str(&made.ok_or_else(|| Failed::new(format!("{name}: nothing makes `{list}`")))?);
            }
            _ => text.push_str(line),
        }
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}

/// The first `@NAME@` that is still there. Envoy's "@type" is none.
fn left_over(text: &str) -> Option<&str> {
    let is_name = |piece: &&str| {
        !piece.is_empty()
            && piece.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    };
    text.lines().find_map(|line| {
        let pieces: Vec<&str> = line.split('@').collect();
        let inner = pieces.get(1..pieces.len() - 1)?;
        inner.iter().copied().find(is_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_left_over() {
        let check = |text: &str, expected| assert_eq!(left_over(text), expected, "{text}");
        check("listen 127.0.0.1:@PROXY@;", Some("PROXY"));
        check("a@b.example \"@type\": x, \"@type\": Y", None);
        check("@\n@A1_B@", Some("A1_B"));
        check("", None);
    }
}
