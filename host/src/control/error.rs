//! Why a change is not made, in words for whoever asked for it.

use std::{io, path::PathBuf};

use witgate_core::config::Diagnostics;
use witgate_policy::{Refused, StoreError};

use crate::{
    sockets::BindError,
    telemetry::{access_log::OpenError, traces::TracesError},
    tls::TlsRefused,
};

/// Why an operator's wish was not met.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The module cannot be a plugin here.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// The store has it not, or cannot be written.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// There is nothing of that name.
    #[error("{0}")]
    NotFound(String),
    /// It is in use, or there is nothing to go back to.
    #[error("{0}")]
    Conflict(String),
    /// Certificates and keys that a configuration names: all that cannot be used.
    #[error("{0}")]
    Tls(#[from] TlsRefused),
    /// What a configuration wants to listen on.
    #[error("{0}")]
    Bind(#[from] BindError),
    /// Where it wants to log.
    #[error("{0}, so that nothing was changed")]
    AccessLog(#[from] OpenError),
    /// Where it wants spans to go.
    #[error("{0}, so that nothing was changed")]
    Traces(#[from] TracesError),
    /// The state is about to be another process'.
    #[error("an upgrade is under way, so that nothing was changed; try again in a few seconds")]
    Upgrading,
    /// A configuration that is wrong.
    #[error("{0}")]
    Invalid(Diagnostics),
    /// The configuration's file cannot be written.
    #[error("{} cannot be written, so that nothing was changed: {source}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
