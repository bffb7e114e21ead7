//! CONNECT (RFC 9110 §9.3.6), where a route has it: not to wherever the client names, but to an endpoint of the route's cluster.

use http::{HeaderValue, Method, Request, Uri, Version, header, uri::PathAndQuery};
use hyper::body::Incoming;

use super::{
    Flight,
    exchange::Exchange,
    headers,
    whole::{self, Opened, Unopened},
};
use crate::reason::Reason;

/// How a route's `upgrade` names it.
pub const WORD: &str = "connect";

/// Makes a CONNECT one that routes can look at: its host is that of the authority, its path `/`.
///
/// # Errors
/// It names no authority with a port, or says that it has a body.
#[cold]
pub fn begin(request: &mut Request<Incoming>, exchange: &mut Exchange) -> Result<(), Reason> {
    let headers = request.headers();
    let framed = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING].iter().any(|name| headers.contains_key(name));
    let uri = request.uri();
    let authority = uri.authority().filter(|_| uri.path_and_query().is_none_or(|path| path.as_str() == "/"));
    let authority =
        authority.filter(|authority| authority.port_u16().is_some() && !framed).ok_or(Reason::BadRequest)?;
    if !headers::host_is_sound(authority.as_str().as_bytes()) {
        return Err(Reason::BadRequest);
    }
    let host = HeaderValue::try_from(authority.as_str()).map_err(|_| Reason::BadRequest)?;
    if request.version() == Version::HTTP_2 {
        exchange.extended(Some(Box::new(hyper::upgrade::on(&mut *request))));
    }
    *request.uri_mut() = Uri::from(PathAndQuery::from_static("/"));
    request.headers_mut().insert(header::HOST, host);
    exchange.connect();
    Ok(())
}

/// Whether it is such a request.
pub fn is_plain(request: &Request<Incoming>) -> bool {
    *request.method() == Method::CONNECT && request.extensions().get::<hyper::ext::Protocol>().is_none()
}

/// A connection to an endpoint of the cluster that was decided on.
pub(super) async fn open(flight: &mut Flight) -> Result<Opened, Reason> {
    let Flight { forward, exchange, .. } = flight;
    let (worker, generation) = (std::rc::Rc::clone(exchange.worker()), std::rc::Rc::clone(exchange.generation()));
    let cluster = generation.clusters.get(forward.cluster).ok_or(Reason::NoHealthyEndpoint)?;
    whole::open(&worker, cluster, forward.hash, None).await.map_err(|error| match error {
        Unopened::NoHealthyEndpoint => Reason::NoHealthyEndpoint,
        Unopened::Full => Reason::CircuitOpen,
        Unopened::Connect(_) => Reason::ConnectFailure,
    })
}
