//! Base64 with the alphabet for URLs, without padding (RFC 4648 section 5), for tokens of a known length. Accepts one
//! text for one token, and no other.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Appends the text of `bytes`.
pub(super) fn encode(bytes: &[u8], out: &mut String) {
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, &b| word << 8 | u32::from(b)) << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            out.push(char::from(ALPHABET[(word >> (18 - 6 * i) & 63) as usize]));
        }
    }
}

/// The `N` bytes that `text` stands for; none where it is not the text of exactly so many.
pub(super) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != (N * 4).div_ceil(3) {
        return None;
    }
    let (mut bytes, mut len, mut word, mut bits) = ([0; N], 0, 0u32, 0);
    for c in text.bytes() {
        word = word << 6 | u32::from(sextet(c)?);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes[len] = (word >> bits & 0xff) as u8;
            len += 1;
        }
    }
    (word & ((1 << bits) - 1) == 0).then_some(bytes)
}

fn sextet(c: u8) -> Option<u8> {
    Some(match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<const N: usize>(bytes: [u8; N], text: &str) {
        let mut out = String::new();
        encode(&bytes, &mut out);
        assert_eq!(out, text, "{bytes:?}");
        assert_eq!(decode(text), Some(bytes), "{text}");
    }

    #[test]
    fn bytes_become_text_and_back() {
        check(*b"", "");
        check(*b"f", "Zg");
        check(*b"fo", "Zm8");
        check(*b"foo", "Zm9v");
        check(*b"foobar", "Zm9vYmFy");
        check([0xff; 4], "_____w");
        check([0xfb, 0xf0], "-_A");
    }

    #[test]
    fn other_texts_are_nothing() {
        for text in ["", "Z", "Zg==", "Zm8", "Zh", "Z+", "Z\u{e9}"] {
            assert_eq!(decode::<1>(text), None, "{text}");
        }
    }
}
