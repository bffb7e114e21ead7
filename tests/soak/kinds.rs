//! The kinds of requests there are, and how often each comes.

/// What one client does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// A request of this method for this path.
    Http1(&'static str, &'static str),
    /// The same over TLS.
    Tls(&'static str),
    /// Over TLS, as streams of one connection.
    Http2(&'static str, &'static str),
    Tcp,
    Upgrade,
    SlowSender,
    SlowReader,
    GoesAway,
}

pub(crate) struct Kind {
    /// As the table has it.
    pub(crate) name: &'static str,
    pub(crate) way: Way,
    pub(crate) rate: Rate,
}

/// How often.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rate {
    /// Of a hundred requests.
    Share(u32),
    /// Of those that last, in each second.
    Each(u32),
}

const fn kind(name: &'static str, way: Way, rate: Rate) -> Kind {
    Kind { name, way, rate }
}

pub(crate) const ALL: &[Kind] = &[
    kind("GET, HTTP/1.1", Way::Http1("GET", "/"), Rate::Share(24)),
    kind("POST, HTTP/1.1", Way::Http1("POST", "/"), Rate::Share(8)),
    kind("GET, a router plugin asked", Way::Http1("GET", "/policy"), Rate::Share(16)),
    kind("GET, to HTTP/2 origins", Way::Http1("GET", "/h2/"), Rate::Share(8)),
    kind("GET, HTTP/1.1 over TLS", Way::Tls("/"), Rate::Share(16)),
    kind("GET, HTTP/2 over TLS", Way::Http2("GET", "/"), Rate::Share(16)),
    kind("POST, HTTP/2 over TLS", Way::Http2("POST", "/"), Rate::Share(4)),
    kind("GET, HTTP/2 over TLS to HTTP/2 origins", Way::Http2("GET", "/h2/"), Rate::Share(8)),
    kind("GET of 256 KiB", Way::Http1("GET", "/large"), Rate::Each(4)),
    kind("PUT by a slow sender", Way::SlowSender, Rate::Each(3)),
    kind("GET of 256 KiB by a slow reader", Way::SlowReader, Rate::Each(3)),
    kind("connection of TCP", Way::Tcp, Rate::Each(6)),
    kind("upgrade", Way::Upgrade, Rate::Each(6)),
    kind("client that goes away", Way::GoesAway, Rate::Each(10)),
];
