//! `cargo xtask plugins`: plugin crates → `target/plugins/<name>.wasm`, core modules with the component type embedded, which is
//! what the proxy takes. One cargo run for all of them; cargo knows what changed. Adds no tool beyond cargo.

use std::fs;
use std::path::{Path, PathBuf};

use crate::run::{self, Failed, Outcome};
use crate::setup;
use crate::toolchain::{TARGET, Toolchain};

/// For rustc. A plugin's stack is memory that is reset when an instance is made: 64 KiB in place of the usual 1 MiB.
///
/// Loops over columns of numbers take four at a time, which each engine can, and four times that in a round: compiled code
/// looks at its deadline in each round, and before that puts away what it has in registers. Of weighing 512 endpoints with
/// `latency` the first saves a quarter, and the second nearly half of the rest.
const FLAGS: &[&str] =
    &["-Clink-arg=-zstack-size=65536", "-Ctarget-feature=+simd128", "-Cllvm-args=-force-vector-interleave=4"];

/// Speed over size: a call is a sixth cheaper than at `s`, for a fifth more bytes that are compiled once. All of the profile is
/// told, so that an example outside of the workspace is built alike.
const PROFILE: &[&str] = &[
    "profile.release.opt-level=3",
    "profile.release.lto=\"fat\"",
    "profile.release.codegen-units=1",
    "profile.release.panic=\"abort\"",
    "profile.release.strip=\"symbols\"",
];

/// What `cargo xtask plugins` was asked for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options {
    /// Folders of `examples/` to build as well.
    pub(crate) examples: Vec<String>,
}

impl Options {
    /// The shipped plugins, and the two versions of one plugin that `witgate demo` swaps.
    pub(crate) fn for_demo() -> Options {
        Options { examples: vec!["blue".to_string(), "green".to_string()] }
    }
}

pub(crate) fn options(arguments: &[String]) -> Result<Options, Failed> {
    let mut options = Options::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), argument.strip_prefix("--example=")) {
            (_, Some(name)) => options.examples.push(name.to_string()),
            ("--example", None) => {
                let name = arguments.next().ok_or_else(|| Failed::usage("--example needs a name"))?;
                options.examples.push(name.clone());
            }
            _ => return Err(Failed::usage(format!("plugins does not know `{argument}`"))),
        }
    }
    Ok(options)
}

pub(crate) fn command(options: &Options) -> Outcome {
    let toolchain = setup::wasm()?;
    build(toolchain, options)
}

/// Where the built plugins are: a path that configurations name, so not subject to CARGO_TARGET_DIR.
pub(crate) fn output_dir() -> PathBuf {
    run::root().join("target/plugins")
}

/// The packages of the shipped plugins.
pub(crate) fn packages() -> Result<Vec<String>, Failed> {
    let shipped = shipped(&run::root().join("plugins"))?;
    Ok(shipped.into_iter().map(|plugin| plugin.package).collect())
}

/// A crate that becomes a plugin.
#[derive(Debug, PartialEq)]
struct PluginCrate {
    /// Its folder's name: what the .wasm is called.
    name: String,
    package: String,
    /// What the compiler calls the library.
    library: String,
}

fn build(toolchain: Toolchain, options: &Options) -> Outcome {
    let root = run::root();
    let shipped = shipped(&root.join("plugins"))?;
    let mut all = toolchain.build(FLAGS);
    all.arg("--release").args(PROFILE.iter().flat_map(|setting| ["--config", setting]));
    all.args(shipped.iter().flat_map(|plugin| ["--package", &plugin.package]));
    run::run(&mut all)?;
    for plugin in &shipped {
        publish(toolchain, plugin)?;
    }
    for name in &options.examples {
        let folder = root.join("examples").join(name);
        let plugin = read(&folder)?.ok_or_else(|| Failed::new(format!("{} is no plugin crate", folder.display())))?;
        let mut one = toolchain.build(FLAGS);
        one.arg("--release").args(PROFILE.iter().flat_map(|setting| ["--config", setting]));
        run::run(one.arg("--manifest-path").arg(folder.join("Cargo.toml")))?;
        publish(toolchain, &plugin)?;
    }
    Ok(())
}

