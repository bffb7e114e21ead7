//! What a plugin's author relies on, seen through plugins that answer with what they saw.

use core::time::Duration;
use std::borrow::Cow;

use witgate_sdk::prelude::*;
use witgate_sdk::testing::{Harness, Request as Sent, Value, advance, json, seed, take_log};
use witgate_sdk::{Level, MAX_KEY};

/// Declares what its configuration names, reads what it names beside, and answers with it.
struct Probe {
    reads: Vec<Field>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProbeConfig {
    #[serde(default)]
    declares: Vec<Field>,
    #[serde(default)]
    reads: Vec<Field>,
    #[serde(default, deserialize_with = "witgate_sdk::duration")]
    wait: Duration,
}

impl Plugin for Probe {
    type Config = ProbeConfig;

    fn configure(config: ProbeConfig, fields: &mut Fields) -> Result<Self, String> {
        fields.declare_all(&config.declares);
        witgate_sdk::info!("waits {:?}", config.wait);
        Ok(Probe { reads: config.reads })
    }
}

impl Router for Probe {
    fn route(&mut self, request: &Request<'_>) -> Decision {
        // Twice: the second read must not ask the host again.
        let read = || self.reads.iter().map(|field| request.field(field).unwrap_or("-")).collect::<Vec<_>>().join(" ");
        let first = read();
        assert_eq!(first, read());
        Decision::respond(200, first)
    }
}

/// As [`Probe`], by handles: all that is read is declared.
struct Handled(Vec<Handle>);

impl Plugin for Handled {
    type Config = ProbeConfig;

