//! `GET /metrics`: counters are read, and added up over the workers, at the moment of the scrape. Keeps nothing of its
//! own and takes no lock that a worker could want.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use http::StatusCode;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};
use witgate_core::{
    endpoint::{Endpoint, State},
    rollout::CircuitState,
};
use witgate_policy::{Failure, Plugin, Question, QuestionStats};

use super::{
    process::Process,
    reply::{self, ApiError, Reply},
};
use crate::{
    control::Control,
    drain::Phase,
    generation::Generation,
    reason::Reason,
    telemetry::{
        HistogramView, LATENCY_BUCKETS, LOG_LINES_DROPPED, RouteMetrics, STATUS_CLASSES, Telemetry, WorkerCells,
        names::{self, Kind, Metric},
    },
};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the buckets of plugin calls, in nanoseconds: from a call that only reads a field to one that is far
/// over any sensible budget.
const CALL_BUCKETS: [u64; 14] = [
    500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_000_000, 5_000_000,
    20_000_000,
];

/// A scrape.
pub(super) fn show(control: &Arc<Control>) -> Result<Reply, ApiError> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape {
        generation: control.live.load(),
        telemetry: Arc::clone(&control.telemetry),
        draining: control.drain.phase() >= Phase::Drain,
        reloads: (control.reloads.applied.load(Relaxed), control.reloads.refused.load(Relaxed)),
        access_log: control.access_logs.counts().read(),
        spans: control.spans.read(),
        now: Instant::now(),
    }));
    let mut page = String::new();
    text::encode(&mut page, &registry)
        .map_err(|error| ApiError::internal(format!("the metrics cannot be written: {error}")))?;
    Ok(reply::text(StatusCode::OK, OPEN_METRICS, page))
}

/// What one scrape looks at: one generation, so that it is of one piece.
struct Scrape {
    generation: Arc<Generation>,
    telemetry: Arc<Telemetry>,
    draining: bool,
    /// Applied and refused.
    reloads: (u64, u64),
    /// Lines that were written, lines that were lost, and writes that failed.
    access_log: (u64, u64, u64),
    /// Spans that were sent, and that were lost.
    spans: (u64, u64),
    now: Instant,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let page = &mut Page(&mut encoder);
        self.proxy(page)?;
        self.routes(page)?;
        self.connections(page)?;
        self.endpoints(page)?;
        self.plugins(page)?;
        process(page, &Process::read())
    }
}

impl Scrape {
    fn proxy(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        page.family(names::BUILD_INFO, [([("version", env!("CARGO_PKG_VERSION"))], 1_u64)], gauge)?;
        page.one(names::GENERATION, Some(self.generation.serial), gauge)?;
        page.one(names::DRAINING, Some(u64::from(self.draining)), gauge)?;
        page.one(names::WORKERS, Some(self.telemetry.workers as u64), gauge)?;
        page.one(names::LOG_LINES_DROPPED, Some(LOG_LINES_DROPPED.load(Relaxed)), counter)?;
        let (written, dropped, failed) = self.access_log;
        page.one(names::ACCESS_LOG_LINES, Some(written), counter)?;
        page.one(names::ACCESS_LOG_DROPPED, Some(dropped), counter)?;
        page.one(names::ACCESS_LOG_ERRORS, Some(failed), counter)?;
        page.one(names::SPANS, Some(self.spans.0), counter)?;
        page.one(names::SPANS_DROPPED, Some(self.spans.1), counter)?;
        let reloads = [("applied", self.reloads.0), ("refused", self.reloads.1)];
        page.family(names::CONFIG_RELOADS, reloads.map(|(outcome, n)| ([("outcome", outcome)], n)), counter)?;
        let errors = Reason::ALL.into_iter().map(|reason| {
            let count = |cells: &WorkerCells| cells.errors.get(reason as usize).map_or(0, |cell| cell.read());
            ([("reason", reason.word())], self.telemetry.sum(count))
        });
        page.family(names::ERRORS, errors, counter)
    }

