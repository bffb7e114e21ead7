//! What keeps a client on one endpoint: a hash of something it sends, or a cookie that the proxy gave it. Never picks
//! an endpoint.

mod base64url;
mod cookie;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{config::Key, request::Head, split::with_key};

pub use cookie::StickyCookie;

/// Apart from the seed of splits, so that the clients of one choice are not the neighbours of one endpoint.
const SEED: u64 = 0x7769_7467_6174_6501;

/// The affinity hash of a key. The same on every machine and in every version, because proxies side by side must
/// agree.
pub fn hash_key(key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, SEED)
}

/// The affinity hash of the first key that the request has ([`find_key`](crate::split::find_key)).
pub fn by_key(keys: &[Key], head: &Head) -> Option<u64> {
    with_key(keys, head, hash_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_never_change() {
        // Proxies of several versions run side by side: a change here sends their clients elsewhere.
        assert_eq!(hash_key(b"client-1"), 0x7f06341683c69e84, "the hash of a key changed");
    }

    #[test]
    fn the_first_key_present_is_hashed() {
        let keys = [Key::Header("x-session".parse().unwrap()), Key::ClientAddress];
        let mut head = Head::default();
        assert_eq!(by_key(&keys, &head), Some(hash_key(b"0.0.0.0")));
        assert_eq!(by_key(&keys[..1], &head), None);
        head.headers.insert("x-session", "abc".parse().unwrap());
        assert_eq!(by_key(&keys, &head), Some(hash_key(b"abc")));
    }
}
