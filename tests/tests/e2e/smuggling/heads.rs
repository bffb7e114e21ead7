//! Heads of requests over HTTP/1: their first lines, hosts, and other lines. A row says what those of `http1` say.

use super::http1::{check, joined};

/// Lines of a head beside its `Host`.
const LINES: &[(&[u8], &str)] = &[
    (b"x: y", "GET / @a"),
    (b"x:", "GET / @a"),
    (b"x: \xe4\xff", "GET / @a"),
    (b"x: y\nz: a", "GET / @a"),
    (b"x_y: z", "GET / @a"),
    (b"x: y\r\n z", "400"),
    (b"x: y\r\n\tz: a", "400"),
    (b"x: y\n z", "400"),
    (b" x: y", "400"),
    (b"x: y\rz: a", "400"),
    (b"x: y\r", "400"),
    (b"x: y\0", "400"),
    (b"x: \x01", "400"),
    (b"x: \x7f", "400"),
    (b"x\0: y", "400"),
    (b"x : y", "400"),
    (b"x\t: y", "400"),
    (b"x y: z", "400"),
    (b"x\x0b: y", "400"),
    (b"x", "400"),
    (b": y", "400"),
    (b":", "400"),
    (b"x\xc3\xa4: y", "400"),
    (b"x\x7f: y", "400"),
    (b"x(: y", "400"),
    (b"x/y: z", "400"),
    (b"x\"y: z", "400"),
    (b"x\rhost: b", "400"),
    // Hosts.
    (b"host: a", "400"),
    (b"host: b", "400"),
    (b"Host: b", "400"),
    (b"connection: host", "GET / @a"),
    (b"connection: host, x-forwarded-for, cookie", "GET / @a"),
    // What ends here.
    (b"connection: close, x\r\nx: y", "GET / @a | closed"),
    (b"connection: keep-alive\r\nkeep-alive: timeout=5\r\nproxy-connection: x", "GET / @a"),
    (b"te: gzip", "GET / @a"),
    (b"te: trailers", "GET / @a"),
    (b"te: gzip, trailers\r\nconnection: te", "GET / @a"),
    (b"upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABkAAQAAP__", "GET / @a"),
    (b"upgrade: h2c\r\nconnection: upgrade\r\nhttp2-settings: AAMAAABkAAQAAP__", "GET / @a"),
    (b"http2-settings: AAMAAABkAAQAAP__", "GET / @a"),
    (b"upgrade: websocket\r\nconnection: upgrade", "GET / @a ^websocket"),
    (b"upgrade: websocket, h2c\r\nconnection: upgrade", "GET / @a"),
    (b"upgrade: websocket\r\nupgrade: h2c\r\nconnection: upgrade", "GET / @a"),
    (b"upgrade: websocket", "GET / @a"),
    (b"upgrade: websocket\r\nconnection: upgrade\r\ntransfer-encoding: chunked\r\ncontent-length: 5", "400"),
    // Expectations.
    (b"expect: 100-continue", "GET / @a"),
    (b"Expect: 100-Continue", "GET / @a"),
    (b"expect: foo", "417"),
    (b"expect: 100-continue, foo", "417"),
    (b"expect: 100-continue\r\nexpect: foo", "417"),
    (b"expect: 100-continue\r\nexpect: 100-continue", "GET / @a"),
];

#[test]
fn a_line_of_a_head_is_one_line_to_the_origin_too_or_is_refused() {
    check(LINES.iter().map(|(line, want)| (joined(&[b"GET / HTTP/1.1\r\nhost: a\r\n", line, b"\r\n\r\n"]), *want)));
}

