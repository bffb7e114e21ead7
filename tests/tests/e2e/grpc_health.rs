//! Checks by gRPC's health service: what is asked, and what each answer says of the endpoint.

use serde_json::Value;
use witgate_tests::{
    grpc::{Health, Say},
    proxy::{self, Running},
    wait_for,
};

/// `NOT_SERVING` and `SERVING` (grpc/health/v1/health.proto).
const NOT_SERVING: Say = Say::Status(2);
const SERVING: Say = Say::Status(1);

fn checked(origin: &Health, grpc: &str) -> Running {
    proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n[[route]]\nname = \"all\"\ncluster = \"c\"\n\
         [[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{}\" }}]\n\
         health = {{ grpc = {grpc}, interval = \"10ms\", timeout = \"1m\" }}\npanic_percent = 0\n",
        origin.address
    ))
}

/// Waits until the endpoint has this health and complaint.
#[track_caller]
fn check(running: &Running, health: &str, complaint: Option<&str>) {
    let want = (Value::from(health), Value::from(complaint));
    wait_for(&format!("{want:?}"), || {
        let shown = running.call("GET", "/v1/clusters/c", b"").json()["endpoints"][0].clone();
        ((&shown["health"], &shown["complaint"]) == (&want.0, &want.1)).then_some(())
    });
}

#[test]
fn an_endpoint_is_as_healthy_as_its_server_says() {
    let origin = Health::saying(SERVING);
    let running = checked(&origin, "{}");
    check(&running, "healthy", None);
    origin.say(NOT_SERVING);
    check(&running, "unhealthy", Some("status NOT_SERVING"));
    wait_for("nobody to be left", || (running.client().get("/", "").status == 503).then_some(()));
    origin.say(SERVING);
    check(&running, "healthy", None);
    let called = &origin.called()[0];
    assert_eq!(called.uri, format!("http://{}/grpc.health.v1.Health/Check", origin.address));
    assert_eq!(called.body, [0; 5], "an empty message");
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "60000m")] {
        assert_eq!(called.headers.get(name).and_then(|v| v.to_str().ok()), Some(value), "{called:?}");
    }
}

#[test]
fn one_service_may_be_asked_for_under_another_name() {
    let origin = Health::saying(SERVING);
    let running = checked(&origin, "{ service = \"shop.Cart\", authority = \"cart.internal\" }");
    check(&running, "healthy", None);
    let called = &origin.called()[0];
    assert_eq!(called.uri, "http://cart.internal/grpc.health.v1.Health/Check");
    assert_eq!(called.body, b"\0\0\0\0\x0b\x0a\x09shop.Cart");
}

#[test]
fn a_complaint_says_what_was_wrong() {
    let origin = Health::saying(SERVING);
    let running = checked(&origin, "{}");
    for (say, complaint) in [
        (Say::Status(0), "status UNKNOWN"),
        (Say::Status(3), "status SERVICE_UNKNOWN"),
        (Say::Status(9), "its answer makes no sense: its status is none of HealthCheckResponse"),
        (Say::Fail("12", ""), "grpc-status 12 unimplemented"),
        (Say::Fail("5", "no such service"), "grpc-status 5 not-found: no such service"),
        (Say::Fail("99", ""), "grpc-status 99"),
        (Say::Http(404), "status 404, not 200"),
        (Say::Http(200), "no \"grpc-status\" in its answer"),
        (Say::Bytes(b""), "its answer makes no sense: it has no message"),
        (Say::Bytes(b"\x01\0\0\0\x02\x08\x01"), "its answer makes no sense: it is compressed, which was not offered"),
        (Say::Bytes(b"\0\0\0\0\x07\x08\x01"), "its answer makes no sense: its length is not that of one message"),
        (Say::Bytes(b"\0\0\0\0\x02\x0f\x01"), "its answer makes no sense: it is no HealthCheckResponse"),
        // Its default: UNKNOWN is 0, and is not sent.
        (Say::Bytes(b"\0\0\0\0\0"), "status UNKNOWN"),
        (Say::Bytes(&[0; 5000]), "its answer makes no sense: it is too long"),
    ] {
        origin.say(say);
        check(&running, "unhealthy", Some(complaint));
    }
    origin.say(SERVING);
    check(&running, "healthy", None);
}

#[test]
fn who_does_not_speak_http_2_is_not_healthy() {
    let origin = witgate_tests::origin::Origin::named("http/1.1 only");
    let running =
        proxy::start_before(&[&origin], "", "health = { grpc = {}, interval = \"10ms\", timeout = \"1m\" }\n");
    let shown = wait_for("a complaint", || {
        let shown = running.call("GET", "/v1/clusters/c", b"").json()["endpoints"][0].clone();
        (shown["health"] == "unhealthy").then_some(shown)
    });
    assert!(shown["complaint"].is_string(), "{shown}");
}
