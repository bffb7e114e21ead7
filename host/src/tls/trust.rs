//! Whom a client of TLS believes, and what it shows.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::PROVIDER;

/// Whom to believe.
pub(super) enum Trusted {
    /// Who is signed by one of these, by its name.
    Authorities(RootCertStore),
    /// Who has the key of this certificate, whatever its name: no authority can sign another one.
    Exactly(CertificateDer<'static>),
    /// Anybody, as the configuration asks with `verify = false`.
    Anybody,
}

/// What handshakes are done with. `identity` is shown to who asks.
pub(super) fn config(trusted: Trusted, identity: Option<CertifiedKey>) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER)).with_safe_default_protocol_versions()?;
    let unsigned = |only| Arc::new(Unsigned { only });
    let builder = match trusted {
        Trusted::Authorities(authorities) => builder.with_root_certificates(authorities),
        Trusted::Exactly(own) => builder.dangerous().with_custom_certificate_verifier(unsigned(Some(own))),
        Trusted::Anybody => builder.dangerous().with_custom_certificate_verifier(unsigned(None)),
    };
    Ok(match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity))),
        None => builder.with_no_client_auth(),
    })
}

/// Takes certificates by whomever they are signed. That its holder has the key is proven by the handshake all the same.
#[derive(Debug)]
struct Unsigned {
    /// The one that is taken, byte by byte; none: any.
    only: Option<CertificateDer<'static>>,
}

impl ServerCertVerifier for Unsigned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.only {
            Some(only) if only != shown => Err(CertificateError::ApplicationVerificationFailure.into()),
            _ => Ok(ServerCertVerified::assertion()),
        }
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
