//! The templates of `tests/bench`, with the lists of the scale scenario.

use std::path::PathBuf;

use super::generate;
use crate::lab::template::{self, Values};
use crate::run::{self, Failed};

/// Where templates and scripts are.
pub(super) fn dir() -> PathBuf {
    run::root().join("tests/bench")
}

/// The text of a template, complete. A name without a value is an error.
pub(super) fn fill(name: &str, values: &Values) -> Result<String, Failed> {
    template::fill(&dir(), name, values, generate::list)
}

#[cfg(test)]
mod tests {
    use super::*;

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
