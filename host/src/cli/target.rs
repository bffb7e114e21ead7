//! Which admin API a client command talks to, and with which token. A token is only ever sent to the address that it
//! was found together with.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use witgate_core::config::{Admin, AdminListen};

use super::{
    Failed, Outcome, load,
    secure::{Env, Secure},
};
use crate::secrets;

/// How to find the running proxy.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Connect {
    /// The configuration file of the running proxy
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Where the admin API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// `host:port`; the host may be a name.
    Tcp(String),
    /// The socket's file.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An admin API and the right to use it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: Address,
    pub(super) token: String,
    /// None: without TLS.
    pub(super) secure: Option<Secure>,
    /// Where the address was read, for messages.
    pub(super) address_from: String,
    /// Where the token was read, for messages.
    pub(super) token_from: String,
}

/// Without the token: this may end in a message.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}), token from {}", self.address, self.address_from, self.token_from)
    }
}

impl Connect {
    /// The option as it was typed, with a space before it, for a command to be typed next.
    pub(super) fn as_typed(&self) -> String {
        self.config.as_ref().map_or_else(String::new, |file| format!(" -c {}", file.display()))
    }

    /// Looks at `-c`, then at the environment, then at `witgate.toml`.
    pub(super) fn find(&self) -> Outcome<Target> {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        self.find_with(&env)
    }

    fn find_with(&self, env: Env<'_>) -> Outcome<Target> {
        if let Some(file) = &self.config {
            return from_file(file, None, env);
        }
        let (admin, token) = (env("WITGATE_ADMIN"), env("WITGATE_TOKEN"));
        match (admin, token) {
            (Some(admin), Some(token)) => {
                let (address, over_tls) = parse(&admin)?;
                Ok(Target {
                    address,
                    token: token.trim().to_owned(),
                    secure: over_tls.then(|| Secure::of_env(env)).transpose()?,
                    address_from: "WITGATE_ADMIN".to_owned(),
                    token_from: "WITGATE_TOKEN".to_owned(),
                })
            }
            (Some(_), None) => Err(Failed::new(
                "WITGATE_ADMIN is set and WITGATE_TOKEN is not: set both, or name the proxy's configuration file with -c",
            )),
            (None, token) => {
                let file = Path::new(load::DEFAULT);
                if !file.exists() && token.is_some() {
                    return Err(Failed::new(
                        "WITGATE_TOKEN is set and WITGATE_ADMIN is not: set both, or name the proxy's configuration file with -c",
                    ));
                }
                if !file.exists() {
                    return Err(Failed::new(format!(
                        "which proxy? There is no {} here: name its configuration file with -c FILE, or set \
                         WITGATE_ADMIN (127.0.0.1:9901) and WITGATE_TOKEN",
                        load::DEFAULT
                    )));
                }
                from_file(file, token, env)
            }
        }
    }
}

fn from_file(file: &Path, token: Option<String>, env: Env<'_>) -> Outcome<Target> {
    let admin = load::config(file)?.config.admin;
    let (token, token_from) = match token {
        Some(token) => (token.trim().to_owned(), "WITGATE_TOKEN".to_owned()),
        None => token_of(&admin)?,
    };
    let (address, secure) = (reachable(&admin.listen, file)?, Secure::of(&admin, file, env)?);
    Ok(Target { address, token, secure, address_from: file.display().to_string(), token_from })
}

fn token_of(admin: &Admin) -> Outcome<(String, String)> {
    let path = &admin.token_file;
    let token = secrets::read(path).map_err(|error| {
        Failed::new(format!("{error}; the proxy makes it when it first starts; or set WITGATE_ADMIN and WITGATE_TOKEN"))
    })?;
    Ok((token, path.display().to_string()))
}

/// An address to connect to, of one to listen on.
fn reachable(listen: &AdminListen, file: &Path) -> Outcome<Address> {
    let address = match listen {
        AdminListen::Unix(path) => return Ok(Address::Unix(path.clone())),
        AdminListen::Tcp(address) => *address,
    };
    if address.port() == 0 {
        return Err(Failed::new(format!(
            "{}: the admin API listens on a port that was chosen at the start: set WITGATE_ADMIN to the address that \
             `witgate run` printed, and WITGATE_TOKEN",
            file.display()
        )));
    }
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(Address::Tcp(SocketAddr::new(host, address.port()).to_string()))
}