    fn routes(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let plans = self.generation.routes.plans.iter().map(|plan| &*plan.metrics);
        let views: Vec<(&RouteMetrics, [u64; 6], HistogramView)> = plans
            .chain([&*self.telemetry.unrouted])
            .map(|metrics| {
                let (responses, latency) = metrics.view();
                (metrics, responses, latency)
            })
            .collect();
        let requests = views.iter().flat_map(|(metrics, responses, _)| {
            let labels = |class| [("route", &*metrics.name), ("code_class", class)];
            STATUS_CLASSES.into_iter().zip(responses).map(move |(class, n)| (labels(class), *n))
        });
        page.family(names::REQUESTS, requests, counter)?;
        let latencies = views.iter().map(|(metrics, _, latency)| ([("route", &*metrics.name)], buckets_of(latency)));
        page.family(names::REQUEST_DURATION, latencies, histogram)
    }

    fn connections(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let sum = |read: fn(&WorkerCells) -> u64| Some(self.telemetry.sum(read));
        // Closed is read first, so that the difference is never negative.
        let closed = self.telemetry.sum(|cells| cells.closed.read());
        let accepted = self.telemetry.sum(|cells| cells.accepted.read());
        page.one(names::DOWNSTREAM_CONNECTIONS, Some(accepted), counter)?;
        page.one(names::DOWNSTREAM_CONNECTIONS_ACTIVE, Some(accepted.saturating_sub(closed)), gauge)?;
        page.one(names::DOWNSTREAM_ACCEPT_FAILURES, sum(|cells| cells.accept_failed.read()), counter)?;
        page.one(names::DOWNSTREAM_CLIENTS_REFUSED, sum(|cells| cells.clients_refused.read()), counter)?;
        page.one(names::PROXY_HEADERS_REFUSED, sum(|cells| cells.proxy_headers_refused.read()), counter)?;
        let tcp = [("opened", sum(|cells| cells.tcp_opened.read())), ("failed", sum(|cells| cells.tcp_failed.read()))];
        let tcp = tcp.into_iter().filter_map(|(outcome, n)| Some(([("outcome", outcome)], n?)));
        page.family(names::TCP_CONNECTIONS, tcp, counter)?;
        page.one(names::TLS_HANDSHAKES, sum(|cells| cells.handshakes.read()), counter)?;
        page.one(names::TLS_HANDSHAKES_FAILED, sum(|cells| cells.handshakes_failed.read()), counter)?;
        page.one(names::TLS_HANDSHAKES_REFUSED, sum(|cells| cells.handshakes_refused.read()), counter)?;
        let servers = self.generation.tls.servers.iter();
        let expiries = servers.map(|(listener, server)| ([("listener", listener)], server.not_after as f64));
        page.family(names::TLS_CERTIFICATE_EXPIRY, expiries, gauge)?;
        let ended = self.telemetry.sum(|cells| cells.upgrades_ended.read());
        let upgraded = self.telemetry.sum(|cells| cells.upgraded.read());
        page.one(names::UPGRADES, Some(upgraded), counter)?;
        page.one(names::UPGRADES_ACTIVE, Some(upgraded.saturating_sub(ended)), gauge)?;
        page.one(names::UPSTREAM_CONNECTIONS, sum(|cells| cells.connected.read()), counter)?;
        page.one(names::UPSTREAM_CONNECT_FAILURES, sum(|cells| cells.connect_failed.read()), counter)?;
        page.one(names::UPSTREAM_REUSED, sum(|cells| cells.reused.read()), counter)?;
        page.one(names::UPSTREAM_RETRIES, sum(|cells| cells.retried.read()), counter)?;
        page.one(names::UPSTREAM_HEDGES, sum(|cells| cells.hedged.read()), counter)?;
        page.one(names::UPSTREAM_RETRIES_REFUSED, sum(|cells| cells.retries_refused.read()), counter)?;
        let mirrors = [
            ("sent", self.telemetry.sum(|cells| cells.mirrors_sent.read())),
            ("failed", self.telemetry.sum(|cells| cells.mirrors_failed.read())),
            ("dropped", self.telemetry.sum(|cells| cells.mirrors_dropped.read())),
        ];
        let mirrors = mirrors.map(|(outcome, count)| ([("outcome", outcome)], count));
        page.family(names::MIRROR_REQUESTS, mirrors, counter)
    }

