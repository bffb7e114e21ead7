//! `rate_limit`, `rewrite` and rules for headers: what is said about bad ones.

use super::*;

#[test]
fn what_is_never_sent_and_what_is_joined_without_a_slash_are_warnings() {
    let warnings = |keys: &str| {
        let text = format!("{LISTENER}[[route]]\nname='r'\n{keys}\n[[cluster]]\nname='c'\nendpoints=[]\n");
        summary(&read(&text).unwrap_or_else(|errors| panic!("{errors}")).warnings)
    };
    let rules = "path_prefix='/a/'\nrewrite={path_prefix='/b/'}\nrequest_headers={remove=['x-a']}\n";
    let unsent = "nothing is changed by this: the route answers by itself, and sends no request | - | -";
    assert_eq!(
        warnings(&format!("{rules}respond={{status=200}}")),
        [format!("7:9 route[0].rewrite: {unsent}"), format!("8:17 route[0].request_headers: {unsent}")]
    );
    // A router may send it on after all.
    for keys in ["respond={status=200}\nplugins={router='p'}", "cluster='c'"] {
        assert!(warnings(&format!("{rules}{keys}")).is_empty(), "{keys}");
    }
    assert!(warnings("respond={status=200}\nresponse_headers={set={x-a='1'}}\nrate_limit={rate=1}").is_empty());
    assert_eq!(
        warnings("cluster='c'\npath_prefix='/a/'\nrewrite={path_prefix='/b'}"),
        ["8:22 route[0].rewrite.path_prefix: `/a/x` becomes `/bx` | a slash at the end of both, or of neither | -"]
    );
}

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

#[test]
fn rewrites() {
    for (keys, expected) in [
        ("rewrite={}", "4:9 route[0].rewrite: neither `path_prefix` nor `host` |…"),
        (
            "rewrite={path_prefix='/'}",
            "4:22 route[0].rewrite.path_prefix: there is nothing to replace | `path_prefix` or `path` of the route, which is what it replaces | -",
        ),
        (
            "path_regex='a'\nrewrite={path_prefix='/'}",
            "5:22 route[0].rewrite.path_prefix: `path_regex` does not say which part of the path is replaced |…",
        ),
        ("path='a'\nrewrite={path_prefix='/'}", "4:6 route[0].path: bad `path`: \"a\" does not start with '/' |…"),
        (
            "path='/a'\nrewrite={path_prefix='/ü'}",
            "5:22 route[0].rewrite.path_prefix: bad `path_prefix`: \"/ü\" has a character in it that a path has not | the beginning of a path, such as \"/\" | percent-encode it",
        ),
        (
            "path_prefix='/a/'\nrewrite={path_prefix=1}",
            "5:22 route[0].rewrite.path_prefix: `path_prefix` must be a string, not an integer |…",
        ),
        ("rewrite={host='a/b'}", "4:15 route[0].rewrite.host: bad `host`: \"a/b\" is not a host |…"),
        ("rewrite={path='/'}", "4:9 route[0].rewrite: neither `path_prefix` nor `host` |…"),
    ] {
        let more = "4:10 route[0].rewrite.path: unknown key \"path\" | `path_prefix` or `host` | -";
        let expected = if keys.contains("{path=") { vec![expected, more] } else { vec![expected] };
        check_route(&format!("cluster='c'\n{keys}\n"), &expected);
    }
}

#[test]
fn header_rules() {
    check_route(
        "cluster='c'\nrequest_headers={set={host='a','a b'='1',X-A='1',x-a='2',x-b=1,x-c='a\u{e9}',x-d=' '},remove=['Content-Length','Proxy-X'],add={te='trailers'},del=[]}\n\
         response_headers={set={x-witgate-error='no',connection='close'},add=['x-a']}\n",
        &[
            "4:23 route[0].request_headers.set.host: `host` is not changed by rules for headers | another header | `rewrite = { host = \"…\" }` replaces it",
            "4:32 route[0].request_headers.set.\"a b\": bad key: \"a b\" is not a header name | the name of a header | -",
            "4:50 route[0].request_headers.set.x-a: `x-a` is there already, in other letters | - | the first is on line 7",
            "4:62 route[0].request_headers.set.x-b: `x-b` must be a string, not an integer |…",
            "4:68 route[0].request_headers.set.x-c: bad `x-c`: \"aé\" has a character in it that no header has |…",
            "4:77 route[0].request_headers.set.x-d: bad `x-d`: \" \" begins or ends with white space |…",
            "4:90 route[0].request_headers.remove[0]: `content-length` concerns a connection or how a message is framed, which is the proxy's part | another header | -",
            "4:107 route[0].request_headers.remove[1]: `proxy-x` concerns a connection …",
            "4:123 route[0].request_headers.add.te: `te` concerns a connection …",
            "4:138 route[0].request_headers.del: unknown key \"del\" | `remove`, `set` or `add` | -",
            "5:24 route[0].response_headers.set.x-witgate-error: `x-witgate-error` says that the proxy made a response | another header | -",
            "5:45 route[0].response_headers.set.connection: `connection` concerns a connection …",
            "5:69 route[0].response_headers.add: `add` must be a table, not an array |…",
        ],
    );
}
