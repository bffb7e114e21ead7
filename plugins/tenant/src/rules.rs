//! One rule: read, checked once, then judged for each request. Decides; never builds the answer.

use std::collections::BTreeMap;

use serde::Deserialize;
use witgate_sdk::{Field, Fields, Handle, Request};

/// The longest body that the contract takes.
const MAX_TEXT: usize = 64 * 1024;

/// A rule as the operator writes it; the crate's page says what each key means.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleConfig {
    host: Option<String>,
    path_prefix: Option<String>,
    header: Option<String>,
    cookie: Option<String>,
    query: Option<String>,
    equals: Option<String>,
    tenant: Option<String>,
    cluster: Option<String>,
    clusters: Option<BTreeMap<String, String>>,
    deny: Option<String>,
    redirect: Option<String>,
}

/// A rule that makes sense.
pub(crate) struct Rule {
    conditions: Conditions,
    action: Action,
}

struct Conditions {
    host: Option<String>,
    path_prefix: Option<String>,
    field: Option<Handle>,
    equals: Option<String>,
}

enum Action {
    Cluster { cluster: String, tenant: String },
    ByValue(BTreeMap<String, String>),
    Deny(String),
    Redirect(String),
}

/// What a rule that matches says.
pub(crate) enum Verdict<'a> {
    Forward { cluster: &'a str, tenant: &'a str },
    Deny(&'a str),
    Redirect(String),
}

impl RuleConfig {
    /// Declares what the rule reads. The error begins with the key at fault.
    pub(crate) fn check(self, declared: &mut Fields) -> Result<Rule, String> {
        let fields = [self.header.map(Field::Header), self.cookie.map(Field::Cookie), self.query.map(Field::Query)];
        let mut fields = fields.into_iter().flatten();
        let field = fields.next();
        if fields.next().is_some() {
            return Err("header: name one of header, cookie and query in a rule".to_owned());
        }
        if field.is_none() && self.equals.is_some() {
            return Err("equals: needs the header, cookie or query that it is about".to_owned());
        }
        if self.host.as_ref().is_some_and(|host| host.strip_prefix("*.").unwrap_or(host).contains('*')) {
            return Err("host: a wildcard is the whole first label, as in *.example.com".to_owned());
        }
        if self.tenant.is_some() && self.cluster.is_none() {
            return Err("tenant: goes with cluster only".to_owned());
        }
        let cluster = self.cluster.map(|cluster| {
            let tenant = self.tenant.unwrap_or_else(|| cluster.clone());
            Action::Cluster { cluster, tenant }
        });
        let mut actions = [
            cluster,
            self.clusters.map(Action::ByValue),
            self.deny.map(Action::Deny),
            self.redirect.map(Action::Redirect),
        ]
        .into_iter()
        .flatten();
        let (Some(action), None) = (actions.next(), actions.next()) else {
            return Err("cluster: say exactly one of cluster, clusters, deny and redirect".to_owned());
        };
        action.check(field.is_some(), self.equals.is_some())?;
        let host = self.host.map(|host| host.to_ascii_lowercase());
        let redirects = matches!(action, Action::Redirect(_));
        if host.is_some() {
            declared.host();
        }
        if self.path_prefix.is_some() || redirects {
            declared.path();
        }
        if redirects {
            declared.query_string();
        }
        let field = field.map(|field| declared.handle(field));
        let conditions = Conditions { host, path_prefix: self.path_prefix, field, equals: self.equals };
        Ok(Rule { conditions, action })
    }
}

impl Action {
    fn check(&self, has_field: bool, has_equals: bool) -> Result<(), String> {
        match self {
            Action::Cluster { tenant, .. } if !is_header_value(tenant) => {
                Err("tenant: must be printable ASCII, since a header carries it".to_owned())
            }
            Action::Deny(text) if text.len() > MAX_TEXT => Err("deny: at most 64 KiB of text".to_owned()),
            Action::ByValue(_) if !has_field => {
                Err("clusters: needs the header, cookie or query whose value it goes by".to_owned())
            }
            Action::ByValue(_) if has_equals => Err("equals: has no use beside clusters".to_owned()),
            Action::ByValue(clusters) => match clusters.keys().find(|value| !is_header_value(value)) {
                Some(value) => Err(format!("clusters: {value:?} must be printable ASCII, since a header carries it")),
                None => Ok(()),
            },
            // `{path}` is the client's: only behind a host of the operator's own is it sure to stay a path.
            Action::Redirect(to) if !is_location(to) => {
                Err("redirect: must be an http(s) URL, or a path without {path}".to_owned())
            }
            Action::Redirect(_) | Action::Cluster { .. } | Action::Deny(_) => Ok(()),
        }
    }
}

impl Rule {
    /// None where a condition does not hold.
    pub(crate) fn judge<'a>(&'a self, request: &Request<'_>) -> Option<Verdict<'a>> {
        let Conditions { host, path_prefix, field, equals } = &self.conditions;
        if host.as_ref().is_some_and(|host| !host_matches(host, request.host()))
            || path_prefix.as_ref().is_some_and(|prefix| !request.path().starts_with(&**prefix))
        {
            return None;
        }
        let value = match field {
            Some(field) => Some(request.get(*field)?),
            None => None,
        };
        if equals.is_some() && equals.as_deref() != value {
            return None;
        }
        Some(match &self.action {
            Action::Cluster { cluster, tenant } => Verdict::Forward { cluster, tenant },
            Action::ByValue(clusters) => {
                let (tenant, cluster) = clusters.get_key_value(value?)?;
                Verdict::Forward { cluster, tenant }
            }
            Action::Deny(text) => Verdict::Deny(text),
            Action::Redirect(to) => Verdict::Redirect(location(to, request)),
        })
    }
}

/// `*.example.com` matches below the domain, not the domain itself.
fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}

fn location(to: &str, request: &Request<'_>) -> String {
    if !to.contains("{path}") {
        return to.to_owned();
    }
    // `OPTIONS *` has no path; what follows the host must begin with a slash whatever came.
    let path = if request.path().starts_with('/') { request.path() } else { "/" };
    let target = match request.query_string() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    to.replace("{path}", &target)
}

fn is_location(to: &str) -> bool {
    let url = to.strip_prefix("https://").or_else(|| to.strip_prefix("http://"));
    let fits = match url {
        Some(rest) => !rest.is_empty() && !rest.starts_with(['/', '{']),
        None => to.starts_with('/') && !to.contains("{path}"),
    };
    fits && is_header_value(to)
}

/// Printable ASCII: what every upstream reads alike in a header.
fn is_header_value(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}
