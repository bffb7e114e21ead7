//! Witgate: an edge proxy whose policy is WebAssembly and whose mechanism is native.
//!
//! [`Proxy`] starts the same thing in process that `witgate run` starts: for embedding, and for tests.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let text = std::fs::read_to_string("witgate.toml")?;
//! let parsed = witgate_core::config::parse(&text, "witgate.toml", std::path::Path::new("."))?;
//! let proxy = witgate::Proxy::start(parsed.config)?;
//! println!("{:?}", proxy.listeners());
//! proxy.drain();
//! proxy.wait();
//! # Ok(())
//! # }
//! ```

pub mod admin;
mod assemble;
pub mod cli;
mod clients;
mod control;
mod drain;
mod files;
mod generation;
mod inherited;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod listen;
pub mod memory;
mod proxy;
mod reason;
mod relay;
mod run;
mod scores;
mod secrets;
mod sockets;
mod telemetry;
mod tls;
mod upgrade;
mod upstream;
mod watch;
mod worker;

pub use control::{Control, ControlError, Reloaded, Source, Uploaded};
pub use drain::Phase;
pub use run::{Proxy, StartError};
