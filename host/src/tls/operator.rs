//! TLS of a command that talks to the admin API: whom it trusts, and what it shows.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::ClientConfig;

use super::{
    TlsRefused,
    material::{Problem, Source},
    trust::{self, Trusted},
};

/// Whom a command talks to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Who has the key of the first certificate in this file, whatever its name.
    Exactly(PathBuf),
    /// Who is signed by an authority in this file, by its name.
    SignedBy(PathBuf),
    /// Whom the system trusts, by its name.
    System,
}

/// What a command does its handshakes with. `identity` is a certificate's file and its key's.
///
/// # Errors
/// Files cannot be used.
pub fn operator(whose: &str, trust: &Trust, identity: Option<(&Path, &Path)>) -> Result<Arc<ClientConfig>, TlsRefused> {
    let mut source = Source::plain(whose.to_owned());
    let config = config(&mut source, trust, identity);
    config.map(Arc::new).ok_or_else(|| TlsRefused(source.into_errors()))
}

fn config(source: &mut Source, trust: &Trust, identity: Option<(&Path, &Path)>) -> Option<ClientConfig> {
    let trusted = match trust {
        Trust::Exactly(path) => Trusted::Exactly(source.certificates("cert", path)?.into_iter().next()?),
        Trust::SignedBy(path) => Trusted::Authorities(source.authorities("ca", path)?),
        Trust::System => Trusted::Authorities(source.system_authorities()?),
    };
    let pair = match identity {
        None => None,
        Some((cert, key)) => Some(source.pair("", cert, key)?),
    };
    match trust::config(trusted, pair) {
        Ok(mut config) => {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Some(config)
        }
        Err(error) => {
            let path = identity.map_or(Path::new(""), |(cert, _)| cert);
            source.fail("tls", path, Problem::Rejected(error))
        }
    }
}
