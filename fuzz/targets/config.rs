//! The text of a configuration: it is taken, or what is wrong is told with its place in the text.

use std::path::Path;

use witgate_core::config;

pub fn check(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let (diagnostics, taken) = match config::parse(text, "fuzz.toml", Path::new("/etc/witgate")) {
        Ok(parsed) => {
            // The same again comes to the same.
            let again = config::parse(text, "fuzz.toml", Path::new("/etc/witgate"));
            assert_eq!(again.map(|again| format!("{:?}", again.config)), Ok(format!("{:?}", parsed.config)));
            (parsed.warnings, true)
        }
        Err(diagnostics) => {
            let is_error = |diagnostic: &config::Diagnostic| diagnostic.severity == config::Severity::Error;
            assert!(diagnostics.iter().any(is_error), "refused without a reason");
            (diagnostics, false)
        }
    };
    let lines: Vec<&str> = text.split('\n').collect();
    for diagnostic in diagnostics.iter() {
        let line = diagnostic.line.checked_sub(1).and_then(|line| lines.get(line));
        let line = line.unwrap_or_else(|| panic!("no such line: {diagnostic:?}"));
        let columns = line.chars().count() + 1;
        assert!((1..=columns).contains(&diagnostic.column), "no such column: {diagnostic:?}");
        assert!(!diagnostic.message.is_empty(), "{diagnostic:?}");
        assert!(!diagnostic.excerpt.text.chars().any(char::is_control), "unsafe to print: {diagnostic:?}");
    }
    // Printed for people.
    let _ = diagnostics.to_string();
    taken
}
