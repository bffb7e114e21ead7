//! Requests that have split proxies from servers, and answers that have split proxies from clients, row by row. Whatever goes
//! out to an origin is read there as strictly as can be ([`witgate_tests::wire`]), and means exactly one request; what does not
//! is refused, and nothing of it goes out.

mod endpoints;
mod heads;
mod http1;
mod http2;

use witgate_tests::{client::Client, proxy, proxy::Running, wire::Recording};

/// A proxy with one worker before one origin.
fn before(address: std::net::SocketAddr) -> Running {
    proxy::start_alone(&format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n[[route]]\nname = \"all\"\ncluster = \"c\"\n\
         [[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{address}\" }}]\n",
    ))
}

/// What rows came to, where that is not what was wanted.
#[derive(Default)]
struct Surprises(Vec<String>);

impl Surprises {
    fn check(&mut self, sent: &[u8], want: &str, came: &str) {
        if want != came {
            let shown = sent.escape_ascii().to_string();
            let shown: String = shown.chars().take(300).collect();
            self.0.push(format!("{shown}\n    wanted {want}\n    got    {came}"));
        }
    }

    #[track_caller]
    fn none(self) {
        assert!(self.0.is_empty(), "{} rows:\n{}", self.0.len(), self.0.join("\n"));
    }
}

/// The request that is sent behind a row, where the connection is to be of use still: it must be read as what it is.
const LAST: &str = "GET /last HTTP/1.1\r\nhost: last\r\nconnection: close\r\n\r\n";
const LAST_SEEN: &str = "GET /last @last";
