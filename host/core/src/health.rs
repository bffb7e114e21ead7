//! Results of active checks to a state: so many in a row turn it, and a wish to leave counts at once. Never makes a check.

use std::time::Duration;

use crate::{
    config,
    endpoint::{Checked, Health},
    hash::fraction,
};

/// One endpoint's checks.
#[derive(Debug, Clone, Copy)]
pub struct Checks {
    health: Health,
    /// Results in a row that contradict the state.
    against: u32,
    /// Whether the endpoint has said that it takes no new requests, and not passed a check since.
    leaving: bool,
}

impl Checks {
    /// Goes on from a state, and from whether the endpoint has said that it takes no new requests.
    pub fn new(health: Health, leaving: bool) -> Self {
        Self { health, against: 0, leaving }
    }

    /// What the results so far say.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Whether the endpoint takes no new requests. It says so at once, and until it passes a check: one that fails is no
    /// sign that it has changed its mind.
    pub fn leaving(&self) -> bool {
        self.leaving
    }

    /// A check ended. The first of all decides at once: an endpoint that nobody has asked yet has no state to lose. A wish
    /// to leave is neither a success nor a failure, and no row of either begins or ends with it.
    pub fn observe(&mut self, checked: Checked, rules: &config::Health) -> Health {
        let result = match checked {
            Checked::Well => Health::Healthy,
            Checked::Ill => Health::Unhealthy,
            Checked::Leaving => {
                self.leaving = true;
                return self.health;
            }
        };
        self.leaving &= checked != Checked::Well;
        let needed = match self.health {
            Health::Unchecked | Health::Waiting => 1,
            Health::Healthy => rules.fall,
            Health::Unhealthy => rules.rise,
        };
        self.against = if result == self.health { 0 } else { self.against + 1 };
        if self.against >= needed {
            (self.health, self.against) = (result, 0);
        }
        self.health
    }

    /// How long until the next check. `random` is any 64 bits.
    pub fn pause(&self, rules: &config::Health, random: u64) -> Duration {
        let interval = match self.health {
            _ if self.against > 0 => rules.fast_interval,
            Health::Unhealthy => rules.down_interval,
            _ => rules.interval,
        };
        interval.mul_f64(1.0 + f64::from(rules.jitter_percent) / 100.0 * (2.0 * fraction(random) - 1.0))
    }
}

/// When the first check is made, after an endpoint has come: spread over the interval, but no more than a second, which
/// the endpoint may be waiting for.
pub fn first_pause(rules: &config::Health, random: u64) -> Duration {
    rules.interval.min(Duration::from_secs(1)).mul_f64(fraction(random))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Probe;

    fn rules() -> config::Health {
        let seconds = Duration::from_secs;
        config::Health {
            probe: Probe::Tcp { send: None, expect: None },
            interval: seconds(10),
            timeout: seconds(1),
            rise: 2,
            fall: 3,
            fast_interval: seconds(1),
            down_interval: seconds(5),
            jitter_percent: 10,
        }
    }

    /// `+` is a success, `-` a failure and `~` a wish to leave; `U`, `D` and `W` are what is then said of the endpoint, in
    /// lower case where it is leaving.
    #[track_caller]
    fn check(from: Health, script: &str) {
        let (rules, mut checks) = (rules(), Checks::new(from, false));
        for (n, pair) in script.as_bytes().chunks(2).enumerate() {
            let checked = match pair[0] {
                b'+' => Checked::Well,
                b'-' => Checked::Ill,
                _ => Checked::Leaving,
            };
            let want = match pair[1].to_ascii_uppercase() {
                b'U' => Health::Healthy,
                b'D' => Health::Unhealthy,
                _ => Health::Waiting,
            };
            let got = (checks.observe(checked, &rules), checks.leaving());
            assert_eq!(got, (want, pair[1].is_ascii_lowercase()), "result {n} of {script}, from {from:?}");
        }
    }

    #[test]
    fn so_many_in_a_row_turn_the_state() {
        check(Health::Healthy, "-U-U-D");
        check(Health::Healthy, "-U-U+U-U-U-D-D");
        check(Health::Unhealthy, "+D+U");
        check(Health::Unhealthy, "+D-D+D+U-U-U-D");
    }

    #[test]
    fn the_first_result_decides_at_once() {
        for new in [Health::Unchecked, Health::Waiting] {
            check(new, "+U-U-U-D");
            check(new, "-D+D+U");
        }
    }

    #[test]
    fn a_wish_to_leave_counts_at_once_and_until_a_success() {
        check(Health::Healthy, "~u~u+U~u");
        check(Health::Healthy, "~u-u-u-d~d+D+U");
        check(Health::Healthy, "-U~u-u-d");
        check(Health::Waiting, "~w~w+U");
        check(Health::Waiting, "~w-d+D+U");
    }

    #[test]
    fn pauses_follow_the_state_and_differ() {
        let (rules, mut checks) = (rules(), Checks::new(Health::Healthy, false));
        let middle = 1 << 63;
        assert_eq!(checks.pause(&rules, middle), Duration::from_secs(10));
        assert_eq!(checks.pause(&rules, 0), Duration::from_secs(9));
        assert!((10.9..=11.0).contains(&checks.pause(&rules, u64::MAX).as_secs_f64()));
        checks.observe(Checked::Ill, &rules);
        assert_eq!(checks.pause(&rules, middle), Duration::from_secs(1), "it may be changing");
        (0..2).for_each(|_| _ = checks.observe(Checked::Ill, &rules));
        assert_eq!(checks.pause(&rules, middle), Duration::from_secs(5), "it is down");
        checks.observe(Checked::Well, &rules);
        assert_eq!(checks.pause(&rules, middle), Duration::from_secs(1), "it may be changing back");
        assert_eq!(first_pause(&rules, middle), Duration::from_millis(500));
        let quick = config::Health { interval: Duration::from_millis(100), ..rules };
        assert_eq!(first_pause(&quick, middle), Duration::from_millis(50));
    }
}
