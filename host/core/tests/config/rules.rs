//! `rate_limit`: what is said about bad ones.

use super::*;

#[test]
fn rate_limits() {
    check_route(
        "cluster='c'\nrate_limit={per='0s',burst=0,by=[],key=1}\n",
        &[
            "4:12 route[0].rate_limit: `rate` is missing | `rate` = how many requests in a `per`, such as 100 | -",
            "4:17 route[0].rate_limit.per: bad `per`: \"0s\" is out of range |…",
            "4:28 route[0].rate_limit.burst: bad `burst`: 0 is out of range | an integer from 1 to 1000000000 | -",
            "4:33 route[0].rate_limit.by: the list is empty |…",
            "4:36 route[0].rate_limit.key: unknown key \"key\" | `rate`, `per`, `burst` or `by` | -",
        ],
    );
    for (limit, expected) in [
        ("{rate=0}", "4:18 route[0].rate_limit.rate: bad `rate`: 0 is out of range |…"),
        (
            "{rate=1001,per='1ms'}",
            "4:12 route[0].rate_limit: this is more than a million requests in a second | a lower `rate`, or a longer `per` | -",
        ),
        (
            "{rate=1,per='1h',burst=8761}",
            "4:12 route[0].rate_limit: an empty bucket would take more than a year to be full | a smaller `burst`, or a higher `rate` | -",
        ),
        ("{rate=1,by=['client']}", "4:24 route[0].rate_limit.by[0]: bad element of `by`: \"client\" is none…"),
    ] {
        check_route(&format!("cluster='c'\nrate_limit={limit}\n"), &[expected]);
    }
    for limit in ["{rate=1000,per='1ms'}", "{rate=1,per='1h',burst=8760}", "{rate=1000000000,per='1h'}"] {
        good(&format!("{LISTENER}[[route]]\nname='r'\nrespond={{status=200}}\nrate_limit={limit}\n"));
    }
}

#[test]
fn rate_limits_that_would_take_all_memory() {
    let route = |n: usize| {
        format!("[[route]]\nname='r{n}'\nrespond={{status=200}}\nrate_limit={{rate=1,by=['client-address']}}\n")
    };
    let routes = |many| (0..many).map(route).collect::<String>();
    good(&format!("{LISTENER}{}", routes(1_000)));
    check_after_listener(
        &routes(1_001),
        &[
            "4004:23 route[1000].rate_limit.by: 1001 rate limits count by key, and each takes 1MiB | at most 1000 with `by` | -",
        ],
    );
}
