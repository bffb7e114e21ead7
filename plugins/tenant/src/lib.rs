//! `tenant`, a router: finds out by ordered rules whose a request is, and sends it to that tenant's cluster, refuses it
//! or redirects it. Never trusts the header that names the tenant when a client sends it.
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `header` | none | request header that tells upstreams the tenant, such as `x-tenant`; a client's own is replaced or removed |
//! | `rules` | `[]` | tried in order, the first that matches decides; none: no opinion, the route's action stands |
//!
//! A rule matches where all of its conditions hold; without any it always does:
//!
//! | condition | holds |
//! |---|---|
//! | `host` | the host is `acme.example.com`, or matches `*.example.com` (any number of labels) |
//! | `path_prefix` | the path as it came begins so; it is not decoded, so `/%61` does not begin with `/a` |
//! | `header`, `cookie` or `query` (one at most) | the request has it: with any value, with the value of `equals`, or with a key of `clusters` |
//!
//! and says exactly one of
//!
//! | action | does |
//! |---|---|
//! | `cluster = "acme"` | forwards there; the tenant is `tenant`, or else the cluster's name |
//! | `clusters = { acme = "acme-cluster" }` | forwards by the value of the field; the tenant is the value |
//! | `deny = "text"` | answers 403 with this text |
//! | `redirect = "https://new.example.com{path}"` | answers 308; `{path}` stands for the request's path and query |

mod rules;

use rules::{Rule, Verdict};
use witgate_sdk::prelude::*;

/// The plugin.
pub struct Tenant {
    header: Option<String>,
    rules: Vec<Rule>,
}

/// Its configuration; the module says what each key means.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    header: Option<String>,
    #[serde(default)]
    rules: Vec<rules::RuleConfig>,
}

impl Plugin for Tenant {
    type Config = Config;

    fn configure(config: Config, fields: &mut Fields) -> Result<Self, String> {
        if config.header.as_ref().is_some_and(|name| !is_settable(name)) {
            return Err("header: must name a request header that is neither Host, framing nor hop-by-hop".to_owned());
        }
        let rules = config.rules.into_iter().enumerate();
        let rules = rules.map(|(at, rule)| rule.check(fields).map_err(|error| format!("rules[{at}].{error}")));
        let rules = rules.collect::<Result<Vec<Rule>, String>>()?;
        Ok(Tenant { header: config.header, rules })
    }
}

impl Router for Tenant {
    /// The header, where there is one, tells the upstream whose request it is, in place of whatever the client claims.
    fn route(&mut self, request: &Request<'_>) -> Decision {
        let verdict = self.rules.iter().find_map(|rule| rule.judge(request));
        match verdict {
            Some(Verdict::Forward { cluster, tenant }) => match &self.header {
                Some(header) => Decision::cluster(cluster).set_header(header, tenant),
                None => Decision::cluster(cluster),
            },
            Some(Verdict::Deny(text)) => Decision::respond(403, text),
            Some(Verdict::Redirect(location)) => Decision::redirect(308, location),
            None => match &self.header {
                Some(header) => Decision::pass().remove_header(header),
                None => Decision::pass(),
            },
        }
    }
}

/// A token (RFC 9110 §5.6.2) that the contract lets a plugin set: what it refuses would cost a fallback every time.
fn is_settable(name: &str) -> bool {
    const REFUSED: &[&str] = &[
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "upgrade",
    ];
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(token) && !REFUSED.iter().any(|refused| refused.eq_ignore_ascii_case(name))
}

export!(Tenant: router);
