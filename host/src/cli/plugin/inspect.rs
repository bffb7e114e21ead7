//! `witgate plugin inspect`: what is in a file, found out the way that a proxy does it, and without one.

use std::path::Path;

use witgate_policy::{Engine, EngineOptions};

use crate::{
    cli::{
        Failed, Outcome,
        show::{count, say},
    },
    files,
};

pub(super) fn command(file: &Path) -> Outcome {
    let bytes = files::read(file, files::MODULE).map_err(Failed::new)?;
    let engine = Engine::new(EngineOptions::default()).map_err(Failed::new)?;
    let code = engine.load(&bytes, &|_| {}).map_err(|refused| Failed::new(format!("{}: {refused}", file.display())))?;
    let list = |words: &[&str]| if words.is_empty() { "nothing".to_owned() } else { words.join(", ") };
    let imports: Vec<&str> = code.imports.iter().map(String::as_str).collect();
    say!("file      {}", file.display());
    say!("size      {} bytes", count(code.size as u64));
    say!("sha256    {}", code.hex());
    say!("contract  {}", contract(&imports));
    say!("exports   {}", list(&code.exports.names()));
    say!("imports   {}", list(&imports));
    Ok(())
}

/// The version of the contract that a module was made for, as its imports tell.
fn contract<'a>(imports: &[&'a str]) -> &'a str {
    let mut own = imports.iter().filter(|import| import.starts_with("witgate:policy/"));
    own.find_map(|import| import.split_once('@')).map_or("not said by its imports", |(_, version)| version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_tell_the_contract() {
        assert_eq!(contract(&["wasi:io/poll@0.2.3", "witgate:policy/types@0.1.0"]), "0.1.0");
        assert_eq!(contract(&["wasi:io/poll@0.2.3"]), "not said by its imports");
    }
}
