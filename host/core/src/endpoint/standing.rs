//! What was judged of an endpoint: by checks, by ejection, by how long it has been there. Never judges.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// What active checks say of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// Nobody has asked yet, or nobody asks: taken for healthy.
    Unchecked,
    /// It came to a cluster with checks, and the first of them has not ended: not picked.
    Waiting,
    /// It is.
    Healthy,
    /// It is not.
    Unhealthy,
}

impl Health {
    const ALL: [Self; 4] = [Self::Unchecked, Self::Waiting, Self::Healthy, Self::Unhealthy];

    fn of(word: u8) -> Self {
        Self::ALL.get(usize::from(word)).copied().unwrap_or(Self::Unchecked)
    }

    /// Whether it may be picked.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Unchecked | Self::Healthy)
    }

    /// As operators see it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unchecked => "unchecked",
            Self::Waiting => "waiting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// All is well.
    Well,
    /// Something is wrong.
    Ill,
    /// It is alive, and says that it takes no new requests.
    Leaving,
}

/// Why an endpoint is ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// Responses in a row with a status of 500 to 599.
    Consecutive5xx,
    /// Responses in a row with 502, 503 or 504.
    ConsecutiveGateway,
    /// Tries in a row without a response.
    ConsecutiveLocal,
    /// A success rate far below the others'.
    SuccessRate,
    /// Too many failures.
    FailurePercentage,
    /// Responses that take too long, and far longer than the others'.
    Latency,
}

impl Cause {
    const ALL: [Self; 6] = [
        Self::Consecutive5xx,
        Self::ConsecutiveGateway,
        Self::ConsecutiveLocal,
        Self::SuccessRate,
        Self::FailurePercentage,
        Self::Latency,
    ];

    /// As the log says it, and the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveGateway => "consecutive_gateway",
            Self::ConsecutiveLocal => "consecutive_local",
            Self::SuccessRate => "success_rate",
            Self::FailurePercentage => "failure_percentage",
            Self::Latency => "latency",
        }
    }
}

/// A cause or none, in one word.
#[derive(Debug, Default)]
pub(super) struct Charge(AtomicU8);

impl Charge {
    /// Whether there was none before.
    pub(super) fn set(&self, cause: Cause) -> bool {
        self.0.swap(cause as u8 + 1, Relaxed) == 0
    }

    pub(super) fn get(&self) -> Option<Cause> {
        Self::cause(self.0.load(Relaxed))
    }

    /// A read, where there is none.
    pub(super) fn take(&self) -> Option<Cause> {
        self.get().and_then(|_| Self::cause(self.0.swap(0, Relaxed)))
    }

    fn cause(word: u8) -> Option<Cause> {
        Cause::ALL.get(usize::from(word.checked_sub(1)?)).copied()
    }
}

/// Judgements, each in one word but for the text. Times are since the endpoint exists.
#[derive(Debug, Default)]
pub(super) struct Standing {
    health: AtomicU8,
    checks: AtomicU64,
    failed_checks: AtomicU64,
    /// What there is to say about the last check. Written by whoever checks, read by operators.
    complaint: Mutex<Option<String>>,
    /// Of the present ejection, or the last.
    cause: Charge,
    /// Milliseconds and one; 0 where it is not ejected.
    ejected_until: AtomicU64,
    /// Ejections that count towards the length of the next.
    severity: AtomicU32,
    ejections: AtomicU64,
    /// Milliseconds and one; 0 where it was there from the start.
    warming_since: AtomicU64,
    /// Whether it warms up because an ejection ended.
    returned: AtomicBool,
}

impl Standing {
    pub(super) fn health(&self) -> Health {
        Health::of(self.health.load(Relaxed))
    }

    pub(super) fn set_health(&self, health: Health) -> Health {
        Health::of(self.health.swap(health as u8, Relaxed))
    }

    pub(super) fn ejected_until(&self) -> Option<Duration> {
        self.ejected_until.load(Relaxed).checked_sub(1).map(Duration::from_millis)
    }

    pub(super) fn checked(&self, checked: Checked, complaint: Option<String>) {
        self.checks.fetch_add(1, Relaxed);
        self.failed_checks.fetch_add(u64::from(checked == Checked::Ill), Relaxed);
        *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = complaint;
    }

    /// Checks that ended, and those that failed.
    pub(super) fn checks(&self) -> (u64, u64) {
        let failed = self.failed_checks.load(Relaxed);
        (self.checks.load(Relaxed), failed)
    }

    pub(super) fn complaint(&self) -> Option<String> {
        self.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn cause(&self) -> Option<Cause> {
        self.cause.get()
    }

    pub(super) fn eject(&self, cause: Cause, until: Duration) {
        self.cause.set(cause);
        self.ejected_until.store(stamp(until), Relaxed);
        self.severity.fetch_add(1, Relaxed);
        self.ejections.fetch_add(1, Relaxed);
    }

    /// Whether there was an ejection to end.
    pub(super) fn readmit(&self) -> bool {
        self.ejected_until.swap(0, Relaxed) != 0
    }

    pub(super) fn severity(&self) -> u32 {
        self.severity.load(Relaxed)
    }

    pub(super) fn forgive(&self) {
        // The closure gives no word where there is nothing to forgive.
        let _ = self.severity.fetch_update(Relaxed, Relaxed, |severity| severity.checked_sub(1));
    }

    pub(super) fn ejections(&self) -> u64 {
        self.ejections.load(Relaxed)
    }

    pub(super) fn warm_up(&self, since: Duration, returned: bool) {
        self.returned.store(returned, Relaxed);
        self.warming_since.store(stamp(since), Relaxed);
    }

    pub(super) fn warming_since(&self) -> Option<(Duration, bool)> {
        let since = self.warming_since.load(Relaxed).checked_sub(1).map(Duration::from_millis)?;
        Some((since, self.returned.load(Relaxed)))
    }
}

fn stamp(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}
