//! What keeps a client on one endpoint: a hash of something it sends. Never picks an endpoint.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Apart from the seed of splits, so that the clients of one choice are not the neighbours of one endpoint.
const SEED: u64 = 0x7769_7467_6174_6501;

/// The affinity hash of a key. The same on every machine and in every version, because proxies side by side must
/// agree.
pub fn hash_key(key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, SEED)
}
