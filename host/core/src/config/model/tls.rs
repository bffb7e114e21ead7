//! TLS of a listener, of the admin API and of a cluster.

use std::path::PathBuf;

/// `tls` of a listener or of the admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// At least one. The first is for clients that ask for no name, or for one that none of them is for.
    pub certificates: Vec<Certificate>,
    /// Who signs the certificates of clients; none: clients are not asked for one.
    pub client_ca: Option<PathBuf>,
    /// What comes of a client without a certificate; of no meaning without `client_ca`.
    pub client_auth: ClientAuth,
    /// The oldest version that is spoken; default 1.2.
    pub min_version: TlsVersion,
    /// Handshakes at once, over all workers; default 1,000.
    pub max_handshakes: u32,
}

/// A certificate with its key. Paths are relative to the configuration file's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, in PEM, the server's own first.
    pub cert: PathBuf,
    /// The key, in PEM.
    pub key: PathBuf,
    /// An OCSP response, in DER, that is stapled.
    pub ocsp: Option<PathBuf>,
}

/// `client_auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// The handshake fails.
    #[default]
    Require,
    /// It is let in, unnamed.
    Optional,
}

/// `min_version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersion {
    /// "1.2".
    #[default]
    Tls12,
    /// "1.3".
    Tls13,
}

/// `tls` of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// The name that is asked for and that the endpoint's certificate must be for; none: that of the endpoint's address.
    pub sni: Option<String>,
    /// Who signs the endpoints' certificates; none: whom the system trusts.
    pub ca: Option<PathBuf>,
    /// What this proxy shows endpoints that ask.
    pub identity: Option<Identity>,
    /// Whether endpoints' certificates are verified; default true.
    pub verify: bool,
}

/// `cert` and `key` of a cluster's `tls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The chain, in PEM.
    pub cert: PathBuf,
    /// The key, in PEM.
    pub key: PathBuf,
}
