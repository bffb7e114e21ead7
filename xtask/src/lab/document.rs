//! Documents that figures are written into: only what is between a part's two markers is ever changed.

use std::fs;
use std::path::PathBuf;

use crate::run::{self, Failed, Outcome};

/// A file of docs/ with markers `<!-- PREFIX:PART -->` … `<!-- /PREFIX:PART -->`.
pub(crate) struct Document {
    pub(crate) name: &'static str,
    pub(crate) prefix: &'static str,
}

impl Document {
    /// Puts `text` between the markers of `part`.
    pub(crate) fn write(&self, part: &str, text: &str) -> Outcome {
        let document = replace(&self.read()?, self.prefix, part, text).map_err(Failed::new)?;
        fs::write(self.file(), document).map_err(|error| Failed::new(format!("docs/{}: {error}", self.name)))
    }

    /// What is between them now; nothing where they are not there.
    pub(crate) fn present(&self, part: &str) -> Result<String, Failed> {
        Ok(present(&self.read()?, self.prefix, part).unwrap_or_default().to_string())
    }

    /// Whether the document has a place for `part`.
    #[cfg(test)]
    pub(crate) fn has(&self, part: &str) -> bool {
        self.read().is_ok_and(|document| replace(&document, self.prefix, part, "").is_ok())
    }

    fn read(&self) -> Result<String, Failed> {
        fs::read_to_string(self.file()).map_err(|error| Failed::new(format!("docs/{}: {error}", self.name)))
    }

    fn file(&self) -> PathBuf {
        run::root().join("docs").join(self.name)
    }
}

/// A reason as a document can have it: its first line, without markup and without where the repository is.
pub(crate) fn one_line(reason: &str) -> String {
    let root = format!("{}/", run::root().display());
    reason.lines().next().unwrap_or_default().replace(&root, "").replace('`', "").replace('<', "(").replace('>', ")")
}

/// Whether a limit was met, in words.
pub(crate) fn limit(limit: &str, met: bool) -> String {
    format!("limit {limit}: {}", if met { "met" } else { "missed" })
}

/// `document` with `content` between the markers of `part`; an error where they are not there, one after the other.
fn replace(document: &str, prefix: &str, part: &str, content: &str) -> Result<String, String> {
    let (open, close) = (format!("<!-- {prefix}:{part} -->"), format!("<!-- /{prefix}:{part} -->"));
    let missing = || format!("there is no `{open}` … `{close}`");
    let (before, rest) = document.split_once(&open).ok_or_else(missing)?;
    let (_, after) = rest.split_once(&close).ok_or_else(missing)?;
    Ok(format!("{before}{open}\n{}\n{close}{after}", content.trim_end()))
}

/// What is between the markers of `part`.
fn present<'d>(document: &'d str, prefix: &str, part: &str) -> Option<&'d str> {
    let (_, rest) = document.split_once(&format!("<!-- {prefix}:{part} -->"))?;
    Some(rest.split_once(&format!("<!-- /{prefix}:{part} -->"))?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_between_the_markers() {
        let document = "# Prose\n<!-- bench:a -->\nold\n<!-- /bench:a -->\nmore\n<!-- bench:b --><!-- /bench:b -->\n";
        let written = replace(document, "bench", "a", "| new |\n").unwrap();
        assert_eq!(
            written,
            "# Prose\n<!-- bench:a -->\n| new |\n<!-- /bench:a -->\nmore\n<!-- bench:b --><!-- /bench:b -->\n"
        );
        assert_eq!(replace(&written, "bench", "a", "| new |").unwrap(), written, "the same figures change nothing");
        assert_eq!((present(&written, "bench", "a"), present(&written, "bench", "c")), (Some("\n| new |\n"), None));
        assert!(replace(document, "bench", "c", "x").is_err());
        assert!(replace("<!-- /bench:a --> <!-- bench:a -->", "bench", "a", "x").is_err());
    }
}
