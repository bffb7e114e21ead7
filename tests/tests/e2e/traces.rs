//! Trace context and spans: what endpoints are told, what a collector gets, and that neither a client nor a collector that is
//! gone costs anybody anything.

use std::io::Write;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind},
};
use prost::Message;
use witgate_tests::{
    client::get,
    origin::{Origin, respond},
    proxy::{self, Running},
    wait_for,
};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn traced(origin: &Origin, collector: &str, sample: &str, listener: &str) -> Running {
    proxy::start(&config(origin, collector, sample, listener))
}

fn config(origin: &Origin, collector: &str, sample: &str, listener: &str) -> String {
    format!(
        "[traces]\ncollector = \"http://{collector}\"\nsample = {sample}\nservice = \"edge\"\n\
         [[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n{listener}\n[[route]]\nname = \"all\"\ncluster = \"c\"\n\
         [[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{}\" }}]\n",
        origin.address
    )
}

fn collector() -> Origin {
    Origin::scripted(|_, stream| respond(stream, 200, &[("content-type", "application/x-protobuf")], b""))
}

/// Every span that a collector has got, and the services that they are of.
fn spans(collector: &Origin) -> Vec<(String, Span)> {
    let exported = collector.seen().into_iter().map(|seen| {
        assert_eq!(seen.line, "POST /v1/traces HTTP/1.1");
        assert_eq!(seen.header("content-type"), Some("application/x-protobuf"), "{seen:?}");
        ExportTraceServiceRequest::decode(&*seen.body).expect("an export")
    });
    let of = exported.flat_map(|export| export.resource_spans).flat_map(|of| {
        let resource = of.resource.unwrap_or_default();
        let service = resource.attributes.iter().find(|a| a.key == "service.name").map(|a| format!("{:?}", a.value));
        let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.map(move |span| (service.clone().unwrap_or_default(), span)).collect::<Vec<_>>()
    });
    of.collect()
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_span_stands_between_its_callers_and_the_endpoints() {
    let (origin, collector) = (Origin::named("a"), collector());
    let mut running = traced(&origin, &collector.address.to_string(), "0", "trusted_proxies = [\"127.0.0.1\"]");
    let headers = format!("traceparent: {PARENT}\r\ntracestate: a=b\r\nuser-agent: t/1\r\n");
    assert_eq!(get(running.web(), "/path?secret=1", &headers).status, 200);
    // One that its caller does not trace.
    assert_eq!(get(running.web(), "/", &format!("traceparent: {}0\r\n", &PARENT[..PARENT.len() - 1])).status, 200);
    // It does not wait for more before it ends.
    running.drain();
    running.wait();
    let spans = spans(&collector);
    assert_eq!(spans.len(), 1, "{spans:?}");
    let (service, span) = &spans[0];
    assert!(service.contains("edge"), "{service}");
    let told = origin.seen()[0].header("traceparent").expect("a place in the trace").to_owned();
    assert_eq!(told, format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id)));
    assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (PARENT[3..35].to_owned(), PARENT[36..52].to_owned()));
    assert_eq!(origin.seen()[0].header("tracestate"), Some("a=b"));
    assert_eq!((span.name.as_str(), span.kind()), ("GET all", SpanKind::Server));
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
    let endpoint = origin.address.to_string();
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("url.path", "/path"),
        ("url.query", "REDACTED"),
        ("user_agent.original", "t/1"),
        ("client.address", "127.0.0.1"),
        ("witgate.cluster", "c"),
        ("witgate.endpoint", &endpoint),
        ("witgate.attempts", "1"),
    ] {
        assert_eq!(attribute(span, key).as_deref(), Some(value), "{key}: {span:?}");
    }
    assert_eq!(attribute(span, "error.type"), None);
    // The other went on as it came.
    let other = origin.seen()[1].header("traceparent").map(str::to_owned);
    assert_eq!(other, Some(format!("{}0", &PARENT[..PARENT.len() - 1])));
}

#[test]
fn a_client_that_nobody_trusts_does_not_decide() {
    let (origin, collector) = (Origin::named("a"), collector());
    let mut running = traced(&origin, &collector.address.to_string(), "0.0", "");
    assert_eq!(get(running.web(), "/", &format!("traceparent: {PARENT}\r\n")).status, 200);
    assert_eq!(get(running.web(), "/", "traceparent: nonsense\r\ntracestate: x=y\r\n").status, 200);
    running.drain();
    running.wait();
    assert!(spans(&collector).is_empty());
    let seen = origin.seen();
    assert_eq!(seen[0].header("traceparent"), Some(PARENT));
    // What is none is replaced by one that says that nobody keeps a span.
    let begun = seen[1].header("traceparent").expect("one of ours").to_owned();
    assert!(begun.len() == 55 && begun.starts_with("00-") && begun.ends_with("-00"), "{begun}");
    assert_eq!(seen[1].header("tracestate"), None);
}

#[test]
fn a_failure_is_told_as_one() {
    let origin = Origin::raw(|stream| drop(stream.write_all(b"nonsense\r\n\r\n")));
    let collector = collector();
    let mut running = traced(&origin, &collector.address.to_string(), "1", "");
    assert_eq!(get(running.web(), "/", "").status, 502);
    running.drain();
    running.wait();
    let spans = spans(&collector);
    let span = &spans[0].1;
    assert_eq!(attribute(span, "error.type").as_deref(), Some("upstream-malformed"));
    assert_eq!(span.status.as_ref().map(|status| status.code), Some(2), "{span:?}");
    assert!(span.parent_span_id.is_empty(), "it has no caller");
}

#[test]
fn a_collector_that_is_gone_costs_spans_and_nothing_else() {
    let origin = Origin::named("a");
    let gone = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").to_string();
    let running = traced(&origin, &gone, "1", "");
    let mut client = running.client();
    for _ in 0..20 {
        assert_eq!(client.get("/", "").status, 200);
    }
    let lost = |running: &Running| running.has_metric("witgate_spans_dropped_total 20");
    wait_for("all to be lost", || lost(&running).then_some(()));
    // Another one, by a reload, gets what comes from then on.
    let collector = collector();
    let text = format!("{}{}", proxy::PREAMBLE, config(&origin, &collector.address.to_string(), "1", ""));
    let text = text.replace("listen = \"127.0.0.1:0\"\n\n", &format!("listen = \"{}\"\n", running.web()));
    assert_eq!(running.call("PUT", "/v1/config", text.as_bytes()).status, 200);
    wait_for("a span at the other", || {
        assert_eq!(running.client().get("/", "").status, 200);
        (!spans(&collector).is_empty()).then_some(())
    });
}