/// `127.0.0.1:9901`, `http://admin.local:9901/`, `https://admin.example.com:9901`, `unix:/run/witgate.sock`; and whether over TLS.
fn parse(text: &str) -> Outcome<(Address, bool)> {
    let text = text.trim();
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok((Address::Unix(PathBuf::from(path)), false));
    }
    let (address, over_tls) = match text.strip_prefix("https://") {
        Some(address) => (address, true),
        None => (text.strip_prefix("http://").unwrap_or(text), false),
    };
    let address = address.trim_end_matches('/');
    let port = address.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>()));
    if address.contains('/') || !matches!(port, Some(Ok(1..))) {
        return Err(Failed::new(format!(
            "WITGATE_ADMIN=\"{text}\" is no address; one would be 127.0.0.1:9901, https://127.0.0.1:9901 or unix:/run/witgate.sock"
        )));
    }
    Ok((Address::Tcp(address.to_owned()), over_tls))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    #[track_caller]
    fn check(connect: &Connect, env: &[(&str, &str)], want: Result<(&str, &str), &str>) {
        let lookup = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        match (connect.find_with(&lookup), want) {
            (Ok(got), Ok((address, token))) => {
                assert_eq!((got.address.to_string().as_str(), got.token.as_str()), (address, token), "{env:?}");
            }
            (Err(got), Err(part)) => assert!(got.message.contains(part), "{env:?}: {}", got.message),
            (got, want) => panic!("{connect:?} {env:?}: {got:?}, wanted {want:?}"),
        }
    }

    #[test]
    fn the_environment_names_both_or_neither() {
        let none = Connect::default();
        check(&none, &[("WITGATE_ADMIN", "127.0.0.1:1"), ("WITGATE_TOKEN", " t\n")], Ok(("127.0.0.1:1", "t")));
        check(&none, &[("WITGATE_ADMIN", "http://h:2/"), ("WITGATE_TOKEN", "t")], Ok(("h:2", "t")));
        check(&none, &[("WITGATE_ADMIN", "unix:/a"), ("WITGATE_TOKEN", "t")], Ok(("unix:/a", "t")));
        check(&none, &[("WITGATE_ADMIN", "https://h:2/"), ("WITGATE_TOKEN", "t")], Ok(("h:2", "t")));
        let half = [("WITGATE_ADMIN", "https://h:2"), ("WITGATE_TOKEN", "t"), ("WITGATE_CERT", "c.pem")];
        check(&none, &half, Err("WITGATE_KEY"));
        check(&none, &[("WITGATE_ADMIN", "127.0.0.1:1")], Err("WITGATE_TOKEN"));
        check(&none, &[("WITGATE_TOKEN", "t")], Err("WITGATE_ADMIN is not"));
        for bad in ["h", "h:", ":1", "h:0", "h:99999", "http://h:1/path", "https://h", "https://"] {
            check(&none, &[("WITGATE_ADMIN", bad), ("WITGATE_TOKEN", "t")], Err("is no address"));
        }
        check(&none, &[], Err("which proxy?"));
    }

    #[test]
    fn a_file_that_is_named_goes_before_the_environment() {
        use std::io::Write;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("w.toml");
        let connect = Connect { config: Some(file.clone()) };
        let env = [("WITGATE_ADMIN", "h:1"), ("WITGATE_TOKEN", "other")];
        let write = |admin: &str| {
            let listener = "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n";
            std::fs::write(&file, format!("[admin]\nlisten = \"{admin}\"\n{listener}")).unwrap();
        };
        write("0.0.0.0:7");
        check(&connect, &env, Err("admin.token"));
        let mut token = std::fs::File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(dir.path().join("admin.token"));
        writeln!(token.as_mut().unwrap(), "secret").unwrap();
        check(&connect, &env, Ok(("127.0.0.1:7", "secret")));
        write("127.0.0.1:0");
        check(&connect, &env, Err("chosen at the start"));
    }
}
