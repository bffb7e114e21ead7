//! Query parameters: known switches only, so that a misspelt one is an error and not silently off.

use super::reply::ApiError;

/// Each switch of `known`, off where absent. `?force` and `?force=true` are on.
///
/// # Errors
/// 400 for a parameter that is not known, and for a value that is neither `true` nor `false`.
pub(super) fn switches<const N: usize>(query: Option<&str>, known: [&str; N]) -> Result<[bool; N], ApiError> {
    let mut on = [false; N];
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
        let Some(place) = known.iter().position(|k| *k == name) else {
            let has = if N == 0 { "none".to_owned() } else { known.join(", ") };
            return Err(ApiError::bad_request(format!("unknown query parameter {name:?}; there is: {has}")));
        };
        on[place] = match value {
            "true" | "1" => true,
            "false" | "0" => false,
            _ => return Err(ApiError::bad_request(format!("{name}={value}: expected true or false"))),
        };
    }
    Ok(on)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: Option<&str>, want: Result<[bool; 2], &str>) {
        match (switches(query, ["activate", "progress"]), want) {
            (Ok(got), Ok(want)) => assert_eq!(got, want, "{query:?}"),
            (Err(error), Err(part)) => assert!(error.message().contains(part), "{query:?}: {}", error.message()),
            (got, want) => panic!("{query:?}: {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn switches_are_known_and_on_or_off() {
        check(None, Ok([false, false]));
        check(Some(""), Ok([false, false]));
        check(Some("activate=true"), Ok([true, false]));
        check(Some("progress&activate=0"), Ok([false, true]));
        check(Some("actvate=true"), Err("there is: activate, progress"));
        check(Some("activate=yes"), Err("expected true or false"));
    }
}
