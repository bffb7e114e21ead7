//! `[access_log]`: a line for each request that ended.

use std::{net::SocketAddr, path::PathBuf};

/// `[access_log]`.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLog {
    /// Where lines go.
    pub to: LogPlace,
    /// What a line is made of.
    pub format: LogFormat,
    /// Part of the requests that are logged, at random; those answered with 5xx always are. Default 1.
    pub sample: f64,
    /// Bytes of lines that may wait to be written; default 1 MiB.
    pub buffer: usize,
}

/// Where the lines of an access log go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPlace {
    /// Appended to a file.
    File(PathBuf),
    /// `path = "stdout"`.
    Stdout,
    /// `syslog = "udp://…"`: a datagram a line.
    Udp(SocketAddr),
    /// `syslog = "unix:…"`: the same, to a socket of this machine.
    Unix(PathBuf),
}

/// What a line is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogFormat {
    /// An object with every field.
    Json,
    /// These pieces, one behind the other.
    Text(Vec<LogPiece>),
}

/// A piece of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPiece {
    /// As it stands.
    Text(String),
    /// What is known of a request.
    Field(LogField),
}

macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident = $word:literal,)*) => {
        /// What is known of a request that ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum LogField { $($(#[$doc])* $field),* }

        impl LogField {
            /// Every field, in the order that they have in an object.
            pub const ALL: &[Self] = &[$(Self::$field),*];

            /// Its name in a format and in an object.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$field => $word),* }
            }
        }
    };
}

fields! {
    /// When it ended, in UTC.
    Time = "time",
    /// `x-request-id` as sent on.
    RequestId = "request_id",
    /// The client's address, after trusted proxies were looked through.
    Client = "client",
    /// The other end of the connection, with its port.
    Peer = "peer",
    /// The listener's name.
    Listener = "listener",
    /// As it came.
    Method = "method",
    /// `http` or `https`.
    Scheme = "scheme",
    /// As the client named it, with a port where it named one.
    Host = "host",
    /// With the query.
    Path = "path",
    /// `HTTP/1.1`.
    Protocol = "protocol",
    /// None where the client went away.
    Status = "status",
    /// As in `x-witgate-error`.
    Error = "error",
    /// From the head to the end of the response.
    Duration = "duration_ms",
    /// From the begin of the last try to its response's head.
    Upstream = "upstream_ms",
    /// Of the request's body.
    BytesIn = "bytes_in",
    /// Of the response's body.
    BytesOut = "bytes_out",
    /// The route's name.
    Route = "route",
    /// The cluster's name.
    Cluster = "cluster",
    /// The address of the endpoint that was tried last.
    Endpoint = "endpoint",
    /// Tries that were begun.
    Attempts = "attempts",
    /// The header.
    UserAgent = "user_agent",
    /// The header.
    Referer = "referer",
    /// The header.
    Traceparent = "traceparent",
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { to: LogPlace::Stdout, format: LogFormat::Json, sample: 1.0, buffer: 1 << 20 }
    }
}
