//! W3C trace context (<https://www.w3.org/TR/trace-context/>): which trace a request belongs to, what endpoints are told of it, and
//! its span once it has ended, by OpenTelemetry's names for servers of HTTP.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, TraceId,
    propagation::TextMapPropagator,
    trace::{SpanContext, SpanKind, Status, TraceContextExt, TraceState},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SpanData};

use crate::telemetry::{access_log::Line, traces::Traces};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A request of which a span is sent.
pub struct Traced {
    context: SpanContext,
    parent: Option<SpanId>,
    began: SystemTime,
}

impl Traced {
    /// Finds a request's place in a trace, or begins one, and tells endpoints of it. None where no span is sent: what the client
    /// said goes on as it came. A client that is `trusted` decides by its flag; of others that would cost whatever they like.
    pub fn begin(
        traces: &Traces,
        headers: &mut HeaderMap,
        trusted: bool,
        random: impl Fn() -> u64,
    ) -> Option<Box<Self>> {
        let parent = parent(headers);
        let sampled = match &parent {
            Some(parent) if trusted => parent.is_sampled(),
            _ => traces.samples(random()),
        };
        if !sampled && parent.is_some() {
            return None;
        }
        let trace = parent.as_ref().map_or_else(|| id128(&random), SpanContext::trace_id);
        let state = parent.as_ref().map_or(TraceState::NONE, |parent| parent.trace_state().clone());
        let flags = TraceFlags::default().with_sampled(sampled);
        let span = SpanId::from(random().max(1));
        let said = format!("00-{trace}-{span}-{:02x}", flags.to_u8());
        headers.insert(TRACEPARENT, HeaderValue::try_from(said).ok()?);
        if parent.is_none() {
            headers.remove(TRACESTATE);
        }
        let context = SpanContext::new(trace, span, flags, false, state);
        let parent = parent.as_ref().map(SpanContext::span_id);
        sampled.then(|| Box::new(Self { context, parent, began: SystemTime::now() }))
    }

    /// The request has ended: `line` is what the access log would say of it.
    pub fn end(self, traces: &Traces, line: &Line<'_>, took: Duration) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut attributes = Vec::with_capacity(16);
        let mut tell = |name: &'static str, value: Option<String>| {
            attributes.extend(value.map(|value| KeyValue::new(name, value)));
        };
        let (path, query) = line.path.map_or(("", None), |path| match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        });
        tell("http.request.method", line.method.map(str::to_owned));
        tell("url.scheme", line.scheme.map(str::to_owned));
        tell("url.path", Some(path.to_owned()));
        // What is in it may be a secret; that there is one is none.
        tell("url.query", query.map(|_| "REDACTED".to_owned()));
        tell("server.address", line.host.map(text));
        tell("client.address", line.client.map(text));
        tell("user_agent.original", line.user_agent.map(text));
        tell("network.protocol.name", Some("http".to_owned()));
        tell("network.protocol.version", line.protocol.and_then(|p| p.strip_prefix("HTTP/")).map(str::to_owned));
        tell("witgate.listener", line.listener.map(str::to_owned));
        tell("witgate.route", line.route.map(str::to_owned));
        tell("witgate.cluster", line.cluster.map(str::to_owned));
        tell("witgate.endpoint", line.endpoint.map(str::to_owned));
        tell("witgate.request_id", line.request_id.map(text));
        let failed = line.status.is_none_or(|status| status >= StatusCode::INTERNAL_SERVER_ERROR.as_u16());
        let error =
            line.error.map(str::to_owned).or_else(|| failed.then(|| line.status.unwrap_or_default().to_string()));
        tell("error.type", error.clone());
        attributes.extend(line.status.map(|status| KeyValue::new("http.response.status_code", i64::from(status))));
        attributes.push(KeyValue::new("witgate.attempts", i64::from(line.attempts)));
        let name = match (line.method, line.route) {
            (Some(method), Some(route)) => Cow::from(format!("{method} {route}")),
            (Some(method), None) => Cow::from(method.to_owned()),
            _ => Cow::from("HTTP"),
        };
        traces.send(SpanData {
            span_context: self.context,
            parent_span_id: self.parent.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: self.parent.is_some(),
            span_kind: SpanKind::Server,
            name,
            start_time: self.began,
            end_time: self.began.checked_add(took).unwrap_or(self.began),
            attributes,
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: if failed { Status::error(error.unwrap_or_default()) } else { Status::Unset },
            instrumentation_scope: traces.scope().clone(),
        });
    }
}

/// Whom a request names as its caller, where it does so as it must, and once.
fn parent(headers: &HeaderMap) -> Option<SpanContext> {
    let mut named = headers.get_all(TRACEPARENT).iter();
    if named.next().is_none() || named.next().is_some() {
        return None;
    }
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers));
    Some(context.span().span_context().clone()).filter(SpanContext::is_valid)
}

fn id128(random: &impl Fn() -> u64) -> TraceId {
    TraceId::from((u128::from(random()) << 64 | u128::from(random())).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_right_caller_counts() {
        let right = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let named = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TRACEPARENT, HeaderValue::from_static(value));
            }
            parent(&headers).map(|parent| (parent.trace_id().to_string(), parent.is_sampled()))
        };
        assert_eq!(named(&[right]), Some(("0af7651916cd43dd8448eb211c80319c".to_owned(), true)));
        assert_eq!(named(&[right, right]), None);
        for wrong in [
            "",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        ] {
            assert_eq!(named(&[wrong]), None, "{wrong}");
        }
    }
}
