//! Every metric name in one list, and the counters behind them. Recording never takes a lock and never shares a cache
//! line between workers: each worker writes cells of its own, and a scrape adds them up.

pub mod access_log;
pub mod names;
pub mod plugins;
pub mod traces;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::StatusCode;

/// Upper bounds of the latency buckets, in seconds. From a local cache's answer to a route's longest sensible timeout.
pub const LATENCY_BUCKETS: [f64; 16] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The same bounds in microseconds, as they are compared while recording.
const LATENCY_BUCKETS_US: [u64; 16] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 30_000_000,
];

/// Lines of the log that were lost. The process has one log, whatever it serves and however often.
pub static LOG_LINES_DROPPED: AtomicU64 = AtomicU64::new(0);

/// Adds to a cell that only one thread writes: a plain load and store, no locked instruction.
fn add(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
}

/// A latency histogram that one thread writes.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Histogram {
    sum_us: AtomicU64,
    /// Not cumulative; the last one is above every bound.
    buckets: [AtomicU64; LATENCY_BUCKETS.len() + 1],
}

/// What a histogram held when it was read.
#[derive(Debug, Clone, Default)]
pub struct HistogramView {
    /// Not cumulative; the last one is above every bound.
    pub buckets: [u64; LATENCY_BUCKETS.len() + 1],
    /// Of all values, in seconds.
    pub sum: f64,
}

impl Histogram {
    /// Counts one value.
    pub fn record(&self, value: Duration) {
        let us = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BUCKETS_US.partition_point(|bound| *bound < us);
        add(&self.buckets[bucket], 1);
        add(&self.sum_us, us);
    }

    /// Adds what it holds to `view`.
    pub fn add_to(&self, view: &mut HistogramView) {
        for (to, from) in view.buckets.iter_mut().zip(&self.buckets) {
            *to += from.load(Relaxed);
        }
        view.sum += Duration::from_micros(self.sum_us.load(Relaxed)).as_secs_f64();
    }
}

impl HistogramView {
    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// One `T` a worker, made when that worker first needs it.
#[derive(Debug)]
pub struct PerWorker<T>(Box<[OnceLock<Box<Aligned<T>>>]>);

/// Keeps one worker's cells off another worker's cache lines (and off the pair that the prefetcher fetches).
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Aligned<T>(T);

impl<T: Default> PerWorker<T> {
    /// Room for `workers`.
    pub fn new(workers: usize) -> Self {
        Self((0..workers.max(1)).map(|_| OnceLock::new()).collect())
    }

    /// The cells of one worker. A worker number out of range shares the last one's.
    pub fn of(&self, worker: usize) -> &T {
        &self.0[worker.min(self.0.len() - 1)].get_or_init(Box::default).0
    }

    /// The cells of every worker that made some.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(|cell| cell.get()).map(|aligned| &aligned.0)
    }
}

/// What one worker counts for one route. In this order, so that what every request counts is on one cache line but for its
/// bucket: of ten thousand routes asked for in turn none is in the processor's caches.
#[derive(Debug, Default)]
#[repr(C)]
pub struct RouteCells {
    /// By status class: 1xx to 5xx, then everything else (a client that went away before the answer).
    responses: [AtomicU64; 6],
    /// From the request's head to the end of the response.
    latency: Histogram,
}

/// Counters of one route, carried across generations by the route's name.
#[derive(Debug)]
pub struct RouteMetrics {
    /// The route's name; empty for requests that no route matched.
    pub name: Arc<str>,
    cells: PerWorker<RouteCells>,
}

/// Names of the status classes, in the order of the cells.
pub const STATUS_CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "aborted"];

impl RouteMetrics {
    /// For a route of this name.
    pub fn new(name: Arc<str>, workers: usize) -> Arc<Self> {
        Arc::new(Self { name, cells: PerWorker::new(workers) })
    }

    /// Counts a finished request; `status` is none where the client went away before the answer.
    pub fn record(&self, worker: usize, status: Option<StatusCode>, latency: Duration) {
        let cells = self.cells.of(worker);
        let class = status.map_or(5, |s| usize::from(s.as_u16() / 100).saturating_sub(1).min(5));
        add(&cells.responses[class], 1);
        cells.latency.record(latency);
    }

