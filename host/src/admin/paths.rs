//! Paths of the admin API and the methods they take. The one list of what there is.

use std::borrow::Cow;

/// One resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    Livez,
    Readyz,
    Metrics,
    Listeners,
    Routes,
    Clusters,
    Cluster(String),
    Endpoints(String),
    Endpoint(String, String),
    Plugins,
    Plugin(String),
    Activate(String),
    Rollback(String),
    Explain,
    Config,
    Drain,
}

impl Resource {
    /// What a path names. Segments are percent-decoded after they were told apart.
    pub(super) fn find(path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let name = |segment: &str| decoded(segment).filter(|name| !name.is_empty()).map(Cow::into_owned);
        Some(match segments.as_slice() {
            ["livez"] => Self::Livez,
            ["readyz"] => Self::Readyz,
            ["metrics"] => Self::Metrics,
            ["v1", "listeners"] => Self::Listeners,
            ["v1", "routes"] => Self::Routes,
            ["v1", "clusters"] => Self::Clusters,
            ["v1", "clusters", cluster] => Self::Cluster(name(cluster)?),
            ["v1", "clusters", cluster, "endpoints"] => Self::Endpoints(name(cluster)?),
            ["v1", "clusters", cluster, "endpoints", address] => Self::Endpoint(name(cluster)?, name(address)?),
            ["v1", "plugins"] => Self::Plugins,
            ["v1", "plugins", plugin] => Self::Plugin(name(plugin)?),
            ["v1", "plugins", plugin, "activate"] => Self::Activate(name(plugin)?),
            ["v1", "plugins", plugin, "rollback"] => Self::Rollback(name(plugin)?),
            ["v1", "explain"] => Self::Explain,
            ["v1", "config"] => Self::Config,
            ["v1", "drain"] => Self::Drain,
            _ => return None,
        })
    }

    /// Whether it needs no token: what load balancers, orchestrators and scrapers ask for.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Livez | Self::Readyz | Self::Metrics)
    }

    /// Whether query parameters are its own matter. Of the open ones any are taken: they ask for nothing that a parameter
    /// could change, and an orchestrator that adds one must not take the answer for "dead".
    pub(super) fn has_parameters(&self, method: &http::Method) -> bool {
        let changes = matches!(self, Self::Plugin(_)) && matches!(*method, http::Method::PUT | http::Method::DELETE);
        self.is_open() || changes
    }

    /// Its methods, as `Allow` lists them.
    pub(super) fn methods(&self) -> &'static str {
        match self {
            Self::Plugin(_) => "GET, HEAD, PUT, DELETE",
            Self::Config => "GET, HEAD, PUT",
            Self::Endpoints(_) => "PUT",
            Self::Endpoint(..) => "PATCH",
            Self::Activate(_) | Self::Rollback(_) | Self::Explain | Self::Drain => "POST",
            _ => "GET, HEAD",
        }
    }

    /// Whether it takes `method`.
    pub(super) fn takes(&self, method: &http::Method) -> bool {
        self.methods().split(", ").any(|taken| taken == method.as_str())
    }
}

/// A segment without its percent-encoding; none where that is broken or hides something that is not UTF-8.
fn decoded(segment: &str) -> Option<Cow<'_, str>> {
    if !segment.contains('%') {
        return Some(Cow::Borrowed(segment));
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, after @ ..] = tail else { return None };
        let digit = |b: u8| char::from(b).to_digit(16);
        bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[track_caller]
    fn check(path: &str, want: Option<Resource>) {
        assert_eq!(Resource::find(path), want, "{path}");
    }

    #[test]
    fn paths_name_resources() {
        check("/livez", Some(Resource::Livez));
        check("/v1/clusters", Some(Resource::Clusters));
        check("/v1/clusters/a%20b", Some(Resource::Cluster("a b".into())));
        check("/v1/clusters/a%2Fb", Some(Resource::Cluster("a/b".into())));
        check("/v1/clusters/%c3%a4", Some(Resource::Cluster("ä".into())));
        check("/v1/plugins/canary/activate", Some(Resource::Activate("canary".into())));
        check("/v1/clusters/a%2Fb/endpoints", Some(Resource::Endpoints("a/b".into())));
        let endpoint = |address: &str| Some(Resource::Endpoint("c".into(), address.into()));
        check("/v1/clusters/c/endpoints/10.0.0.1:80", endpoint("10.0.0.1:80"));
        check("/v1/clusters/c/endpoints/%5B::1%5D:80", endpoint("[::1]:80"));
        for path in ["", "/", "*", "/v1", "/livez/", "/v1/plugins/", "/v1/plugins//activate", "/v2/routes"] {
            check(path, None);
        }
        for path in ["/v1/clusters/%", "/v1/clusters/%4", "/v1/clusters/%zz", "/v1/clusters/%ff"] {
            check(path, None);
        }
    }

    #[test]
    fn resources_take_only_their_methods() {
        let plugin = Resource::Plugin("a".into());
        let takes = |resource: &Resource, method: Method| resource.takes(&method);
        assert!(takes(&plugin, Method::PUT) && takes(&plugin, Method::DELETE) && !takes(&plugin, Method::POST));
        assert!(takes(&Resource::Drain, Method::POST) && !takes(&Resource::Drain, Method::GET));
        assert!(takes(&Resource::Routes, Method::HEAD) && !takes(&Resource::Routes, Method::PATCH));
    }

    #[test]
    fn only_probes_and_metrics_are_open() {
        let open = ["/livez", "/readyz", "/metrics"];
        let closed = ["/v1/listeners", "/v1/plugins/a", "/v1/explain", "/v1/drain"];
        let is_open = |path: &&str| Resource::find(path).is_some_and(|resource| resource.is_open());
        assert!(open.iter().all(is_open) && !closed.iter().any(is_open));
    }
}