/// What `Host` says.
const HOSTS: &[(&[u8], &str)] = &[
    (b"a", "GET / @a"),
    (b"a.test:80", "GET / @a.test:80"),
    (b"a:", "GET / @a:"),
    (b"[::1]:80", "GET / @[::1]:80"),
    (b"a_b", "GET / @a_b"),
    (b"", "GET / @"),
    (b"a b", "400"),
    (b"a\tb", "400"),
    (b"a, b", "400"),
    (b"a,b", "400"),
    (b"a/b", "400"),
    (b"a\\b", "400"),
    (b"http://a", "400"),
    (b"u@a", "400"),
    (b"u:p@a", "400"),
    (b"a?b", "400"),
    (b"a#b", "400"),
    (b"a:b", "400"),
    (b"a:80:90", "400"),
    (b"a:-1", "400"),
    (b"a:80/", "400"),
    (b"[::1", "400"),
    (b"[::1]x", "400"),
    (b"[a]", "400"),
    (b"::1", "400"),
    (b"a|b", "400"),
    (b"a{b}", "400"),
    (b"a`b", "400"),
    (b"a^b", "400"),
    (b"\"a\"", "400"),
    (b"<a>", "400"),
    (b"\xc3\xa4", "400"),
    (b"a\0", "400"),
    (b"a\x0b", "400"),
    (b"a\r\n b", "400"),
    (b"a\rb", "400"),
];

#[test]
fn a_host_is_one_host_or_is_refused() {
    check(HOSTS.iter().map(|(host, want)| (joined(&[b"GET / HTTP/1.1\r\nhost: ", host, b"\r\n\r\n"]), *want)));
    check([(b"GET / HTTP/1.1\r\n\r\n".to_vec(), "400"), (b"GET / HTTP/1.1\r\nx: y\r\n\r\n".to_vec(), "400")]);
}

