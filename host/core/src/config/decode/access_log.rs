//! `[access_log]`, and the formats of its lines.

use std::path::{Path, PathBuf};

use super::{
    super::{
        model::{AccessLog, LogField, LogFormat, LogPiece, LogPlace},
        reader::{Table, Value, list},
        sink::Finding,
        value::{self, Bad, quoted},
    },
    MAX_UNIX_PATH, file_path, size,
};

/// Bytes of a format: more is no format.
const MAX_FORMAT: usize = 4_096;
/// From one hand-over of a worker's to what nobody would want to lose at an end.
const BUFFER: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;

const SYSLOG: &str = "\"udp://IP:PORT\" or \"unix:PATH\", such as \"unix:/dev/log\"";

pub(super) fn access_log(table: Table<'_>, base_dir: &Path) -> Option<AccessLog> {
    let mut log = AccessLog::default();
    let to = place(&table, base_dir);
    if let Some(read) = table.take("format").and_then(|value| format(&value)) {
        log.format = read;
    }
    if let Some(sample) = table.take("sample").and_then(|value| value.number(0.0..=1.0)) {
        log.sample = sample;
    }
    if let Some(bytes) = table.take("buffer").and_then(|value| size(&value, BUFFER)) {
        log.buffer = usize::try_from(bytes).unwrap_or(usize::MAX);
    }
    table.finish();
    Some(AccessLog { to: to?, ..log })
}

/// Exactly one of `path` and `syslog`.
fn place(table: &Table<'_>, base_dir: &Path) -> Option<LogPlace> {
    match (table.take("path"), table.take("syslog")) {
        (Some(path), None) => {
            let file = file_path(&path, base_dir)?;
            Some(if path.string(SYSLOG) == Some("stdout") { LogPlace::Stdout } else { LogPlace::File(file) })
        }
        (None, Some(address)) => syslog(&address, base_dir),
        (Some(_), Some(address)) => {
            let finding = Finding::error(&address.spot, "`path` and `syslog` are both there");
            address.report(finding.expected("one of the two"));
            None
        }
        (None, None) => {
            let finding = Finding::absence(&table.spot, "there is neither `path` nor `syslog`, so lines go nowhere");
            table
                .sink
                .report(finding.expected("`path` = \"access.log\", \"stdout\" …, or `syslog` = \"unix:/dev/log\" …"));
            None
        }
    }
}

fn syslog(value: &Value<'_>, base_dir: &Path) -> Option<LogPlace> {
    let text = value.string(SYSLOG)?;
    if let Some(path) = text.strip_prefix("unix:") {
        let joined: PathBuf = base_dir.join(path);
        let is_path = !path.is_empty() && !path.contains('\0') && joined.as_os_str().len() <= MAX_UNIX_PATH;
        return match is_path {
            true => Some(LogPlace::Unix(joined)),
            false => value.bad(Bad::new(format!("{} is not the path of a Unix socket", quoted(path))), SYSLOG),
        };
    }
    let udp = |text: &str| match text.strip_prefix("udp://") {
        Some(address) => value::socket_address(address),
        None => Err(Bad::new(format!("{} is neither", quoted(text)))),
    };
    value.parse(SYSLOG, udp).map(LogPlace::Udp)
}

fn format(value: &Value<'_>) -> Option<LogFormat> {
    let fields: Vec<&str> = LogField::ALL.iter().map(|field| field.word()).collect();
    let expected = format!("\"json\", or text with fields in braces: {}", list(&fields));
    value.parse(&expected, |text| read_format(text, |word, words| value.sink.nearest(word, words.iter().copied())))
}

