//! Tells who supervises the process (systemd, by the socket in `NOTIFY_SOCKET`) how it is. Where nobody does, nobody is told.

use sd_notify::NotifyState;

/// Tells it.
pub(super) fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the supervisor in NOTIFY_SOCKET cannot be told");
    }
}
