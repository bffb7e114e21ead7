//! The proxy in process: a configuration's text in, a running proxy on free ports out.

use std::net::SocketAddr;

use crate::{
    client::{Client, Response},
    origin::Origin,
};

/// A running proxy with a directory of its own.
pub struct Running {
    /// The proxy; none once it was ended.
    pub proxy: Option<witgate::Proxy>,
    /// Its configuration and state.
    pub dir: tempfile::TempDir,
}

/// What every test's configuration begins with: free ports, two workers.
pub const PREAMBLE: &str = r#"
[admin]
listen = "127.0.0.1:0"
[runtime]
workers = 2
"#;

/// Starts a proxy with [`PREAMBLE`] and `config`.
///
/// # Panics
/// When the configuration is refused or the proxy does not start.
pub fn start(config: &str) -> Running {
    start_in(crate::scratch(), config)
}

/// The same, in a directory with what was put there before.
///
/// # Panics
/// When the configuration is refused or the proxy does not start.
pub fn start_in(dir: tempfile::TempDir, config: &str) -> Running {
    start_text(dir, format!("{PREAMBLE}{config}"))
}

/// A proxy with one worker, to which every connection belongs.
///
/// # Panics
/// When the configuration is refused or the proxy does not start.
pub fn start_alone(config: &str) -> Running {
    start_text(crate::scratch(), format!("{}{config}", PREAMBLE.replace("workers = 2", "workers = 1")))
}

fn start_text(dir: tempfile::TempDir, text: String) -> Running {
    let file = dir.path().join("test.toml");
    std::fs::write(&file, &text).expect("a configuration can be written");
    let parsed = witgate_core::config::parse(&text, "test.toml", dir.path())
        .unwrap_or_else(|diagnostics| panic!("configuration refused:\n{diagnostics}"));
    let source = witgate::Source { text, file: Some(file), base: dir.path().to_owned() };
    let proxy =
        witgate::Proxy::start_from(parsed.config, source).unwrap_or_else(|error| panic!("not started: {error}"));
    Running { proxy: Some(proxy), dir }
}

/// A proxy with one route (`all`, with more keys of it) to one cluster (`c`, by round-robin, with more keys of it).
///
/// # Panics
/// As [`start`].
pub fn start_before(endpoints: &[&Origin], route: &str, cluster: &str) -> Running {
    let endpoints: Vec<String> = endpoints.iter().map(|o| format!("{{ address = \"{}\" }}", o.address)).collect();
    start(&format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n[[route]]\nname = \"all\"\ncluster = \"c\"\n{route}\n\
         [[cluster]]\nname = \"c\"\nbalance = \"round-robin\"\nendpoints = [{}]\n{cluster}\n",
        endpoints.join(", ")
    ))
}

impl Running {
    fn get(&self) -> &witgate::Proxy {
        self.proxy.as_ref().expect("the proxy was not ended yet")
    }

    /// The address of the listener `web`.
    ///
    /// # Panics
    /// When there is none.
    pub fn web(&self) -> SocketAddr {
        self.get().listener("web").expect("a listener named web")
    }

    /// A connection to the listener `web`.
    pub fn client(&self) -> Client {
        Client::connect(self.web())
    }

    /// The admin API's address.
    ///
    /// # Panics
    /// When it is not a TCP address.
    pub fn admin(&self) -> SocketAddr {
        self.get().admin().to_string().parse().expect("the admin API listens on TCP in tests")
    }

    /// Begins a drain.
    pub fn drain(&self) {
        self.get().drain();
    }

    /// Waits for the end of a drain.
    pub fn wait(&mut self) {
        if let Some(proxy) = self.proxy.take() {
            proxy.wait();
        }
    }

    /// An admin call with the token, on a connection of its own.
    pub fn call(&self, method: &str, path: &str, body: &[u8]) -> Response {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
            self.get().token(),
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        Client::connect(self.admin()).ask(request)
    }

    /// Whether the metrics have this line.
    pub fn has_metric(&self, line: &str) -> bool {
        self.call("GET", "/metrics", b"").body.lines().any(|found| found == line)
    }

    /// Uploads a module and makes it live.
    ///
    /// # Panics
    /// When it is refused.
    pub fn upload(&self, name: &str, wasm: &[u8]) -> Response {
        let response = self.call("PUT", &format!("/v1/plugins/{name}?activate=true"), wasm);
        assert!(matches!(response.status, 200 | 201), "upload of {name}: {response:?}");
        response
    }
}
