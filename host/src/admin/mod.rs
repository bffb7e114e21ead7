//! The admin API: what is live, and changes to it, as JSON over HTTP/1.1. Everything but the probes and the metrics
//! needs a token, and what changes anything that of `token_file`. It must never hold up a request on the data path, nor a probe behind an upload.
//!
//! | call | answers |
//! |---|---|
//! | `GET /livez`, `/readyz` | 200; `/readyz` 503 while the proxy starts and from the start of a drain; text, no token |
//! | `GET /metrics` | OpenMetrics text, no token |
//! | `GET /v1/listeners`, `/v1/routes`, `/v1/clusters`, `/v1/clusters/{c}` | the live state |
//! | `PUT /v1/clusters/{c}/endpoints` `{"endpoints": [{"address", "weight", "zone", "priority"}]}` | 200, the cluster as `GET` shows it |
//! | `PATCH /v1/clusters/{c}/endpoints/{address}` `{"state": "drain" or "active", "weight"}` | the same |
//! | `GET /v1/plugins`, `/v1/plugins/{p}` | versions, and how the live one does |
//! | `PUT /v1/plugins/{p}[?activate=true][&progress=true]`, body: wasm | 201 `{"name", "version", "sha256", "exports", "active"}`; 200 for the same bytes again |
//! | `DELETE /v1/plugins/{p}[?force=true]` | 200 `{"name", "removed": [version]}`; 409 while the configuration uses it |
//! | `POST /v1/plugins/{p}/activate` `{"version": 2}`, or the start of a sha256 | 200, the plugin as `GET` shows it |
//! | `POST /v1/plugins/{p}/rollback` | the same |
//! | `POST /v1/explain` `{"method", "path", "host", "headers", "client", "listener"}` | what would be decided |
//! | `GET /v1/config` | the live configuration, as it was written (TOML) |
//! | `PUT /v1/config`, body: TOML | 200 `{"generation", "warnings", "plugins"}`; 422 with every error (`errors`), nothing changed |
//! | `POST /v1/drain` | 202 `{"draining": true, "timeout_ms"}` |
//!
//! Errors are `{"error": "…"}` with a status: 400 for a body or parameter that is not understood (`line`, `column`,
//! `expected`), 401 without a token, 403 for pages of browsers
//! and for who may only read, 404, 405 with `Allow`, 408 for a body that comes too slowly,
//! 409 where the state stands against it, 413 (`limit_bytes`), 415, 421 for a name that is not the API's, 422 for a module that is refused (`stage`,
//! `reason`) and for a request to explain that the data path refuses (`reason`), 431 for a head over 32 KiB or 100
//! headers, 503 with `Retry-After` where too many uploads are under way, and while the proxy starts.
//!
//! With `?progress=true`, or `Accept: application/x-ndjson`, an upload that was read answers 200 and a line for each
//! stage as it begins, `{"stage": "compile"}`; the last line is what the answer would have been, success or error, with
//! its `status` beside it. An upload is seen through even where the client goes away.

mod access;
mod audit;
mod body;
mod clusters;
mod config;
mod drain;
mod endpoints;
mod explain;
mod hosts;
mod listeners;
mod metrics;
mod paths;
mod plugins;
mod probes;
mod process;
mod query;
mod reply;
mod routes;
mod seats;
mod secure;
mod serve;
mod socket;
mod spares;
#[cfg(test)]
mod tests;
mod unasked;
mod units;
mod upload;
mod wire;
mod work;

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Weak},
};

use witgate_core::config::{Admin as Config, AdminListen};

pub use access::Access;
pub use socket::{AdminAddress, SocketFile};

use crate::{control::Started, inherited::AdminSocket};

/// The admin API's socket, bound and not yet served. A Unix socket's file goes when this, or its serving, is dropped.
#[derive(Debug)]
pub struct Admin(socket::Bound);

/// Binds the socket, where none is `given`. A Unix socket's file never has a wider mode than is configured, and takes the place of
/// one that a dead process left.
///
/// # Errors
/// The address is taken, or the system refuses.
pub fn bind(config: &Config, given: Option<AdminSocket>) -> io::Result<Admin> {
    socket::Bound::new(&config.listen, config.mode, given).map(Admin)
}

/// The address as it is configured, for messages.
pub fn show(listen: &AdminListen) -> String {
    match listen {
        AdminListen::Tcp(address) => AdminAddress::Tcp(*address).to_string(),
        AdminListen::Unix(path) => AdminAddress::Unix(path.clone()).to_string(),
    }
}

impl Admin {
    /// Where it listens: never port 0.
    pub fn address(&self) -> &AdminAddress {
        &self.0.address
    }

    /// The Unix socket's file, as long as it is served; of TCP none ever.
    pub fn socket_file(&self) -> Weak<SocketFile> {
        self.0.file.as_ref().map(Arc::downgrade).unwrap_or_default()
    }

    /// A duplicate of the socket, for a process that is to take this one's place.
    ///
    /// # Errors
    /// There is no file descriptor for it.
    pub fn lend(&self) -> io::Result<OwnedFd> {
        self.0.lend()
    }

    /// Serves until dropped; before the control plane has started, the probes only. Belongs into a local runtime:
    /// connections are local tasks of it.
    pub async fn serve(self, started: Started, access: Access) {
        let address = self.0.address.clone();
        match self.0.listen() {
            Ok(listener) => {
                tracing::info!(%address, "the admin API listens");
                serve::run(listener, started, access).await;
            }
            Err(error) => tracing::error!(%address, %error, "the admin API cannot be served"),
        }
    }
}
