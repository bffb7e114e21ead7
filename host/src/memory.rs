//! Memory that was freed but is kept by the allocator. Which one that is the process decides, not this library: who has
//! chosen one says here how it is told to give back.

use std::sync::OnceLock;

static GIVE_BACK: OnceLock<fn()> = OnceLock::new();

/// Says what gives back to the system what the calling thread has freed. It is called on a worker's thread, twice a second
/// at the most and only after many connections went to rest. The first call stands.
pub fn set_give_back(how: fn()) {
    GIVE_BACK.get_or_init(|| how);
}

/// Gives back what this thread has freed, where somebody has said how.
pub(crate) fn give_back() {
    if let Some(how) = GIVE_BACK.get() {
        how();
    }
}