    /// Every endpoint of every cluster, with its labels.
    fn each_endpoint(&self) -> impl Iterator<Item = ([(&'static str, &str); 2], &Arc<Endpoint>)> {
        self.generation.clusters.iter().flat_map(|cluster| {
            let labels = |address| [("cluster", cluster.config.name.as_str()), ("endpoint", address)];
            cluster.endpoints.iter().map(move |endpoint| (labels(endpoint.address()), endpoint))
        })
    }

    fn endpoints(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let all = || self.each_endpoint();
        page.family(names::ENDPOINT_IN_FLIGHT, all().map(|(l, e)| (l, u64::from(e.in_flight()))), gauge)?;
        let measured = all().filter(|(_, e)| e.latency_ms() > 0.0);
        page.family(names::ENDPOINT_LATENCY, measured.map(|(l, e)| (l, f64::from(e.latency_ms()) / 1e3)), gauge)?;
        page.family(names::ENDPOINT_REQUESTS, all().map(|(l, e)| (l, e.requests())), counter)?;
        page.family(names::ENDPOINT_FAILURES, all().map(|(l, e)| (l, e.failures())), counter)?;
        let weights = self.generation.clusters.iter().flat_map(|cluster| {
            let picker = cluster.picker(self.now);
            let name = cluster.config.name.as_str();
            cluster.endpoints.iter().enumerate().map(move |(index, endpoint)| {
                ([("cluster", name), ("endpoint", endpoint.address())], f64::from(picker.effective_weight(index)))
            })
        });
        page.family(names::ENDPOINT_EFFECTIVE_WEIGHT, weights, gauge)?;
        self.health(page)
    }

    fn health(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let all = || self.each_endpoint();
        let draining = all().map(|(l, e)| (l, u64::from(e.state() == State::Draining)));
        page.family(names::ENDPOINT_DRAINING, draining, gauge)?;
        page.family(names::ENDPOINT_HEALTHY, all().map(|(l, e)| (l, u64::from(e.health().is_up()))), gauge)?;
        page.family(names::ENDPOINT_CHECKS, all().map(|(l, e)| (l, e.checks().0)), counter)?;
        page.family(names::ENDPOINT_CHECK_FAILURES, all().map(|(l, e)| (l, e.checks().1)), counter)?;
        let ejected = all().map(|(l, e)| (l, u64::from(e.ejected_until().is_some())));
        page.family(names::ENDPOINT_EJECTED, ejected, gauge)?;
        page.family(names::ENDPOINT_EJECTIONS, all().map(|(l, e)| (l, e.ejections())), counter)?;
        let panics = self.generation.clusters.iter();
        let panics = panics.map(|c| ([("cluster", c.config.name.as_str())], u64::from(c.native.is_panicking())));
        page.family(names::CLUSTER_PANIC, panics, gauge)?;
        let circuits = || {
            let clusters = self.generation.clusters.iter();
            clusters.filter_map(|c| {
                let circuit = c.circuit.as_ref()?;
                Some(([("cluster", c.config.name.as_str())], circuit.connections()?, circuit.pending()))
            })
        };
        page.family(names::CLUSTER_CONNECTIONS, circuits().map(|(l, open, _)| (l, u64::from(open))), gauge)?;
        page.family(names::CLUSTER_PENDING, circuits().map(|(l, _, pending)| (l, u64::from(pending))), gauge)
    }

    fn plugins(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let live: Vec<(&Plugin, String)> = self
            .generation
            .plugins
            .values()
            .filter_map(|slot| slot.live.as_deref())
            .map(|plugin| (plugin, plugin.version().to_string()))
            .collect();
        let stats: Vec<([(&str, &str); 3], QuestionStats)> = live
            .iter()
            .flat_map(|(plugin, version)| {
                Question::ALL.into_iter().filter(|question| plugin.exports().answers(*question)).map(|question| {
                    let labels =
                        [("plugin", plugin.name()), ("version", version.as_str()), ("question", question.name())];
                    (labels, plugin.stats().question(question))
                })
            })
            .collect();
        page.family(names::PLUGIN_CALLS, stats.iter().map(|(labels, stats)| (*labels, stats.calls)), counter)?;
        let fallbacks = stats.iter().flat_map(|([plugin, version, question], stats)| {
            let labels = |kind| [*plugin, *version, *question, ("reason", kind)];
            Failure::KINDS.into_iter().zip(stats.fallbacks).map(move |(kind, n)| (labels(kind), n))
        });
        page.family(names::PLUGIN_FALLBACKS, fallbacks, counter)?;
        page.family(names::PLUGIN_DURATION, stats.iter().map(|(labels, stats)| (*labels, calls(stats))), histogram)?;
        let each = || {
            live.iter().map(|(plugin, version)| ([("plugin", plugin.name()), ("version", version.as_str())], *plugin))
        };
        let cut_off = |plugin: &Plugin| u64::from(plugin.circuit_state() != CircuitState::Closed);
        page.family(names::PLUGIN_QUARANTINED, each().map(|(labels, plugin)| (labels, cut_off(plugin))), gauge)?;
        page.family(names::PLUGIN_MEMORY, each().map(|(labels, plugin)| (labels, plugin.stats().memory())), gauge)?;
        let broken = self.generation.plugins.iter();
        let broken = broken.map(|(name, slot)| ([("plugin", name.as_str())], u64::from(slot.broken.is_some())));
        page.family(names::PLUGIN_BROKEN, broken, gauge)
    }
}

fn process(page: &mut Page<'_, '_>, process: &Process) -> fmt::Result {
    page.one(names::PROCESS_CPU, process.cpu_seconds, counter)?;
    page.one(names::PROCESS_RESIDENT, process.resident_bytes, gauge)?;
    page.one(names::PROCESS_VIRTUAL, process.virtual_bytes, gauge)?;
    page.one(names::PROCESS_THREADS, process.threads, gauge)?;
    page.one(names::PROCESS_FDS, process.open_fds, gauge)?;
    page.one(names::PROCESS_MAX_FDS, process.max_fds, gauge)?;
    page.one(names::PROCESS_START, process.started, gauge)
}

/// The page that is written.
struct Page<'p, 'e>(&'p mut DescriptorEncoder<'e>);

impl Page<'_, '_> {
    fn describe(&mut self, metric: Metric) -> Result<MetricEncoder<'_>, fmt::Error> {
        let kind = match metric.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        // The encoder appends the suffix itself.
        let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
        self.0.encode_descriptor(name, metric.help, None, kind)
    }

    /// A metric without labels; absent where there is no value.
    fn one<V>(
        &mut self,
        metric: Metric,
        value: Option<V>,
        write: impl Fn(MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let Some(value) = value else { return Ok(()) };
        write(self.describe(metric)?, value)
    }

    /// A metric with one value for each set of labels.
    fn family<const N: usize, V>(
        &mut self,
        metric: Metric,
        values: impl IntoIterator<Item = ([(&'static str, impl AsRef<str>); N], V)>,
        write: impl Fn(MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let mut encoder = self.describe(metric)?;
        for (labels, value) in values {
            let labels = labels.each_ref().map(|(name, value)| (*name, value.as_ref()));
            write(encoder.encode_family(&labels)?, value)?;
        }
        Ok(())
    }
}

fn counter<V: EncodeCounterValue>(mut encoder: MetricEncoder<'_>, value: V) -> fmt::Result {
    encoder.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn gauge<V: EncodeGaugeValue>(mut encoder: MetricEncoder<'_>, value: V) -> fmt::Result {
    encoder.encode_gauge(&value)
}

/// Buckets (not cumulative, with their upper bounds), and the sum of all values in seconds.
struct Buckets(Vec<(f64, u64)>, f64);

fn histogram(mut encoder: MetricEncoder<'_>, Buckets(buckets, sum): Buckets) -> fmt::Result {
    let count = buckets.iter().map(|(_, n)| n).sum();
    encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}

fn buckets_of(view: &HistogramView) -> Buckets {
    let bounds = LATENCY_BUCKETS.into_iter().chain([f64::INFINITY]);
    Buckets(bounds.zip(view.buckets).collect(), view.sum)
}

fn calls(stats: &QuestionStats) -> Buckets {
    let mut below = 0;
    let mut buckets: Vec<(f64, u64)> = CALL_BUCKETS
        .into_iter()
        .map(|bound| {
            let within = stats.within(Duration::from_nanos(bound));
            let here = within - below;
            below = within;
            (Duration::from_nanos(bound).as_secs_f64(), here)
        })
        .collect();
    buckets.push((f64::INFINITY, stats.calls.saturating_sub(below)));
    Buckets(buckets, stats.total.as_secs_f64())
}
