//! Spans of requests, sent to a collector of OpenTelemetry by a thread of its own. Workers hand over and never wait: where the
//! collector is slow or gone, spans are lost and counted.

mod client;

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanExporter as _},
};
use tokio::{
    runtime::Builder,
    sync::{
        Notify,
        mpsc::{self, Receiver, Sender},
    },
};
use witgate_core::{config, split::is_sampled};

use client::Client;

/// Spans that may wait, and that are sent at once, at the most: the defaults of OpenTelemetry's batch processor.
const QUEUE: usize = 2048;
const BATCH: usize = 512;

/// How long spans wait for others to join them.
const GATHER: Duration = Duration::from_secs(1);

/// How long a collector may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long an end waits for spans to be sent.
const END: Duration = Duration::from_secs(1);

/// How long the loss of spans is not told again.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What became of spans, over all collectors of a proxy.
#[derive(Debug, Default)]
pub struct Counts {
    handed: AtomicU64,
    sent: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    /// Spans that a collector took, and those that were lost.
    pub fn read(&self) -> (u64, u64) {
        (self.sent.load(Relaxed), self.dropped.load(Relaxed))
    }

    fn waits(&self) -> bool {
        let (sent, dropped) = self.read();
        self.handed.load(Relaxed) > sent + dropped
    }
}

/// A collector, and the thread that sends to it. That ends, once it has sent what waits, when this is dropped.
pub struct Traces {
    config: config::Traces,
    queue: Sender<SpanData>,
    /// Told when nothing is to wait any longer.
    hurry: Arc<Notify>,
    counts: Arc<Counts>,
    scope: InstrumentationScope,
}

/// Why there are no traces.
#[derive(Debug, thiserror::Error)]
#[error("spans cannot be sent to {collector}: {why}")]
pub struct TracesError {
    collector: String,
    why: String,
}

impl Traces {
    /// The one that is asked for, if any: the present one where it is just that.
    ///
    /// # Errors
    /// There is no thread to be had, or the URL is none.
    pub fn next(
        wanted: Option<&config::Traces>,
        present: Option<&Arc<Self>>,
        counts: &Arc<Counts>,
    ) -> Result<Option<Arc<Self>>, TracesError> {
        let Some(wanted) = wanted else { return Ok(None) };
        match present.filter(|present| present.config == *wanted) {
            Some(present) => Ok(Some(Arc::clone(present))),
            None => Self::start(wanted, counts).map(|traces| Some(Arc::new(traces))),
        }
    }

    fn start(config: &config::Traces, counts: &Arc<Counts>) -> Result<Self, TracesError> {
        let failed = |why: String| TracesError { collector: config.collector.clone(), why };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client)
            .with_endpoint(&config.collector)
            .with_timeout(TIMEOUT)
            .build();
        let mut exporter = exporter.map_err(|error| failed(error.to_string()))?;
        let resource = [
            KeyValue::new("service.name", config.service.clone()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ];
        exporter.set_resource(&Resource::builder_empty().with_attributes(resource).build());
        let (queue, waiting) = mpsc::channel(QUEUE);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| failed(error.to_string()))?;
        let hurry = Arc::<Notify>::default();
        let hurried = Arc::clone(&hurry);
        let (counted, collector) = (Arc::clone(counts), config.collector.clone());
        let spawned: io::Result<_> = thread::Builder::new()
            .name("witgate-traces".to_owned())
            .spawn(move || runtime.block_on(send_all(waiting, exporter, &counted, (&collector, &hurried))));
        spawned.map_err(|error| failed(error.to_string()))?;
        let scope = InstrumentationScope::builder("witgate").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Self { config: config.clone(), queue, hurry, counts: Arc::clone(counts), scope })
    }

    /// Whether a request is one of those of which a span is sent.
    pub fn samples(&self, random: u64) -> bool {
        is_sampled(self.config.sample, random)
    }

    /// What spans are made by.
    pub fn scope(&self) -> &InstrumentationScope {
        &self.scope
    }

    /// Hands a span over, or loses it.
    pub fn send(&self, span: SpanData) {
        self.counts.handed.fetch_add(1, Relaxed);
        if self.queue.try_send(span).is_err() {
            self.counts.dropped.fetch_add(1, Relaxed);
        }
    }
}

impl Traces {
    /// Waits until all is sent that was handed over; not for long, whatever keeps it. Blocks.
    pub fn finish(&self) {
        let until = Instant::now() + END;
        while self.counts.waits() && Instant::now() < until {
            self.hurry.notify_one();
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Traces").field(&self.config).finish()
    }
}

/// The thread's life.
async fn send_all(
    mut waiting: Receiver<SpanData>,
    exporter: SpanExporter,
    counts: &Counts,
    (collector, hurry): (&str, &Notify),
) {
    let mut told: Option<Instant> = None;
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let full = async { while batch.len() < BATCH && waiting.recv_many(&mut batch, BATCH).await > 0 {} };
        // Full, at the end, or late enough.
        tokio::select! {
            () = full => {}
            () = tokio::time::sleep(GATHER) => {}
            () = hurry.notified() => {}
        }
        let spans = std::mem::take(&mut batch);
        let count = spans.len() as u64;
        match exporter.export(spans).await {
            Ok(()) => drop(counts.sent.fetch_add(count, Relaxed)),
            Err(error) => {
                let dropped = counts.dropped.fetch_add(count, Relaxed) + count;
                if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                    told = Some(Instant::now());
                    tracing::warn!(collector, dropped, %error, "spans are lost");
                }
            }
        }
    }
}
