//! Accepts or rejects what plugins answer. Never repairs an answer: one that breaks a rule is malformed as a whole.

use std::fmt::Write;

use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{
        CONNECTION, CONTENT_LENGTH, HOST, LOCATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
        TRANSFER_ENCODING, UPGRADE,
    },
};

use super::{
    MAX_BODY, MAX_COOKIE, MAX_COOKIE_NAME, MAX_HEADERS, MAX_KEY, MAX_LOCATION, MAX_RESPONSE_HEADERS, Malformed,
    RawAction, RawCookie, RawRoute, RawStick, Route, RouteAction, SameSite, Stick,
};
use crate::affinity::hash_key;

/// Accepts a router's answer. `clusters` finds the index of a configured cluster by its name.
///
/// # Errors
/// An unknown cluster; a status, header, location or body that the contract does not allow.
pub fn accept_route(raw: RawRoute, clusters: impl Fn(&str) -> Option<usize>) -> Result<Route, Malformed> {
    let action = match raw.action {
        RawAction::Pass => RouteAction::Pass,
        RawAction::Cluster(name) => RouteAction::Cluster(
            clusters(&name).ok_or_else(|| malformed(format!("cluster {} is not configured", shown(&name))))?,
        ),
        RawAction::Respond { status, headers, body } => respond(status, headers, body)?,
        RawAction::Redirect { status, location } => redirect(status, &location)?,
    };
    at_most(raw.set_headers.len(), MAX_HEADERS, "headers to set")?;
    at_most(raw.remove_headers.len(), MAX_HEADERS, "headers to remove")?;
    Ok(Route {
        action,
        remove_headers: raw.remove_headers.iter().map(|name| request_header(name)).collect::<Result<_, _>>()?,
        set_headers: raw
            .set_headers
            .iter()
            .map(|(name, value)| Ok((request_header(name)?, header_value(name, value)?)))
            .collect::<Result<_, _>>()?,
    })
}

/// Accepts a splitter's answer: the index of one of `choices`, or no opinion.
///
/// # Errors
/// An index that was not offered.
pub fn accept_split(answer: Option<u32>, choices: usize) -> Result<Option<usize>, Malformed> {
    let Some(answer) = answer else { return Ok(None) };
    match usize::try_from(answer) {
        Ok(index) if index < choices => Ok(Some(index)),
        _ => Err(malformed(format!("choice {answer} was not offered; there are {choices}, counted from 0"))),
    }
}

/// Accepts an affinity answer.
///
/// # Errors
/// A key that is empty or too long; a cookie that RFC 6265 section 4.1.1 does not allow, or one that browsers drop.
pub fn accept_stick(raw: RawStick) -> Result<Stick, Malformed> {
    if raw.key.is_empty() {
        return Err(malformed("the key is empty"));
    }
    at_most(raw.key.len(), MAX_KEY, "bytes of key")?;
    let set_cookie = raw.set_cookie.as_ref().map(set_cookie).transpose()?;
    Ok(Stick { hash: hash_key(raw.key.as_bytes()), set_cookie })
}

/// Accepts a scorer's answer about `expected` endpoints.
///
/// # Errors
/// A wrong number of scores; one that is negative, infinite or not a number; all of them 0.
pub fn accept_scores(scores: &[f32], expected: usize) -> Result<(), Malformed> {
    if scores.len() != expected {
        return Err(malformed(format!("{} scores for {expected} endpoints", scores.len())));
    }
    if let Some((i, score)) = scores.iter().enumerate().find(|(_, score)| !(score.is_finite() && **score >= 0.0)) {
        return Err(malformed(format!("score {i} is {score}; a score is finite and not negative")));
    }
    if expected > 0 && scores.iter().all(|&score| score == 0.0) {
        return Err(malformed("all scores are 0"));
    }
    Ok(())
}

fn respond(status: u16, headers: Vec<(String, String)>, body: String) -> Result<RouteAction, Malformed> {
    let status = match StatusCode::from_u16(status) {
        Ok(code) if (200..=599).contains(&status) => code,
        _ => return Err(malformed(format!("response status {status}; 200 to 599 is allowed"))),
    };
    at_most(headers.len(), MAX_RESPONSE_HEADERS, "response headers")?;
    at_most(body.len(), MAX_BODY, "bytes of body")?;
    // RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5: a body after these would be read as the next response.
    if !body.is_empty() && matches!(status.as_u16(), 204 | 205 | 304) {
        return Err(malformed(format!("a response with status {} has no body", status.as_u16())));
    }
    let headers = headers
        .iter()
        .map(|(name, value)| Ok((response_header(name)?, header_value(name, value)?)))
        .collect::<Result<_, _>>()?;
    Ok(RouteAction::Respond { status, headers, body })
}

