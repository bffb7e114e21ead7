//! Who changed what, and who was refused, a line each under the target `audit`. No change is left out; of refusals there
//! are no more than so many a second, so that a guesser cannot fill the log. Never sees a token.

use std::{cell::Cell, sync::Arc};

use http::{Method, StatusCode, request::Parts};
use tokio::time::{Duration, Instant};

use super::reply::ApiError;

/// Refusals that are told of at once, where there were none for a while.
const BURST: u32 = 10;

/// From one to the next, where there are more.
const EVERY: Duration = Duration::from_secs(1);

/// Bytes of a path: it comes from whoever asks.
const PATH_BYTES: usize = 256;

/// Who asks.
#[derive(Clone)]
pub(super) struct Caller {
    /// `admin` or `read`, after the token; `unknown` without one that is right.
    pub(super) who: &'static str,
    /// The subject of the certificate that was shown, where one was asked for.
    pub(super) certificate: Option<Arc<str>>,
    /// The other end of the connection.
    pub(super) peer: Arc<str>,
}

/// What a request asks for, as the log has it.
pub(super) struct Asked {
    method: Method,
    path: String,
}

impl Asked {
    pub(super) fn of(head: &Parts) -> Self {
        let path = head.uri.path();
        Self { method: head.method.clone(), path: path[..path.floor_char_boundary(PATH_BYTES)].to_owned() }
    }
}

/// What came of a change.
#[derive(Default)]
pub(super) struct Came {
    pub(super) status: StatusCode,
    /// The version of a plugin that it is about.
    pub(super) version: Option<u32>,
    pub(super) generation: u64,
    /// Whatever else there is to say.
    pub(super) done: String,
}

/// Tells of a change: `what` it was and `of` what.
pub(super) fn changed(caller: &Caller, asked: &Asked, (what, of): (&str, &str), came: &Came) {
    let (Caller { who, certificate, peer }, Asked { method, path }) = (caller, asked);
    let (status, certificate) = (came.status.as_u16(), certificate.as_deref());
    let Came { version, generation, done, .. } = came;
    tracing::info!(
        target: "audit", who, certificate, peer = &**peer, %method, path, status, change = what, of, version, generation,
        done, "changed"
    );
}

/// Tells of a change that was not made.
pub(super) fn not_changed(caller: &Caller, asked: &Asked, (what, of): (&str, &str), error: &ApiError) {
    let (Caller { who, certificate, peer }, Asked { method, path }) = (caller, asked);
    let (status, certificate) = (error.status.as_u16(), certificate.as_deref());
    let error = error.message();
    tracing::warn!(
        target: "audit", who, certificate, peer = &**peer, %method, path, status, change = what, of, error, "not changed"
    );
}

/// Tells of those that are refused, within bounds.
#[derive(Default)]
pub(super) struct Refusals {
    /// When the last one that may be told of would have been due; as in GCRA (ITU-T I.371).
    due: Cell<Option<Instant>>,
    omitted: Cell<u64>,
}

impl Refusals {
    /// Somebody may not have what is asked for.
    pub(super) fn request(&self, caller: &Caller, asked: &Asked, error: &ApiError) {
        let Some(omitted) = self.leave(Instant::now()) else { return };
        let (Caller { who, certificate, peer }, Asked { method, path }) = (caller, asked);
        let (status, certificate, error) = (error.status.as_u16(), certificate.as_deref(), error.message());
        tracing::warn!(
            target: "audit", who, certificate, peer = &**peer, %method, path, status, error, omitted, "refused"
        );
    }

    /// Somebody showed no certificate, or one that is not taken.
    pub(super) fn handshake(&self, peer: &str, error: &str) {
        let Some(omitted) = self.leave(Instant::now()) else { return };
        tracing::warn!(target: "audit", who = "unknown", peer, error, omitted, "handshake refused");
    }

    /// How many were left out since the last one, where this one may be told of.
    fn leave(&self, now: Instant) -> Option<u64> {
        let due = self.due.get().map_or(now, |due| due.max(now));
        if due.duration_since(now) > EVERY * (BURST - 1) {
            self.omitted.set(self.omitted.get() + 1);
            return None;
        }
        self.due.set(Some(due + EVERY));
        Some(self.omitted.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_of_within_bounds_and_the_others_are_counted() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let told = |at: Duration| refusals.leave(start + at);
        let first: Vec<_> = (0..1000).filter_map(|_| told(Duration::ZERO)).collect();
        assert_eq!(first, [0; 10]);
        assert_eq!((told(EVERY / 2), told(EVERY)), (None, Some(991)));
        assert_eq!(told(EVERY), None);
        let later: Vec<_> = (0..1000).filter_map(|_| told(EVERY * 100)).collect();
        assert_eq!(later, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_long_path_is_cut() {
        let path = format!("/{}", "a".repeat(1000));
        let head = http::Request::get(path).body(()).unwrap().into_parts().0;
        assert_eq!(Asked::of(&head).path.len(), PATH_BYTES);
    }
}