    /// Responses by status class, and the latency.
    pub fn view(&self) -> ([u64; 6], HistogramView) {
        let mut responses = [0; 6];
        let mut latency = HistogramView::default();
        for cells in self.cells.all() {
            for (to, from) in responses.iter_mut().zip(&cells.responses) {
                *to += from.load(Relaxed);
            }
            cells.latency.add_to(&mut latency);
        }
        (responses, latency)
    }
}

/// Counters of one worker that belong to no route.
#[derive(Debug, Default)]
pub struct WorkerCells {
    /// Downstream connections accepted.
    pub accepted: Cell,
    /// Downstream connections that ended.
    pub closed: Cell,
    /// Upstream connections made.
    pub connected: Cell,
    /// Upstream connections that could not be made.
    pub connect_failed: Cell,
    /// Requests that went over a connection that was already there.
    pub reused: Cell,
    /// Requests that were tried again.
    pub retried: Cell,
    /// Those of them that were tried beside a try that went on.
    pub hedged: Cell,
    /// Requests that would have been, had the budget had room.
    pub retries_refused: Cell,
    /// Copies of requests that a mirror answered.
    pub mirrors_sent: Cell,
    /// Copies that it did not answer, or not to the end.
    pub mirrors_failed: Cell,
    /// Copies that were not sent, or not to their end.
    pub mirrors_dropped: Cell,
    /// Connections that went on in another protocol.
    pub upgraded: Cell,
    /// Those of them that ended.
    pub upgrades_ended: Cell,
    /// Accepts that failed (out of file descriptors, for one).
    pub accept_failed: Cell,
    /// Connections that were closed at once, as their client had as many as it may.
    pub clients_refused: Cell,
    /// Connections that did not begin with a header of the PROXY protocol.
    pub proxy_headers_refused: Cell,
    /// Connections that were passed on as a whole.
    pub tcp_opened: Cell,
    /// Those that could not be.
    pub tcp_failed: Cell,
    /// TLS handshakes that were done.
    pub handshakes: Cell,
    /// Those that failed, or were not done in time.
    pub handshakes_failed: Cell,
    /// Those that were not begun, as there were as many as may be.
    pub handshakes_refused: Cell,
    /// Statuses made by the proxy, by reason, in the order of [`crate::reason::Reason::ALL`].
    pub errors: [Cell; 24],
}

/// A counter that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Adds one. Call it from the owning worker only.
    pub fn up(&self) {
        add(&self.0, 1);
    }

    /// The count.
    pub fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Everything that outlives a generation and is counted.
#[derive(Debug)]
pub struct Telemetry {
    /// How many workers there are.
    pub workers: usize,
    /// By worker.
    pub cells: PerWorker<WorkerCells>,
    /// Requests that no route matched.
    pub unrouted: Arc<RouteMetrics>,
    /// Of plugin versions.
    pub plugins: plugins::PluginStats,
}

impl Telemetry {
    /// For so many workers.
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            workers,
            cells: PerWorker::new(workers),
            unrouted: RouteMetrics::new(Arc::from(""), workers),
            plugins: plugins::PluginStats::default(),
        })
    }

    /// Adds up one counter over all workers.
    pub fn sum(&self, read: impl Fn(&WorkerCells) -> u64) -> u64 {
        self.cells.all().map(read).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_puts_each_value_into_the_bucket_whose_bound_it_does_not_exceed() {
        let cases = [(0, 0), (250, 0), (251, 1), (1_000, 2), (30_000_000, 15), (30_000_001, 16)];
        for (us, bucket) in cases {
            let histogram = Histogram::default();
            histogram.record(Duration::from_micros(us));
            let mut view = HistogramView::default();
            histogram.add_to(&mut view);
            assert_eq!(view.buckets.iter().position(|n| *n == 1), Some(bucket), "{us} µs");
        }
    }

    #[test]
    fn a_route_adds_up_what_each_worker_counted() {
        let metrics = RouteMetrics::new(Arc::from("r"), 2);
        metrics.record(0, Some(StatusCode::OK), Duration::from_millis(1));
        metrics.record(1, Some(StatusCode::BAD_GATEWAY), Duration::from_millis(2));
        metrics.record(1, None, Duration::from_millis(3));
        let (responses, latency) = metrics.view();
        assert_eq!(responses, [0, 1, 0, 0, 1, 1]);
        assert_eq!(latency.count(), 3);
        assert!((latency.sum - 0.006).abs() < 1e-9, "{latency:?}");
    }
}