fn redirect(status: u16, location: &str) -> Result<RouteAction, Malformed> {
    let code = match StatusCode::from_u16(status) {
        Ok(code) if matches!(status, 301 | 302 | 303 | 307 | 308) => code,
        _ => return Err(malformed(format!("redirect status {status}; 301, 302, 303, 307 or 308 is allowed"))),
    };
    if location.is_empty() {
        return Err(malformed("the location of the redirect is empty"));
    }
    at_most(location.len(), MAX_LOCATION, "bytes of location")?;
    let location = header_value("location", location)?;
    Ok(RouteAction::Respond { status: code, headers: vec![(LOCATION, location)], body: String::new() })
}

fn request_header(name: &str) -> Result<HeaderName, Malformed> {
    let name = header_name(name)?;
    match name {
        HOST => Err(malformed("header host is not a router's to change")),
        name => Ok(name),
    }
}

fn response_header(name: &str) -> Result<HeaderName, Malformed> {
    header_name(name)
}

/// A well-formed name that neither frames the message nor belongs to one connection (RFC 9110 section 7.6.1).
fn header_name(text: &str) -> Result<HeaderName, Malformed> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| malformed(format!("{} is not the name of a header", shown(text))))?;
    match name {
        CONTENT_LENGTH | TRANSFER_ENCODING => Err(malformed(format!("header {name} frames the message"))),
        CONNECTION | PROXY_AUTHENTICATE | PROXY_AUTHORIZATION | TE | TRAILER | UPGRADE => {
            Err(malformed(format!("header {name} is hop-by-hop")))
        }
        // Never registered, yet what old clients send.
        name if matches!(name.as_str(), "keep-alive" | "proxy-connection") => {
            Err(malformed(format!("header {name} is hop-by-hop")))
        }
        name => Ok(name),
    }
}

fn header_value(name: &str, value: &str) -> Result<HeaderValue, Malformed> {
    HeaderValue::from_bytes(value.as_bytes())
        .map_err(|_| malformed(format!("the value {} of header {} has control characters", shown(value), shown(name))))
}

/// A whole `Set-Cookie` value.
fn set_cookie(cookie: &RawCookie) -> Result<HeaderValue, Malformed> {
    let path = cookie.path.as_deref().unwrap_or("/");
    at_most(cookie.name.len(), MAX_COOKIE_NAME, "bytes of cookie name")?;
    at_most(cookie.value.len(), MAX_COOKIE, "bytes of cookie value")?;
    at_most(path.len(), MAX_LOCATION, "bytes of cookie path")?;
    if cookie.name.is_empty() || !cookie.name.bytes().all(is_token) {
        return Err(malformed(format!("{} is not the name of a cookie", shown(&cookie.name))));
    }
    if !cookie.value.bytes().all(is_cookie_octet) {
        return Err(malformed(format!(
            "the value of cookie {} has characters other than RFC 6265 cookie octets",
            shown(&cookie.name)
        )));
    }
    if !path.starts_with('/') || !path.bytes().all(|b| matches!(b, 0x20..=0x7e) && b != b';') {
        return Err(malformed(format!("{} is not the path of a cookie; it starts with / and has no ;", shown(path))));
    }
    if cookie.same_site == Some(SameSite::None) && !cookie.secure {
        return Err(malformed("a cookie with same-site none must be secure, or browsers drop it"));
    }
    let mut text = format!("{}={}; Path={path}", cookie.name, cookie.value);
    if let Some(seconds) = cookie.max_age {
        // Writing to a String cannot fail.
        let _ = write!(text, "; Max-Age={seconds}");
    }
    if cookie.secure {
        text.push_str("; Secure");
    }
    if cookie.http_only {
        text.push_str("; HttpOnly");
    }
    text.push_str(match cookie.same_site {
        Some(SameSite::Strict) => "; SameSite=Strict",
        Some(SameSite::Lax) => "; SameSite=Lax",
        Some(SameSite::None) => "; SameSite=None",
        None => "",
    });
    header_value("set-cookie", &text)
}

