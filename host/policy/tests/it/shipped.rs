//! What the SDK makes of a plugin crosses the border right: the shipped plugins answer the same as modules, whose arguments
//! lie in the SDK's room, and as components, for which each is allocated, whatever is asked and however long it is.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderName, HeaderValue};
use wit_component::ComponentEncoder;
use witgate_core::request::Head;
use witgate_policy::{Instances, Plugin, Settings};

use crate::common::{admit, columns, engine, head, patient};

/// Longer than the room.
const LONG: usize = 10_000;

/// `target/plugins/<name>.wasm` with this configuration, as a module and as a component.
fn both(name: &str, config: &str) -> [Arc<Plugin>; 2] {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../target/plugins/{name}.wasm"));
    let module = std::fs::read(file).unwrap_or_else(|e| panic!("{name}.wasm: {e}; `cargo xtask plugins` makes it"));
    let encoder = ComponentEncoder::default().module(&module).expect("a module");
    let component = encoder.validate(true).encode().expect("a component");
    [module, component].map(|bytes| {
        let settings = Settings { config: config.to_owned(), ..patient() };
        admit(&engine(), &bytes, settings).unwrap_or_else(|e| panic!("{name}: {e}"))
    })
}

/// Asks both about each request, often: the same answers, and no memory that is not given back.
fn check<A: std::fmt::Debug + PartialEq>(
    on: &mut Instances,
    [module, component]: &[Arc<Plugin>; 2],
    requests: &[Head],
    ask: impl Fn(&Plugin, &mut Instances, &mut Box<Head>) -> A,
) -> Vec<A> {
    let (mut memory, mut answers) = (None, Vec::new());
    for round in 0..200 {
        answers.clear();
        for request in requests {
            let answer = ask(module, on, &mut Box::new(request.clone()));
            assert_eq!(answer, ask(component, on, &mut Box::new(request.clone())), "{request:?}");
            answers.push(answer);
        }
        let used = [module, component].map(|plugin| plugin.stats().memory());
        if round > 0 {
            assert_eq!(Some(used), memory, "memory grows in round {round}");
        }
        memory = Some(used);
    }
    answers
}

fn request(uri: &str, headers: &[(&str, &str)]) -> Head {
    let mut request = *head(uri);
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).expect("a value");
        request.headers.append(name.parse::<HeaderName>().expect("a name"), value);
    }
    request
}

