//! SPDX licence expressions: is this one satisfied by a list of allowed licences? Knows no licence by name.

/// Whether `expression` can be satisfied with licences of `allowed`. Also takes cargo's old form, where `/` means OR.
///
/// # Errors
/// What is wrong with the expression, where it is none.
pub(crate) fn satisfied(expression: &str, allowed: &[String]) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed };
    let satisfied = parser.any()?;
    match parser.words {
        [] => Ok(satisfied),
        [rest, ..] => Err(format!("unexpected `{rest}`")),
    }
}

/// OR binds loosest, then AND, then WITH.
struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a [String],
}

impl Parser<'_> {
    fn take(&mut self, word: &str) -> bool {
        let found = self.words.first().is_some_and(|next| next.eq_ignore_ascii_case(word));
        if found {
            self.words = &self.words[1..];
        }
        found
    }

    fn any(&mut self) -> Result<bool, String> {
        let mut satisfied = self.all()?;
        while self.take("OR") {
            satisfied |= self.all()?;
        }
        Ok(satisfied)
    }

    fn all(&mut self) -> Result<bool, String> {
        let mut satisfied = self.one()?;
        while self.take("AND") {
            satisfied &= self.one()?;
        }
        Ok(satisfied)
    }

    fn one(&mut self) -> Result<bool, String> {
        if self.take("(") {
            let satisfied = self.any()?;
            return if self.take(")") { Ok(satisfied) } else { Err("a `)` is missing".to_string()) };
        }
        let Some((&name, rest)) = self.words.split_first() else {
            return Err("it ends too early".to_string());
        };
        self.words = rest;
        let mut licence = name.to_string();
        if self.take("WITH") {
            let Some((&exception, rest)) = self.words.split_first() else {
                return Err("WITH needs an exception".to_string());
            };
            self.words = rest;
            licence = format!("{name} WITH {exception}");
        }
        Ok(self.allowed.contains(&licence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"].map(str::to_string);
        let check = |expression: &str, expected: Option<bool>| {
            assert_eq!(satisfied(expression, &allowed).ok(), expected, "{expression}");
        };
        check("MIT", Some(true));
        check("GPL-3.0", Some(false));
        check("MIT/GPL-3.0", Some(true));
        check("GPL-3.0 OR MIT", Some(true));
        check("GPL-3.0 AND MIT", Some(false));
        check("(MIT OR Apache-2.0) AND Unicode-3.0", Some(true));
        check("(MIT OR Apache-2.0) AND BSD-3-Clause", Some(false));
        check("MIT OR Apache-2.0 AND BSD-3-Clause", Some(true));
        check("Apache-2.0 WITH LLVM-exception", Some(true));
        check("MIT WITH LLVM-exception", Some(false));
        check("", None);
        check("MIT OR", None);
        check("(MIT", None);
        check("MIT Apache-2.0", None);
    }
}
