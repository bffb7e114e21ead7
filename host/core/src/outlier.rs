//! Which endpoints passive health takes out, and for how long. Judges what was counted; never counts and never ejects.

use std::time::Duration;

use crate::{
    config::Outlier,
    endpoint::{Cause, Counts, Latencies},
    hash::fraction,
};

/// An ejection is up to this much longer, at random, so that endpoints that went together do not return together.
const JITTER: f64 = 0.1;

/// Whether so many failures in a row are too many.
pub fn by_row(rules: &Outlier, counts: Counts) -> Option<Cause> {
    let reached = |limit: u32, count: u16| limit > 0 && u32::from(count) >= limit;
    if reached(rules.consecutive_gateway, counts.gateway_errors) {
        Some(Cause::ConsecutiveGateway)
    } else if reached(rules.consecutive_5xx, counts.server_errors) {
        Some(Cause::Consecutive5xx)
    } else if reached(rules.consecutive_local, counts.local) {
        Some(Cause::ConsecutiveLocal)
    } else {
        None
    }
}

/// What an endpoint did in an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// Tries that ended.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
}

impl Interval {
    fn success_rate(self) -> f64 {
        1.0 - self.failures as f64 / self.requests as f64
    }
}

/// Who is to be ejected for its rate; indices of `endpoints`, which are those that may be picked. Envoy's rules.
pub fn by_rate(rules: &Outlier, endpoints: &[Interval]) -> Vec<(usize, Cause)> {
    let busy = |requests: u32| {
        let enough = move |(_, e): &(usize, &Interval)| e.requests > 0 && e.requests >= u64::from(requests);
        endpoints.iter().enumerate().filter(enough).map(|(i, e)| (i, *e)).collect::<Vec<_>>()
    };
    let mut out = Vec::new();
    if let Some(rule) = rules.success_rate {
        let busy = busy(rule.min_requests);
        if busy.len() >= rule.min_hosts as usize && !busy.is_empty() {
            let count = busy.len() as f64;
            let mean = busy.iter().map(|(_, e)| e.success_rate()).sum::<f64>() / count;
            let variance = busy.iter().map(|(_, e)| (e.success_rate() - mean).powi(2)).sum::<f64>() / count;
            let least = mean - variance.sqrt() * rule.stdev_factor;
            let far = busy.iter().filter(|(_, e)| e.success_rate() < least);
            out.extend(far.map(|(i, _)| (*i, Cause::SuccessRate)));
        }
    }
    if let Some(rule) = rules.failure_percentage {
        let busy = busy(rule.min_requests);
        if busy.len() >= rule.min_hosts as usize {
            let bad = |e: &Interval| e.failures * 100 >= e.requests * u64::from(rule.threshold);
            let new = |i: &usize| !out.iter().any(|(known, _)| known == i);
            let bad: Vec<_> = busy.iter().filter(|(i, e)| bad(e) && new(i)).map(|(i, _)| *i).collect();
            out.extend(bad.into_iter().map(|i| (i, Cause::FailurePercentage)));
        }
    }
    out
}

/// Who is to be ejected for its latency, the slowest first; indices of `endpoints`, which are what those that may be picked
/// took in an interval. Whoever is slow where all are slow is not to blame: the p99 must be above the configured one and
/// above `factor` times the median of the p99s of all that had enough responses, of which there must be `min_hosts`. Of an
/// even number of them the lower one in the middle is the median, so that one of two can be told from the other.
pub fn by_latency(rules: &Outlier, endpoints: &[Latencies]) -> Vec<(usize, Cause)> {
    let Some(rule) = rules.latency else { return Vec::new() };
    let enough = |(_, latencies): &(usize, &Latencies)| latencies.count() >= u64::from(rule.min_requests);
    let busy = endpoints.iter().enumerate().filter(enough);
    let mut busy: Vec<(usize, Duration)> = busy.filter_map(|(i, e)| Some((i, e.quantile(0.99)?))).collect();
    if busy.is_empty() || busy.len() < rule.min_hosts as usize {
        return Vec::new();
    }
    busy.sort_by_key(|(_, p99)| *p99);
    let (_, median) = busy[(busy.len() - 1) / 2];
    let most = rule.p99.max(median.mul_f64(rule.factor));
    let slow = busy.iter().rev().take_while(|(_, p99)| *p99 > most);
    slow.map(|(i, _)| (*i, Cause::Latency)).collect()
}