/// The accepted word that is nearest to one that is not.
trait Nearest: Fn(&str, &[&'static str]) -> Option<&'static str> {}
impl<F: Fn(&str, &[&'static str]) -> Option<&'static str>> Nearest for F {}

fn read_format(text: &str, nearest: impl Nearest) -> Result<LogFormat, Bad> {
    if text == "json" {
        return Ok(LogFormat::Json);
    }
    if text.len() > MAX_FORMAT {
        return Err(Bad::new(format!("it is longer than {MAX_FORMAT} bytes")));
    }
    // A line that is two for whoever reads it.
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err(Bad::new("a line cannot have a control character in it"));
    }
    let pieces = pieces(text, &nearest)?;
    if !pieces.iter().any(|piece| matches!(piece, LogPiece::Field(_))) {
        let bad = Bad::new(format!("there is no field in {}", quoted(text)));
        let meant = nearest(text, &["json"]).map(|near| format!("did you mean \"{near}\"?"));
        return Err(match meant {
            Some(meant) => bad.help(meant),
            None => bad,
        });
    }
    Ok(LogFormat::Text(pieces))
}

/// `{field}` between text in which `{{` and `}}` stand for braces.
fn pieces(text: &str, nearest: &impl Nearest) -> Result<Vec<LogPiece>, Bad> {
    let (mut pieces, mut literal, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        literal.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix(brace) {
            literal.push_str(brace);
            rest = behind;
            continue;
        }
        let Some((word, behind)) = rest.split_once('}').filter(|_| brace == "{") else {
            let bad = Bad::new(format!("a `{brace}` stands alone"));
            return Err(bad.help(format!("write `{brace}{brace}` for the brace itself")));
        };
        if !literal.is_empty() {
            pieces.push(LogPiece::Text(std::mem::take(&mut literal)));
        }
        pieces.push(LogPiece::Field(field(word, nearest)?));
        rest = behind;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(LogPiece::Text(literal));
    }
    Ok(pieces)
}

fn field(word: &str, nearest: &impl Nearest) -> Result<LogField, Bad> {
    if let Some(field) = LogField::ALL.iter().find(|field| field.word() == word) {
        return Ok(*field);
    }
    let words: Vec<&'static str> = LogField::ALL.iter().map(|field| field.word()).collect();
    let bad = Bad::new(format!("there is no field {}", quoted(word)));
    Err(match nearest(word, &words) {
        Some(near) => bad.help(format!("did you mean {{{near}}}?")),
        None => bad,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::suggest, seeded::XorShift};

    fn read(text: &str) -> Result<LogFormat, Bad> {
        read_format(text, |word, words| suggest::nearest(word, words.iter().copied()))
    }

    #[track_caller]
    fn check(text: &str, want: &[LogPiece]) {
        assert_eq!(read(text), Ok(LogFormat::Text(want.to_vec())), "{text:?}");
    }

    #[track_caller]
    fn refused(text: &str, message: &str, help: Option<&str>) {
        let bad = read(text).expect_err(text);
        assert!(bad.message.contains(message), "{text:?}: {bad:?}");
        assert_eq!(bad.help.as_deref(), help, "{text:?}");
    }

    fn says(text: &str) -> LogPiece {
        LogPiece::Text(text.to_owned())
    }

    #[test]
    fn a_format_is_text_and_fields() {
        let (method, path) = (LogPiece::Field(LogField::Method), LogPiece::Field(LogField::Path));
        assert_eq!(read("json"), Ok(LogFormat::Json));
        check("{method}", std::slice::from_ref(&method));
        check("{method}{path}", &[method.clone(), path.clone()]);
        check("é \"{method} {path}\"\t", &[says("é \""), method.clone(), says(" "), path, says("\"\t")]);
        check("{{{method}}}", &[says("{"), method.clone(), says("}")]);
        check("{{method}} {method}", &[says("{method} "), method]);
        for field in LogField::ALL {
            check(&format!("{{{}}}", field.word()), &[LogPiece::Field(*field)]);
        }
    }

    #[test]
    fn what_is_no_format_is_refused_with_what_may_be_meant() {
        refused("{methd}", "there is no field \"methd\"", Some("did you mean {method}?"));
        refused("{}", "there is no field \"\"", None);
        refused("{authorization}", "there is no field \"authorization\"", None);
        refused("{method", "a `{` stands alone", Some("write `{{` for the brace itself"));
        refused("{method} }", "a `}` stands alone", Some("write `}}` for the brace itself"));
        refused("{method}\n{path}", "control character", None);
        refused("jsno", "there is no field in \"jsno\"", Some("did you mean \"json\"?"));
        refused("", "there is no field", None);
        refused(&"{method}".repeat(1_000), "longer than 4096 bytes", None);
    }

    /// Parts that a parser may stumble over, in every order.
    #[test]
    fn no_text_is_too_much_for_it() {
        let parts =
            ["{", "}", "{{", "}}", "{method}", "{path", "time}", "é", "\u{2028}", "\\", "\"", "a", " ", "\0", "𝄞"];
        let mut random = XorShift::new(7);
        for _ in 0..50_000 {
            let many = random.below(12);
            let text: String = (0..many).map(|_| parts[random.below(parts.len())]).collect();
            let Ok(LogFormat::Text(pieces)) = read(&text) else { continue };
            // What was read says the text again.
            let again: String = pieces
                .iter()
                .map(|piece| match piece {
                    LogPiece::Text(text) => text.replace('{', "{{").replace('}', "}}"),
                    LogPiece::Field(field) => format!("{{{}}}", field.word()),
                })
                .collect();
            assert_eq!(again, text);
        }
    }
}
