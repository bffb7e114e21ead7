//! TLS of a command that talks to the admin API: whom it trusts, and what it shows.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::SingleCertAndKey,
};

use super::{
    PROVIDER, TlsRefused,
    material::{Problem, Source},
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
    let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER)).with_safe_default_protocol_versions();
    let path = identity.map_or(Path::new(""), |(cert, _)| cert);
    let builder = match builder {
        Ok(builder) => builder,
        Err(error) => return source.fail("tls", path, Problem::Rejected(error)),
    };
    let builder = match trust {
        Trust::Exactly(path) => {
            let own = source.certificates("cert", path)?.into_iter().next()?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Exactly(own)))
        }
        Trust::SignedBy(path) => builder.with_root_certificates(source.authorities("ca", path)?),
        Trust::System => builder.with_root_certificates(source.system_authorities()?),
    };
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let pair = source.pair("", cert, key)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Some(config)
}

/// Takes one certificate, byte by byte, and nothing else: no authority can sign another one. That its holder has the key is
/// proven by the handshake.
#[derive(Debug)]
struct Exactly(CertificateDer<'static>);

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *shown == self.0 {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &PROVIDER.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &PROVIDER.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}
