//! By which name a request asks, and for which web page: what a browser sends on behalf of a page is told apart by that.
//! A page whose name is made to stand for this address (DNS rebinding) still asks by its own name, which nobody here has
//! configured. Knows nothing of tokens.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, StatusCode, Version, header, request::Parts, uri::Authority};
use witgate_core::config::{Admin, AdminListen};

use super::{paths::Resource, reply::ApiError};

/// Names by which the API may be asked.
pub(super) struct Hosts {
    names: Vec<String>,
    /// No browser opens a Unix socket, and what is asked for there names no host.
    over_tcp: bool,
    scheme: &'static str,
}

impl Hosts {
    pub(super) fn new(config: &Admin) -> Self {
        let over_tcp = matches!(config.listen, AdminListen::Tcp(_));
        Self { names: config.hosts.clone(), over_tcp, scheme: if config.tls.is_some() { "https" } else { "http" } }
    }

    /// Refuses what is asked by a name that is not this API's, or for a page of somebody else.
    ///
    /// # Errors
    /// 400, 403, 421.
    pub(super) fn check(&self, head: &Parts, resource: Option<&Resource>) -> Result<(), ApiError> {
        self.refuse_pages(&head.headers)?;
        if !self.over_tcp {
            return Ok(());
        }
        let mut named = head.headers.get_all(header::HOST).iter();
        let host = named.next();
        if named.next().is_some() || (host.is_none() && head.version == Version::HTTP_11) {
            return Err(ApiError::bad_request("one Host header is needed, and no more (RFC 9112, section 3.2)"));
        }
        // Both, where the request line has one too.
        let hosts = host.map(HeaderValue::as_bytes).into_iter();
        for host in hosts.chain(head.uri.authority().map(|authority| authority.as_str().as_bytes())) {
            if !self.has(host, resource) {
                let host = String::from_utf8_lossy(&host[..host.len().min(100)]);
                let error = format!(
                    "{host:?} is no name of this API: ask by an IP address, by \"localhost\", or by a name that \
                     [admin] hosts lists"
                );
                return Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, error));
            }
        }
        Ok(())
    }

    fn has(&self, host: &[u8], resource: Option<&Resource>) -> bool {
        // They say no more than "ready", and whoever probes may name any host.
        if matches!(resource, Some(Resource::Livez | Resource::Readyz)) {
            return true;
        }
        let Ok(authority) = Authority::try_from(host) else { return false };
        if authority.as_str().contains('@') {
            return false;
        }
        let host = authority.host();
        if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            return true;
        }
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        name == "localhost"
            || self.names.contains(&name)
            || (matches!(resource, Some(Resource::Metrics)) && is_a_service(&name))
    }

    /// Refuses what a browser sends on behalf of a page of somebody else: it says so in `Origin`, or in `Sec-Fetch-Site`
    /// (Fetch Metadata, W3C), or in both.
    fn refuse_pages(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let own = |origin: &HeaderValue| self.is_own(origin, headers);
        let here = |site: &HeaderValue| matches!(site.as_bytes(), b"same-origin" | b"none");
        if headers.get_all(header::ORIGIN).iter().all(own) && headers.get_all("sec-fetch-site").iter().all(here) {
            return Ok(());
        }
        let error = "requests on behalf of a web page of another origin (Origin, Sec-Fetch-Site) are not accepted";
        Err(ApiError::new(StatusCode::FORBIDDEN, error))
    }

    fn is_own(&self, origin: &HeaderValue, headers: &HeaderMap) -> bool {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let origin = origin.to_str().ok().and_then(|origin| origin.strip_prefix(self.scheme)?.strip_prefix("://"));
        let port = if self.scheme == "https" { ":443" } else { ":80" };
        let bare = |host: &str| host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase();
        host.is_some_and(|host| origin.is_some_and(|origin| bare(origin) == bare(host)))
    }
}

/// Whether a name is one that services have within a network, and that nobody can register outside of it: those who scrape
/// metrics ask by such names. One label; or below what no public name ends with.
fn is_a_service(name: &str) -> bool {
    !name.is_empty()
        && (!name.contains('.') || [".svc", ".cluster.local", ".internal"].iter().any(|end| name.ends_with(end)))
}

#[cfg(test)]
mod tests {
    use http::{Request, request::Builder};

    use super::*;

    fn hosts(listen: &str, tls: bool) -> Hosts {
        let tls = if tls { "tls = { cert = \"c\", key = \"k\" }\n" } else { "" };
        let names = if listen.starts_with("unix") { "" } else { "hosts = [\"Admin.Example.com\"]\n" };
        let text = format!(
            "[admin]\nlisten = \"{listen}\"\n{names}{tls}[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n"
        );
        let parsed = config_of(&text);
        Hosts::new(&parsed)
    }

