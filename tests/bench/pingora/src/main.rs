//! The least balancer on Pingora that does what `cargo xtask bench` measures: round robin over two origins, or a policy
//! before it; HTTP/1.1, TLS or HTTP/2 in cleartext. Its one argument is a file of lines `KEY VALUE…`.

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::lb::LoadBalancer;
use pingora::lb::selection::RoundRobin;
use pingora::listeners::tls::TlsSettings;
use pingora::prelude::*;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::configuration::ServerConf;

/// What the file says.
struct Settings<'t> {
    lines: Vec<(&'t str, &'t str)>,
}

impl<'t> Settings<'t> {
    fn parse(text: &'t str) -> Settings<'t> {
        let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' '));
        Settings { lines: lines.collect() }
    }

    fn value(&self, key: &str) -> Result<&'t str, String> {
        let line = self.lines.iter().find(|(own, _)| *own == key);
        line.map(|(_, value)| value.trim()).ok_or_else(|| format!("no `{key}`"))
    }

    fn group(&self, key: &str) -> Result<Group, Box<dyn Error>> {
        Ok(Arc::new(LoadBalancer::try_from_iter(self.value(key)?.split_whitespace())?))
    }
}

type Group = Arc<LoadBalancer<RoundRobin>>;

struct Balancer {
    stable: Group,
    canary: Group,
    policy: bool,
}

#[async_trait]
impl ProxyHttp for Balancer {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, session: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        let group = if self.policy && is_canary(session) { &self.canary } else { &self.stable };
        let origin = group.select(b"", 16).ok_or_else(|| pingora::Error::new_str("no origin"))?;
        Ok(Box::new(HttpPeer::new(origin, false, String::new())))
    }
}

/// The header, else FNV-1a of the cookie.
fn is_canary(session: &Session) -> bool {
    let headers = &session.req_header().headers;
    if headers.get("x-canary").is_some_and(|value| value.as_bytes() == b"1") {
        return true;
    }
    let cookies = headers.get("cookie").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let uid = cookies.split(';').find_map(|cookie| cookie.trim_start().strip_prefix("uid=")).unwrap_or_default();
    fnv1a(uid.as_bytes()) % 100 >= 90
}

fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn main() -> Result<(), Box<dyn Error>> {
    let text = std::fs::read_to_string(std::env::args().nth(1).ok_or("usage: bench-pingora FILE")?)?;
    let settings = Settings::parse(&text);
    let (mode, address, run) = (settings.value("mode")?, settings.value("listen")?, settings.value("run")?);
    let balancer =
        Balancer { stable: settings.group("stable")?, canary: settings.group("canary")?, policy: mode == "policy" };
    let conf = ServerConf {
        threads: 1,
        // One thread: there is nobody to steal from.
        work_stealing: false,
        upstream_keepalive_pool_size: 256,
        pid_file: format!("{run}/pingora.pid"),
        upgrade_sock: format!("{run}/pingora.sock"),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, balancer);
    match mode {
        "tls" => {
            let tls = TlsSettings::intermediate(&format!("{run}/cert.pem"), &format!("{run}/key.pem"))?;
            service.add_tls_with_settings(address, None, tls);
        }
        "http2" => {
            let mut options = HttpServerOptions::default();
            options.h2c = true;
            service.app_logic_mut().ok_or("no application")?.server_options = Some(options);
            service.add_tcp(address);
        }
        _ => service.add_tcp(address),
    }
    server.add_service(service);
    server.run_forever()
}
