//! What a client command speaks below HTTP, where the admin API is asked over TLS: found in the configuration file, or in the
//! environment. Reads no file before there is somebody to talk to.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{ClientConfig, pki_types::ServerName};
use witgate_core::config::Admin;

use super::{Failed, Outcome};
use crate::tls::{self, Trust};

/// Reads a variable of the environment.
pub(super) type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

/// What a handshake is done with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Secure {
    trust: Trust,
    /// A certificate and its key.
    identity: Option<(PathBuf, PathBuf)>,
    /// Where that was found, for messages.
    from: String,
}

impl Secure {
    /// Of the proxy with this configuration: its own certificate is known, whatever names it is for. Where it wants one of
    /// its clients, that of the environment is shown, or else its own.
    pub(super) fn of(admin: &Admin, file: &Path, env: Env<'_>) -> Outcome<Option<Self>> {
        let Some((settings, own)) = admin.tls.as_ref().and_then(|tls| Some((tls, tls.certificates.first()?))) else {
            return Ok(None);
        };
        let identity = match (&settings.client_ca, identity(env)?) {
            (None, _) => None,
            (Some(_), None) => Some((own.cert.clone(), own.key.clone())),
            (Some(_), found) => found,
        };
        Ok(Some(Self { trust: Trust::Exactly(own.cert.clone()), identity, from: file.display().to_string() }))
    }

    /// As the environment says, for an address that begins with `https://`.
    pub(super) fn of_env(env: Env<'_>) -> Outcome<Self> {
        let trust = env("WITGATE_CA").map_or(Trust::System, |file| Trust::SignedBy(file.trim().into()));
        Ok(Self { trust, identity: identity(env)?, from: "the environment".to_owned() })
    }

    /// Reads what there is to read.
    pub(super) fn load(&self) -> Outcome<Arc<ClientConfig>> {
        let identity = self.identity.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
        tls::operator(&self.from, &self.trust, identity).map_err(Failed::new)
    }
}

fn identity(env: Env<'_>) -> Outcome<Option<(PathBuf, PathBuf)>> {
    match (env("WITGATE_CERT"), env("WITGATE_KEY")) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some((cert.trim().into(), key.trim().into()))),
        _ => Err(Failed::new("WITGATE_CERT and WITGATE_KEY are of no use without each other: set both, or neither")),
    }
}

/// The name that the certificate at an address (`HOST:PORT`) must be for.
pub(super) fn name_of(address: &str) -> Outcome<ServerName<'static>> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.trim_end_matches('.').to_owned());
    name.map_err(|error| Failed::new(format!("{host}: no certificate can be for that: {error}")))
}