/// Whether one more of `endpoints` may be ejected where `ejected` are: the percentage holds with it included.
pub fn may_eject(rules: &Outlier, endpoints: usize, ejected: usize) -> bool {
    (ejected + 1) * 100 <= endpoints * rules.max_ejection_percent as usize
}

/// How long an endpoint is ejected that was ejected `severity` times before, not counting those long ago. `random` is any
/// 64 bits.
pub fn duration(rules: &Outlier, severity: u32, random: u64) -> Duration {
    let whole = rules.base_ejection.saturating_mul(severity.saturating_add(1)).min(rules.max_ejection);
    whole.mul_f64(1.0 + JITTER * fraction(random))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FailurePercentage, Latency, SuccessRate};

    fn rules() -> Outlier {
        let seconds = Duration::from_secs;
        Outlier {
            consecutive_5xx: 5,
            consecutive_gateway: 0,
            consecutive_local: 3,
            interval: seconds(10),
            base_ejection: seconds(30),
            max_ejection: seconds(100),
            max_ejection_percent: 10,
            success_rate: None,
            failure_percentage: None,
            latency: None,
        }
    }

    fn counts(server_errors: u16, gateway_errors: u16, local: u16) -> Counts {
        Counts { server_errors, gateway_errors, local }
    }

    #[test]
    fn a_row_of_failures_is_one_too_many_at_its_limit() {
        let rules = rules();
        assert_eq!(by_row(&rules, counts(4, 4, 2)), None);
        assert_eq!(by_row(&rules, counts(5, 5, 0)), Some(Cause::Consecutive5xx), "gateway is off");
        assert_eq!(by_row(&rules, counts(0, 0, 3)), Some(Cause::ConsecutiveLocal));
        let rules = Outlier { consecutive_gateway: 2, consecutive_5xx: 0, ..rules };
        assert_eq!(by_row(&rules, counts(9, 1, 0)), None);
        assert_eq!(by_row(&rules, counts(9, 2, 0)), Some(Cause::ConsecutiveGateway));
    }

    #[track_caller]
    fn check_percentage(percent: u32, endpoints: usize, most: usize) {
        let rules = Outlier { max_ejection_percent: percent, ..rules() };
        let ejected = (0..endpoints).take_while(|ejected| may_eject(&rules, endpoints, *ejected)).count();
        assert_eq!(ejected, most, "{percent} % of {endpoints}");
    }

    #[test]
    fn the_percentage_holds_with_the_one_that_is_ejected() {
        for (percent, of_1, of_2, of_3, of_10) in [
            (0, 0, 0, 0, 0),
            (10, 0, 0, 0, 1),
            (33, 0, 0, 0, 3),
            (34, 0, 0, 1, 3),
            (50, 0, 1, 1, 5),
            (67, 0, 1, 2, 6),
            (99, 0, 1, 2, 9),
            (100, 1, 2, 3, 10),
        ] {
            check_percentage(percent, 1, of_1);
            check_percentage(percent, 2, of_2);
            check_percentage(percent, 3, of_3);
            check_percentage(percent, 10, of_10);
        }
    }

    #[track_caller]
    fn check_rates(rules: &Outlier, endpoints: &[(u64, u64)], want: &[(usize, Cause)]) {
        let all: Vec<_> = endpoints.iter().map(|&(requests, failures)| Interval { requests, failures }).collect();
        assert_eq!(by_rate(rules, &all), want, "{endpoints:?}");
    }

    #[test]
    fn a_rate_is_judged_by_the_others_or_by_itself() {
        let none = rules();
        check_rates(&none, &[(100, 100); 9], &[]);
        let by_others = SuccessRate { stdev_factor: 1.9, min_hosts: 5, min_requests: 100 };
        let by_others = Outlier { success_rate: Some(by_others), ..rules() };
        let good = (1000, 10);
        check_rates(&by_others, &[good, good, good, good, good, (1000, 300)], &[(5, Cause::SuccessRate)]);
        check_rates(&by_others, &[good, good, good, (1000, 300)], &[]);
        check_rates(&by_others, &[good, good, good, good, (99, 99), (0, 0)], &[]);
        check_rates(&by_others, &[good; 6], &[]);
        let by_itself = FailurePercentage { threshold: 85, min_hosts: 2, min_requests: 50 };
        let both = Outlier { failure_percentage: Some(by_itself), ..by_others };
        check_rates(&both, &[good, (100, 85), (100, 84), (49, 49)], &[(1, Cause::FailurePercentage)]);
        check_rates(&both, &[good, good, good, good, good, (1000, 900)], &[(5, Cause::SuccessRate)]);
        check_rates(&both, &[(100, 100)], &[]);
    }

    /// Each endpoint is so many responses of so many milliseconds, and as one of a hundred of them so many others.
    #[track_caller]
    fn check_latencies(rules: &Outlier, endpoints: &[(u64, u64, u64)], want: &[usize]) {
        let of = |&(count, most, few): &(u64, u64, u64)| {
            Latencies::of((0..count).map(|n| Duration::from_millis(if n % 100 < 98 { most } else { few })))
        };
        let all: Vec<_> = endpoints.iter().map(of).collect();
        let want: Vec<_> = want.iter().map(|&i| (i, Cause::Latency)).collect();
        assert_eq!(by_latency(rules, &all), want, "{endpoints:?}");
    }

    #[test]
    fn who_is_slow_is_ejected_where_not_all_are() {
        let quick = (100, 10, 20);
        check_latencies(&rules(), &[quick, quick, quick, quick, (100, 1000, 1000)], &[]);
        let rule = Latency { p99: Duration::from_millis(100), factor: 3.0, min_hosts: 3, min_requests: 100 };
        let on = Outlier { latency: Some(rule), ..rules() };
        check_latencies(&on, &[quick, (100, 10, 200), quick], &[1]);
        check_latencies(&on, &[(100, 10, 500), quick, quick, quick, (100, 700, 700)], &[4, 0]);
        check_latencies(&on, &[quick, quick, (100, 10, 90)], &[]);
        check_latencies(&on, &[quick, (100, 10, 200)], &[]);
        check_latencies(&on, &[quick, quick, (99, 200, 200)], &[]);
        check_latencies(&on, &[quick, (99, 10, 10), (100, 200, 200)], &[]);
        check_latencies(&on, &[(100, 200, 200); 3], &[]);
        check_latencies(&on, &[(100, 200, 200), (100, 250, 250), (100, 500, 500)], &[]);
        check_latencies(&on, &[(100, 200, 200), (100, 250, 250), (100, 900, 900)], &[2]);
        let two = Outlier { latency: Some(Latency { min_hosts: 2, ..rule }), ..rules() };
        check_latencies(&two, &[quick, (100, 10, 200)], &[1]);
        let one = Outlier { latency: Some(Latency { min_hosts: 1, ..rule }), ..rules() };
        check_latencies(&one, &[(100, 900, 900)], &[]);
        check_latencies(&one, &[], &[]);
    }

    #[test]
    fn each_ejection_is_longer_than_the_last_up_to_the_longest() {
        let rules = rules();
        let seconds = |severity, random| duration(&rules, severity, random).as_secs_f64();
        assert_eq!([0, 1, 2, 3, u32::MAX].map(|severity| seconds(severity, 0)), [30.0, 60.0, 90.0, 100.0, 100.0]);
        assert!((32.9..=33.0).contains(&seconds(0, u64::MAX)));
    }
}
