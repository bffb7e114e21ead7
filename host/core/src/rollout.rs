//! When a failing plugin version is cut off, and when it is tried again: a circuit as a pure state machine. Never
//! looks at a clock.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::config::Quarantine;

/// What may happen with the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Make it.
    Call,
    /// Make it: it is the one that decides whether the circuit closes.
    Trial,
    /// Do not make it: the native answer stands.
    Refuse,
}

/// Where a circuit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
    /// Calls are made.
    Closed,
    /// No calls before this time.
    Open {
        /// When one trial call is allowed.
        until: Instant,
    },
    /// One trial call is under way.
    Probation,
}

/// A circuit around one plugin version.
///
/// Closed, it opens with the `failures`-th failure within `window`. Open, it refuses until the back-off is over, then
/// admits exactly one trial: a success closes it and forgets everything, a failure opens it again for twice as long,
/// up to `max_back_off`. The walk is that of linkerd's failure accrual (`consecutive_failures`), with failures counted
/// in a window because a plugin fails on some requests and not on others.
///
/// Outcomes that arrive while the circuit is open belong to calls from before it opened and change nothing. A trial
/// whose outcome never arrives is given up after the back-off that preceded it, so that a lost call cannot keep a
/// version out for ever.
#[derive(Debug, Clone)]
pub struct Circuit {
    limits: Quarantine,
    /// Times of the failures in the window, oldest first; at most `limits.failures` of them.
    recent: VecDeque<Instant>,
    /// The back-off of the present or last opening.
    back_off: Duration,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed,
    Open { until: Instant },
    Probation { since: Instant },
}

impl Circuit {
    /// A closed circuit. A limit of 0 failures counts as 1.
    pub fn new(limits: Quarantine) -> Self {
        let limits = Quarantine { failures: limits.failures.max(1), ..limits };
        Self { limits, recent: VecDeque::new(), back_off: limits.back_off, phase: Phase::Closed }
    }

    /// Asks to make a call now. After `Call` or `Trial` say how it ended.
    pub fn admit(&mut self, now: Instant) -> Admission {
        match self.phase {
            Phase::Closed => Admission::Call,
            Phase::Open { until } if now < until => Admission::Refuse,
            Phase::Probation { since } if now.saturating_duration_since(since) < self.back_off => Admission::Refuse,
            Phase::Open { .. } | Phase::Probation { .. } => {
                self.phase = Phase::Probation { since: now };
                Admission::Trial
            }
        }
    }

    /// A call failed.
    pub fn failed(&mut self, now: Instant) {
        match self.phase {
            Phase::Closed => {
                let window = self.limits.window;
                self.recent.retain(|&at| now.saturating_duration_since(at) < window);
                self.recent.push_back(now);
                if self.recent.len() >= usize::try_from(self.limits.failures).unwrap_or(usize::MAX) {
                    self.back_off = self.limits.back_off;
                    self.open(now);
                }
            }
            Phase::Open { .. } => {}
            Phase::Probation { .. } => {
                self.back_off = self.back_off.saturating_mul(2).min(self.limits.max_back_off);
                self.open(now);
            }
        }
    }

    /// A call succeeded.
    pub fn succeeded(&mut self, _now: Instant) {
        if let Phase::Probation { .. } = self.phase {
            self.phase = Phase::Closed;
        }
    }

    /// Where the circuit is. An open circuit whose back-off is over stays open until the next call is admitted.
    pub fn state(&self) -> CircuitState {
        match self.phase {
            Phase::Closed => CircuitState::Closed,
            Phase::Open { until } => CircuitState::Open { until },
            Phase::Probation { .. } => CircuitState::Probation,
        }
    }

    fn open(&mut self, now: Instant) {
        self.recent.clear();
        self.phase = Phase::Open { until: now + self.back_off };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One step of a walk, at milliseconds from the start.
    enum Step {
        Admit(u64, Admission),
        Fail(u64),
        Succeed(u64),
        State(&'static str),
    }
    use Admission::{Call, Refuse, Trial};
    use Step::{Admit, Fail, State, Succeed};

    /// Walks a circuit of 3 failures in 10 s, back-off 1 s to 3 s.
    #[track_caller]
    fn check(steps: &[Step]) {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut circuit = Circuit::new(Quarantine {
            failures: 3,
            window: Duration::from_secs(10),
            back_off: Duration::from_secs(1),
            max_back_off: Duration::from_secs(3),
        });
        for (i, step) in steps.iter().enumerate() {
            match *step {
                Admit(ms, want) => assert_eq!(circuit.admit(at(ms)), want, "step {i}: admit at {ms} ms: {circuit:?}"),
                Fail(ms) => circuit.failed(at(ms)),
                Succeed(ms) => circuit.succeeded(at(ms)),
                State(want) => {
                    let state = match circuit.state() {
                        CircuitState::Closed => "closed".to_owned(),
                        CircuitState::Open { until } => format!("open until {}", (until - start).as_millis()),
                        CircuitState::Probation => "probation".to_owned(),
                    };
                    assert_eq!(state, want, "step {i}: {circuit:?}");
                }
            }
        }
    }

    #[test]
    fn walks_from_closed_over_doubling_trials_to_closed() {
        check(&[
            Admit(0, Call),
            Fail(0),
            Fail(1),
            Admit(2, Call),
            Fail(2),
            State("open until 1002"),
            Admit(1001, Refuse),
            Admit(1002, Trial),
            State("probation"),
            Admit(1003, Refuse),
            Fail(1004),
            State("open until 3004"),
            Admit(3003, Refuse),
            Admit(3004, Trial),
            Fail(3004),
            State("open until 6004"),
            Admit(6004, Trial),
            Fail(6004),
            State("open until 9004"),
            Admit(9004, Trial),
            Succeed(9005),
            State("closed"),
            Admit(9005, Call),
            // The back-off starts over, and so does the count.
            Fail(9006),
            Fail(9007),
            State("closed"),
            Fail(9008),
            State("open until 10008"),
        ]);
    }

    #[test]
    fn failures_count_only_within_the_window() {
        check(&[
            Fail(0),
            Fail(5_000),
            Fail(10_000),
            State("closed"),
            Succeed(10_001),
            Fail(14_999),
            State("open until 15999"),
        ]);
    }

    #[test]
    fn outcomes_of_earlier_calls_do_not_move_an_open_circuit() {
        check(&[Fail(0), Fail(0), Fail(0), Fail(500), Succeed(600), State("open until 1000")]);
    }

    #[test]
    fn a_trial_that_never_ends_is_given_up() {
        check(&[Fail(0), Fail(0), Fail(0), Admit(1000, Trial), Admit(1999, Refuse), Admit(2000, Trial)]);
    }
}