#[test]
fn routes_cross() {
    let long = "x".repeat(LONG);
    let config = r#"{"header": "x-tenant", "rules": [
        {"path_prefix": "/refused", "deny": "not here"},
        {"path_prefix": "/moved", "redirect": "https://new.example.com{path}"},
        {"header": "x-tenant", "clusters": {"acme": "acme-cluster"}}]}"#;
    let requests = [
        request("/", &[]),
        request("/refused", &[("x-tenant", "acme")]),
        request("/moved/here?a=b&c=%20", &[]),
        request("/", &[("x-tenant", "acme")]),
        request("/", &[("x-tenant", "")]),
        request("/", &[("x-tenant", &long)]),
        request(&format!("/moved/{long}"), &[("x-tenant", &long)]),
    ];
    let answers = check(&mut Instances::new(), &both("tenant", config), &requests, |plugin, on, request| {
        plugin.route(on, request, Instant::now()).map(|decision| format!("{decision:?}"))
    });
    let said = |answer: usize, what: &str| {
        let answer = answers[answer].as_deref().expect("an answer");
        assert!(answer.contains(what), "{answer}, not {what}");
    };
    said(0, r#"Pass, set_headers: [], remove_headers: ["x-tenant"]"#);
    said(1, r#"Respond { status: 403, headers: [("content-type", "text/plain; charset=utf-8")], body: "not here" }"#);
    said(2, r#"Redirect { status: 308, location: "https://new.example.com/moved/here?a=b&c=%20" }"#);
    said(3, r#"Cluster("acme-cluster"), set_headers: [("x-tenant", "acme")], remove_headers: []"#);
    said(4, "Pass");
    said(5, "Pass");
    said(6, &format!("https://new.example.com/moved/{long}"));
}

#[test]
fn splits_cross() {
    let clusters: Arc<[String]> = ["stable".to_owned(), "canary".to_owned(), "other".to_owned()].into();
    let users = (0..50).map(|n| request("/", &[("cookie", &format!("a=b; uid=user-{n}"))]));
    let long = "x".repeat(LONG);
    let others = [
        request("/", &[]),
        request("/", &[("x-canary", "1")]),
        request("/", &[("x-canary", "0"), ("cookie", "uid=1")]),
        request("/", &[("cookie", &format!("uid={long}"))]),
        request("/", &[("x-canary", &long), ("cookie", &format!("uid={long}"))]),
    ];
    let requests: Vec<Head> = others.into_iter().chain(users).collect();
    let config = r#"{"cluster": "canary", "percent": 30, "force": {"header": "x-canary"}}"#;
    let answers = check(&mut Instances::new(), &both("canary", config), &requests, |plugin, on, request| {
        plugin.split(on, request, 7, &[60, 30, 10], &clusters, Instant::now())
    });
    assert_eq!(answers[..2], [Ok(None), Ok(Some(1))]);
    assert!((0..3).all(|choice| answers.contains(&Ok(Some(choice)))), "{answers:?}");
}

#[test]
fn keys_and_cookies_cross() {
    let long = "x".repeat(LONG);
    let known = [
        request("/", &[("x-session", "s-1")]),
        request("/", &[("cookie", "wg=of-a-cookie")]),
        request("/", &[("x-session", &long), ("cookie", "wg=of-a-cookie")]),
    ];
    let config = r#"{"by": [{"header": "x-session"}],
        "cookie": {"name": "wg", "ttl": "1h", "path": "/shop", "secure": true, "same_site": "none"}}"#;
    let (mut on, plugins) = (Instances::new(), both("session", config));
    let stick = |plugin: &Plugin, on: &mut Instances, request: &mut Box<Head>| {
        plugin.stick(on, request, Instant::now()).expect("an answer").expect("an opinion")
    };
    let keys: Vec<String> = check(&mut on, &plugins, &known, stick).into_iter().map(|stick| stick.key).collect();
    assert_eq!(keys, ["s-1", "of-a-cookie", "of-a-cookie"]);

    // A new key is random, so that the rest of the answer is compared.
    let mut cookies = check(&mut on, &plugins, &[request("/", &[])], |plugin, on, request| {
        let stick = stick(plugin, on, request);
        let mut cookie = stick.set_cookie.expect("a cookie");
        assert_eq!((stick.key.len(), &stick.key), (32, &cookie.value));
        cookie.value.clear();
        cookie
    });
    let cookie = cookies.remove(0);
    assert_eq!((&*cookie.name, cookie.max_age, cookie.path.as_deref()), ("wg", Some(3600), Some("/shop")));
    assert_eq!((cookie.secure, cookie.http_only), (true, true));
    assert_eq!(format!("{:?}", cookie.same_site), "Some(None)");
}

#[test]
fn columns_and_scores_cross() {
    let plugins = both("latency", "{}");
    // Scores go by the time, which for `pick` is the machine's.
    let picked = check(&mut Instances::new(), &plugins, &[request("/", &[])], |plugin, on, request| {
        plugin.pick(on, request, &columns(3), Instant::now()).map(|scores| scores.len())
    });
    assert_eq!(picked, [Ok(3)]);
    for endpoints in [1, 64, 1000] {
        let [module, component] = both("latency", "{}").map(|plugin| {
            let mut on = Instances::new();
            let mut weigh = |now_ms| plugin.weigh(&mut on, now_ms, &columns(endpoints), Instant::now());
            [weigh(1_000), weigh(1 << 40)]
        });
        assert_eq!(module, component);
        assert!(module.iter().all(|scores| scores.as_ref().is_ok_and(|scores| scores.len() == endpoints as usize)));
    }
}
