//! The licence and dependency check. With cargo-deny where it is installed; else the same `deny.toml` is judged here, from what
//! cargo knows without a network. Says so in either case, because vulnerabilities are judged by neither: the advisory database
//! has to be fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::run::{self, Failed, Outcome};
use crate::spdx;

pub(crate) fn command() -> Outcome {
    if run::which("cargo-deny").is_some() {
        let checks = ["check", "licenses", "bans", "sources"];
        return run::run(run::cargo().args(["deny", "--offline", "--workspace"]).args(checks));
    }
    println!(
        "cargo-deny is not installed; judging deny.toml's licences, bans and sources here. Advisories are not judged."
    );
    let text = fs::read_to_string(run::root().join("deny.toml")).map_err(|error| Failed::new(error.to_string()))?;
    let policy = Policy::parse(&text).map_err(|reason| Failed::new(format!("deny.toml: {reason}")))?;
    let mut packages = BTreeMap::new();
    for target in &policy.targets {
        packages.extend(packages_of(target)?);
    }
    let lock = fs::read_to_string(run::root().join("Cargo.lock")).map_err(|error| Failed::new(error.to_string()))?;
    let problems = policy.judge(&packages, &sources(&lock).map_err(Failed::new)?);
    println!("{} packages for {}: {} problems", packages.len(), policy.targets.join(", "), problems.len());
    match problems.as_slice() {
        [] => Ok(()),
        problems => Err(Failed::new(problems.join("\n"))),
    }
}

/// What of `deny.toml` is understood here; see [`Policy::parse`].
#[derive(Debug, Default)]
struct Policy {
    targets: Vec<String>,
    licences: Vec<String>,
    /// Crate → why not.
    banned: BTreeMap<String, String>,
    registries: Vec<String>,
}

impl Policy {
    fn parse(text: &str) -> Result<Policy, String> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
        let strings = |section: &str, key: &str| -> Result<Vec<String>, String> {
            let list = table.get(section).and_then(|section| section.get(key)).and_then(toml::Value::as_array);
            let list = list.ok_or_else(|| format!("{section}.{key} should be a list of strings"))?;
            let text = |value: &toml::Value| value.as_str().map(str::to_string);
            list.iter().map(text).collect::<Option<_>>().ok_or_else(|| format!("{section}.{key}: strings only"))
        };
        let banned = table.get("bans").and_then(|bans| bans.get("deny")).and_then(toml::Value::as_array);
        let ban = |value: &toml::Value| {
            let text = |key| value.get(key).and_then(toml::Value::as_str).map(str::to_string);
            Some((text("crate")?, text("reason")?))
        };
        Ok(Policy {
            targets: strings("graph", "targets")?,
            licences: strings("licenses", "allow")?,
            banned: banned
                .and_then(|list| list.iter().map(ban).collect::<Option<_>>())
                .ok_or("bans.deny should list { crate = …, reason = … }")?,
            registries: strings("sources", "allow-registry")?,
        })
    }

    /// Every way in which these packages (name and version → licence) and sources go against the policy.
    fn judge(&self, packages: &BTreeMap<Package, String>, sources: &BTreeSet<String>) -> Vec<String> {
        let mut problems = Vec::new();
        for (Package { name, version }, licence) in packages {
            if licence.is_empty() {
                problems.push(format!(
                    "{name} {version} has no licence: its Cargo.toml lacks `license`, or in this workspace `license.workspace = true`"
                ));
            }
            match spdx::satisfied(licence, &self.licences) {
                _ if licence.is_empty() => {}
                Ok(true) => {}
                Ok(false) => problems.push(format!("{name} {version}: licence `{licence}` is not on the list")),
                Err(reason) => problems.push(format!("{name} {version}: licence `{licence}`: {reason}")),
            }
            if let Some(reason) = self.banned.get(name) {
                problems.push(format!("{name} {version} is banned: {reason}"));
            }
        }
        let allowed =
            |source: &String| self.registries.iter().any(|registry| *source == format!("registry+{registry}"));
        problems.extend(
            sources.iter().filter(|source| !allowed(source)).map(|source| format!("source {source} is not allowed")),
        );
        problems
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
}

