//! Templates of `tests/bench` to the configuration of one start: parts are put in, lists are made, names get their values.

use std::fs;
use std::path::PathBuf;

use super::generate;
use crate::run::{self, Failed};

/// What is put in for `@NAME@`.
pub(super) type Values = [(&'static str, String)];

/// Parts have no parts of parts of parts.
const DEPTH: usize = 3;

/// Where templates and scripts are.
pub(super) fn dir() -> PathBuf {
    run::root().join("tests/bench")
}

/// The text of a template, complete. A name without a value is an error.
pub(super) fn fill(name: &str, values: &Values) -> Result<String, Failed> {
    let mut text = expand(name, DEPTH)?;
    for (own, value) in values {
        text = text.replace(&format!("@{own}@"), value);
    }
    match left_over(&text) {
        None => Ok(text),
        Some(own) => Err(Failed::new(format!("{name}: there is no value for @{own}@"))),
    }
}

/// With `@INCLUDE FILE@` and `@GENERATE LIST@`, each on a line of its own, replaced.
fn expand(name: &str, depth: usize) -> Result<String, Failed> {
    let file = dir().join(name);
    let source = fs::read_to_string(&file).map_err(|error| Failed::new(format!("{}: {error}", file.display())))?;
    let mut text = String::with_capacity(source.len());
    for line in source.lines() {
        match line.trim().strip_suffix('@').and_then(|line| line.strip_prefix('@')).and_then(|l| l.split_once(' ')) {
            Some(("INCLUDE", part)) if depth > 0 => text.push_str(&expand(part, depth - 1)?),
            Some(("GENERATE", list)) => {
                let made = generate::list(list);
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

    #[test]
    fn parts_and_lists() {
        let values = |names: &[&'static str]| names.iter().map(|name| (*name, "7".to_string())).collect::<Vec<_>>();
        let all = values(&["PROXY", "ORIGIN1", "ORIGIN2", "CANARY", "RUN"]);
        let text = fill("nginx-plain.conf", &all).unwrap();
        assert!(text.contains("listen 127.0.0.1:7 ") && text.contains("server 127.0.0.1:7;"), "{text}");
        assert!(fill("nginx-plain.conf", &values(&["PROXY"])).is_err());
        assert!(fill("origin-1.conf", &all).unwrap().contains("listen 127.1.0.1:7"));
        assert!(fill("nothing.conf", &all).is_err());
    }
}
