//! The proxies that are measured: a new one is a template in `tests/bench`, a line here, and its name in a scenario.

use crate::lab::peers::Peer;

/// The baseline of every ratio.
pub(super) const NGINX: &str = "nginx";
pub(super) const HAPROXY: &str = "haproxy";
pub(super) const PINGORA: &str = "pingora";
pub(super) const ENVOY: &str = "envoy";
pub(super) const WITGATE: &str = "witgate";
pub(super) const NGINX_NJS: &str = "nginx + njs";
pub(super) const HAPROXY_LUA: &str = "haproxy + lua";
pub(super) const ENVOY_WASM: &str = "envoy + proxy-wasm";
/// What policy is compared with, on the same requests.
pub(super) const NO_POLICY: &str = "witgate, no policy";
/// What programmed policy costs.
pub(super) const IN_WASM: &str = "witgate, router + splitter in Wasm";
/// The baseline of what three plugins cost.
pub(super) const NATIVE: &str = "witgate, native policy + affinity";
pub(super) const PLUGINS: &str = "witgate, three plugins";
/// What many routes are compared with, on the same requests.
pub(super) const ONE_ROUTE: &str = "witgate, one route";

/// One proxy and its configuration.
pub(super) struct Target {
    pub(super) name: &'static str,
    pub(super) peer: Peer,
    pub(super) template: &'static str,
    pub(super) answers: Answers,
}

/// What a target's answers have to look like before it is worth measuring.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Answers {
    /// Both origins, never the canary.
    Balanced,
    /// The canary where the header says so, and for about a tenth of the users.
    Policy,
    /// Both origins, by host and path; 404 where neither is known.
    Routed,
    /// Both origins in turn, connection by connection.
    Whole,
}

impl Target {
    /// Whether it is this repository's.
    pub(super) fn is_own(&self) -> bool {
        self.peer == Peer::Witgate
    }
}

const fn balanced(name: &'static str, peer: Peer, template: &'static str) -> Target {
    Target { name, peer, template, answers: Answers::Balanced }
}

const fn policy(name: &'static str, peer: Peer, template: &'static str) -> Target {
    Target { name, peer, template, answers: Answers::Policy }
}

const fn routed(name: &'static str, peer: Peer, template: &'static str) -> Target {
    Target { name, peer, template, answers: Answers::Routed }
}

const fn whole(name: &'static str, peer: Peer, template: &'static str) -> Target {
    Target { name, peer, template, answers: Answers::Whole }
}

/// Round robin over two origins.
pub(super) const PLAIN: &[Target] = &[
    balanced(NGINX, Peer::Nginx, "nginx-plain.conf"),
    balanced(HAPROXY, Peer::Haproxy, "haproxy-plain.cfg"),
    balanced(PINGORA, Peer::Pingora, "pingora-plain.conf"),
    balanced(ENVOY, Peer::Envoy, "envoy-plain.yaml"),
    balanced(WITGATE, Peer::Witgate, "witgate-plain.toml"),
];

/// The same, and nginx with buffers that hold a body.
pub(super) const BODIES: &[Target] = &[
    balanced(NGINX, Peer::Nginx, "nginx-bodies.conf"),
    balanced(HAPROXY, Peer::Haproxy, "haproxy-plain.cfg"),
    balanced(PINGORA, Peer::Pingora, "pingora-plain.conf"),
    balanced(ENVOY, Peer::Envoy, "envoy-plain.yaml"),
    balanced(WITGATE, Peer::Witgate, "witgate-plain.toml"),
];

/// A decision for each request: what each has for it, and what each can be programmed in.
pub(super) const POLICY: &[Target] = &[
    policy(NGINX, Peer::Nginx, "nginx-policy.conf"),
    policy(HAPROXY, Peer::Haproxy, "haproxy-policy.cfg"),
    policy(PINGORA, Peer::Pingora, "pingora-policy.conf"),
    policy(ENVOY, Peer::Envoy, "envoy-policy.yaml"),
    policy(NGINX_NJS, Peer::NginxNjs, "nginx-njs.conf"),
    policy("nginx + lua", Peer::NginxLua, "nginx-lua.conf"),
    policy(HAPROXY_LUA, Peer::Haproxy, "haproxy-lua.cfg"),
    policy("envoy + lua", Peer::Envoy, "envoy-lua.yaml"),
    policy(ENVOY_WASM, Peer::EnvoyWasm, "envoy-wasm.yaml"),
    balanced(NO_POLICY, Peer::Witgate, "witgate-plain.toml"),
    policy("witgate, native policy", Peer::Witgate, "witgate-policy-native.toml"),
    policy(IN_WASM, Peer::Witgate, "witgate-policy-wasm.toml"),
    policy(NATIVE, Peer::Witgate, "witgate-native.toml"),
    policy(PLUGINS, Peer::Witgate, "witgate-plugins.toml"),
];

pub(super) const TLS: &[Target] = &[
    balanced(NGINX, Peer::Nginx, "nginx-tls.conf"),
    balanced(HAPROXY, Peer::Haproxy, "haproxy-tls.cfg"),
    balanced(PINGORA, Peer::Pingora, "pingora-tls.conf"),
    balanced(ENVOY, Peer::Envoy, "envoy-tls.yaml"),
    balanced(WITGATE, Peer::Witgate, "witgate-tls.toml"),
];

/// Connections, whatever is in them.
pub(super) const TCP: &[Target] = &[
    whole(HAPROXY, Peer::Haproxy, "haproxy-tcp.cfg"),
    whole(ENVOY, Peer::Envoy, "envoy-tcp.yaml"),
    whole(WITGATE, Peer::Witgate, "witgate-tcp.toml"),
];

pub(super) const HTTP2: &[Target] = &[
    balanced(NGINX, Peer::Nginx, "nginx-http2.conf"),
    balanced(HAPROXY, Peer::Haproxy, "haproxy-http2.cfg"),
    balanced(PINGORA, Peer::Pingora, "pingora-http2.conf"),
    balanced(ENVOY, Peer::Envoy, "envoy-http2.yaml"),
    balanced(WITGATE, Peer::Witgate, "witgate-plain.toml"),
];

/// One route and two endpoints on the requests that the others route; and what is the routes', what the endpoints' part.
pub(super) const SCALE: &[Target] = &[
    balanced("nginx, one location", Peer::Nginx, "nginx-plain.conf"),
    routed(NGINX, Peer::Nginx, "nginx-scale.conf"),
    balanced(ONE_ROUTE, Peer::Witgate, "witgate-plain.toml"),
    routed("witgate, routes only", Peer::Witgate, "witgate-routes.toml"),
    routed(WITGATE, Peer::Witgate, "witgate-scale.toml"),
];

/// What it costs to have a large configuration, apart from what it costs to use all of it.
pub(super) const BUSY: &[Target] = &[
    balanced("nginx, one location", Peer::Nginx, "nginx-plain.conf"),
    routed(NGINX, Peer::Nginx, "nginx-scale.conf"),
    balanced(ONE_ROUTE, Peer::Witgate, "witgate-plain.toml"),
    routed(WITGATE, Peer::Witgate, "witgate-scale.toml"),
];

/// All four shipped plugins, for everything but the scenarios.
pub(super) const FULL: Target = policy("witgate, four plugins", Peer::Witgate, "witgate-full.toml");
