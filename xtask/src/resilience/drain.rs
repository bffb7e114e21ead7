//! How an operator takes an endpoint out of each proxy, waits until nothing of it is in flight, and takes it back. Does not touch
//! the endpoint.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::origins::{self, Nginx};
use super::site::{Proxy, Site};
use crate::lab::http::{self, Answer, Connection};
use crate::lab::peers::Peer;
use crate::run::{Failed, Outcome};

/// For what is in flight to end.
const LIMIT: Duration = Duration::from_secs(10);
/// Three checks, a second apart, and what is in flight then.
const UNTIL_OUT: Duration = Duration::from_secs(5);
/// Two checks, and a jitter.
const UNTIL_BACK: Duration = Duration::from_secs(3);
/// Between one endpoint and the next, for everybody.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes each of them out, restarts it, and takes it back.
pub(super) fn rolling(site: &Site, peer: Peer, proxy: &Proxy, origins: &mut Nginx) -> Outcome {
    for number in 0..origins::COUNT {
        let address = origins::address(number, site.origin);
        match peer {
            Peer::Witgate => {
                let admin = Admin::new(site, proxy)?;
                admin.set(address, "drain")?;
                until_idle(|| admin.in_flight(address))?;
                origins.restart(number)?;
                admin.set(address, "active")?;
            }
            Peer::Haproxy => {
                let socket = site.scratch.path("haproxy.sock");
                let server = format!("app/o{}", number + 1);
                haproxy(&socket, &format!("set server {server} state drain"))?;
                until_idle(|| Ok(sessions(&haproxy(&socket, "show stat")?, &server)))?;
                origins.restart(number)?;
                haproxy(&socket, &format!("set server {server} state ready"))?;
            }
            // By its checks: there is nothing to tell Envoy when its endpoints are in its file.
            _ => {
                origins.set_draining(number, true)?;
                thread::sleep(UNTIL_OUT);
                origins.restart(number)?;
                origins.set_draining(number, false)?;
                thread::sleep(UNTIL_BACK);
            }
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn until_idle(in_flight: impl Fn() -> Result<Option<u64>, Failed>) -> Outcome {
    let since = Instant::now();
    loop {
        match in_flight()? {
            Some(0) => return Ok(()),
            left if since.elapsed() > LIMIT => {
                let left = left.map_or("unknown".to_string(), |left| left.to_string());
                return Err(Failed::new(format!("an endpoint does not drain; in flight: {left}")));
            }
            _ => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Witgate's admin API.
pub(super) struct Admin {
    port: u16,
    authorization: String,
}

impl Admin {
    pub(super) fn new(site: &Site, proxy: &Proxy) -> Result<Admin, Failed> {
        Ok(Admin::of(proxy.admin, &site.token()?))
    }

    pub(super) fn of(port: u16, token: &str) -> Admin {
        Admin { port, authorization: format!("Bearer {token}") }
    }

    /// One call, on a connection of its own.
    pub(super) fn call(&self, method: &str, path: &str, body: &str) -> Result<Answer, Failed> {
        let kind = if body.starts_with('{') { "application/json" } else { "application/toml" };
        self.send(method, path, kind, body.as_bytes())
    }

    /// The same, with a body of any kind.
    pub(super) fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<Answer, Failed> {
        let headers = [("Authorization", self.authorization.as_str()), ("Content-Type", kind)];
        // The type is only of what is sent.
        let headers = if body.is_empty() { &headers[..1] } else { &headers[..] };
        let request = http::request(method, path, headers, body);
        let answer = Connection::open(self.port).and_then(|mut to| to.exchange(&request));
        answer.map_err(|error| Failed::new(format!("{method} {path}: {error}")))
    }

    fn set(&self, address: SocketAddr, state: &str) -> Outcome {
        let body = format!("{{\"state\": \"{state}\"}}");
        let answer = self.call("PATCH", &format!("/v1/clusters/app/endpoints/{address}"), &body)?;
        if answer.status == 200 { Ok(()) } else { Err(Failed::new(format!("{state} {address}: {}", answer.status))) }
    }

    fn in_flight(&self, address: SocketAddr) -> Result<Option<u64>, Failed> {
        let answer = self.call("GET", "/v1/clusters/app", "")?;
        Ok(in_flight(&String::from_utf8_lossy(&answer.body), address))
    }
}

/// What a cluster's JSON says of an endpoint, whose address comes before its other facts.
fn in_flight(json: &str, address: SocketAddr) -> Option<u64> {
    let dense: String = json.chars().filter(|character| !character.is_whitespace()).collect();
    let (_, endpoint) = dense.split_once(&format!("\"address\":\"{address}\""))?;
    let (_, number) = endpoint.split_once("\"in_flight\":")?;
    number.split([',', '}']).next()?.parse().ok()
}

/// A command to HAProxy's runtime API, and its answer.
fn haproxy(socket: &Path, command: &str) -> Result<String, Failed> {
    let failed = |error: std::io::Error| Failed::new(format!("{command}: {error}"));
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    stream.write_all(format!("{command}\n").as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    if command.starts_with("set") && !answer.trim().is_empty() {
        return Err(Failed::new(format!("{command}: {}", answer.trim())));
    }
    Ok(answer)
}

/// `scur` of a server, `BACKEND/SERVER`, in HAProxy's statistics.
fn sessions(csv: &str, server: &str) -> Option<u64> {
    let mut lines = csv.lines();
    let names: Vec<&str> = lines.next()?.trim_start_matches("# ").split(',').collect();
    let at = names.iter().position(|name| *name == "scur")?;
    let start = format!("{},", server.replace('/', ","));
    lines.find_map(|line| line.strip_prefix(&start).map(|_| line))?.split(',').nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_flight() {
        let json = r#"{"endpoints": [
            {"address": "127.0.2.1:80", "ejected": {"cause": "x", "left_ms": 3}, "in_flight": 7, "weight": 1},
            {"address": "127.0.2.1:8080", "ejected": null, "in_flight": 0}]}"#;
        let check =
            |address: &str, expected| assert_eq!(in_flight(json, address.parse().unwrap()), expected, "{address}");
        check("127.0.2.1:80", Some(7));
        check("127.0.2.1:8080", Some(0));
        check("127.0.2.2:80", None);
    }

    #[test]
    fn sessions_of_a_server() {
        let csv = "# pxname,svname,qcur,qmax,scur,smax\nweb,FRONTEND,,,9,9\napp,o1,0,0,3,8\napp,o2,0,0,0,8\n";
        assert_eq!(sessions(csv, "app/o1"), Some(3));
        assert_eq!(sessions(csv, "app/o2"), Some(0));
        assert_eq!(sessions(csv, "app/o3"), None);
        assert_eq!(sessions("", "app/o1"), None);
    }
}
