//! Requests to token servers and their answers, by the protocol of the CNCF distribution project (spec/auth). No I/O.

use std::time::Duration;

use base64::Engine as _;
use serde::Deserialize;
use ureq::http::Method;

use super::credentials::Credential;
use super::place::Place;
use super::secrets::without_values;
use super::url::encode;
use crate::error::{Error, Result};

/// The lifetime of a token that does not state one, in seconds.
const DEFAULT_LIFETIME: f64 = 60.0;

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
}

/// The token in an answer, and how long it may be used.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if there is none, or if it does not fit into a header.
pub(super) fn parse(bytes: &[u8]) -> Result<(String, Duration)> {
    let parsed: TokenAnswer = serde_json::from_slice(bytes).map_err(|e| without_values(&e))?;
    // The two are synonyms, and an empty one is absent.
    let token = [parsed.token, parsed.access_token].into_iter().flatten().find(|token| !token.is_empty());
    let token = token.ok_or_else(|| Error::invalid("missing in the response"))?;
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Error::invalid("contains invalid characters"));
    }
    let lifetime = parsed.expires_in.filter(|seconds| *seconds > 0.0).unwrap_or(DEFAULT_LIFETIME);
    // Replaced 10 seconds before it expires, because the request takes time.
    Ok((token, Duration::from_secs_f64(lifetime.clamp(20.0, 3600.0) - 10.0)))
}

/// Method, place, headers, and a form as the body.
pub(super) type TokenRequest = (Method, Place, Vec<(&'static str, String)>, Option<String>);

/// The request for a token: GET with Basic authentication, or OAuth 2.0 for an identity token.
pub(super) fn token_request(
    realm: &Place,
    service: Option<&str>,
    scopes: &str,
    credential: Option<&Credential>,
) -> TokenRequest {
    if let Some(Credential::IdentityToken(token)) = credential {
        let grant = format!("grant_type=refresh_token&refresh_token={}", encode(token));
        return oauth_request(realm, service, scopes, &grant);
    }
    let mut place = realm.clone();
    if let Some(service) = service {
        place = place.with_query("service", service);
    }
    for scope in scopes.split(' ').filter(|scope| !scope.is_empty()) {
        place = place.with_query("scope", scope);
    }
    let mut headers = Vec::new();
    if let Some(Credential::Password(user, password)) = credential {
        place = place.with_query("account", user);
        headers.push(("authorization", basic(user, password)));
    }
    (Method::GET, place, headers, None)
}

/// A request for a token by a grant (RFC 6749).
pub(super) fn oauth_request(realm: &Place, service: Option<&str>, scopes: &str, grant: &str) -> TokenRequest {
    let mut form = format!("{grant}&client_id=knarr-image");
    for (key, value) in [("service", service.unwrap_or_default()), ("scope", scopes)] {
        form.push_str(&format!("&{key}={}", encode(value)));
    }
    let headers = vec![("content-type", "application/x-www-form-urlencoded".to_owned())];
    (Method::POST, realm.clone(), headers, Some(form))
}

/// The `Authorization` header of a user and password (RFC 7617).
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_null_or_empty_in_an_answer_is_absent() {
        for (answer, expected) in [
            (r#"{"token":"t"}"#, Some(("t", 50))),
            (r#"{"token":"","access_token":"t"}"#, Some(("t", 50))),
            (r#"{"token":null,"access_token":"t"}"#, Some(("t", 50))),
            (r#"{"token":"t","access_token":""}"#, Some(("t", 50))),
            (r#"{"token":"t","access_token":"u","expires_in":300}"#, Some(("t", 290))),
            (r#"{"token":"t","expires_in":null}"#, Some(("t", 50))),
            (r#"{"token":"t","expires_in":0}"#, Some(("t", 50))),
            (r#"{"token":"t","expires_in":-1}"#, Some(("t", 50))),
            (r#"{"token":"t","expires_in":-9223372036854775808}"#, Some(("t", 50))),
            (r#"{"token":"t","expires_in":1}"#, Some(("t", 10))),
            (r#"{"token":"t","expires_in":1e300}"#, Some(("t", 3590))),
            (r#"{"token":"t","expires_in":18446744073709551615}"#, Some(("t", 3590))),
            (r#"{"token":"","access_token":""}"#, None),
            (r#"{"token":null}"#, None),
            ("{}", None),
            ("null", None),
            (r#"{"token":"a b"}"#, None),
            (r#"{"token":"t","expires_in":"soon"}"#, None),
        ] {
            let expected = expected.map(|(token, seconds)| (token.to_owned(), Duration::from_secs(seconds)));
            assert_eq!(parse(answer.as_bytes()).ok(), expected, "{answer}");
        }
    }
}
