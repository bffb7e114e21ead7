//! What a route changes on the way: of a request its path, its host and its headers, of a response its headers. Never
//! looks at a request to decide whether.

use http::{HeaderMap, HeaderValue, Uri, header::HOST, uri::PathAndQuery};

use crate::{
    config::{HeaderRules, PathMatch, Route},
    request::Head,
};

/// What is changed of requests before they are sent.
#[derive(Debug, Clone)]
pub struct Rewrite {
    path: Option<PathRewrite>,
    host: Option<HeaderValue>,
    headers: HeaderRules,
}

/// What comes in place of a path.
#[derive(Debug, Clone)]
struct PathRewrite {
    /// The beginning that is replaced; none: all of it.
    prefix: Option<String>,
    by: String,
}

/// The target would be longer than 65,534 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl Rewrite {
    /// What a route changes of requests; none where it changes nothing.
    pub fn of(route: &Route) -> Option<Self> {
        if route.rewrite.is_none() && route.request_headers.is_empty() {
            return None;
        }
        let rewrite = route.rewrite.as_ref();
        let path = rewrite.and_then(|rewrite| rewrite.path_prefix.clone()).map(|by| {
            let prefix = match &route.path {
                PathMatch::Prefix(prefix) => Some(prefix.clone()),
                PathMatch::Any | PathMatch::Exact(_) | PathMatch::Regex(_) => None,
            };
            PathRewrite { prefix, by }
        });
        let host = rewrite.and_then(|rewrite| rewrite.host.clone());
        Some(Self { path, host, headers: route.request_headers.clone() })
    }

    /// Changes a head that is about to be sent. Its target is without a host afterwards where its path is changed.
    ///
    /// # Errors
    /// The target would be too long.
    pub fn apply(&self, head: &mut Head) -> Result<(), TooLong> {
        if let Some(path) = &self.path
            && let Some(target) = path.target(&head.uri)
        {
            head.uri = Uri::from(PathAndQuery::try_from(target).map_err(|_| TooLong)?);
        }
        if let Some(host) = &self.host {
            head.headers.insert(HOST, host.clone());
        }
        self.headers.apply(&mut head.headers);
        Ok(())
    }
}

impl PathRewrite {
    /// The new path with the old query. None where the path does not begin as it should, which no route lets through.
    fn target(&self, uri: &Uri) -> Option<String> {
        let rest = match &self.prefix {
            Some(prefix) => uri.path().strip_prefix(prefix.as_str())?,
            None => "",
        };
        // A slash on both sides of the seam would be an empty segment that the client never asked for.
        let rest = if self.by.ends_with('/') { rest.strip_prefix('/').unwrap_or(rest) } else { rest };
        let query = uri.query();
        let mut target = String::with_capacity(self.by.len() + rest.len() + query.map_or(0, |query| query.len() + 1));
        target.push_str(&self.by);
        target.push_str(rest);
        if let Some(query) = query {
            target.push('?');
            target.push_str(query);
        }
        Some(target)
    }
}

impl HeaderRules {
    /// Removes, then sets, then adds.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    /// What goes out for a target, with `by` in place of `prefix`, or of all where there is none.
    #[track_caller]
    fn check(prefix: Option<&str>, by: &str, target: &str, want: &str) {
        let path = PathRewrite { prefix: prefix.map(str::to_owned), by: by.to_owned() };
        let rewrite = Rewrite { path: Some(path), host: None, headers: HeaderRules::default() };
        let mut head = Head { uri: target.parse().unwrap(), ..Head::default() };
        rewrite.apply(&mut head).unwrap();
        assert_eq!(head.uri.to_string(), want, "{by:?} for {prefix:?} in {target:?}");
    }

    #[test]
    fn what_was_matched_is_replaced_and_the_rest_is_as_it_came() {
        check(Some("/api/"), "/", "/api/x", "/x");
        check(Some("/api/"), "/", "/api/", "/");
        check(Some("/api/"), "/v2/", "/api/x/y?q=1&q=2", "/v2/x/y?q=1&q=2");
        check(Some("/api"), "/v2", "/api/x", "/v2/x");
        check(Some("/api"), "/v2", "/api", "/v2");
        check(Some("/api"), "/v2", "/apix", "/v2x");
        check(Some("/"), "/v2/", "/a%2Fb//c?", "/v2/a%2Fb//c?");
        check(Some("/"), "/", "/x", "/x");
        check(Some("/api/"), "/v2/", "http://old.test/api/x?q", "/v2/x?q");
        check(None, "/", "/exact?q=/api", "/?q=/api");
        check(None, "/new", "/exact", "/new");
    }

    #[test]
    fn no_slash_is_doubled_at_the_seam() {
        check(Some("/api"), "/", "/api/x", "/x");
        check(Some("/api"), "/", "/api", "/");
        check(Some("/api"), "/", "/api?q", "/?q");
        check(Some("/api"), "/v2/", "/api/x", "/v2/x");
        // What the client doubled stays so.
        check(Some("/api/"), "/", "/api///x", "//x");
        check(Some("/api"), "/v2", "/api//x", "/v2//x");
    }

    #[test]
    fn a_target_that_becomes_too_long_is_an_error() {
        let path = PathRewrite { prefix: Some("/a".to_owned()), by: format!("/{}", "b".repeat(65_000)) };
        let rewrite = Rewrite { path: Some(path), host: None, headers: HeaderRules::default() };
        let mut head = Head { uri: format!("/a{}", "c".repeat(1_000)).parse().unwrap(), ..Head::default() };
        assert_eq!(rewrite.apply(&mut head), Err(TooLong));
    }

    #[test]
    fn headers_are_removed_then_set_then_added() {
        let name = |name: &str| name.parse::<HeaderName>().unwrap();
        let pair = |n: &str, value: &str| (name(n), value.parse::<HeaderValue>().unwrap());
        let rules = HeaderRules {
            remove: vec![name("x-gone"), name("x-both"), name("x-never")],
            set: vec![pair("x-set", "1"), pair("x-both", "2")],
            add: vec![pair("x-both", "3"), pair("x-more", "4")],
        };
        let came = ["x-gone", "x-gone", "x-set", "x-set", "x-both", "x-more", "x-same"];
        let mut headers: HeaderMap =
            came.iter().map(|n| pair(n, "0")).fold(HeaderMap::new(), |mut all, (name, value)| {
                all.append(name, value);
                all
            });
        rules.apply(&mut headers);
        let all = |n: &str| headers.get_all(n).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>().join(" ");
        for (name, want) in
            [("x-gone", ""), ("x-set", "1"), ("x-both", "2 3"), ("x-more", "0 4"), ("x-same", "0"), ("x-never", "")]
        {
            assert_eq!(all(name), want, "{name}");
        }
    }
}
