//! What the benchmarks in `host/benches` measure of what is private, and what they need to set it up. Not there without
//! the feature `internals`, and promised to nobody: nothing else may lean on it.

pub use crate::control::{Sockets, Start};
pub use crate::drain::Drain;
pub use crate::inherited::Inherited;
pub use crate::listen::http::serve;
pub use crate::proxy::headers::{Found, check, client_address, remove_hop_by_hop, set_forwarded, to_origin};
pub use crate::telemetry::access_log::{AccessLogs, Layout, Line, Stamp};
pub use crate::tls::Tls;
pub use crate::upstream::{
    Connection, Stream,
    alone::{begin, take_head},
};
pub use crate::worker::{Worker, conn::Conn};