/// The plugin crates of a folder, by name.
fn shipped(folder: &Path) -> Result<Vec<PluginCrate>, Failed> {
    let entries = fs::read_dir(folder).map_err(|error| Failed::new(format!("{}: {error}", folder.display())))?;
    let mut plugins = Vec::new();
    for entry in entries.flatten() {
        plugins.extend(read(&entry.path())?);
    }
    plugins.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(plugins)
}

/// The plugin in this folder; none where there is no Cargo.toml.
fn read(folder: &Path) -> Result<Option<PluginCrate>, Failed> {
    let manifest = folder.join("Cargo.toml");
    let Ok(text) = fs::read_to_string(&manifest) else { return Ok(None) };
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    parse(&name, &text).map(Some).map_err(|reason| Failed::new(format!("{}: {reason}", manifest.display())))
}

fn parse(name: &str, manifest: &str) -> Result<PluginCrate, String> {
    let table: toml::Table = manifest.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let text = |section: &str| table.get(section)?.get("name")?.as_str().map(str::to_string);
    let package = text("package").ok_or("no package.name")?;
    let crate_types = table.get("lib").and_then(|lib| lib.get("crate-type")).and_then(toml::Value::as_array);
    if !crate_types.is_some_and(|types| types.iter().any(|kind| kind.as_str() == Some("cdylib"))) {
        return Err("a plugin needs `crate-type = [\"cdylib\", \"rlib\"]` under [lib]".to_string());
    }
    let library = text("lib").unwrap_or_else(|| package.replace('-', "_"));
    Ok(PluginCrate { name: name.to_string(), package, library })
}

/// Puts the built module in its place, whole or not at all: a running proxy may be watching the file.
fn publish(toolchain: Toolchain, plugin: &PluginCrate) -> Outcome {
    let built = toolchain.target_dir().join(TARGET).join("release").join(format!("{}.wasm", plugin.library));
    let place = output_dir().join(format!("{}.wasm", plugin.name));
    let failed = |error: std::io::Error| Failed::new(format!("{} → {}: {error}", built.display(), place.display()));
    let bytes = fs::read(&built).map_err(failed)?;
    let changed = fs::read(&place).map_or(true, |present| present != bytes);
    if changed {
        fs::create_dir_all(output_dir()).map_err(failed)?;
        let half = output_dir().join(format!(".{}.wasm.{}", plugin.name, std::process::id()));
        fs::write(&half, &bytes).and_then(|()| fs::rename(&half, &place)).map_err(failed)?;
    }
    let note = if changed { "" } else { " (unchanged)" };
    let shown = place.strip_prefix(run::root()).unwrap_or(&place);
    println!("{:>9.1} KiB  {}{note}", bytes.len() as f64 / 1024.0, shown.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let check = |words: &[&str], expected: Result<&[&str], ()>| {
            let got = options(&run::words(words)).map(|options| options.examples).map_err(|_| ());
            assert_eq!(got, expected.map(|names| names.iter().map(|name| name.to_string()).collect()), "{words:?}");
        };
        check(&[], Ok(&[]));
        check(&["--example", "hello"], Ok(&["hello"]));
        check(&["--example=hello", "--example", "b"], Ok(&["hello", "b"]));
        check(&["--example"], Err(()));
        check(&["hello"], Err(()));
    }

    #[test]
    fn manifests() {
        let plugin = parse("canary", "package.name = 'wg-canary'\n[lib]\ncrate-type = ['cdylib']").unwrap();
        assert_eq!((plugin.package.as_str(), plugin.library.as_str()), ("wg-canary", "wg_canary"));
        let named = parse("canary", "package.name = 'x'\n[lib]\nname = 'canary'\ncrate-type = ['cdylib']").unwrap();
        assert_eq!(named.library, "canary");
        assert!(parse("canary", "package.name = 'x'").unwrap_err().contains("cdylib"));
        assert!(parse("canary", "package = [").is_err());
    }
}
