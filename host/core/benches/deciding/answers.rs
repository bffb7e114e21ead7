//! Accepting what plugins answer.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, DefaultHasher},
};

use witgate_core::answer::{
    RawAction, RawCookie, RawRoute, RawStick, SameSite, accept_route, accept_scores, accept_split, accept_stick,
};

use crate::{
    inputs::cycle,
    operation::{Operation, ROUNDS},
};

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        route("accept a route to a cluster", || RawRoute {
            action: RawAction::Cluster("release-7".to_owned()),
            ..RawRoute::default()
        }),
        route("accept a route that sets and removes headers", || RawRoute {
            action: RawAction::Cluster("release-7".to_owned()),
            set_headers: pairs(&[("x-tenant", "tenant-17"), ("x-plan", "enterprise")]),
            remove_headers: vec!["x-debug".to_owned()],
        }),
        route("accept a response", || RawRoute {
            action: RawAction::Respond {
                status: 403,
                headers: pairs(&[("content-type", "application/json"), ("cache-control", "no-store")]),
                body: "{\"error\":\"this tenant is suspended\"}".to_owned(),
            },
            ..RawRoute::default()
        }),
        Operation::new("accept a choice", ROUNDS, || {
            let mut number = cycle(10);
            (move || number() as u32, |choice: u32| accept_split(Some(choice), 10))
        }),
        Operation::new("accept a key and a cookie", ROUNDS, || (stick, |raw: RawStick| accept_stick(raw))),
        scores(2),
        scores(64),
        scores(10_000),
    ]
}

fn route(name: &str, raw: fn() -> RawRoute) -> Operation {
    Operation::new(name, ROUNDS, move || {
        // Not seeded: one name is looked up over and over, and it would be luck what stands before it.
        let clusters: HashMap<_, _, BuildHasherDefault<DefaultHasher>> =
            (0..10).map(|n| (format!("release-{n}"), n)).collect();
        let work = move |raw: RawRoute| accept_route(raw, |name: &str| clusters.get(name).copied());
        (raw, work)
    })
}

fn stick() -> RawStick {
    let cookie = RawCookie {
        name: "session".to_owned(),
        value: "4f2d1c0a9b8e7d6c".to_owned(),
        max_age: Some(3600),
        secure: true,
        http_only: true,
        same_site: Some(SameSite::Lax),
        path: None,
    };
    RawStick { key: "user-17".to_owned(), set_cookie: Some(cookie) }
}

fn scores(count: usize) -> Operation {
    let rounds = if count > 1000 { ROUNDS / 64 } else { ROUNDS };
    Operation::new(format!("accept {count} scores"), rounds, move || {
        let scores: Vec<f32> = (0..count).map(|n| (n * 7 % 10) as f32 / 10.0).collect();
        (|| (), move |()| accept_scores(&scores, count))
    })
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}
