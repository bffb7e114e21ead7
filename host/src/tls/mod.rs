//! What is spoken below HTTP: certificates, keys and whom to trust, read from the files that the configuration names and made
//! ready for handshakes. Never does one, and never says who is to be let in beyond what a certificate proves.

mod client;
mod identity;
mod material;
mod operator;
mod server;
mod trust;

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use witgate_core::config::{Config, Service};

pub use client::Client;
pub use identity::{Over, client_certificate, shown, subject};
pub use material::Problem;
use material::Source;
pub use operator::{Trust, operator};
pub use server::Server;

/// The one implementation of cryptography.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// What listeners and clusters speak below HTTP, by their names. What did not change is the same as before, so that sessions
/// can be resumed and connections stay.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Of listeners.
    pub servers: HashMap<String, Arc<Server>>,
    /// Of clusters.
    pub clients: HashMap<String, Arc<Client>>,
    /// Of the admin API.
    pub admin: Option<Arc<Server>>,
}

/// Something that the configuration says of TLS cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{whose}: `{key}`: {}: {problem}", path.display())]
pub struct TlsError {
    /// The listener or cluster.
    pub whose: String,
    /// The key that names the file.
    pub key: String,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What cannot be used, each on a line of its own.
#[derive(Debug)]
pub struct TlsRefused(Vec<TlsError>);

impl TlsRefused {
    /// All of them.
    pub fn errors(&self) -> &[TlsError] {
        &self.0
    }
}

impl std::error::Error for TlsRefused {}

impl fmt::Display for TlsRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(n, error)| write!(f, "{}{error}", if n > 0 { "\n" } else { "" }))
    }
}

impl Tls {
    /// Reads what `config` names. Where that cannot be used, but could before by the same settings, what was there stays,
    /// and the reason comes beside it: who renews certificates must not take a listener down.
    ///
    /// # Errors
    /// All that cannot be used and could not before.
    pub fn load(config: &Config, before: &Self) -> Result<(Self, Vec<TlsError>), TlsRefused> {
        let (mut tls, mut kept, mut refused) = (Self::default(), Vec::new(), Vec::new());
        for listener in &config.listeners {
            let Some(settings) = &listener.tls else { continue };
            let mut source = Source::new(format!("listener \"{}\"", listener.name));
            let before = before.servers.get(&listener.name);
            let protocols = if listener.service == Service::Http { server::HTTP } else { &[] };
            let loaded = Server::load(&mut source, settings, protocols, before);
            let before = before.filter(|b| b.settings() == settings && b.speaks(protocols));
            let server = settle(loaded, before, source.into_errors(), &mut kept, &mut refused);
            tls.servers.extend(server.map(|server| (listener.name.clone(), server)));
        }
        for cluster in &config.clusters {
            let Some(settings) = &cluster.tls else { continue };
            let mut source = Source::new(format!("cluster \"{}\"", cluster.name));
            let before = before.clients.get(&cluster.name).filter(|b| b.settings() == &**settings);
            let loaded = Client::load(&mut source, settings, before);
            let client = settle(loaded, before, source.into_errors(), &mut kept, &mut refused);
            tls.clients.extend(client.map(|client| (cluster.name.clone(), client)));
        }
        tls.admin = load_admin(config, before, (&mut kept, &mut refused));
        if refused.is_empty() { Ok((tls, kept)) } else { Err(TlsRefused(refused)) }
    }

    /// What is in use and should not be, in words.
    pub fn warnings(&self, now: SystemTime) -> Vec<String> {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let over = |server: &Server| server.not_after < i64::try_from(now).unwrap_or(i64::MAX);
        let listeners = self.servers.iter().map(|(name, server)| (format!("listener \"{name}\""), server));
        let all = listeners.chain(self.admin.iter().map(|server| (ADMIN.to_owned(), server)));
        let over = all.filter(|(_, server)| over(server));
        let mut warnings: Vec<_> = over
            .map(|(whose, _)| format!("{whose}: a certificate of `tls` is no longer valid: clients refuse it"))
            .collect();
        warnings.sort();
        warnings
    }

    /// Whether all of it is what that is.
    pub fn is_same(&self, other: &Self) -> bool {
        let admins = [&self.admin, &other.admin].map(|admin| admin.as_ref().map(Arc::as_ptr));
        admins[0] == admins[1] && same(&self.servers, &other.servers) && same(&self.clients, &other.clients)
    }
}

fn same<T>(one: &HashMap<String, Arc<T>>, other: &HashMap<String, Arc<T>>) -> bool {
    one.len() == other.len()
        && one.iter().all(|(name, one)| other.get(name).is_some_and(|other| Arc::ptr_eq(one, other)))
}

/// The admin API, in messages.
const ADMIN: &str = "the admin API";

/// As for a listener; its one certificate has keys without a number.
fn load_admin(
    config: &Config,
    before: &Tls,
    (kept, refused): (&mut Vec<TlsError>, &mut Vec<TlsError>),
) -> Option<Arc<Server>> {
    let settings = config.admin.tls.as_ref()?;
    let mut source = Source::new(ADMIN.to_owned());
    let before = before.admin.as_ref().filter(|b| b.settings() == settings);
    let loaded = Server::load(&mut source, settings, server::HTTP1, before);
    let mut errors = source.into_errors();
    errors.iter_mut().for_each(|error| error.key = error.key.replace("certificates[0].", ""));
    settle(loaded, before, errors, kept, refused)
}

/// What is used: what was loaded where nothing is wrong with it, else what was there before.
fn settle<T>(
    loaded: Option<Arc<T>>,
    before: Option<&Arc<T>>,
    errors: Vec<TlsError>,
    kept: &mut Vec<TlsError>,
    refused: &mut Vec<TlsError>,
) -> Option<Arc<T>> {
    if errors.is_empty() {
        return loaded;
    }
    if before.is_some() { kept } else { refused }.extend(errors);
    before.cloned()
}

/// Every file that the configuration names for TLS.
pub fn files(config: &Config) -> Vec<PathBuf> {
    let listeners = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let servers = listeners.chain(&config.admin.tls).flat_map(|tls| {
        let pairs = tls.certificates.iter().flat_map(|c| [Some(&c.cert), Some(&c.key), c.ocsp.as_ref()]);
        pairs.flatten().chain(&tls.client_ca)
    });
    let clients = config.clusters.iter().filter_map(|cluster| cluster.tls.as_deref()).flat_map(|tls| {
        let identity = tls.identity.iter().flat_map(|identity| [&identity.cert, &identity.key]);
        identity.chain(&tls.ca)
    });
    let mut files: Vec<PathBuf> = servers.chain(clients).cloned().collect();
    files.sort();
    files.dedup();
    files
}