/// RFC 9110 section 5.6.2.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// RFC 6265 section 4.1.1.
fn is_cookie_octet(b: u8) -> bool {
    matches!(b, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

fn at_most(count: usize, limit: usize, what: &str) -> Result<(), Malformed> {
    if count > limit { Err(malformed(format!("{count} {what}; at most {limit} are allowed"))) } else { Ok(()) }
}

/// A plugin's text as it may appear in a log line: quoted, escaped and short.
fn shown(text: &str) -> String {
    match text.char_indices().nth(48) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn malformed(reason: impl Into<String>) -> Malformed {
    Malformed(reason.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clusters(name: &str) -> Option<usize> {
        ["stable", "canary"].iter().position(|c| *c == name)
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect()
    }

    fn respond_with(status: u16, headers: &[(&str, &str)], body: &str) -> RawRoute {
        let action = RawAction::Respond { status, headers: pairs(headers), body: body.into() };
        RawRoute { action, ..RawRoute::default() }
    }

    fn redirect_to(status: u16, location: &str) -> RawRoute {
        let action = RawAction::Redirect { status, location: location.into() };
        RawRoute { action, ..RawRoute::default() }
    }

    fn set(name: &str, value: &str) -> RawRoute {
        RawRoute { set_headers: pairs(&[(name, value)]), ..RawRoute::default() }
    }

    fn remove(name: &str) -> RawRoute {
        RawRoute { remove_headers: vec![name.into()], ..RawRoute::default() }
    }

    #[track_caller]
    fn check_malformed<T: std::fmt::Debug>(got: Result<T, Malformed>, reason: &str) {
        match got {
            Ok(accepted) => panic!("accepted {accepted:?}, want: {reason}"),
            Err(malformed) => assert_eq!(malformed.to_string(), format!("malformed answer: {reason}")),
        }
    }

    #[test]
    fn malformed_routes_say_why() {
        let long = "x".repeat(MAX_BODY + 1);
        let many = vec![("x-a".to_owned(), "1".to_owned()); MAX_HEADERS + 1];
        let cluster = |name: &str| RawRoute { action: RawAction::Cluster(name.into()), ..RawRoute::default() };
        let cases = [
            (cluster("nope"), "cluster \"nope\" is not configured"),
            (cluster(""), "cluster \"\" is not configured"),
            (cluster("a\nb"), "cluster \"a\\nb\" is not configured"),
            (respond_with(199, &[], ""), "response status 199; 200 to 599 is allowed"),
            (respond_with(600, &[], ""), "response status 600; 200 to 599 is allowed"),
            (respond_with(0, &[], ""), "response status 0; 200 to 599 is allowed"),
            (respond_with(200, &[], &long), "65537 bytes of body; at most 65536 are allowed"),
            (respond_with(204, &[], "x"), "a response with status 204 has no body"),
            (respond_with(304, &[], "x"), "a response with status 304 has no body"),
            (respond_with(200, &[("Content-Length", "3")], ""), "header content-length frames the message"),
            (respond_with(200, &[("Connection", "close")], ""), "header connection is hop-by-hop"),
            (redirect_to(300, "/"), "redirect status 300; 301, 302, 303, 307 or 308 is allowed"),
            (redirect_to(304, "/"), "redirect status 304; 301, 302, 303, 307 or 308 is allowed"),
            (redirect_to(200, "/"), "redirect status 200; 301, 302, 303, 307 or 308 is allowed"),
            (redirect_to(302, ""), "the location of the redirect is empty"),
            (redirect_to(302, "/\r\nx: y"), "the value \"/\\r\\nx: y\" of header \"location\" has control characters"),
            (set("a b", "1"), "\"a b\" is not the name of a header"),
            (set("", "1"), "\"\" is not the name of a header"),
            (set(":path", "/"), "\":path\" is not the name of a header"),
            (set("x-a", "1\r\n2"), "the value \"1\\r\\n2\" of header \"x-a\" has control characters"),
            (set("Host", "evil"), "header host is not a router's to change"),
            (remove("host"), "header host is not a router's to change"),
            (set("transfer-encoding", "chunked"), "header transfer-encoding frames the message"),
            (remove("Content-Length"), "header content-length frames the message"),
            (RawRoute { set_headers: many, ..RawRoute::default() }, "33 headers to set; at most 32 are allowed"),
            (
                RawRoute { remove_headers: vec!["x".into(); 33], ..RawRoute::default() },
                "33 headers to remove; at most 32 are allowed",
            ),
        ];
        for (raw, reason) in cases {
            check_malformed(accept_route(raw, clusters), reason);
        }
        for name in ["connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"] {
            let reason = format!("header {name} is hop-by-hop");
            check_malformed(accept_route(set(&name.to_uppercase(), "x"), clusters), &reason);
            check_malformed(accept_route(remove(name), clusters), &reason);
            check_malformed(accept_route(respond_with(200, &[(name, "x")], ""), clusters), &reason);
        }
    }

    #[test]
    fn good_routes_are_accepted() {
        let raw = RawRoute {
            action: RawAction::Cluster("canary".into()),
            set_headers: pairs(&[("X-User", "jürgen")]),
            remove_headers: vec!["X-Old".into()],
        };
        let route = accept_route(raw, clusters).unwrap();
        assert_eq!(route.action, RouteAction::Cluster(1));
        assert_eq!(route.remove_headers, ["x-old"]);
        assert_eq!(route.set_headers[0].0, "x-user");
        assert_eq!(route.set_headers[0].1.as_bytes(), "jürgen".as_bytes());
        assert_eq!(accept_route(RawRoute::default(), clusters).unwrap().action, RouteAction::Pass);

        let route = accept_route(redirect_to(308, "https://a.example/ü"), clusters).unwrap();
        let RouteAction::Respond { status, headers, body } = route.action else { panic!("{route:?}") };
        assert_eq!((status.as_u16(), body.as_str()), (308, ""));
        assert_eq!(headers[0].0, LOCATION);

        let exact = "x".repeat(MAX_BODY);
        let route = accept_route(respond_with(599, &[("x-a", "1"), ("x-a", "2")], &exact), clusters).unwrap();
        assert!(matches!(route.action, RouteAction::Respond { ref headers, .. } if headers.len() == 2), "{route:?}");
    }

    #[test]
    fn splits_are_among_the_offered() {
        assert_eq!(accept_split(None, 2), Ok(None));
        assert_eq!(accept_split(Some(1), 2), Ok(Some(1)));
        check_malformed(accept_split(Some(2), 2), "choice 2 was not offered; there are 2, counted from 0");
        check_malformed(
            accept_split(Some(u32::MAX), 0),
            "choice 4294967295 was not offered; there are 0, counted from 0",
        );
    }

    fn cookie() -> RawCookie {
        RawCookie { name: "wg".into(), value: "v".into(), ..RawCookie::default() }
    }

    fn stick(cookie: RawCookie) -> RawStick {
        RawStick { key: "k".into(), set_cookie: Some(cookie) }
    }

    #[test]
    fn malformed_sticks_say_why() {
        let key = |key: String| RawStick { key, set_cookie: None };
        let octets = "the value of cookie \"wg\" has characters other than RFC 6265 cookie octets";
        let cases = [
            (key(String::new()), "the key is empty"),
            (key("k".repeat(1025)), "1025 bytes of key; at most 1024 are allowed"),
            (stick(RawCookie { name: String::new(), ..cookie() }), "\"\" is not the name of a cookie"),
            (stick(RawCookie { name: "a=b".into(), ..cookie() }), "\"a=b\" is not the name of a cookie"),
            (stick(RawCookie { name: "a;b".into(), ..cookie() }), "\"a;b\" is not the name of a cookie"),
            (stick(RawCookie { value: "a;b".into(), ..cookie() }), octets),
            (stick(RawCookie { value: "a b".into(), ..cookie() }), octets),
            (stick(RawCookie { value: "a\"b".into(), ..cookie() }), octets),
            (stick(RawCookie { value: "ä".into(), ..cookie() }), octets),
            (stick(RawCookie { value: "a\r\nb".into(), ..cookie() }), octets),
            (
                stick(RawCookie { value: "v".repeat(4097), ..cookie() }),
                "4097 bytes of cookie value; at most 4096 are allowed",
            ),
            (
                stick(RawCookie { path: Some("x".into()), ..cookie() }),
                "\"x\" is not the path of a cookie; it starts with / and has no ;",
            ),
            (
                stick(RawCookie { path: Some("/;Secure".into()), ..cookie() }),
                "\"/;Secure\" is not the path of a cookie; it starts with / and has no ;",
            ),
            (
                stick(RawCookie { same_site: Some(SameSite::None), ..cookie() }),
                "a cookie with same-site none must be secure, or browsers drop it",
            ),
        ];
        for (raw, reason) in cases {
            check_malformed(accept_stick(raw), reason);
        }
    }

    #[test]
    fn cookies_are_written_whole() {
        let plain = accept_stick(stick(cookie())).unwrap();
        assert_eq!(plain.set_cookie.unwrap(), "wg=v; Path=/");
        let full = RawCookie {
            max_age: Some(60),
            path: Some("/app".into()),
            secure: true,
            http_only: true,
            same_site: Some(SameSite::None),
            ..cookie()
        };
        let full = accept_stick(stick(full)).unwrap();
        assert_eq!(full.set_cookie.unwrap(), "wg=v; Path=/app; Max-Age=60; Secure; HttpOnly; SameSite=None");
        assert_eq!(full.hash, hash_key(b"k"));
    }

    #[test]
    fn scores_are_finite_not_negative_and_complete() {
        assert_eq!(accept_scores(&[0.0, 1.0, f32::MAX], 3), Ok(()));
        assert_eq!(accept_scores(&[], 0), Ok(()));
        check_malformed(accept_scores(&[1.0], 2), "1 scores for 2 endpoints");
        check_malformed(accept_scores(&[1.0, f32::NAN], 2), "score 1 is NaN; a score is finite and not negative");
        check_malformed(accept_scores(&[f32::INFINITY], 1), "score 0 is inf; a score is finite and not negative");
        check_malformed(accept_scores(&[1.0, -0.5], 2), "score 1 is -0.5; a score is finite and not negative");
        check_malformed(accept_scores(&[0.0, -0.0], 2), "all scores are 0");
    }
}