/// Everything that is built for `target`, and for building and testing it.
fn packages_of(target: &str) -> Result<BTreeMap<Package, String>, Failed> {
    let mut tree = run::cargo();
    tree.args(["tree", "--workspace", "--locked", "--prefix", "none", "--format", "{p}|{l}"]);
    tree.args(["--edges", "normal,build,dev", "--target", target]);
    Ok(parse_tree(&run::output(&mut tree)?))
}

/// Lines like `http v1.4.0|MIT OR Apache-2.0 (*)`, and `name v1.0.0 (proc-macro)|MIT`.
fn parse_tree(text: &str) -> BTreeMap<Package, String> {
    let line = |line: &str| {
        let (package, licence) = line.split_once('|')?;
        let mut words = package.split(' ');
        let (name, version) = (words.next()?, words.next()?);
        let licence = licence.trim_end().trim_end_matches("(*)").trim_end();
        Some((Package { name: name.to_string(), version: version.to_string() }, licence.to_string()))
    };
    text.lines().filter_map(line).collect()
}

/// Where the packages of a Cargo.lock come from; those of the workspace have no source.
fn sources(lock: &str) -> Result<BTreeSet<String>, String> {
    let table: toml::Table = lock.parse().map_err(|error: toml::de::Error| format!("Cargo.lock: {error}"))?;
    let packages = table.get("package").and_then(toml::Value::as_array).ok_or("Cargo.lock lists no package")?;
    Ok(packages.iter().filter_map(|package| package.get("source")?.as_str().map(str::to_string)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "
        graph.targets = ['t']
        licenses.allow = ['MIT']
        bans.deny = [{ crate = 'leftpad', reason = 'because' }]
        sources.allow-registry = ['https://crates']";

    #[test]
    fn judges_licences_bans_and_sources() {
        let check = |tree: &str, source: &str, expected: &[&str]| {
            let policy = Policy::parse(POLICY).unwrap();
            let got = policy.judge(&parse_tree(tree), &BTreeSet::from([source.to_string()]));
            assert_eq!(got, expected, "{tree} from {source}");
        };
        check("a v1.0.0|MIT\nb v2.0.0 (proc-macro)|GPL OR MIT (*)\n\n", "registry+https://crates", &[]);
        check("a v1.0.0|GPL (*)", "registry+https://crates", &["a v1.0.0: licence `GPL` is not on the list"]);
        let none =
            "a v1.0.0 has no licence: its Cargo.toml lacks `license`, or in this workspace `license.workspace = true`";
        check("a v1.0.0|", "registry+https://crates", &[none]);
        check("a v1.0.0|MIT OR", "registry+https://crates", &["a v1.0.0: licence `MIT OR`: it ends too early"]);
        check("leftpad v1.0.0|MIT", "registry+https://crates", &["leftpad v1.0.0 is banned: because"]);
        check("a v1.0.0|MIT", "git+https://x", &["source git+https://x is not allowed"]);
    }

    #[test]
    fn reads_the_projects_own_policy() {
        let text = fs::read_to_string(run::root().join("deny.toml")).unwrap();
        let policy = Policy::parse(&text).unwrap();
        assert!(policy.licences.iter().any(|licence| licence == "Apache-2.0"), "{policy:?}");
        assert!(Policy::parse("graph.targets = 3").is_err());
    }

    #[test]
    fn reads_sources_of_a_lock_file() {
        let lock = "[[package]]\nname = 'ours'\n[[package]]\nname = 'x'\nsource = 'registry+r'\n";
        assert_eq!(sources(lock), Ok(BTreeSet::from(["registry+r".to_string()])));
    }
}
