//! Who may ask: the token that opens everything, and the one that only reads. Decides by the request's head alone, before
//! any of its body is read.

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use witgate_core::config;

use super::{hosts::Hosts, paths::Resource, reply::ApiError};
use crate::tls;

/// Who may ask, by which names, and what is spoken below HTTP.
pub struct Access {
    admin: Digest,
    read: Option<Digest>,
    pub(super) hosts: Hosts,
    /// What is spoken until the control plane has started, which knows what has become of it since.
    pub(super) tls: Option<Arc<tls::Server>>,
}

impl Access {
    /// As it is configured, with what the files of tokens hold.
    pub fn new(config: &config::Admin, token: &str, read_token: Option<&str>, tls: Option<Arc<tls::Server>>) -> Self {
        let digest = |token: &str| Digest::of(token.as_bytes());
        Self { admin: digest(token), read: read_token.map(digest), hosts: Hosts::new(config), tls }
    }

    /// What the token opens (RFC 6750 §2.1).
    ///
    /// # Errors
    /// 401: there is none, or it is another one.
    pub(super) fn right(&self, headers: &HeaderMap) -> Result<Right, ApiError> {
        let refused = |error| {
            let error = ApiError::new(StatusCode::UNAUTHORIZED, error);
            Err(error.header(header::WWW_AUTHENTICATE, "Bearer realm=\"witgate\""))
        };
        let Some(given) = headers.get(header::AUTHORIZATION) else {
            return refused(
                "a token is needed: send \"Authorization: Bearer TOKEN\" with what [admin] token_file holds",
            );
        };
        let given = match given.as_bytes().split_at_checked(7) {
            Some((scheme, given)) if scheme.eq_ignore_ascii_case(b"bearer ") => Digest::of(given.trim_ascii()),
            _ => return refused("the Authorization header is not of the form \"Bearer TOKEN\""),
        };
        // Both are compared, whatever comes of the first.
        let (admin, read) = (given.is(&self.admin), self.read.as_ref().is_some_and(|read| given.is(read)));
        match (admin, read) {
            (true, _) => Ok(Right::Admin),
            (false, true) => Ok(Right::Read),
            (false, false) => refused("the token is not the right one"),
        }
    }
}

/// What a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// What changes nothing and shows no secret.
    Read,
    /// Everything.
    Admin,
}

impl Right {
    /// As the log has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    /// Whether that is enough.
    ///
    /// # Errors
    /// 403.
    pub(super) fn require(self, resource: &Resource, method: &Method) -> Result<(), ApiError> {
        if self == Self::Admin || may_read(resource, method) {
            return Ok(());
        }
        let error = "the token only reads, and shows no secrets: this needs the one that [admin] token_file holds";
        Err(ApiError::new(StatusCode::FORBIDDEN, error))
    }
}

/// Whether the answer is for whoever may only read. The configuration's text is not: values of header rules and what plugins
/// are configured with may be secrets.
fn may_read(resource: &Resource, method: &Method) -> bool {
    match resource {
        Resource::Config => false,
        Resource::Explain => *method == Method::POST,
        _ => matches!(*method, Method::GET | Method::HEAD),
    }
}

/// A token's SHA-256. The one comparison that there is takes the same time whatever the tokens are, and however long.
struct Digest([u8; 32]);

impl Digest {
    fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn access() -> Access {
        Access::new(&config::Admin::default(), "s3cret", Some("r3ad"), None)
    }

    #[track_caller]
    fn check(authorization: Option<&str>, want: Result<Right, &str>) {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        match (access().right(&headers), want) {
            (Ok(got), Ok(want)) => assert_eq!(got, want, "{authorization:?}"),
            (Err(error), Err(part)) => {
                assert_eq!(error.status, StatusCode::UNAUTHORIZED);
                assert!(error.message().contains(part), "{authorization:?}: {}", error.message());
            }
            (got, want) => panic!("{authorization:?}: {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn only_the_token_opens() {
        check(Some("Bearer s3cret"), Ok(Right::Admin));
        check(Some("bearer   s3cret "), Ok(Right::Admin));
        check(Some("Bearer r3ad"), Ok(Right::Read));
        check(None, Err("is needed"));
        check(Some("Basic s3cret"), Err("not of the form"));
        check(Some("Bearer"), Err("not of the form"));
        for wrong in ["s3cre", "s3crett", "S3cret", "", "s3cretr3ad", "r3a", "r3ad s3cret"] {
            check(Some(&format!("Bearer {wrong}")), Err("not the right one"));
        }
    }

    #[test]
    fn tokens_are_compared_whole_and_as_digests_of_one_length() {
        // Where only a part was compared, or bytes one after the other until two differ, a digest could not stand in.
        let token = "0123456789abcdef";
        let digest = Digest::of(token.as_bytes());
        assert!(digest.is(&Digest::of(token.as_bytes())));
        for place in 0..token.len() {
            let mut other = token.as_bytes().to_vec();
            other[place] ^= 1;
            assert!(!digest.is(&Digest::of(&other)), "byte {place}");
            assert!(!digest.is(&Digest::of(&token.as_bytes()[..place])), "{place} bytes");
        }
        for place in 0..32 {
            let mut other = Digest::of(token.as_bytes());
            other.0[place] ^= 0x80;
            assert!(!digest.is(&other), "byte {place} of the digest");
        }
    }

    #[test]
    fn who_reads_changes_nothing_and_sees_no_secrets() {
        let check = |method: Method, path: &str, want: bool| {
            let resource = Resource::find(path).unwrap();
            assert_eq!(Right::Read.require(&resource, &method).is_ok(), want, "{method} {path}");
            assert!(Right::Admin.require(&resource, &method).is_ok(), "{method} {path}");
        };
        for path in ["/v1/listeners", "/v1/routes", "/v1/clusters", "/v1/clusters/c", "/v1/plugins", "/v1/plugins/p"] {
            check(Method::GET, path, true);
            check(Method::HEAD, path, true);
        }
        check(Method::POST, "/v1/explain", true);
        check(Method::GET, "/v1/config", false);
        check(Method::PUT, "/v1/config", false);
        check(Method::POST, "/v1/drain", false);
        check(Method::PUT, "/v1/plugins/p", false);
        check(Method::DELETE, "/v1/plugins/p", false);
        check(Method::POST, "/v1/plugins/p/activate", false);
        check(Method::POST, "/v1/plugins/p/rollback", false);
        check(Method::PUT, "/v1/clusters/c/endpoints", false);
        check(Method::PATCH, "/v1/clusters/c/endpoints/a:1", false);
    }
}
