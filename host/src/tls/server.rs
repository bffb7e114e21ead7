//! A listener's TLS: which certificate for which name, and whose certificates are asked for.

use std::{collections::HashMap, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::Ticketer,
    server::{
        ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use witgate_core::{
    config::{ClientAuth, ServerTls, TlsVersion},
    limits::{Count, Counted},
};

use super::{
    PROVIDER,
    identity::Facts,
    material::{Fingerprint, Problem, Source},
};

/// What is spoken on top, by the names that clients choose among (ALPN), the best first. None: that is nobody's business.
pub(super) type Protocols = &'static [&'static [u8]];

/// HTTP.
pub(super) const HTTP: Protocols = &[b"h2", b"http/1.1"];

/// HTTP/1.1 alone.
pub(super) const HTTP1: Protocols = &[b"http/1.1"];

/// A listener's TLS, ready for handshakes.
#[derive(Debug)]
pub struct Server {
    settings: ServerTls,
    config: Arc<ServerConfig>,
    /// Handshakes that were begun and have not ended.
    shaking: Arc<Count>,
    fingerprint: Fingerprint,
    /// Whose certificates are taken: a session that was begun under others must not be resumed.
    clients: Fingerprint,
    /// Seconds since 1970 after which the first certificate to end is no longer valid.
    pub not_after: i64,
}

impl Server {
    /// Reads what `settings` name. The same as before, where nothing of it changed.
    pub(super) fn load(
        source: &mut Source,
        settings: &ServerTls,
        protocols: Protocols,
        before: Option<&Arc<Self>>,
    ) -> Option<Arc<Self>> {
        let verifier = verifier(source, settings);
        let clients = source.fingerprint();
        let pairs: Vec<_> = settings
            .certificates
            .iter()
            .enumerate()
            .map(|(n, certificate)| {
                let prefix = format!("certificates[{n}].");
                let pair = source.pair(&prefix, &certificate.cert, &certificate.key);
                let ocsp = certificate.ocsp.as_ref().map(|path| source.read(&format!("{prefix}ocsp"), path));
                pair.map(|pair| CertifiedKey { ocsp: ocsp.flatten(), ..pair })
            })
            .collect();
        let (verifier, pairs) = (verifier?, pairs.into_iter().collect::<Option<Vec<_>>>()?);
        let fingerprint = source.fingerprint();
        if let Some(before) =
            before.filter(|b| b.settings == *settings && b.speaks(protocols) && b.fingerprint == fingerprint)
        {
            return Some(Arc::clone(before));
        }
        let known = before.filter(|b| b.clients == clients && b.settings.client_auth == settings.client_auth);
        let ticketer = known.map(|before| Arc::clone(&before.config.ticketer));
        let not_after = pairs.iter().filter_map(|pair| Some(Facts::of(pair.cert.first()?)?.not_after)).min();
        let config = match config(settings.min_version, protocols, verifier, Certificates::new(pairs), ticketer) {
            Ok(config) => config,
            Err(error) => {
                return source.fail("certificates", &settings.certificates.first()?.cert, Problem::Rejected(error));
            }
        };
        let shaking = before.map_or_else(Arc::default, |before| Arc::clone(&before.shaking));
        let (settings, not_after) = (settings.clone(), not_after.unwrap_or(i64::MAX));
        Some(Arc::new(Self { settings, config: Arc::new(config), shaking, fingerprint, clients, not_after }))
    }

    /// What was asked for.
    pub(super) fn settings(&self) -> &ServerTls {
        &self.settings
    }

    /// Counts a handshake that begins; none where there are as many as may be.
    pub fn begin(&self) -> Option<Counted> {
        self.shaking.begin(self.settings.max_handshakes)
    }

    /// Whether these are what is spoken on top.
    pub(super) fn speaks(&self, protocols: Protocols) -> bool {
        self.config.alpn_protocols == protocols
    }

    /// Whether the same authorities sign clients' certificates.
    pub fn believes_as(&self, other: &Self) -> bool {
        self.clients == other.clients
    }

    /// For handshakes.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }
}

/// Asks for clients' certificates, where the settings say so.
fn verifier(source: &mut Source, settings: &ServerTls) -> Option<Arc<dyn ClientCertVerifier>> {
    let Some(path) = &settings.client_ca else { return Some(WebPkiClientVerifier::no_client_auth()) };
    let authorities = source.authorities("client_ca", path)?;
    let builder = WebPkiClientVerifier::builder_with_provider(authorities.into(), Arc::clone(&PROVIDER));
    let builder = match settings.client_auth {
        ClientAuth::Require => builder,
        ClientAuth::Optional => builder.allow_unauthenticated(),
    };
    match builder.build() {
        Ok(verifier) => Some(verifier),
        Err(error) => source.fail("client_ca", path, Problem::Trust(error)),
    }
}

fn config(
    oldest: TlsVersion,
    protocols: Protocols,
    verifier: Arc<dyn ClientCertVerifier>,
    certificates: Certificates,
    ticketer: Option<Arc<dyn ProducesTickets>>,
) -> Result<ServerConfig, rustls::Error> {
    let versions = match oldest {
        TlsVersion::Tls12 => &[&TLS13, &TLS12][..],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    // What is needed to resume a session is with the client: workers share no table of them.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = match ticketer {
        Some(ticketer) => ticketer,
        None => Ticketer::new()?,
    };
    Ok(config)
}

/// Certificates by the names that they are for.
#[derive(Debug)]
struct Certificates {
    /// In the order of the configuration.
    all: Vec<Arc<CertifiedKey>>,
    /// In lower case. Several where a name has keys of several kinds.
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// `example.com` of `*.example.com`, which is for one label before it (RFC 6125 §6.4.3).
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl Certificates {
    fn new(pairs: Vec<CertifiedKey>) -> Self {
        let all: Vec<_> = pairs.into_iter().map(Arc::new).collect();
        let (mut exact, mut wildcard) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for pair in &all {
            for name in pair.cert.first().and_then(Facts::of).into_iter().flat_map(|facts| facts.dns_names) {
                let name = name.to_ascii_lowercase();
                match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.to_owned()).or_default().push(Arc::clone(pair)),
                    None => exact.entry(name).or_default().push(Arc::clone(pair)),
                }
            }
        }
        Self { all, exact, wildcard }
    }

    /// Those for a name.
    fn named(&self, name: &str) -> Option<&[Arc<CertifiedKey>]> {
        let wild = || self.wildcard.get(name.split_once('.')?.1);
        self.exact.get(name).or_else(wild).map(Vec::as_slice)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let fit = |pairs: &[Arc<CertifiedKey>]| {
            pairs.iter().find(|pair| pair.key.choose_scheme(hello.signature_schemes()).is_some()).cloned()
        };
        name.and_then(|name| self.named(&name)).and_then(fit).or_else(|| fit(&self.all))
    }
}
