//! Endpoints that come from elsewhere than a file: held to what a file is held to. Knows nothing of where they come from.

use std::collections::HashSet;

use serde::Deserialize;

use super::{decode::MAX_MANY, model::Endpoint, value};

/// One endpoint as it is wanted: the keys of `endpoints` in a file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedEndpoint {
    /// `HOST:PORT`.
    pub address: String,
    /// Default 1.
    #[serde(default = "one")]
    pub weight: u32,
    /// A zone's name.
    pub zone: Option<String>,
    /// Default 0.
    #[serde(default)]
    pub priority: u32,
}

/// The highest weight.
pub const MAX_WEIGHT: u32 = 65_535;

/// The last priority; Envoy's.
pub const MAX_PRIORITY: u32 = 127;

fn one() -> u32 {
    1
}

/// Checks a whole set.
///
/// # Errors
/// The first that is wrong: which, and how.
pub fn endpoints(wanted: Vec<WantedEndpoint>) -> Result<Vec<Endpoint>, String> {
    if wanted.len() > MAX_MANY {
        return Err(format!("endpoints: there are {}, and at most {MAX_MANY} may be", wanted.len()));
    }
    let mut seen = HashSet::with_capacity(wanted.len());
    let mut endpoints = Vec::with_capacity(wanted.len());
    for (at, WantedEndpoint { address, weight, zone, priority }) in wanted.into_iter().enumerate() {
        let wrong = |key: &str, bad: value::Bad| {
            let help = bad.help.map(|help| format!("; {help}")).unwrap_or_default();
            format!("endpoints[{at}].{key}: {}{help}", bad.message)
        };
        let address = value::endpoint_address(&address).map_err(|bad| wrong("address", bad))?;
        for (key, number, most) in [("weight", weight, MAX_WEIGHT), ("priority", priority, MAX_PRIORITY)] {
            if number > most {
                return Err(wrong(key, value::Bad::new(format!("{number} is out of range, 0 to {most}"))));
            }
        }
        let zone = zone.map(|zone| value::name(&zone)).transpose().map_err(|bad| wrong("zone", bad))?;
        if !seen.insert(address.clone()) {
            return Err(wrong("address", value::Bad::new(format!("another endpoint has the address {address:?}"))));
        }
        endpoints.push(Endpoint { address, weight, zone, priority });
    }
    Ok(endpoints)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Vec<Endpoint>, String> {
        endpoints(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_set_is_what_a_file_could_say() {
        let zone = Some("eu-1".to_owned());
        let want = [
            Endpoint { address: "10.0.0.1:80".into(), weight: 1, zone: None, priority: 0 },
            Endpoint { address: "origin.internal:80".into(), weight: 0, zone, priority: 7 },
        ];
        let got = read(
            r#"[{"address":"10.0.0.1:80"},{"address":"Origin.Internal:80","weight":0,"zone":"eu-1","priority":7}]"#,
        );
        assert_eq!(got.as_deref(), Ok(&want[..]));
        assert_eq!(read("[]"), Ok(Vec::new()));
    }

    #[track_caller]
    fn check(json: &str, part: &str) {
        let error = read(json).unwrap_err();
        assert!(error.contains(part), "{json}: {error}, want {part:?}");
    }

    #[test]
    fn what_a_file_may_not_say_is_refused() {
        check(
            r#"[{"address":"a:1"},{"address":"b"}]"#,
            "endpoints[1].address: \"b\" has no port; did you mean \"b:80\"?",
        );
        check(r#"[{"address":"a:1"},{"address":"A:1"}]"#, "endpoints[1].address: another endpoint has the address");
        check(r#"[{"address":"a:1","weight":65536}]"#, "endpoints[0].weight: 65536 is out of range, 0 to 65535");
        check(r#"[{"address":"a:1","priority":128}]"#, "endpoints[0].priority: 128 is out of range, 0 to 127");
        check(r#"[{"address":"a:1","zone":"a b"}]"#, "endpoints[0].zone: \"a b\" has ' ' in it");
    }
}
