//! What the proxy holds while it lives, and whether that is flat. Judges only what /proc and the metrics say.

use std::fs;
use std::time::Duration;

use super::proxy::Proxy;
use crate::lab::process::{cpu_seconds, resident_kib};
use crate::lab::stats::median;
use crate::run::Failed;

/// Resident memory of the last third of a process's life, as a multiple of that at the end of its first. An allocator of
/// threads that take turns goes up and down by a few percent, and what is freed last goes back last; of half an hour with a
/// thousand requests a second, a leak of twelve bytes a request is more.
pub(super) const RSS: f64 = 1.10;
/// Descriptors more than before the load: a health check or two, and a call of the admin API.
pub(super) const FDS: usize = 4;

/// At one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sample {
    /// Since the load began.
    pub(super) at: Duration,
    pub(super) id: u32,
    pub(super) rss_kib: u64,
    pub(super) fds: usize,
    pub(super) threads: usize,
    /// CPU time so far, in seconds.
    pub(super) cpu: f64,
    /// Requests at endpoints, upgraded connections, and connections of clients.
    pub(super) in_flight: usize,
    pub(super) connections: usize,
}

pub(super) fn take(proxy: &Proxy, at: Duration) -> Result<Sample, Failed> {
    let id = proxy.id;
    let gone = || Failed::new("the proxy is gone");
    let fds = fs::read_dir(format!("/proc/{id}/fd")).map_err(|_| gone())?.count();
    let threads = fs::read_dir(format!("/proc/{id}/task")).map_err(|_| gone())?.count();
    let metrics = proxy.metrics()?;
    let now = |name: &str| sum(&metrics, name) as usize;
    Ok(Sample {
        at,
        id,
        rss_kib: resident_kib(id).ok_or_else(gone)?,
        fds,
        threads,
        cpu: cpu_seconds(id).ok_or_else(gone)?,
        in_flight: now("witgate_endpoint_in_flight") + now("witgate_upgrades_active"),
        connections: now("witgate_downstream_connections_active"),
    })
}

/// The sum of a metric over all of its labels.
pub(super) fn sum(metrics: &str, name: &str) -> f64 {
    let own = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    metrics.lines().filter(own).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// The last process's resident memory in MiB: about the end of the first third of its life, and over the last third.
pub(super) fn resident(samples: &[Sample]) -> (f64, f64) {
    let Some(last) = samples.last() else { return (0.0, 0.0) };
    let own: Vec<&Sample> = samples.iter().filter(|sample| sample.id == last.id).collect();
    let life = own.len();
    let middle = |from: usize, to: usize| median(own[from..to].iter().map(|sample| sample.rss_kib as f64 / 1024.0));
    (middle(life / 4, (life * 5 / 12).max(life / 4 + 1).min(life)), middle(life * 2 / 3, life))
}

/// The share of a core that the last process had.
pub(super) fn share(samples: &[Sample]) -> f64 {
    let Some(last) = samples.last() else { return 0.0 };
    let first = samples.iter().find(|sample| sample.id == last.id).unwrap_or(last);
    (last.cpu - first.cpu) / (last.at - first.at).as_secs_f64().max(0.001)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics() {
        let text = "a{b=\"1\"} 3\na{b=\"2 3\"} 4\nab 9\na 1\n# TYPE a gauge\n";
        assert_eq!((sum(text, "a"), sum(text, "ab"), sum(text, "c")), (8.0, 9.0, 0.0));
    }

    #[test]
    fn of_the_last_process_only() {
        let sample = |at: u64, id, mib: u64| Sample {
            at: Duration::from_secs(at),
            id,
            rss_kib: mib * 1024,
            cpu: at as f64 / 4.0,
            ..Sample::default()
        };
        let mut samples: Vec<Sample> = (0..12).map(|at| sample(at, 1, 500)).collect();
        samples.extend((12..24).map(|at| sample(at, 2, at)));
        assert_eq!(resident(&samples), (15.5, 21.5));
        assert!((share(&samples) - 0.25).abs() < 1e-9);
        assert_eq!(resident(&samples[..1]), (500.0, 500.0));
        assert_eq!(resident(&[]), (0.0, 0.0));
    }
}
