//! The sticky cookie: which endpoint a client belongs to, in a token that only this proxy can make or read. Never
//! says an address, and never trusts a token that it did not make.

use std::{fmt::Write, time::Duration};

use hmac::{Hmac, Mac};
use http::HeaderValue;
use sha2::Sha256;

use super::base64url;
use crate::request::Head;

/// Expiry in seconds since 1970 (0: none) and endpoint id, both big-endian.
const PAYLOAD: usize = 16;
const TAG: usize = 16;
/// Tag, then masked payload.
const TOKEN: usize = TAG + PAYLOAD;

/// Issues and reads the sticky cookie of one route.
///
/// The token is the payload, masked, behind its authentication tag: `tag = HMAC-SHA256(key, "tag" name payload)`,
/// first 16 bytes, and `mask = HMAC-SHA256(key, "mask" tag)`: a synthetic initialisation vector, as AES-SIV has it
/// (RFC 5297), so that no random bits are needed. The name of the cookie is part of what is authenticated, so that a
/// token under one name is nothing under another. All clients of an endpoint may have the same token: it says where a
/// client belongs, not who it is.
#[derive(Clone)]
pub struct StickyCookie {
    name: String,
    ttl: Option<Duration>,
    /// Keyed once; cloned for each use.
    key: Hmac<Sha256>,
}

impl std::fmt::Debug for StickyCookie {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StickyCookie").field("name", &self.name).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

impl StickyCookie {
    /// `name` is an RFC 6265 token; without a `ttl` the cookie lasts for the browser's session and the token for ever.
    pub fn new(name: impl Into<String>, ttl: Option<Duration>, secret: [u8; 32]) -> Self {
        // Fixed by the type: the key has the length of an HMAC block or less, which any HMAC takes as it is.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&secret);
        Self { name: name.into(), ttl, key: <Hmac<Sha256> as Mac>::new(&block.into()) }
    }

    /// The cookie's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The endpoint that the request's cookie names; none where it has none, where the token was not made here, and
    /// where it expired. `now_unix` in seconds.
    pub fn read(&self, head: &Head, now_unix: u64) -> Option<u64> {
        let token: [u8; TOKEN] = base64url::decode(head.cookie(&self.name)?)?;
        let (tag, masked) = token.split_first_chunk::<TAG>()?;
        let payload = self.masked(tag, masked.try_into().ok()?);
        // In constant time.
        self.tag(&payload).verify_truncated_left(tag).ok()?;
        let (expiry, id) = payload.split_first_chunk::<8>()?;
        let expiry = u64::from_be_bytes(*expiry);
        (expiry == 0 || now_unix < expiry).then_some(u64::from_be_bytes(id.try_into().ok()?))
    }

    /// A whole `Set-Cookie` value that names the endpoint. `now_unix` in seconds.
    pub fn issue(&self, endpoint_id: u64, now_unix: u64) -> HeaderValue {
        let ttl = self.ttl.map(|ttl| ttl.as_secs().max(1));
        let expiry = ttl.map_or(0, |ttl| now_unix.saturating_add(ttl));
        let mut payload = [0; PAYLOAD];
        payload[..8].copy_from_slice(&expiry.to_be_bytes());
        payload[8..].copy_from_slice(&endpoint_id.to_be_bytes());

        let mut token = [0; TOKEN];
        let mut tag = [0; TAG];
        tag.copy_from_slice(&self.tag(&payload).finalize().into_bytes()[..TAG]);
        token[..TAG].copy_from_slice(&tag);
        token[TAG..].copy_from_slice(&self.masked(&tag, payload));

        let mut text = String::with_capacity(self.name.len() + 96);
        text.push_str(&self.name);
        text.push('=');
        base64url::encode(&token, &mut text);
        text.push_str("; Path=/; HttpOnly; SameSite=Lax");
        if let Some(ttl) = ttl {
            // Writing to a String cannot fail.
            let _ = write!(text, "; Max-Age={ttl}");
        }
        // The configuration admits only tokens as names; a client ignores an empty Set-Cookie.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
    }

    fn tag(&self, payload: &[u8; PAYLOAD]) -> Hmac<Sha256> {
        self.key.clone().chain_update(b"tag\0").chain_update(&self.name).chain_update(b"\0").chain_update(payload)
    }

    /// Masks, and unmasks.
    fn masked(&self, tag: &[u8; TAG], mut payload: [u8; PAYLOAD]) -> [u8; PAYLOAD] {
        let mask = self.key.clone().chain_update(b"mask\0").chain_update(tag).finalize().into_bytes();
        payload.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn sticky(name: &str, ttl: Option<u64>, secret: u8) -> StickyCookie {
        StickyCookie::new(name, ttl.map(Duration::from_secs), [secret; 32])
    }

    /// The `name=token` of a cookie.
    fn pair(cookie: &StickyCookie, id: u64) -> String {
        cookie.issue(id, NOW).to_str().unwrap().split(';').next().unwrap().to_owned()
    }

    #[track_caller]
    fn check(cookie: &StickyCookie, sent: &str, now: u64, want: Option<u64>) {
        let mut head = Head::default();
        head.headers.insert("cookie", sent.parse().unwrap());
        assert_eq!(cookie.read(&head, now), want, "{cookie:?} reads {sent} at {now}");
    }

    #[test]
    fn what_was_issued_is_read() {
        for id in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
            let session = sticky("wg", None, 1);
            check(&session, &format!("a=b; {}", pair(&session, id)), NOW + 1_000_000_000, Some(id));
            let hour = sticky("wg", Some(3600), 1);
            check(&hour, &pair(&hour, id), NOW + 3599, Some(id));
            check(&hour, &pair(&hour, id), NOW + 3600, None);
        }
    }

    #[test]
    fn attributes() {
        let text = |c: &StickyCookie| c.issue(7, NOW).to_str().unwrap().split_once("; ").unwrap().1.to_owned();
        assert_eq!(text(&sticky("wg", None, 1)), "Path=/; HttpOnly; SameSite=Lax");
        assert_eq!(text(&sticky("wg", Some(60), 1)), "Path=/; HttpOnly; SameSite=Lax; Max-Age=60");
    }

    #[test]
    fn what_was_not_issued_is_nothing() {
        let cookie = sticky("wg", None, 1);
        let good = pair(&cookie, 42);
        check(&cookie, &good, NOW, Some(42));
        check(&cookie, &pair(&sticky("wg", None, 2), 42), NOW, None);
        check(&cookie, &pair(&sticky("xx", None, 1), 42).replace("xx=", "wg="), NOW, None);
        check(&cookie, "wg=", NOW, None);
        check(&cookie, "wg=42", NOW, None);
        check(&cookie, &format!("{good}A"), NOW, None);
        check(&cookie, &good[..good.len() - 1], NOW, None);
        for i in 3..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
            check(&cookie, &String::from_utf8(bytes).unwrap(), NOW, None);
        }
    }

    #[test]
    fn the_token_does_not_show_the_endpoint() {
        let cookie = sticky("wg", None, 1);
        let token = |id| base64url::decode::<TOKEN>(&pair(&cookie, id)[3..]).unwrap();
        let (one, two) = (token(1), token(2));
        let same = one.iter().zip(two).filter(|(a, b)| **a == *b).count();
        assert!(same < 8, "{one:?} and {two:?} share {same} bytes");
        assert!(!one.windows(8).any(|w| w == 1u64.to_be_bytes()), "{one:?}");
        assert!(!format!("{cookie:?}").contains("key"));
    }
}
