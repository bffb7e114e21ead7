//! From the operator's configuration to the plugin's own type, with errors that name the key at fault.

use serde::de::DeserializeOwned;

/// Reads a JSON object into `T`. The error is `key.path: what is wrong`, without a place in the JSON text, which the
/// operator (who wrote TOML) has never seen.
pub(crate) fn parse<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    let mut reader = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let message = error.inner().to_string();
        let message = message.rsplit_once(" at line ").map_or(&*message, |(said, _place)| said);
        if path == "." { message.to_owned() } else { format!("{path}: {message}") }
    })
}

/// Durations as the configuration file writes them, for `#[serde(deserialize_with = "witgate_sdk::duration")]`:
/// a whole number and one of `ms`, `s`, `m`, `h`, `d`, as in `"250ms"` or `"2h"`.
///
/// # Errors
/// Where the text is anything else.
pub fn duration<'de, D: serde::Deserializer<'de>>(reader: D) -> Result<core::time::Duration, D::Error> {
    let text = <String as serde::Deserialize>::deserialize(reader)?;
    parse_duration(&text).ok_or_else(|| {
        serde::de::Error::custom(format_args!(
            "\"{text}\" is not a duration such as \"250ms\", \"2s\", \"5m\" or \"1h\""
        ))
    })
}

fn parse_duration(text: &str) -> Option<core::time::Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let count: u64 = text[..unit].parse().ok()?;
    let milliseconds = match &text[unit..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(core::time::Duration::from_millis(count.checked_mul(milliseconds)?))
}