    fn config_of(text: &str) -> Admin {
        let parsed = witgate_core::config::parse(text, "test.toml", std::path::Path::new("/"));
        parsed.unwrap_or_else(|errors| panic!("{errors}")).config.admin
    }

    fn over_tcp() -> Hosts {
        hosts("127.0.0.1:0", false)
    }

    #[track_caller]
    fn check(hosts: &Hosts, path: &str, request: Builder, want: u16) {
        let head = request.body(()).unwrap().into_parts().0;
        let got =
            hosts.check(&head, Resource::find(path).as_ref()).map_or_else(|error| error.status.as_u16(), |()| 200);
        assert_eq!(got, want, "{path} {head:?}");
    }

    fn to(host: &str) -> Builder {
        Request::builder().header("host", host)
    }

    #[test]
    fn who_asks_by_a_name_that_is_not_configured_is_refused() {
        let hosts = over_tcp();
        for path in ["/v1/plugins", "/v1/config", "/metrics", "/nothing"] {
            for own in ["127.0.0.1:9901", "10.0.0.7", "[::1]:9901", "localhost:9901", "LOCALHOST", "localhost.:1"] {
                check(&hosts, path, to(own), 200);
            }
            check(&hosts, path, to("ADMIN.example.com.:9901"), 200);
            for other in [
                "evil.example",
                "evil.example:9901",
                "localhost.evil.example",
                "127.0.0.1.evil.example",
                "evil.admin.example.com",
                "admin.example.com.evil.test",
                "localhost@evil.example",
                "127.0.0.1@evil.example",
                "127.1.evil",
                "",
                "a b",
                "::1",
            ] {
                check(&hosts, path, to(other), 421);
            }
        }
        check(&hosts, "/v1/plugins", to("witgate:9901"), 421);
    }

    #[test]
    fn probes_are_asked_by_any_name_and_metrics_by_those_of_services() {
        let hosts = over_tcp();
        for probe in ["/livez", "/readyz"] {
            check(&hosts, probe, to("whoever.example"), 200);
        }
        for service in ["witgate:9901", "witgate.default.svc:9901", "w.default.svc.cluster.local", "w.corp.internal"] {
            check(&hosts, "/metrics", to(service), 200);
        }
        for other in ["svc.example", "witgate.default", "a.svc.example", "."] {
            check(&hosts, "/metrics", to(other), 421);
        }
    }

    #[test]
    fn there_is_one_host_and_the_request_line_has_no_other() {
        let hosts = over_tcp();
        check(&hosts, "/v1/plugins", Request::builder(), 400);
        check(&hosts, "/v1/plugins", Request::builder().version(Version::HTTP_10), 200);
        check(&hosts, "/livez", to("localhost").header("host", "localhost"), 400);
        check(&hosts, "/v1/plugins", to("localhost").uri("http://evil.example/v1/plugins"), 421);
        check(&hosts, "/v1/plugins", to("localhost").uri("http://localhost/v1/plugins"), 200);
        check(&self::hosts("unix:/a", false), "/v1/plugins", Request::builder(), 200);
    }

    #[test]
    fn pages_of_others_are_refused() {
        let plain = over_tcp();
        let from = |origin: &str| to("localhost:9901").header("origin", origin);
        for path in ["/livez", "/metrics", "/v1/plugins"] {
            for other in [
                "http://evil.example",
                "null",
                "",
                "http://localhost",
                "http://localhost:3000",
                "https://localhost:9901",
                "http://localhost:9901.evil.example",
                "http://localhost:9901/",
            ] {
                check(&plain, path, from(other), 403);
            }
            check(&plain, path, from("http://LOCALHOST:9901"), 200);
            check(&plain, path, from("http://localhost:9901").header("origin", "http://evil.example"), 403);
            for site in ["cross-site", "same-site", "whatever"] {
                check(&plain, path, to("localhost").header("sec-fetch-site", site), 403);
            }
            for site in ["none", "same-origin"] {
                check(&plain, path, to("localhost").header("sec-fetch-site", site), 200);
            }
        }
        let secure = hosts("127.0.0.1:0", true);
        check(&secure, "/v1/plugins", to("localhost:443").header("origin", "https://localhost"), 200);
        check(&secure, "/v1/plugins", to("localhost").header("origin", "http://localhost"), 403);
        check(&hosts("unix:/a", false), "/v1/plugins", Request::builder().header("origin", "http://a"), 403);
    }
}
