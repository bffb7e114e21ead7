//! Cookies: a name in the first line, and a `Cookie` header in each other. What is found is what a reader finds that cuts the
//! headers to pieces first.

use std::time::Duration;

use http::{HeaderValue, header};
use witgate_core::{affinity::StickyCookie, request::Head};

pub fn check(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let Some(name) = lines.next().and_then(|name| std::str::from_utf8(name).ok()) else { return false };
    // As a configuration wants names (RFC 6265 section 4.1.1).
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return false;
    }
    let mut head = Head::default();
    for line in lines {
        let Ok(value) = HeaderValue::from_bytes(line) else { return false };
        head.headers.append(header::COOKIE, value);
    }
    let wanted = simple(&head, name);
    assert_eq!(head.cookie(name), wanted.as_deref(), "{name} of {:?}", head.headers);

    // One that was not issued here names nobody.
    let sticky = StickyCookie::new(name, Some(Duration::from_secs(60)), [7; 32]);
    assert_eq!(sticky.read(&head, 1_000), None, "{:?}", head.headers);
    true
}

fn simple(head: &Head, name: &str) -> Option<String> {
    let lines = head.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';'));
    let mut found = pairs.filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        (pair[..at].trim_ascii() == name.as_bytes()).then(|| pair[at + 1..].trim_ascii())
    });
    let value = found.next()?;
    let is_quoted = value.len() > 1 && value.starts_with(b"\"") && value.ends_with(b"\"");
    String::from_utf8(if is_quoted { &value[1..value.len() - 1] } else { value }.to_vec()).ok()
}