    fn configure(config: ProbeConfig, fields: &mut Fields) -> Result<Self, String> {
        fields.declare_all(&config.declares);
        Ok(Handled(fields.handles(&config.reads)))
    }
}

impl Router for Handled {
    fn route(&mut self, request: &Request<'_>) -> Decision {
        let read: Vec<_> = self.0.iter().map(|handle| request.get(*handle).unwrap_or("-")).collect();
        Decision::respond(200, read.join(" "))
    }
}

impl Affinity for Handled {
    fn stick(&mut self, request: &Request<'_>) -> Option<Sticky> {
        request.first_of(&self.0).map(Sticky::by)
    }
}

impl Splitter for Probe {
    fn split(&mut self, request: &Request<'_>, offer: &Offer<'_>) -> Option<usize> {
        match request.header("wants") {
            Some("out of range") => Some(offer.len()),
            wanted => offer.index_of(wanted?),
        }
    }
}

impl Affinity for Probe {
    fn stick(&mut self, request: &Request<'_>) -> Option<Sticky> {
        request.first(&self.reads).map(Sticky::by).or_else(|| request.header("empty").map(|_| Sticky::by("")))
    }
}

impl Scorer for Probe {
    fn weigh(&mut self, now: Duration, endpoints: &Endpoints) -> Vec<f32> {
        endpoints.scores(|endpoint| endpoint.latency_ms + now.as_secs_f32())
    }
}

export!(Probe: router, splitter, affinity, scorer);

fn probe(config: Value) -> Harness<Probe> {
    Harness::new(config.clone()).unwrap_or_else(|error| panic!("{config} was refused: {error}"))
}

/// Reads these fields of one rich request, declared or not: the values are the same, the price is not.
#[track_caller]
fn check_read(fields: Value, expected: &str, host_calls: usize) {
    let request = Sent::new("PUT", "/a%20b?q=1&r").host("example.com").client("2001:db8::1").header("X-One", "1");
    let request = request.cookie("uid", "u");
    for (declares, price) in [(fields.clone(), 0), (json!([]), host_calls)] {
        let mut plugin = probe(json!({ "declares": declares, "reads": fields }));
        let answer = plugin.route(&request);
        assert_eq!(answer, Decision::respond(200, expected), "{fields} with {declares} declared");
        assert_eq!(plugin.host_calls(), price, "{fields} with {declares} declared");
    }
}

#[test]
fn a_field_reads_the_same_declared_or_not() {
    check_read(
        json!(["method", "path", "host", "scheme", "client-address", "query-string"]),
        "PUT /a%20b example.com http 2001:db8::1 q=1&r",
        6,
    );
    check_read(json!([{ "header": "x-one" }, { "cookie": "uid" }, { "query": "q" }, { "query": "r" }]), "1 u 1 ", 4);
    check_read(json!([{ "header": "x-none" }, { "cookie": "UID" }, { "query": "Q" }]), "- - -", 3);
    check_read(json!([{ "header": "x-one" }, { "header": "X-ONE" }]), "1 1", 1);
    check_read(json!([{ "cookie": "x-one" }, { "header": "uid" }]), "- -", 2);
}

#[test]
fn a_manifest_names_each_field_once_and_at_most_32() {
    let twice = probe(json!({ "declares": [{ "header": "a" }, { "header": "A" }, { "cookie": "a" }] }));
    assert_eq!(twice.declared(), [Field::Header("a".to_owned()), Field::Cookie("a".to_owned())]);

    let many: Vec<_> = (0..40).map(|n| json!({ "header": format!("h{n}") })).collect();
    let mut plugin = probe(json!({ "declares": many, "reads": [{ "header": "h39" }] }));
    assert_eq!(plugin.declared().len(), Fields::MAX);
    assert_eq!(plugin.route(&Sent::get("/").header("h39", "still read")), Decision::respond(200, "still read"));
}

#[test]
fn a_handle_reads_what_was_declared_with_it() {
    let mut plugin = Harness::<Handled>::new(json!({
        "declares": [{ "header": "other" }],
        "reads": [{ "header": "x-one" }, { "cookie": "none" }, "path", { "header": "X-ONE" }],
    }))
    .unwrap();
    assert_eq!(plugin.declared().len(), 4, "a name is declared once");
    let request = Sent::get("/p").header("other", "o").header("x-one", "1");
    assert_eq!(plugin.route(&request), Decision::respond(200, "1 - /p 1"));
    assert_eq!(plugin.stick(&request.clone().header("x-one", "")), Some(Sticky::by("/p")), "empty is not present");
    assert_eq!(plugin.host_calls(), 0);
}

#[test]
fn a_handle_beyond_the_manifest_costs_a_host_call() {
    let many: Vec<_> = (0..40).map(|n| json!({ "header": format!("h{n}") })).collect();
    let mut plugin =
        Harness::<Handled>::new(json!({ "declares": many, "reads": [{ "header": "h31" }, { "header": "h39" }] }))
            .unwrap();
    let request = Sent::get("/").header("h31", "the last one").header("h39", "still read");
    assert_eq!(plugin.route(&request), Decision::respond(200, "the last one still read"));
    assert_eq!(plugin.host_calls(), 1);
}

#[test]
fn offered_names_are_asked_for_once() {
    let mut plugin = probe(json!({ "declares": [{ "header": "wants" }] }));
    let (ab, ba) = ([("a", 1), ("b", 2)], [("b", 2), ("a", 1)]);
    for (wanted, offer, expected, asked) in [
        (None, &ab, None, 0),
        (Some("b"), &ab, Some("b"), 1),
        (Some("c"), &ab, None, 1),
        (Some("b"), &ba, Some("b"), 2),
        (Some("a"), &ab, Some("a"), 2),
    ] {
        let request = wanted.map_or(Sent::get("/"), |wanted| Sent::get("/").header("wants", wanted));
        assert_eq!(plugin.split(&request, offer), expected, "{wanted:?} of {offer:?}");
        assert_eq!(plugin.host_calls(), asked, "{wanted:?} of {offer:?}");
    }
}

#[test]
fn names_are_right_beyond_the_number_of_offers_that_are_kept() {
    let mut plugin = probe(json!({}));
    for n in (0..3_000).chain(0..10) {
        let name = format!("cluster-{n}");
        let offer = [("other", 1), (&*name, 1)];
        assert_eq!(plugin.split(&Sent::get("/").header("wants", &name), &offer), Some(&*name));
    }
}

#[test]
#[should_panic(expected = "malformed answer 1")]
fn the_harness_refuses_what_the_proxy_would() {
    probe(json!({})).split(&Sent::get("/").header("wants", "out of range"), &[("a", 1)]);
}

#[test]
fn keys_from_clients_cannot_be_malformed() {
    let mut plugin = probe(json!({ "reads": [{ "header": "k" }] }));
    let mut key = |request: Sent| plugin.stick(&request).map(|sticky| sticky.key);
    assert_eq!(key(Sent::get("/").header("k", "short")).as_deref(), Some("short"));
    assert_eq!(key(Sent::get("/").header("empty", "")), None);
    let cut = key(Sent::get("/").header("k", &"é".repeat(600))).expect("a key");
    assert_eq!(cut.len(), MAX_KEY, "cut at the limit");
    let cut = key(Sent::get("/").header("k", &format!("a{}", "é".repeat(600)))).expect("a key");
    assert_eq!(cut.len(), MAX_KEY - 1, "cut between characters");
}

#[test]
fn pick_is_weigh_unless_the_plugin_says_otherwise() {
    let rows = [5.0, 7.0].map(|latency_ms| Endpoint { latency_ms, ..Endpoint::default() });
    let endpoints: Endpoints = rows.into_iter().collect();
    advance(Duration::from_secs(2));
    let mut plugin = probe(json!({}));
    assert_eq!(plugin.weigh(&endpoints), [7.0, 9.0]);
    assert_eq!(plugin.pick(&Sent::get("/"), &endpoints), [7.0, 9.0]);
}

#[test]
fn missing_numbers_are_those_of_a_new_endpoint() {
    let whole: Endpoints = [3, 4].map(|id| Endpoint { id, ..Endpoint::default() }).into_iter().collect();
    assert!(matches!(whole.filled(), Cow::Borrowed(_)));
    let short = Endpoints { weight: vec![1].into(), success_rate: vec![].into(), ..whole.clone() };
    assert!(short.iter().eq(whole.iter()));
    assert_eq!((&*short.filled(), short.filled().len()), (&whole, 2));
    assert_eq!(whole.id.into_iter().sum::<u64>(), 7);
}

#[test]
fn the_native_host_is_deterministic() {
    let draw = || [witgate_sdk::random(), witgate_sdk::random()];
    seed(7);
    let first = draw();
    assert_ne!(first, draw());
    seed(7);
    assert_eq!(first, draw());

    probe(json!({ "wait": "250ms" }));
    assert_eq!(take_log(), [(Level::Info, "waits 250ms".to_owned())]);
}

#[test]
fn durations_are_those_of_the_configuration_file() {
    for (text, expected) in
        [("0s", "0ns"), ("250ms", "250ms"), ("2s", "2s"), ("5m", "300s"), ("1h", "3600s"), ("2d", "172800s")]
    {
        probe(json!({ "wait": text }));
        assert_eq!(take_log(), [(Level::Info, format!("waits {expected}"))], "{text}");
    }
    for text in ["", "5", "s", "5 s", "-5s", "1.5s", "5S", "5w", "99999999999999999999s", "18446744073709551615d"] {
        check_refused::<Probe>(json!({ "wait": text }), &format!("wait: \"{text}\" is not a duration"));
    }
}

/// Takes no configuration.
struct Plain;

impl Plugin for Plain {
    type Config = NoConfig;

    fn configure(_: NoConfig, _: &mut Fields) -> Result<Self, String> {
        Err("plainly not".to_owned())
    }
}

#[test]
fn configuration_errors_name_the_key_and_no_place_in_the_json() {
    check_refused::<Probe>(json!({ "read": [] }), "read: unknown field `read`, expected one of `declares`");
    check_refused::<Probe>(json!({ "reads": {} }), "reads: invalid type: map, expected a sequence");
    check_refused::<Probe>(json!({ "reads": ["path", { "hedaer": "a" }] }), "reads[1]: unknown variant `hedaer`");
    check_refused::<Plain>(json!({ "any": 1 }), "any: unknown field `any`, there are no fields");
    check_refused::<Plain>(json!({}), "plainly not");
}

#[track_caller]
fn check_refused<P: Plugin>(config: Value, expected: &str) {
    let Err(error) = Harness::<P>::new(config.clone()) else { panic!("{config} was accepted") };
    assert!(error.starts_with(expected), "{config} gave {error:?}, expected {expected:?}");
    assert!(!error.contains("line 1"), "{config} gave {error:?}");
}
