//! The house plan as a check: who may import whom, and which things have one room. Reads sources and manifests, compiles nothing.
//! The plan is the tables of `plan`; to move a wall, change it there and in the README, in a commit of its own.

mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use self::plan::{Crate, HOST_FLOORS, ROOMS, UNSAFE_ROOMS};
use crate::run::{self, Failed, Outcome};
use crate::scan::{self, Named};

/// `cargo xtask layering`.
pub(crate) fn command() -> Outcome {
    let files = sources(&run::root())?;
    let broken = judge(&files);
    if broken.is_empty() {
        println!("layering: {} files keep to the house plan", files.len());
        return Ok(());
    }
    Err(Failed::new(broken.join("\n")))
}

/// A source file or a manifest, by its path from the root, with `/` between the parts.
#[derive(Debug)]
struct File {
    path: String,
    text: String,
}

/// Every broken rule, as `path:line: what is there: which rule it breaks`.
fn judge(files: &[File]) -> Vec<String> {
    let mut broken = Vec::new();
    for house in &plan::crates() {
        for file in files {
            match file.path.strip_prefix(&house.folder).and_then(|rest| rest.strip_prefix('/')) {
                Some("Cargo.toml") => manifest(house, file, &mut broken),
                Some(inside) if inside.starts_with("src/") && inside.ends_with(".rs") => {
                    imports(house, file, inside, &mut broken);
                }
                _ => {}
            }
        }
        if house.no_circles {
            circles(house, files, &mut broken);
        }
    }
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        unsafety(file, &mut broken);
    }
    broken
}

/// Which crates a manifest names.
fn manifest(house: &Crate, file: &File, broken: &mut Vec<String>) {
    let table: toml::Table = match file.text.parse() {
        Ok(table) => table,
        Err(error) => return broken.push(format!("{}: {error}", file.path)),
    };
    for section in ["dependencies", "build-dependencies"] {
        let names = table.get(section).and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys);
        for name in names {
            if let Some(rule) = house.rule_against(&name.replace('-', "_")) {
                broken.push(format!("{}: [{section}] {name}: {rule}", file.path));
            }
        }
    }
}

/// Which paths a source file names: against the crate's rules, the rooms, and the floors of the host.
fn imports(house: &Crate, file: &File, inside: &str, broken: &mut Vec<String>) {
    if is_test_file(inside) {
        return;
    }
    let module = module_of(inside);
    let mut floors_told = BTreeSet::new();
    for Named { line, path } in scan::paths(&file.text, &module) {
        let mut tell = |rule: &str| broken.push(format!("{}:{line}: {path}: {rule}", file.path));
        if let Some(rule) = house.rule_against(&path) {
            tell(rule);
        }
        for room in ROOMS {
            if room.things.iter().any(|thing| covers(thing, &path)) && !room.files.contains(&file.path.as_str()) {
                tell(room.rule);
            }
        }
        if house.has_floors {
            let to = own_module(&path, house.name);
            let rule = to.and_then(|to| against_floors(module.first(), to));
            if let Some(rule) = rule.filter(|rule| floors_told.insert(rule.clone())) {
                tell(&rule);
            }
        }
    }
}

/// An import between modules of the host that goes up, or names a module that has no floor.
fn against_floors(from: Option<&String>, to: &str) -> Option<String> {
    // The root (lib.rs and main.rs) may see everything: it is the code map.
    let from = from?;
    let floor = |module: &str| HOST_FLOORS.iter().position(|floor| floor.contains(&module));
    let no_floor =
        |module: &str| format!("module `{module}` has no floor yet: give it one in xtask/src/layering/plan.rs");
    match (floor(from), floor(to)) {
        (None, _) => Some(no_floor(from)),
        (_, None) => Some(no_floor(to)),
        (Some(here), Some(there)) if there < here => {
            Some(format!("`{from}` may not import `{to}`, which stands above it: imports go down"))
        }
        _ => None,
    }
}

