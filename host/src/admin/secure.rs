//! The TLS handshake of a connection that was accepted: bounded in time, and in number by the seats. Knows nothing of HTTP.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::HandshakeKind;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::socket::Stream;
use crate::tls::{self, Server};

/// What a handshake has shown.
#[derive(Clone)]
pub(super) struct Secured {
    /// What it was done with.
    pub(super) server: Arc<Server>,
    /// The subject of the client's certificate, where one was asked for.
    pub(super) certificate: Option<Arc<str>>,
}

/// Why nothing is spoken above.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("the handshake was not done in time")]
    Late,
    #[error("the certificate of the session is no longer valid")]
    Over,
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Failed {
    /// Whether the client showed no certificate, or one that is not taken.
    pub(super) fn is_about_certificate(&self) -> bool {
        use rustls::Error::{InvalidCertificate, NoCertificatesPresented};
        match self {
            Self::Late => false,
            Self::Over => true,
            Self::Io(error) => {
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
                matches!(inner, Some(NoCertificatesPresented | InvalidCertificate(_)))
            }
        }
    }
}

pub(super) async fn accept(
    stream: Box<dyn Stream>,
    server: Arc<Server>,
    limit: Duration,
) -> Result<(Box<dyn Stream>, Secured), Failed> {
    let handshake = TlsAcceptor::from(Arc::clone(server.config())).accept(stream);
    let stream = timeout(limit, handshake).await.map_err(|_| Failed::Late)??;
    let session = stream.get_ref().1;
    let certificate = session.peer_certificates().and_then(|chain| chain.first());
    // A session that is resumed was verified when it began, which may be long ago.
    let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    if resumed && certificate.is_some_and(|certificate| tls::is_over(certificate, SystemTime::now())) {
        return Err(Failed::Over);
    }
    let certificate = certificate.map(|certificate| Arc::from(tls::subject(certificate)));
    Ok((Box::new(stream), Secured { server, certificate }))
}
