//! The TLS handshake of a connection that was accepted: bounded in time, and in number by the seats. Knows nothing of HTTP.

use std::{io, sync::Arc, time::Duration};

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
    #[error("{0}")]
    Over(#[from] tls::Over),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Failed {
    /// Whether the client showed no certificate, or one that is not taken.
    pub(super) fn is_about_certificate(&self) -> bool {
        use rustls::Error::{InvalidCertificate, NoCertificatesPresented};
        match self {
            Self::Late => false,
            Self::Over(_) => true,
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
    let certificate = tls::shown(stream.get_ref().1)?.map(|certificate| Arc::from(tls::subject(certificate)));
    Ok((Box::new(stream), Secured { server, certificate }))
}