/// Request lines, before `host: a`.
const STARTS: &[(&[u8], &str)] = &[
    // Paths pass as they are: whoever makes others of them here would match routes by what origins do not see.
    (b"GET /a/../b HTTP/1.1", "GET /a/../b @a"),
    (b"GET //a HTTP/1.1", "GET //a @a"),
    (b"GET //b/a HTTP/1.1", "GET //b/a @a"),
    (b"GET /%2e%2e/a HTTP/1.1", "GET /%2e%2e/a @a"),
    (b"GET /a%2fb HTTP/1.1", "GET /a%2fb @a"),
    (b"GET /a%00 HTTP/1.1", "GET /a%00 @a"),
    (b"GET /a%0d%0ax:%20y HTTP/1.1", "GET /a%0d%0ax:%20y @a"),
    (b"GET /a%zz HTTP/1.1", "GET /a%zz @a"),
    (b"GET /a\\b HTTP/1.1", "GET /a\\b @a"),
    (b"GET /a;b=c HTTP/1.1", "GET /a;b=c @a"),
    (b"GET /a?b?c&d=/../ HTTP/1.1", "GET /a?b?c&d=/../ @a"),
    (b"GET /a#b HTTP/1.1", "GET /a @a"),
    (b"GET /a?b#c?d HTTP/1.1", "GET /a?b @a"),
    (b"GET /a b HTTP/1.1", "400"),
    (b"GET /a\tb HTTP/1.1", "400"),
    (b"GET /a\x0bb HTTP/1.1", "400"),
    (b"GET /a\rb HTTP/1.1", "400"),
    (b"GET /a\0b HTTP/1.1", "400"),
    (b"GET /a\x7f HTTP/1.1", "400"),
    (b"GET /a HTTP/1.1 HTTP/1.1", "400"),
    (b"GET /a\xff HTTP/1.1", "400"),
    (b"GET /a\xc3\xa4 HTTP/1.1", "400"),
    (b"GET a HTTP/1.1", "400"),
    (b"GET ?a HTTP/1.1", "400"),
    (b"GET #a HTTP/1.1", "400"),
    (b"GET \\a HTTP/1.1", "400"),
    (b"GET ../a HTTP/1.1", "400"),
    (b"GET %2fa HTTP/1.1", "400"),
    (b"GET @b/a HTTP/1.1", "400"),
    // With an authority, which is the host whatever `Host` says (RFC 9112 section 3.2.2).
    (b"GET http://b/a HTTP/1.1", "GET /a @b"),
    (b"GET http://b:80/a HTTP/1.1", "GET /a @b:80"),
    (b"GET HTTP://b/a HTTP/1.1", "GET /a @b"),
    (b"GET https://b/a HTTP/1.1", "GET /a @b"),
    (b"GET http://b HTTP/1.1", "GET / @b"),
    (b"GET http://b?a HTTP/1.1", "GET /?a @b"),
    (b"GET http://b#a HTTP/1.1", "GET / @b"),
    (b"GET http://b//c/a HTTP/1.1", "GET //c/a @b"),
    (b"GET http://u:p@b/a HTTP/1.1", "400"),
    (b"GET http://@b/a HTTP/1.1", "400"),
    (b"GET http://a@c@b/a HTTP/1.1", "400"),
    (b"GET http:///a HTTP/1.1", "400"),
    (b"GET http://b:c/a HTTP/1.1", "400"),
    (b"GET http://b:80:90/a HTTP/1.1", "400"),
    (b"GET http://b\\c/a HTTP/1.1", "400"),
    (b"GET http://b c/a HTTP/1.1", "400"),
    (b"GET http://b,c/a HTTP/1.1", "400"),
    (b"GET http://[::1]/a HTTP/1.1", "GET /a @[::1]"),
    (b"GET http:/b/a HTTP/1.1", "400"),
    (b"GET http:b HTTP/1.1", "400"),
    (b"GET ftp://b/a HTTP/1.1", "400"),
    (b"GET file:///a HTTP/1.1", "400"),
    (b"GET b:80 HTTP/1.1", "400"),
    (b"GET b HTTP/1.1", "400"),
    (b"OPTIONS * HTTP/1.1", "OPTIONS * @a"),
    (b"OPTIONS http://b HTTP/1.1", "OPTIONS / @b"),
    (b"GET * HTTP/1.1", "400"),
    (b"GET *a HTTP/1.1", "400"),
    (b"PRI * HTTP/1.1", "400"),
    // Methods.
    (b"get /a HTTP/1.1", "get /a @a"),
    (b"X-Y!~ /a HTTP/1.1", "X-Y!~ /a @a"),
    (b"TRACE /a HTTP/1.1", "TRACE /a @a"),
    (b"G\0T /a HTTP/1.1", "400"),
    (b"G\xc3\xa4T /a HTTP/1.1", "400"),
    (b"G(T /a HTTP/1.1", "400"),
    (b"GET: /a HTTP/1.1", "400"),
    (b"\tGET /a HTTP/1.1", "400"),
    (b" GET /a HTTP/1.1", "400"),
    (b"GET\t/a HTTP/1.1", "400"),
    (b"GET  /a HTTP/1.1", "400"),
    (b"GET /a  HTTP/1.1", "400"),
    (b" /a HTTP/1.1", "400"),
    (b"GET", "400"),
    // Versions.
    (b"GET /a HTTP/1.0\r\nconnection: keep-alive", "GET /a @a"),
    (b"GET /a HTTP/1.0", "GET /a @a | closed"),
    (b"GET /a", "400"),
    (b"GET /a HTTP/0.9", "400"),
    (b"GET /a HTTP/1.2", "400"),
    (b"GET /a HTTP/1.10", "400"),
    (b"GET /a HTTP/1", "400"),
    (b"GET /a HTTP/1.1x", "400"),
    (b"GET /a HTTP/1,1", "400"),
    (b"GET /a HTTP/2.0", "400"),
    (b"GET /a HTTP/3", "400"),
    (b"GET /a http/1.1", "400"),
    (b"GET /a HTTPS/1.1", "400"),
    (b"GET /a ICY/1.1", "400"),
    (b"PRI * HTTP/2.0", "400"),
];

#[test]
fn a_request_line_is_the_same_to_the_origin_as_to_the_proxy_or_is_refused() {
    let long = |size: usize| joined(&[&vec![b'M'; size], b" /a HTTP/1.1\r\nhost: a\r\n\r\n"]);
    let method: &'static str = format!("{} /a @a", "M".repeat(1000)).leak();
    check(
        STARTS
            .iter()
            .map(|(start, want)| (joined(&[start, b"\r\nhost: a\r\n\r\n"]), *want))
            .chain([(long(1000), method), (long(100 << 10), "431")]),
    );
}
