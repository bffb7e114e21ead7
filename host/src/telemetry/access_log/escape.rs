//! Values of clients as part of a line: none of them may end it, begin another field, or move a terminal's cursor.

/// Bytes of a value that are shown: a line has a limit, whatever a client sends.
const MOST: usize = 4096;

/// What stands for the rest.
const CUT: &[u8] = b"...";

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The part of a value that is shown, and whether there is more.
fn cut(value: &[u8]) -> (&[u8], bool) {
    value.get(..MOST).map_or((value, false), |shown| (shown, value.len() > MOST))
}

/// Whether a byte does not stand for itself in every format.
fn is_special(byte: u8) -> bool {
    !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\')
}

/// Where the first such byte is. Most values have none, which is found out without a branch for each byte, many at once.
fn special(value: &[u8]) -> Option<usize> {
    let any = value.iter().fold(false, |found, byte| found | is_special(*byte));
    if any { value.iter().position(|byte| is_special(*byte)) } else { None }
}

/// The inside of a JSON string (RFC 8259 §7). What is not UTF-8 becomes U+FFFD; what some readers take for the end of a line
/// is escaped too.
pub(super) fn json(out: &mut Vec<u8>, value: &[u8]) {
    let (value, is_cut) = cut(value);
    match special(value) {
        None => out.extend_from_slice(value),
        Some(_) => value.utf8_chunks().for_each(|chunk| {
            json_text(out, chunk.valid());
            if !chunk.invalid().is_empty() {
                out.extend_from_slice("\u{fffd}".as_bytes());
            }
        }),
    }
    if is_cut {
        out.extend_from_slice(CUT);
    }
}

fn json_text(out: &mut Vec<u8>, text: &str) {
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                out.extend_from_slice(b"\\u");
                let code = c as u32;
                out.extend([12, 8, 4, 0].map(|shift| HEX[(code >> shift & 15) as usize]));
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// In a line of text: quotes, backslashes and whatever is not printable ASCII as `\xHH`, byte by byte, as nginx writes them.
pub(super) fn text(out: &mut Vec<u8>, value: &[u8]) {
    let (mut value, is_cut) = cut(value);
    while let Some(at) = special(value) {
        let byte = value[at];
        out.extend_from_slice(&value[..at]);
        out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        value = &value[at + 1..];
    }
    out.extend_from_slice(value);
    if is_cut {
        out.extend_from_slice(CUT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &[u8], want_json: &str, want_text: &str) {
        let (mut json, mut text) = (Vec::new(), Vec::new());
        super::json(&mut json, value);
        super::text(&mut text, value);
        assert_eq!(String::from_utf8(json).unwrap(), want_json, "{value:?}");
        assert_eq!(String::from_utf8(text).unwrap(), want_text, "{value:?}");
    }

    #[test]
    fn nothing_of_a_value_is_more_than_a_value() {
        check(b"curl/8.5 (x; y)", "curl/8.5 (x; y)", "curl/8.5 (x; y)");
        check(b"", "", "");
        check(b"a\"b\\c", r#"a\"b\\c"#, r"a\x22b\x5cc");
        check(b"a\r\n\t\0\x1b[2J\x7f", r"a\u000d\u000a\u0009\u0000\u001b[2J\u007f", r"a\x0d\x0a\x09\x00\x1b[2J\x7f");
        check("é\u{85}\u{2028}".as_bytes(), r"é\u0085\u2028", r"\xc3\xa9\xc2\x85\xe2\x80\xa8");
        check(b"a\xffb", "a\u{fffd}b", r"a\xffb");
    }

    #[test]
    fn every_byte_is_read_back_by_a_parser() {
        let all: Vec<u8> = (0..=255).collect();
        let mut out = vec![b'"'];
        json(&mut out, &all);
        out.push(b'"');
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), String::from_utf8_lossy(&all));
        assert!(!out.iter().any(u8::is_ascii_control));
        out.clear();
        text(&mut out, &all);
        assert!(out.iter().all(|byte| matches!(byte, b' '..=b'~')) && !out.contains(&b'"'));
    }

    #[test]
    fn whatever_a_value_is_it_stays_within_its_quotes() {
        witgate_tests::fuzz::run("access_log", |value| {
            let (mut json, mut text) = (vec![b'"'], Vec::new());
            super::json(&mut json, value);
            json.push(b'"');
            assert_eq!(serde_json::from_slice::<String>(&json).ok(), Some(String::from_utf8_lossy(value).into_owned()));
            super::text(&mut text, value);
            assert!(
                text.iter().all(|byte| matches!(byte, b' '..=b'~')) && !text.contains(&b'"'),
                "{}",
                text.escape_ascii()
            );
            true
        });
    }

    #[test]
    fn a_long_value_is_cut() {
        for (length, is_cut) in [(MOST - 1, false), (MOST, false), (MOST + 1, true), (MOST * 20, true)] {
            let (shown, value) = (length.min(MOST), "x".repeat(length));
            let want = format!("{}{}", "x".repeat(shown), if is_cut { "..." } else { "" });
            check(value.as_bytes(), &want, &want);
        }
    }
}
