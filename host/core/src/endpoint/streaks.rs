//! Failures in a row, by kind. Counts; never judges.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How a try at an endpoint ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A response that does not blame the endpoint.
    Success,
    /// A response with a status of 500 to 599, but those below.
    ServerError,
    /// One with 502, 503 or 504.
    GatewayError,
    /// No response: not connected, reset, malformed, timed out.
    Local,
}

impl Outcome {
    /// Of a response with this status.
    pub fn of_status(status: http::StatusCode) -> Self {
        match status.as_u16() {
            502..=504 => Self::GatewayError,
            500..=599 => Self::ServerError,
            _ => Self::Success,
        }
    }

    /// Whether it counts for the endpoint's success rate.
    pub fn is_success(self) -> bool {
        self == Self::Success
    }
}

/// How many failures came in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Responses with a status of 500 to 599. Tries without a response neither count nor end the row.
    pub server_errors: u16,
    /// Of these in a row, those with 502, 503 or 504.
    pub gateway_errors: u16,
    /// Tries without a response.
    pub local: u16,
}

/// [`Counts`] in one word.
#[derive(Debug, Default)]
pub(super) struct Streaks(AtomicU64);

impl Streaks {
    /// A success costs a read, where nothing failed before it.
    pub(super) fn record(&self, outcome: Outcome) -> Counts {
        if outcome == Outcome::Success {
            if self.0.load(Relaxed) != 0 {
                self.reset();
            }
            return Counts::default();
        }
        let mut counts = Counts::default();
        // The closure always gives a word.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |word| {
            counts = after(unpack(word), outcome);
            Some(pack(counts))
        });
        counts
    }

    pub(super) fn counts(&self) -> Counts {
        unpack(self.0.load(Relaxed))
    }

    pub(super) fn reset(&self) {
        self.0.store(0, Relaxed);
    }
}

fn after(counts: Counts, outcome: Outcome) -> Counts {
    let Counts { server_errors, gateway_errors, local } = counts;
    match outcome {
        Outcome::Success => Counts::default(),
        Outcome::ServerError => Counts { server_errors: server_errors.saturating_add(1), gateway_errors: 0, local: 0 },
        Outcome::GatewayError => Counts {
            server_errors: server_errors.saturating_add(1),
            gateway_errors: gateway_errors.saturating_add(1),
            local: 0,
        },
        Outcome::Local => Counts { server_errors, gateway_errors, local: local.saturating_add(1) },
    }
}

fn pack(counts: Counts) -> u64 {
    u64::from(counts.server_errors) | u64::from(counts.gateway_errors) << 16 | u64::from(counts.local) << 32
}

fn unpack(word: u64) -> Counts {
    let [a, b, c, d, e, f, _, _] = word.to_le_bytes();
    Counts {
        server_errors: u16::from_le_bytes([a, b]),
        gateway_errors: u16::from_le_bytes([c, d]),
        local: u16::from_le_bytes([e, f]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_until_a_success_and_a_response_ends_a_row_without_any() {
        use Outcome::{GatewayError, Local, ServerError, Success};
        let streaks = Streaks::default();
        for (outcome, want) in [
            (Success, (0, 0, 0)),
            (ServerError, (1, 0, 0)),
            (GatewayError, (2, 1, 0)),
            (GatewayError, (3, 2, 0)),
            (Local, (3, 2, 1)),
            (Local, (3, 2, 2)),
            (ServerError, (4, 0, 0)),
            (Success, (0, 0, 0)),
            (Local, (0, 0, 1)),
        ] {
            let Counts { server_errors, gateway_errors, local } = streaks.record(outcome);
            assert_eq!((server_errors, gateway_errors, local), want, "{outcome:?}");
        }
        for _ in 0..100_000 {
            streaks.record(Local);
        }
        assert_eq!(streaks.record(Local).local, u16::MAX);
        streaks.reset();
        assert_eq!(streaks.record(GatewayError), Counts { server_errors: 1, gateway_errors: 1, local: 0 });
    }
}
