//! `[admin]`.

use std::{net::SocketAddr, path::PathBuf};

use super::ServerTls;

/// Where the admin API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminListen {
    /// A TCP address.
    Tcp(SocketAddr),
    /// `unix:PATH`.
    Unix(PathBuf),
}

/// `[admin]`. Relative paths are relative to the configuration file's directory.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Default `127.0.0.1:9901`.
    pub listen: AdminListen,
    /// Permission bits of the Unix socket's file; default 0600.
    pub mode: u32,
    /// Names, in lower case and without a dot at the end, by which it may be asked over TCP beside IP addresses and
    /// `localhost`.
    pub hosts: Vec<String>,
    /// What opens everything; default `admin.token`.
    pub token_file: PathBuf,
    /// What opens all that changes nothing and shows no secret; none: there is no such token.
    pub read_token_file: Option<PathBuf>,
    /// What is spoken below HTTP: one certificate, and where whose clients' are taken is said, they must show one.
    pub tls: Option<ServerTls>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: AdminListen::Tcp(SocketAddr::from(([127, 0, 0, 1], 9901))),
            mode: 0o600,
            hosts: Vec::new(),
            token_file: "admin.token".into(),
            read_token_file: None,
            tls: None,
        }
    }
}
