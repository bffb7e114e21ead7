//! Load: what is asked of a proxy, by which program, and what that saw. Never decides what a good figure is.

mod h2load;
mod wrk;

use std::fs;
use std::time::Duration;

use super::templates;
use crate::lab::process::{LOAD_CORE, Process, Scratch};
use crate::run::{self, Failed};

/// Beyond the load's own duration.
const GRACE: Duration = Duration::from_secs(20);

/// What is asked, and how.
#[derive(Clone, Copy)]
pub(super) struct Work {
    pub(super) tool: Tool,
    pub(super) path: &'static str,
    /// wrk's script in `tests/bench`.
    pub(super) script: Option<&'static str>,
    /// The length of an answer's body.
    pub(super) body: usize,
}

/// By which program, over what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Tool {
    /// HTTP/1.1 on kept connections.
    Wrk,
    /// The same over TLS.
    WrkTls,
    /// A connection over TLS for each request.
    WrkShaking,
    /// A connection for each request.
    WrkClosing,
    /// HTTP/2 in cleartext, by prior knowledge.
    H2load,
}

impl Tool {
    pub(super) fn scheme(self) -> &'static str {
        if matches!(self, Tool::WrkTls | Tool::WrkShaking) { "https" } else { "http" }
    }
}

pub(super) const SMALL: Work = Work { tool: Tool::Wrk, path: "/", script: None, body: 128 };
pub(super) const USERS: Work = Work { script: Some("users.lua"), ..SMALL };
pub(super) const ROUTED: Work = Work { script: Some("scale.lua"), ..SMALL };
pub(super) const BUSY: Work = Work { script: Some("busy.lua"), ..SMALL };
pub(super) const ENCRYPTED: Work = Work { tool: Tool::WrkTls, ..SMALL };
pub(super) const SHAKING: Work = Work { tool: Tool::WrkShaking, ..SMALL };
pub(super) const CLOSING: Work = Work { tool: Tool::WrkClosing, ..SMALL };
pub(super) const STREAMS: Work = Work { tool: Tool::H2load, ..SMALL };
pub(super) const LARGE: Work = Work { path: "/64k", body: 64 << 10, ..SMALL };

/// What one run of a load saw.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) seconds: f64,
    /// Latency in milliseconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// Socket errors and answers that are neither 2xx nor 3xx.
    pub(super) failures: u64,
}

/// A load that is under way.
pub(super) struct Running {
    process: Process,
    tool: Tool,
    /// Where h2load writes down each request.
    samples: std::path::PathBuf,
    limit: Duration,
}

/// Starts the load, of one thread, on a port of this machine.
pub(super) fn start(work: &Work, port: u16, seconds: u32, scratch: &Scratch) -> Result<Running, Failed> {
    let samples = scratch.path("h2load.tsv");
    let mut arguments = match work.tool {
        Tool::H2load => h2load::arguments(seconds, &samples),
        Tool::Wrk | Tool::WrkTls => wrk::arguments(seconds),
        Tool::WrkClosing | Tool::WrkShaking => {
            [wrk::arguments(seconds), vec!["-HConnection: close".to_string()]].concat()
        }
    };
    if let Some(script) = work.script {
        arguments.extend(["-s".to_string(), templates::dir().join(script).display().to_string()]);
    }
    arguments.push(format!("{}://127.0.0.1:{port}{}", work.tool.scheme(), work.path));
    let name = if work.tool == Tool::H2load { "h2load" } else { "wrk" };
    let program = run::which(name).ok_or_else(|| Failed::new(format!("there is no {name}: cargo xtask setup")))?;
    // Of the run before.
    let _ = fs::remove_file(&samples);
    let process = Process::start(&program, &arguments, LOAD_CORE, &scratch.path("load.log"))?;
    Ok(Running { process, tool: work.tool, samples, limit: Duration::from_secs(seconds.into()) + GRACE })
}

impl Running {
    /// Waits for its end.
    pub(super) fn finish(self) -> Result<Load, Failed> {
        let printed = self.process.finish(self.limit)?;
        let load = match self.tool {
            Tool::H2load => fs::read(&self.samples).ok().and_then(|samples| h2load::parse(&printed, &samples)),
            _ => wrk::parse(&printed),
        };
        load.ok_or_else(|| Failed::new(format!("the load's figures are not understood:\n{printed}")))
    }
}

/// "871.00us", "2.50ms", "4.00s", "1.20m".
fn milliseconds(text: &str) -> Option<f64> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit {
        "us" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        "m" => 6e4,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}
