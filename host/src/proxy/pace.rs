//! How slowly a client may send a body (`limits.body_rate`): only the time that the proxy waits for the client counts, not what an
//! endpoint takes to read.

use std::{
    rc::Rc,
    task::Context,
    time::{Duration, Instant},
};

use crate::{
    upstream::Pace,
    worker::deadlines::{Deadline, Deadlines},
};

/// Time that a client has at the begin, and at the most later: Kestrel's grace period.
const GRACE: Duration = Duration::from_secs(5);

/// One body's.
pub struct BodyPace {
    /// Bytes that a second costs.
    rate: u64,
    /// Time that is left to wait.
    left: Duration,
    /// Since when the client is waited for, and until when.
    waiting: Option<(Instant, Deadline)>,
    deadlines: Rc<Deadlines>,
}

impl BodyPace {
    /// Of a body that comes with `rate` bytes a second at least.
    pub fn new(rate: u64, deadlines: &Rc<Deadlines>) -> Box<Self> {
        Box::new(Self { rate, left: GRACE, waiting: None, deadlines: Rc::clone(deadlines) })
    }
}

impl Pace for BodyPace {
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> bool {
        let (_, deadline) = self.waiting.get_or_insert_with(|| {
            let now = Instant::now();
            (now, self.deadlines.wake_at(now + self.left))
        });
        deadline.poll_passed(cx)
    }

    fn came(&mut self, bytes: u64) {
        let waited = self.waiting.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
        self.left = earned(self.left, waited, bytes, self.rate);
    }
}

/// What is left to wait once `bytes` have come.
fn earned(left: Duration, waited: Duration, bytes: u64, rate: u64) -> Duration {
    let seconds = bytes / rate.max(1);
    let rest = Duration::from_nanos((bytes % rate.max(1)).saturating_mul(1_000_000_000) / rate.max(1));
    left.saturating_sub(waited).saturating_add(Duration::from_secs(seconds)).saturating_add(rest).min(GRACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_earn_time_and_waiting_spends_it() {
        let second = Duration::from_secs(1);
        assert_eq!(earned(GRACE, second * 3, 0, 100), second * 2);
        assert_eq!(earned(second, second, 150, 100), second * 3 / 2);
        // No more is saved than there was at the begin.
        assert_eq!(earned(GRACE, Duration::ZERO, u64::MAX, 1), GRACE);
        assert_eq!(earned(second, second * 2, 1, 1_000), Duration::from_millis(1));
    }
}
