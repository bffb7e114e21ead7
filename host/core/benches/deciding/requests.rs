//! Reading a request's fields, and what is decided by them alone: the choice of a split, the affinity.

use std::{hint::black_box, time::Duration};

use http::HeaderValue;
use witgate_core::{
    affinity::{self, StickyCookie},
    config::{Key, Split, WeightedCluster},
    request::Head,
    split::Splitter,
};

use crate::{
    inputs::{REQUESTS, cycle, users},
    operation::{Operation, ROUNDS},
};

/// A time in seconds since 1970.
const NOW: u64 = 1_700_000_000;

pub(crate) fn operations() -> Vec<Operation> {
    let mut all = vec![
        // References into a request do not leave the work, so what was read is used up there.
        of_users("read the host", |head| black_box(head.host_lower()).len()),
        of_users("read a cookie", |head| black_box(head.cookie("uid")).map(str::len)),
        of_users("read a query parameter", |head| black_box(head.query("user")).map(|value| value.len())),
        of_users("read an encoded query parameter", |head| black_box(head.query("q")).map(|value| value.len())),
        of_users("read the client's address", |head| black_box(head.client_text()).len()),
    ];
    all.extend([2, 10].map(split));
    let cookie = vec![Key::Cookie("uid".to_owned())];
    all.push(of_users("affinity by cookie", move |head| affinity::by_key(&cookie, head)));
    let address = vec![Key::ClientAddress];
    all.push(of_users("affinity by client address", move |head| affinity::by_key(&address, head)));
    all.extend([sticky_read(), sticky_issue()]);
    all
}

fn of_users<O: 'static>(name: impl Into<String>, work: impl Fn(&Head) -> O + 'static) -> Operation {
    Operation::new(name, ROUNDS, move || {
        let heads = users();
        (cycle(REQUESTS), move |n: usize| work(&heads[n]))
    })
}

fn split(choices: u32) -> Operation {
    let choice = |n| WeightedCluster { cluster: format!("release-{n}"), weight: 100 / (n + 1) };
    let by = vec![Key::Cookie("uid".to_owned())];
    let splitter = Splitter::new(&Split { choices: (0..choices).map(choice).collect(), by });
    of_users(format!("split by cookie, {choices} choices"), move |head| splitter.choose(head, 0))
}

fn sticky() -> StickyCookie {
    StickyCookie::new("wg", Some(Duration::from_secs(3600)), [7; 32])
}

/// Of a cookie line that has the user's other cookies before it.
fn sticky_read() -> Operation {
    Operation::new("read a sticky cookie", ROUNDS, || {
        let sticky = sticky();
        let mut heads = users();
        for (id, head) in (0..).zip(&mut heads) {
            let issued = sticky.issue(id, NOW);
            let token = issued.to_str().ok().and_then(|text| text.split(';').next()).unwrap_or_default();
            let others = head.headers["cookie"].to_str().unwrap_or_default();
            let line = HeaderValue::from_str(&format!("{others}; {token}")).expect("a cookie line");
            head.headers.insert("cookie", line);
            assert_eq!(sticky.read(head, NOW), Some(id));
        }
        (cycle(REQUESTS), move |n: usize| sticky.read(&heads[n], NOW))
    })
}

fn sticky_issue() -> Operation {
    Operation::new("issue a sticky cookie", ROUNDS, || {
        let sticky = sticky();
        (cycle(REQUESTS), move |id: usize| sticky.issue(id as u64, NOW))
    })
}