/// The module of this crate that a path leads into; `crate::Type` leads nowhere.
fn own_module<'a>(path: &'a str, crate_name: &str) -> Option<&'a str> {
    let mut words = path.split("::");
    let head = words.next()?;
    let module = words.next()?;
    let own = head == "crate" || head == crate_name;
    let is_module = module.starts_with(|first: char| first.is_ascii_lowercase()) && !module.ends_with('!');
    // The last word may be a function at the root; a module of the host is followed by what is in it, or is on a floor.
    let leads_on = words.next().is_some() || HOST_FLOORS.iter().any(|floor| floor.contains(&module));
    (own && is_module && leads_on).then_some(module)
}

/// Modules of one crate that import each other, directly or through others.
fn circles(house: &Crate, files: &[File], broken: &mut Vec<String>) {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let inside = file.path.strip_prefix(&house.folder).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
        let module = module_of(inside);
        if !inside.starts_with("src/") || is_test_file(inside) || module.is_empty() {
            continue;
        }
        let targets = edges.entry(module[0].clone()).or_default();
        for named in scan::paths(&file.text, &module) {
            let mut words = named.path.split("::");
            if let (Some("crate"), Some(to)) = (words.next(), words.next()) {
                targets.insert(to.to_string());
            }
        }
        targets.remove(&module[0]);
    }
    let mut left = edges.clone();
    // Whoever imports nobody that is left is in no circle; what cannot be taken away is, or leads into one.
    while let Some(free) =
        left.iter().find(|(_, to)| !to.iter().any(|to| left.contains_key(to))).map(|(from, _)| from.clone())
    {
        left.remove(&free);
    }
    while let Some(free) = left.keys().find(|to| !left.values().any(|targets| targets.contains(*to))).cloned() {
        left.remove(&free);
    }
    if !left.is_empty() {
        let edge = |(from, to): (&String, &BTreeSet<String>)| {
            let to: Vec<&str> = to.iter().filter(|to| left.contains_key(*to)).map(String::as_str).collect();
            format!("{from} → {}", to.join(", "))
        };
        let shown: Vec<String> = left.iter().map(edge).collect();
        broken.push(format!("{}/src: modules import each other in a circle: {}", house.folder, shown.join("; ")));
    }
}

fn unsafety(file: &File, broken: &mut Vec<String>) {
    let room = UNSAFE_ROOMS.iter().find(|room| room.file == file.path);
    // Naming the lint allows `unsafe` to macros; writing it is for one room.
    for (word, allowed) in [("unsafe", room.is_some_and(|room| room.written)), ("unsafe_code", room.is_some())] {
        if !allowed {
            for line in scan::lines_with(&file.text, word) {
                let rooms: Vec<&str> = UNSAFE_ROOMS.iter().map(|room| room.file).collect();
                broken.push(format!("{}:{line}: {word}: `unsafe` has its rooms: {}", file.path, rooms.join(", ")));
            }
        }
    }
}

/// Whether `path` is `thing` or something inside of it. A thing `x!` is the macro by whatever path.
fn covers(thing: &str, path: &str) -> bool {
    if thing.ends_with('!') {
        return path.rsplit("::").next() == Some(thing);
    }
    path.strip_prefix(thing).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// `src/proxy/ask.rs` → `[proxy, ask]`; the root of a crate → `[]`.
fn module_of(inside: &str) -> Vec<String> {
    let path = inside.strip_prefix("src/").unwrap_or(inside);
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if matches!(path, "lib" | "main") { Vec::new() } else { path.split('/').map(str::to_string).collect() }
}

/// Files that only tests compile; they may import what they please.
fn is_test_file(inside: &str) -> bool {
    module_of(inside).iter().any(|module| module == "tests")
}

/// Folders that tools fill, with files of others.
const BUILT: &[&str] = &["target", "node_modules", "venv"];

/// All sources and manifests of the project.
fn sources(root: &Path) -> Result<Vec<File>, Failed> {
    let mut files = Vec::new();
    for folder in ["host", "sdk", "plugins", "tests", "examples", "xtask"] {
        collect(root, &root.join(folder), &mut files)?;
    }
    Ok(files)
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<File>) -> Outcome {
    let failed = |error: std::io::Error| Failed::new(format!("{}: {error}", folder.display()));
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if !BUILT.contains(&name.as_ref()) {
                collect(root, &path, files)?;
            }
        } else if name.ends_with(".rs") || name == "Cargo.toml" {
            let text = fs::read_to_string(&path).map_err(failed)?;
            let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            files.push(File { path, text });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
