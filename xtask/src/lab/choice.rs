//! The options that all measurements have: which parts, of which proxies, and whether it is written down.

use std::path::PathBuf;

use crate::run::Failed;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choice {
    /// Names of parts; all of them where there is none.
    pub(crate) only: Vec<String>,
    /// Parts of names of proxies; all of them where there is none.
    pub(crate) proxies: Vec<String>,
    /// A built proxy to use instead of the release build.
    pub(crate) binary: Option<PathBuf>,
    /// Whether docs/ gets the figures.
    pub(crate) write: bool,
}

impl Default for Choice {
    fn default() -> Self {
        Choice { only: Vec::new(), proxies: Vec::new(), binary: None, write: true }
    }
}

impl Choice {
    pub(crate) fn has_part(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| part == name)
    }

    pub(crate) fn has_proxy(&self, name: &str) -> bool {
        self.proxies.is_empty() || self.proxies.iter().any(|part| name.contains(&**part))
    }

    /// Takes one of these options with its value, of a `command` that has these parts.
    pub(crate) fn take<'a>(
        &mut self,
        command: &str,
        word: &str,
        value: impl FnOnce() -> Result<&'a String, Failed>,
        parts: &[&str],
    ) -> Result<(), Failed> {
        match word {
            "--binary" => self.binary = Some(PathBuf::from(value()?)),
            "--only" => self.only = value()?.split(',').map(|name| part(name, parts)).collect::<Result<_, _>>()?,
            "--proxies" => {
                // Tables without the others would say less than those that are there.
                self.proxies = value()?.split(',').map(str::to_string).collect();
                self.write = false;
            }
            "--no-write" => self.write = false,
            _ => return Err(Failed::usage(format!("{command} does not know `{word}`"))),
        }
        Ok(())
    }
}

fn part(name: &str, parts: &[&str]) -> Result<String, Failed> {
    if parts.contains(&name) {
        return Ok(name.to_string());
    }
    Err(Failed::usage(format!("there is no part `{name}`; there are {}", parts.join(", "))))
}
