//! What the access log tells of a request and nobody else keeps. Made only where there is a log; never holds more of a
//! request's headers than what is told: no cookie, no credentials.

use std::{cell::Cell, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Response, StatusCode, Uri, Version, header, request};
use http_body::Body as _;
use smallvec::SmallVec;
use witgate_core::{
    endpoint::Endpoint,
    request::{AddressText, Head},
};

use super::{body::Body, headers, traced::Traced};
use crate::{reason::Reason, telemetry::access_log::Line, upstream::Fate, worker::conn::Conn};

const TRACEPARENT: &str = "traceparent";

/// What is told of a request.
pub struct Logged {
    method: Method,
    uri: Uri,
    version: Version,
    host: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    traceparent: Option<HeaderValue>,
    /// None where the head was refused.
    accepted: Option<Accepted>,
    /// Why the proxy answered by itself, or broke off.
    reason: Option<Reason>,
    /// Index of the cluster that it was to go to.
    cluster: Option<usize>,
    /// Tried last.
    endpoint: Option<Arc<Endpoint>>,
    attempts: u32,
    /// How long that took to the response's head.
    upstream: Cell<Option<Duration>>,
    /// Knows how much came of the request's body.
    fate: Option<Fate>,
    /// Of the response's body.
    bytes_out: u64,
    /// None where no span is sent.
    traced: Option<Box<Traced>>,
}

/// What is known of a head that was accepted.
struct Accepted {
    /// None where it is the peer.
    client: Option<AddressText>,
    scheme: &'static str,
    /// Of ours there are 32 bytes.
    request_id: SmallVec<[u8; 32]>,
}

impl Logged {
    /// What a head says, before anybody has looked at it.
    pub fn of(parts: &request::Parts) -> Box<Self> {
        let mut logged = Box::new(Self {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            host: None,
            user_agent: None,
            referer: None,
            traceparent: None,
            accepted: None,
            reason: None,
            cluster: None,
            endpoint: None,
            attempts: 0,
            upstream: Cell::new(None),
            fate: None,
            bytes_out: 0,
            traced: None,
        });
        // One pass: to look them up one by one would cost more.
        for (name, value) in &parts.headers {
            let slot = match *name {
                header::HOST => &mut logged.host,
                header::USER_AGENT => &mut logged.user_agent,
                header::REFERER => &mut logged.referer,
                _ if name.as_str() == TRACEPARENT => &mut logged.traceparent,
                _ => continue,
            };
            slot.get_or_insert_with(|| value.clone());
        }
        logged
    }

    /// The head can be sent on.
    pub fn accepted(&mut self, head: &Head, conn: &Conn) {
        let id = head.headers.get(headers::X_REQUEST_ID).map_or(&b""[..], HeaderValue::as_bytes);
        let request_id = SmallVec::from_slice(id);
        let client = (head.client != conn.peer().ip()).then(|| head.client_text());
        self.accepted = Some(Accepted { client, scheme: head.scheme.as_str(), request_id });
    }

    /// A span of it is sent.
    pub fn traced(&mut self, traced: Option<Box<Traced>>) {
        self.traced = traced;
    }

    /// The span that is to be sent.
    pub fn take_traced(&mut self) -> Option<Box<Traced>> {
        self.traced.take()
    }

    /// It goes to an endpoint of this cluster.
    pub fn forwarded(&mut self, cluster: usize, fate: &Fate) {
        (self.cluster, self.fate) = (Some(cluster), Some(fate.clone()));
    }

    /// One more try was begun.
    pub fn trying(&mut self) {
        self.attempts += 1;
        self.upstream.set(None);
    }

    /// The try that counts is at this endpoint.
    pub fn at(&mut self, endpoint: &Arc<Endpoint>) {
        self.endpoint = Some(Arc::clone(endpoint));
    }

    /// A response's head came.
    pub fn head_came(&self, after: Duration) {
        self.upstream.set(Some(after));
    }

    /// The proxy answers by itself, or has broken off.
    pub fn because(&mut self, reason: Reason) {
        self.reason = Some(reason);
    }

    /// The proxy's own answer goes out.
    pub fn answered(&mut self, response: &Response<Body>) {
        let is_sent = self.method != Method::HEAD
            && !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.bytes_out = response.body().size_hint().exact().filter(|_| is_sent).unwrap_or(0);
    }

    /// So much of an endpoint's response goes out.
    pub fn sent(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
    }

    /// Index of the cluster that it was to go to.
    pub fn cluster(&self) -> Option<usize> {
        self.cluster
    }

    /// A line with all that is known here.
    pub fn line<'a>(&'a self, status: Option<StatusCode>, conn: &'a Conn) -> Line<'a> {
        let accepted = self.accepted.as_ref();
        // Where none was told the client went away.
        let reason = if status.is_none() { Some(Reason::ClientAborted) } else { self.reason };
        let peer = conn.peer_value().as_bytes();
        Line {
            peer: Some((peer, conn.peer().port())),
            request_id: accepted.map(|accepted| &*accepted.request_id),
            client: accepted.map(|accepted| accepted.client.as_ref().map_or(peer, |client| client.as_bytes())),
            method: Some(self.method.as_str()),
            scheme: accepted.map(|accepted| accepted.scheme),
            host: self.host(),
            path: self.uri.path_and_query().map(http::uri::PathAndQuery::as_str),
            protocol: protocol(self.version),
            status: status.map(|status| status.as_u16()),
            error: reason.map(Reason::word),
            upstream: self.upstream.get(),
            bytes_in: self.fate.as_ref().map_or(0, Fate::read),
            bytes_out: self.bytes_out,
            endpoint: self.endpoint.as_ref().map(|endpoint| endpoint.address()),
            attempts: self.attempts,
            user_agent: self.user_agent.as_ref().map(HeaderValue::as_bytes),
            referer: self.referer.as_ref().map(HeaderValue::as_bytes),
            traceparent: self.traceparent.as_ref().map(HeaderValue::as_bytes),
            ..Line::default()
        }
    }

    /// Without user and password, which a target may name.
    fn host(&self) -> Option<&[u8]> {
        let authority = self.uri.authority().map(|authority| headers::without_user(authority.as_str()).as_bytes());
        authority.or_else(|| self.host.as_ref().map(HeaderValue::as_bytes))
    }
}

fn protocol(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("HTTP/1.0"),
        Version::HTTP_11 => Some("HTTP/1.1"),
        Version::HTTP_2 => Some("HTTP/2"),
        _ => None,
    }
}
