//! What a certificate says of its holder.

use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use http::HeaderValue;
use rustls::{HandshakeKind, ServerConnection, pki_types::CertificateDer};
use sha2::{Digest, Sha256};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

/// What is of use of a certificate.
pub(super) struct Facts {
    /// Of its subject's alternative names.
    pub(super) dns_names: Vec<String>,
    uris: Vec<String>,
    subject: String,
    /// Seconds since 1970.
    pub(super) not_after: i64,
}

impl Facts {
    /// None where it cannot be parsed.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let mut facts = Self {
            dns_names: Vec::new(),
            uris: Vec::new(),
            subject: parsed.subject().to_string(),
            not_after: parsed.validity().not_after.timestamp(),
        };
        if let Ok(Some(names)) = parsed.subject_alternative_name() {
            for name in &names.value.general_names {
                match name {
                    GeneralName::DNSName(name) => facts.dns_names.push((*name).to_owned()),
                    GeneralName::URI(uri) => facts.uris.push((*uri).to_owned()),
                    _ => {}
                }
            }
        }
        Some(facts)
    }
}

/// Who a client is by its certificate, as Envoy's `x-forwarded-client-cert` has it: the SHA-256 of the certificate, its
/// subject, and its alternative names that are URIs (SPIFFE's are) or DNS names.
pub fn client_certificate(certificate: &CertificateDer<'_>) -> HeaderValue {
    let mut text = String::from("Hash=");
    for byte in Sha256::digest(certificate) {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    if let Some(facts) = Facts::of(certificate) {
        let _ = write!(text, ";Subject={}", quoted(&facts.subject));
        for (key, names) in [("URI", &facts.uris), ("DNS", &facts.dns_names)] {
            for name in names {
                let _ = write!(text, ";{key}={}", quoted(name));
            }
        }
    }
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("Hash="))
}

/// Who a client is by its certificate, for logs: its subject, or else its first alternative name. At most 256 bytes.
pub fn subject(certificate: &CertificateDer<'_>) -> String {
    let Some(facts) = Facts::of(certificate) else { return String::new() };
    let names = [facts.subject].into_iter().chain(facts.uris).chain(facts.dns_names);
    let mut name = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    name.truncate(name.floor_char_boundary(256));
    name
}

/// A session was resumed whose certificate has ended since.
#[derive(Debug, thiserror::Error)]
#[error("the certificate of the session is no longer valid")]
pub struct Over;

/// The certificate that a client has shown in its handshake, or in the one that its session began with.
///
/// # Errors
/// It was verified then, which may be long ago, and is no longer valid.
pub fn shown(session: &ServerConnection) -> Result<Option<&CertificateDer<'static>>, Over> {
    let certificate = session.peer_certificates().and_then(|chain| chain.first());
    let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    match certificate {
        Some(certificate) if resumed && is_over(certificate, SystemTime::now()) => Err(Over),
        certificate => Ok(certificate),
    }
}

/// Whether a certificate is no longer valid.
fn is_over(certificate: &CertificateDer<'_>, now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Facts::of(certificate).is_none_or(|facts| facts.not_after < i64::try_from(now).unwrap_or(i64::MAX))
}

/// In quotes, so that nothing that a certificate says can look like the next element: who has it signed chooses its words.
/// What cannot stand in a header is a question mark.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            ' '..='~' => quoted.push(char),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::pem::PemObject as _;
    use witgate_tests::tls::Authority;

    use super::*;

    #[test]
    fn a_certificate_is_over_when_it_says_so_and_where_it_says_nothing() {
        let pem = Authority::new("a").issue("me", &["me.test"]).cert;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let not_after = Facts::of(&certificate).unwrap().not_after;
        let at = |seconds: i64| UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap());
        assert!(!is_over(&certificate, SystemTime::now()));
        assert!(!is_over(&certificate, at(not_after)) && is_over(&certificate, at(not_after + 1)));
        assert!(is_over(&CertificateDer::from(vec![1, 2, 3]), SystemTime::now()));
    }

    #[test]
    fn what_a_certificate_says_stays_within_its_quotes() {
        assert_eq!(quoted("a\";URI=\"b\\\r\n\u{e9}"), r#""a\";URI=\"b\\???""#);
    }
}
