//! Who may ask. Decides by the request's head alone, before any of its body is read.

use http::{HeaderMap, StatusCode, header};
use subtle::ConstantTimeEq;

use super::reply::ApiError;

/// Refuses what a browser sends on behalf of a page: no page has any business here, and a browser names the page it
/// acts for in `Origin`.
pub(super) fn refuse_browsers(headers: &HeaderMap) -> Result<(), ApiError> {
    if headers.contains_key(header::ORIGIN) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "requests on behalf of a web page (with an Origin header) are not accepted",
        ));
    }
    Ok(())
}

/// Wants the token (RFC 6750 §2.1). Compares in constant time, so that an answer's timing tells nothing of the token.
pub(super) fn require_token(headers: &HeaderMap, token: &str) -> Result<(), ApiError> {
    let refused = |error| {
        Err(ApiError::new(StatusCode::UNAUTHORIZED, error).header(header::WWW_AUTHENTICATE, "Bearer realm=\"witgate\""))
    };
    let Some(given) = headers.get(header::AUTHORIZATION) else {
        return refused("a token is needed: send \"Authorization: Bearer TOKEN\" with what [admin] token_file holds");
    };
    let given = match given.as_bytes().split_at_checked(7) {
        Some((scheme, given)) if scheme.eq_ignore_ascii_case(b"bearer ") => given.trim_ascii(),
        _ => return refused("the Authorization header is not of the form \"Bearer TOKEN\""),
    };
    if bool::from(given.ct_eq(token.as_bytes())) { Ok(()) } else { refused("the token is not the right one") }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(authorization: Option<&str>, want: Result<(), &str>) {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        match (require_token(&headers, "s3cret"), want) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(part)) => {
                assert_eq!(error.status, StatusCode::UNAUTHORIZED);
                assert!(error.message().contains(part), "{authorization:?}: {}", error.message());
            }
            (got, want) => panic!("{authorization:?}: {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn only_the_token_opens() {
        check(Some("Bearer s3cret"), Ok(()));
        check(Some("bearer   s3cret "), Ok(()));
        check(None, Err("is needed"));
        check(Some("Basic s3cret"), Err("not of the form"));
        check(Some("Bearer"), Err("not of the form"));
        for wrong in ["Bearer s3cre", "Bearer s3crett", "Bearer S3cret", "Bearer "] {
            check(Some(wrong), Err("not the right one"));
        }
    }

    #[test]
    fn browsers_are_refused() {
        let mut headers = HeaderMap::new();
        assert!(refuse_browsers(&headers).is_ok());
        headers.insert(header::ORIGIN, HeaderValue::from_static("http://evil.example"));
        assert_eq!(refuse_browsers(&headers).unwrap_err().status, StatusCode::FORBIDDEN);
    }
}
