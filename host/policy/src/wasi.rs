//! WASI 0.2 with nothing opened: clocks and random work, stdout and stderr go to the log, everything else finds
//! nothing. It must never block, open or reveal anything.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

use crate::bindings::host::Level;
use crate::log::{LINE_BYTES, Log};

/// Streams, pollables and errors that an instance may hold at once. Plugins hold a handful; a leak ends here.
const RESOURCES: usize = 1000;
/// Bytes of one request for random bytes; beyond it the call traps. Bounds what the host allocates for it.
const RANDOM_BYTES: u64 = 64 << 10;

/// The WASI side of one instance. Made when WASI is first called, so that plugins without WASI never pay for it.
pub(crate) struct Wasi {
    pub(crate) ctx: WasiCtx,
    pub(crate) table: ResourceTable,
}

impl Wasi {
    pub(crate) fn new(log: &Arc<Log>) -> Self {
        let ctx = WasiCtxBuilder::new()
            .stdout(LogStream::new(log, Level::Info))
            .stderr(LogStream::new(log, Level::Warn))
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(RANDOM_BYTES)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES);
        Self { ctx, table }
    }
}

/// Whether the import's functions might wait, so that calls must be made with `call_async` (130 ns more). The others
/// (clocks, random, environment, exit) are plain functions in `wasmtime_wasi` 48.
pub(crate) fn may_wait(import: &str) -> bool {
    ["wasi:io/", "wasi:filesystem/", "wasi:sockets/"].iter().any(|prefix| import.starts_with(prefix))
}

/// Lines to the log. Clones share the line in progress, as WASI asks of two handles to one stream.
#[derive(Clone)]
struct LogStream {
    log: Arc<Log>,
    level: Level,
    line: Arc<Mutex<Vec<u8>>>,
}

impl LogStream {
    fn new(log: &Arc<Log>, level: Level) -> Self {
        Self { log: Arc::clone(log), level, line: Arc::default() }
    }

    fn push(&self, bytes: &[u8]) {
        // Uncontended: an instance runs on one thread at a time.
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        for part in bytes.split_inclusive(|&b| b == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            // What is over the limit would be cut by the log anyway.
            let room = LINE_BYTES.saturating_sub(line.len());
            line.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                self.log.line(self.level, &String::from_utf8_lossy(&line));
                line.clear();
            }
        }
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink()) // Only WASI 0.3 asks for it, which is not linked.
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}
