//! Files of certificates and keys: read, parsed, and told apart by what is in them.

use std::path::{Path, PathBuf};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};

use super::{PROVIDER, TlsError};
use crate::files::{self, FileError, Limit};

/// Of a file of certificates or a key: all authorities that the web trusts take a quarter of it.
const MATERIAL: Limit = Limit { bytes: 1 << 20, of: "certificates and keys" };

/// Identifies the contents of files.
pub(super) type Fingerprint = [u8; 32];

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It cannot be read.
    #[error("{0}")]
    File(files::Problem),
    /// It has no certificate in it.
    #[error("there is no certificate in it; it should be in PEM (\"-----BEGIN CERTIFICATE-----\")")]
    NoCertificate,
    /// It has no private key in it.
    #[error("there is no private key in it; it should be in PEM, not encrypted (\"-----BEGIN PRIVATE KEY-----\")")]
    NoKey,
    /// It is not as it should be.
    #[error("{0}")]
    Rejected(rustls::Error),
    /// The key belongs to another certificate.
    #[error("it is not the key of the certificate beside it")]
    OtherKey,
    /// The same of whom to trust.
    #[error("{0}")]
    Trust(rustls::server::VerifierBuilderError),
    /// The system names nobody whom it trusts.
    #[error("no certificate of an authority was found on this system; name those to trust in `ca`")]
    NobodyTrusted,
}

/// Reads the files of one listener or cluster, and gathers what is wrong with them.
pub(super) struct Source {
    whose: String,
    /// In front of keys' names.
    table: &'static str,
    seen: Sha256,
    errors: Vec<TlsError>,
}

impl Source {
    pub(super) fn new(whose: String) -> Self {
        Self { whose, table: "tls.", seen: Sha256::new(), errors: Vec::new() }
    }

    /// The same where what names files is no key in a table `tls`.
    pub(super) fn plain(whose: String) -> Self {
        Self { table: "", ..Self::new(whose) }
    }

    /// What was wrong.
    pub(super) fn into_errors(self) -> Vec<TlsError> {
        self.errors
    }

    /// Of all that was read so far.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.seen.clone().finalize().into()
    }

    /// Notes what is wrong.
    pub(super) fn fail<T>(&mut self, key: &str, path: &Path, problem: Problem) -> Option<T> {
        let (whose, key, path) = (self.whose.clone(), format!("{}{key}", self.table), path.to_owned());
        self.errors.push(TlsError { whose, key, path, problem });
        None
    }

    /// A file's contents.
    pub(super) fn read(&mut self, key: &str, path: &Path) -> Option<Vec<u8>> {
        match files::read(path, MATERIAL) {
            Ok(bytes) => {
                self.seen.update((bytes.len() as u64).to_be_bytes());
                self.seen.update(&bytes);
                Some(bytes)
            }
            Err(FileError { problem, .. }) => self.fail(key, path, Problem::File(problem)),
        }
    }

    /// A chain of certificates with its key. The keys' names follow `prefix`.
    pub(super) fn pair(&mut self, prefix: &str, cert: &Path, key: &Path) -> Option<CertifiedKey> {
        let (cert_name, key_name) = (format!("{prefix}cert"), format!("{prefix}key"));
        let chain = self.certificates(&cert_name, cert);
        let found = self.read(&key_name, key)?;
        let Ok(private) = PrivateKeyDer::from_pem_slice(&found) else {
            return self.fail(&key_name, key, Problem::NoKey);
        };
        let chain = chain?;
        match CertifiedKey::from_der(chain, private, &PROVIDER) {
            Ok(pair) => Some(pair),
            Err(rustls::Error::InconsistentKeys(_)) => self.fail(&key_name, key, Problem::OtherKey),
            Err(error @ rustls::Error::InvalidCertificate(_)) => self.fail(&cert_name, cert, Problem::Rejected(error)),
            Err(error) => self.fail(&key_name, key, Problem::Rejected(error)),
        }
    }

    /// At least one certificate.
    pub(super) fn certificates(&mut self, key: &str, path: &Path) -> Option<Vec<CertificateDer<'static>>> {
        let bytes = self.read(key, path)?;
        match CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
            Ok(found) if !found.is_empty() => Some(found),
            _ => self.fail(key, path, Problem::NoCertificate),
        }
    }

    /// Whom to trust.
    pub(super) fn authorities(&mut self, key: &str, path: &Path) -> Option<RootCertStore> {
        let found = self.certificates(key, path)?;
        let mut store = RootCertStore::empty();
        for authority in found {
            if let Err(error) = store.add(authority) {
                return self.fail(key, path, Problem::Rejected(error));
            }
        }
        Some(store)
    }

    /// Whom the system trusts.
    pub(super) fn system_authorities(&mut self) -> Option<RootCertStore> {
        let mut store = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs().certs;
        found.iter().for_each(|authority| self.seen.update(authority));
        store.add_parsable_certificates(found);
        if store.is_empty() {
            return self.fail("ca", &PathBuf::from("the system's store"), Problem::NobodyTrusted);
        }
        Some(store)
    }
}
