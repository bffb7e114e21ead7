//! A cluster's TLS: whom to trust, and what to show endpoints that ask.

use std::sync::Arc;

use rustls::{
    ClientConfig,
    pki_types::{InvalidDnsNameError, ServerName},
};
use witgate_core::config::ClientTls;

use super::{
    material::{Fingerprint, Problem, Source},
    trust::{self, Trusted},
};

/// A cluster's TLS, ready for handshakes.
#[derive(Debug)]
pub struct Client {
    settings: ClientTls,
    /// For HTTP/1.1, for HTTP/2, for either, and for what says nothing of itself.
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    either: Arc<ClientConfig>,
    bare: Arc<ClientConfig>,
    fingerprint: Fingerprint,
}

impl Client {
    /// Reads what `settings` name. The same as before, where nothing of it changed.
    pub(super) fn load(source: &mut Source, settings: &ClientTls, before: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        let trusted = match (&settings.ca, settings.verify) {
            (Some(path), _) => source.authorities("ca", path).map(Trusted::Authorities),
            (None, false) => Some(Trusted::Anybody),
            (None, true) => source.system_authorities().map(Trusted::Authorities),
        };
        let identity = settings.identity.as_ref().map(|identity| source.pair("", &identity.cert, &identity.key));
        let (trusted, identity) = (trusted?, identity.map_or(Some(None), |pair| pair.map(Some))?);
        let fingerprint = source.fingerprint();
        if let Some(before) = before.filter(|b| b.fingerprint == fingerprint) {
            return Some(Arc::clone(before));
        }
        match trust::config(trusted, identity) {
            Ok(config) => {
                let with = |protocols: &[&[u8]]| {
                    let mut config = config.clone();
                    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
                    Arc::new(config)
                };
                let [http1, http2, either] = [&[&b"http/1.1"[..]][..], &[b"h2"], &[b"h2", b"http/1.1"]].map(with);
                let (settings, bare) = (settings.clone(), Arc::new(config));
                Some(Arc::new(Self { settings, http1, http2, either, bare, fingerprint }))
            }
            Err(error) => {
                let path = settings.ca.as_ref().or(settings.identity.as_ref().map(|identity| &identity.cert));
                source.fail("ca", path?, Problem::Rejected(error))
            }
        }
    }

    /// What was asked for.
    pub(super) fn settings(&self) -> &ClientTls {
        &self.settings
    }

    /// For handshakes of connections that carry HTTP/1.1.
    pub fn http1(&self) -> &Arc<ClientConfig> {
        &self.http1
    }

    /// For handshakes of connections that carry HTTP/2.
    pub fn http2(&self) -> &Arc<ClientConfig> {
        &self.http2
    }

    /// For handshakes of connections that carry whichever of both the endpoint chooses.
    pub fn either(&self) -> &Arc<ClientConfig> {
        &self.either
    }

    /// For handshakes of connections that carry whatever it is.
    pub fn bare(&self) -> &Arc<ClientConfig> {
        &self.bare
    }

    /// The name that is asked for at an endpoint of this authority (`HOST:PORT`), and that its certificate must be for.
    ///
    /// # Errors
    /// It is none that a certificate can be for.
    pub fn name_of(&self, authority: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
        let host = || authority.rsplit_once(':').map_or(authority, |(host, _)| host).trim_matches(['[', ']']);
        let name = self.settings.sni.as_deref().unwrap_or_else(host);
        ServerName::try_from(name.trim_end_matches('.')).map(|name| name.to_owned())
    }
}
