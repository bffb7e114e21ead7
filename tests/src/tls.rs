//! Certificates of an authority of the test's own, a client that speaks TLS, and an origin that does.

use std::{
    io::{self, Read as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType, date_time_ymd};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{PATIENCE, client::Client};

/// An authority that signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, in PEM.
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// Its key.
    pub key: String,
}

/// A client over TLS.
pub type TlsClient = Client<StreamOwned<ClientConnection, TcpStream>>;

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// When no key can be made.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        Self(CertifiedIssuer::self_signed(params, key).expect("it can be signed"))
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a subject and its alternative names: `URI:…`, an IP address or a DNS name each.
    ///
    /// # Panics
    /// When a name is none.
    pub fn issue(&self, subject: &str, names: &[&str]) -> Pair {
        self.sign(CertificateParams::default(), subject, names)
    }

    /// The same, which is valid until this year begins: one can be told from another by it.
    ///
    /// # Panics
    /// When a name is none.
    pub fn issue_until(&self, year: i32, subject: &str, names: &[&str]) -> Pair {
        let mut params = CertificateParams::default();
        params.not_after = date_time_ymd(year, 1, 1);
        self.sign(params, subject, names)
    }

    fn sign(&self, mut params: CertificateParams, subject: &str, names: &[&str]) -> Pair {
        params.distinguished_name.push(DnType::CommonName, subject);
        params.subject_alt_names = names
            .iter()
            .map(|name| match (name.strip_prefix("URI:"), name.parse()) {
                (Some(uri), _) => SanType::URI(uri.try_into().expect("a URI")),
                (None, Ok(ip)) => SanType::IpAddress(ip),
                (None, Err(_)) => SanType::DnsName((*name).try_into().expect("a DNS name")),
            })
            .collect();
        let key = KeyPair::generate().expect("a key can be made");
        let cert = params.signed_by(&key, &self.0).expect("it can be signed");
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an authority");
        roots
    }

    /// A client that trusts this authority and speaks nothing newer than TLS 1.2.
    ///
    /// # Panics
    /// When that cannot be spoken.
    pub fn old_client(&self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .expect("the version is spoken");
        Arc::new(builder.with_root_certificates(self.roots()).with_no_client_auth())
    }

    /// What a client that trusts this authority, speaks `protocols` and shows `identity` does its handshakes with.
    ///
    /// # Panics
    /// When the identity is none.
    pub fn client(&self, protocols: &[&str], identity: Option<&Pair>) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the versions are spoken")
            .with_root_certificates(self.roots());
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let (chain, key) = pair.parse();
                builder.with_client_auth_cert(chain, key).expect("an identity")
            }
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

impl Pair {
    /// Writes `NAME.pem` and `NAME.key`.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn write(&self, dir: &Path, name: &str) {
        for (what, text) in [("pem", &self.cert), ("key", &self.key)] {
            std::fs::write(dir.join(format!("{name}.{what}")), text).expect("a file can be written");
        }
    }

    fn parse(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let cert = CertificateDer::from_pem_slice(self.cert.as_bytes()).expect("a certificate");
        (vec![cert], PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key"))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Connects and does the handshake, asking for `name`.
///
/// # Errors
/// It failed.
///
/// # Panics
/// When nobody listens, or the name is none.
pub fn connect(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> io::Result<TlsClient> {
    connect_over(TcpStream::connect(address).expect("somebody listens"), name, config)
}

/// The same over a connection that is there.
///
/// # Errors
/// It failed.
///
/// # Panics
/// When the name is none.
pub fn connect_over(stream: TcpStream, name: &str, config: &Arc<ClientConfig>) -> io::Result<TlsClient> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(session, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(Client::over(stream))
}

/// Connects and says the first words of a handshake, and nothing to what is answered.
///
/// # Panics
/// When nobody listens.
pub fn hello(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut session = ClientConnection::new(Arc::clone(config), name).expect("a session");
    session.write_tls(&mut stream).expect("it is taken");
    // What comes back says that the handshake has begun.
    stream.read_exact(&mut [0]).expect("an answer");
    stream
}

/// Takes TLS off connections, and passes what is in it on to an origin. Ends when it is dropped.
pub struct Front {
    /// Where it listens.
    pub address: SocketAddr,
    /// What each handshake came to: the name that was asked for, or why it failed.
    shaken: Arc<Mutex<Vec<Result<String, String>>>>,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Front {
    /// Starts one on a free port, which shows `pair` and, where `clients` are named, asks for certificates that they signed.
    ///
    /// # Panics
    /// When there is no port, or the pair is none.
    pub fn before(origin: SocketAddr, pair: &Pair, clients: Option<&Authority>) -> Self {
        Self::start(origin, pair, clients, &[])
    }

    /// Starts one that chooses among these protocols.
    ///
    /// # Panics
    /// When there is no port, or the pair is none.
    pub fn speaking(origin: SocketAddr, pair: &Pair, protocols: &[&str]) -> Self {
        Self::start(origin, pair, None, protocols)
    }

    fn start(origin: SocketAddr, pair: &Pair, clients: Option<&Authority>, protocols: &[&str]) -> Self {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the versions are spoken");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(authority.roots().into(), provider());
                builder.with_client_cert_verifier(verifier.build().expect("an authority"))
            }
        };
        let (chain, key) = pair.parse();
        let mut config = builder.with_single_cert(chain, key).expect("a pair");
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shaken: Arc<Mutex<Vec<_>>> = Arc::default();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let noted = Arc::clone(&shaken);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("it can be polled");
                tokio::select! {
                    () = accept(listener, acceptor, origin, noted) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, shaken, _stop: stop }
    }

    /// What each handshake came to.
    pub fn shaken(&self) -> Vec<Result<String, String>> {
        self.shaken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    origin: SocketAddr,
    noted: Arc<Mutex<Vec<Result<String, String>>>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, noted) = (acceptor.clone(), Arc::clone(&noted));
        tokio::spawn(async move {
            let shaken = acceptor.accept(stream).await;
            let note = |what| noted.lock().unwrap_or_else(PoisonError::into_inner).push(what);
            match shaken {
                Err(error) => note(Err(error.to_string())),
                Ok(mut stream) => {
                    note(Ok(stream.get_ref().1.server_name().unwrap_or_default().to_owned()));
                    if let Ok(mut to) = tokio::net::TcpStream::connect(origin).await {
                        // Whoever ends it has ended it.
                        let _ = tokio::io::copy_bidirectional(&mut stream, &mut to).await;
                    }
                }
            }
        });
    }
}
