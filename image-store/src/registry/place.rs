//! Where a request is sent, and what may be sent with it. Only the endpoint, the registry or mirror in the user's
//! configuration, is trusted; every URL that a server names is compared with it. See docs/decisions/0203. No I/O.

use std::fmt;

use super::hosts::{is_loopback, is_near};
use super::url::Url;
use crate::error::{Error, ErrorKind, Result};

/// A URL and what may be sent to it. It is only created by [`decide`]'s rules.
#[derive(Clone, Debug)]
pub(super) struct Place {
    url: Url,
    endpoint: Endpoint,
    allowed: Allowed,
}

/// The registry or mirror that is asked.
#[derive(Clone, Debug)]
struct Endpoint {
    url: Url,
    /// Whether its certificate is not verified and plain http is allowed.
    insecure: bool,
}

/// How a URL became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The user's configuration: it is the endpoint.
    Configuration,
    /// A `Location` or `Link` header of a response.
    Answer,
    /// The realm of a challenge: a token server, which gets the password.
    Challenge,
    /// The same without a password for the endpoint.
    AnonymousChallenge,
    /// The `urls` of a layer, written by the author of the image.
    Manifest,
}

/// What may be sent to a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Allowed {
    /// The endpoint's credentials: password, identity token, bearer token, client certificate.
    credentials: bool,
    /// The server's certificate is not verified.
    insecure: bool,
    /// It must not resolve to this machine or a link-local address.
    elsewhere: bool,
}

/// Decides what may be sent to `url`, which came from the place `from`; for the configuration, this is the endpoint.
///
/// # Errors
/// [`ErrorKind::Denied`] if nothing may be sent there.
fn decide(from: &Place, source: Source, url: &Url) -> Result<Allowed> {
    let Endpoint { url: endpoint, insecure } = &from.endpoint;
    let refused = |why: &str| {
        let message = format!("{from} refers to {}: {why}", url.without_query());
        Err(Error::new(ErrorKind::Denied, message))
    };
    if (endpoint.https || from.url.https) && !url.https {
        return refused("redirect from https to http refused");
    }
    let mut elsewhere = false;
    let credentials = match source {
        Source::Configuration => true,
        // An untrusted host cannot redirect back to the endpoint with credentials either.
        Source::Answer => from.allowed.credentials && url.same_origin(endpoint),
        // A token server may be any host: the endpoint could ask for the password itself. But its response is sent to
        // the endpoint, so it must not be a service that only this machine can reach.
        Source::Challenge | Source::AnonymousChallenge => {
            if !from.allowed.credentials {
                return refused("a token server named by another host is refused");
            }
            elsewhere = !is_near(&endpoint.authority);
            if is_near(&url.authority) && elsewhere {
                return refused(
                    "a token server on this machine or a link-local address is refused for a remote registry",
                );
            }
            let protected = url.https || *insecure || is_loopback(&url.authority);
            if source == Source::Challenge && !protected {
                return refused(
                    "refusing to send credentials over plain http: use --tls-verify=false to allow it",
                );
            }
            true
        }
        Source::Manifest if !url.https => return refused("layers from other hosts require https"),
        Source::Manifest => false,
    };
    let insecure = *insecure && url.authority == endpoint.authority;
    Ok(Allowed { credentials, insecure, elsewhere })
}

impl Place {
    /// A URL of the endpoint, from the user's configuration.
    pub(super) fn endpoint(url: Url, insecure: bool) -> Result<Self> {
        let endpoint = Endpoint { url: url.clone(), insecure };
        let nothing = Allowed { credentials: false, insecure: false, elsewhere: false };
        let place = Self { url: url.clone(), endpoint, allowed: nothing };
        place.named(Source::Configuration, url)
    }

    /// The URL of a `Location` or `Link` header in this place's response.
    pub(super) fn next(&self, location: &str) -> Result<Self> {
        self.named(Source::Answer, self.url.join(location)?)
    }

    /// The token server in a challenge of this place, to be asked with or without credentials.
    pub(super) fn token_server(&self, realm: &str, credentials: bool) -> Result<Self> {
        let source = if credentials { Source::Challenge } else { Source::AnonymousChallenge };
        self.named(source, Url::parse(realm)?)
    }

    /// A URL for a layer from the manifest.
    pub(super) fn of_manifest(&self, url: &str) -> Result<Self> {
        self.named(Source::Manifest, Url::parse(url)?)
    }

    fn named(&self, source: Source, url: Url) -> Result<Self> {
        let allowed = decide(self, source, &url)?;
        Ok(Self { url, endpoint: self.endpoint.clone(), allowed })
    }

    /// Adds a query parameter; the value is encoded.
    pub(super) fn with_query(&self, key: &str, value: &str) -> Self {
        Self { url: self.url.with_query(key, value), ..self.clone() }
    }

    /// The same place with another path.
    pub(super) fn with_path(&self, path: &str) -> Self {
        Self { url: Url { path: path.to_owned(), ..self.url.clone() }, ..self.clone() }
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Whether the endpoint uses https, and its host and port.
    pub(super) fn origin(&self) -> (bool, &str) {
        (self.endpoint.url.https, &self.endpoint.url.authority)
    }

    /// Whether the endpoint's password, tokens and client certificate may be sent here.
    pub(super) fn takes_credentials(&self) -> bool {
        self.allowed.credentials
    }

    /// Whether this place must not resolve to this machine or a link-local address; unless the endpoint itself does.
    pub(super) fn must_be_elsewhere(&self) -> bool {
        self.allowed.elsewhere
    }

    /// Whether the server's certificate is not verified.
    pub(super) fn is_insecure(&self) -> bool {
        self.allowed.insecure
    }
}

/// Without the query, which may contain a signature.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url.without_query())
    }
}

#[cfg(test)]
mod tests {
    use super::Source::{AnonymousChallenge, Answer, Challenge, Manifest};
    use super::*;

    /// What is sent: with or without credentials, with or without verifying the certificate, or nothing.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Goes {
        Unchecked,
        Credentials,
        UncheckedRequest,
        Request,
        Nothing,
    }
    use Goes::{Credentials, Nothing, Request, Unchecked, UncheckedRequest};

    fn goes(place: &Result<Place>) -> Goes {
        match place.as_ref().map(|place| place.allowed) {
            Ok(Allowed { credentials: true, insecure: true, .. }) => Unchecked,
            Ok(Allowed { credentials: true, insecure: false, .. }) => Credentials,
            Ok(Allowed { credentials: false, insecure: true, .. }) => UncheckedRequest,
            Ok(Allowed { credentials: false, insecure: false, .. }) => Request,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Denied | ErrorKind::Invalid), "{error}");
                Nothing
            }
        }
    }

    /// URLs, each named by the one before.
    type Steps<'a> = &'a [(Source, &'a str)];

    /// Follows the steps from an endpoint (with `!`: insecure).
    fn walk(endpoint: &str, steps: Steps<'_>) -> Result<Place> {
        let url = Url::parse(endpoint.trim_end_matches('!'))?;
        let start = Place::endpoint(url, endpoint.ends_with('!'));
        steps.iter().fold(start, |place, (source, text)| match source {
            Answer => place?.next(text),
            Challenge => place?.token_server(text, true),
            AnonymousChallenge => place?.token_server(text, false),
            Manifest => place?.of_manifest(text),
            Source::Configuration => place,
        })
    }

    #[test]
    fn the_endpoint_alone_gets_credentials() {
        let table = [
            // The endpoint in different spellings.
            ("https://r.io/v2/", Answer, "https://r.io/x", Credentials),
            ("https://r.io/v2/", Answer, "/x?_state=https://evil/", Credentials),
            ("https://r.io/v2/", Answer, "", Credentials),
            ("https://r.io/v2/", Answer, "HTTPS://R.IO:443/x", Credentials),
            ("https://r.io:443/v2/", Answer, "https://r.io/x", Credentials),
            ("http://r.io/v2/!", Answer, "http://r.io:80/x", Unchecked),
            ("https://r.io:5/v2/!", Answer, "//r.io:5/x", Unchecked),
            ("https://[::1]:5/v2/", Answer, "https://[::1]:5/x", Credentials),
            // Another host, port or scheme; when in doubt, it is another.
            ("https://r.io/v2/", Answer, "https://cdn.io/x?sig=1", Request),
            ("https://r.io/v2/!", Answer, "https://cdn.io/x", Request),
            ("https://r.io/v2/", Answer, "//cdn.io/x", Request),
            ("https://r.io/v2/", Answer, "https://r.io:444/x", Request),
            ("https://r.io:5/v2/!", Answer, "https://r.io/x", Request),
            ("https://r.io/v2/", Answer, "https://r.io./x", Request),
            ("https://r.io/v2/", Answer, "https://r.io:/x", Request),
            ("https://r.io/v2/", Answer, "https://r.io:0443/x", Request),
            ("https://r.io/v2/", Answer, "https://sub.r.io/x", Request),
            ("https://r.io/v2/", Answer, "https://r.io.evil/x", Request),
            ("https://[::1]:5/v2/", Answer, "https://[0:0::1]:5/x", Request),
            ("https://[::1]:5/v2/", Answer, "https://[::1]:6/x", Request),
            ("http://r.io/v2/!", Answer, "https://r.io/x", UncheckedRequest),
            ("http://r.io/v2/!", Answer, "http://cdn.io/x", Request),
            // A user in a URL, and invalid URLs.
            ("https://r.io/v2/", Answer, "https://u:p@r.io/x", Nothing),
            ("https://r.io/v2/", Answer, "https://r.io@evil/x", Nothing),
            ("https://r.io/v2/", Answer, "//r.io\\@evil/x", Nothing),
            ("https://r.io/v2/", Answer, "file:///etc/passwd", Nothing),
            // From https to http, the endpoint or not.
            ("https://r.io/v2/", Answer, "http://r.io/x", Nothing),
            ("https://r.io/v2/!", Answer, "http://r.io/x", Nothing),
            ("https://r.io/v2/", Answer, "http://cdn.io/x", Nothing),
            ("https://localhost:5/v2/", Answer, "http://localhost:5/x", Nothing),
            // Layers with other URLs, written by the author of the image.
            ("https://r.io/v2/", Manifest, "https://layers.io/x", Request),
            ("https://r.io/v2/", Manifest, "https://r.io/x", Request),
            ("https://r.io/v2/!", Manifest, "https://layers.io/x", Request),
            ("http://r.io/v2/!", Manifest, "http://layers.io/x", Nothing),
            // Token servers: any host, but not less protected than the endpoint.
            ("https://r.io/v2/", Challenge, "https://auth.io/token", Credentials),
            ("https://r.io/v2/", Challenge, "https://r.io/token", Credentials),
            ("https://r.io/v2/!", Challenge, "https://r.io/token", Unchecked),
            ("https://r.io/v2/!", Challenge, "https://auth.io/token", Credentials),
            ("https://r.io/v2/", Challenge, "http://auth.io/token", Nothing),
            ("https://r.io/v2/!", Challenge, "http://r.io/token", Nothing),
            ("https://localhost/v2/", Challenge, "http://localhost/token", Nothing),
            ("http://r.io/v2/!", Challenge, "http://r.io/token", Unchecked),
            ("http://r.io/v2/!", Challenge, "http://auth.io/token", Credentials),
            ("http://r.io/v2/!", Challenge, "https://auth.io/token", Credentials),
            ("http://localhost:5/v2/", Challenge, "http://127.0.0.1:6/token", Credentials),
            ("http://localhost:5/v2/", Challenge, "https://auth.io/token", Credentials),
            ("http://localhost:5/v2/", Challenge, "http://auth.io/token", Nothing),
            ("http://localhost:5/v2/!", Challenge, "http://auth.io/token", Credentials),
            // Without credentials, there is nothing to protect.
            ("http://localhost:5/v2/", AnonymousChallenge, "http://auth.io/token", Credentials),
            ("https://r.io/v2/", AnonymousChallenge, "http://auth.io/token", Nothing),
            ("https://localhost/v2/", AnonymousChallenge, "http://auth.io/token", Nothing),
            ("http://r.io/v2/!", AnonymousChallenge, "http://localhost/token", Nothing),
            ("https://r.io/v2/", Challenge, "/token", Nothing),
            ("https://r.io/v2/", Challenge, "https://u:p@auth.io/token", Nothing),
            // Its response would be sent to the endpoint.
            ("https://r.io/v2/", Challenge, "https://localhost/token", Nothing),
            ("https://r.io/v2/", Challenge, "https://127.1.2.3:5/token", Nothing),
            ("https://r.io/v2/", Challenge, "https://[::1]/token", Nothing),
            ("https://r.io/v2/", Challenge, "https://[::ffff:127.0.0.1]/token", Nothing),
            ("https://r.io/v2/", Challenge, "https://[fe80::1]/token", Nothing),
            ("https://r.io/v2/", Challenge, "https://0.0.0.0/token", Nothing),
            ("http://r.io/v2/!", Challenge, "http://169.254.169.254/token", Nothing),
            ("https://r.io/v2/", Challenge, "https://10.0.0.1/token", Credentials),
        ];
        for (endpoint, source, url, expected) in table {
            let place = walk(endpoint, &[(source, url)]);
            assert_eq!(goes(&place), expected, "{endpoint} {source:?} {url}: {place:?}");
        }
    }

    #[test]
    fn a_redirect_away_and_back_gets_no_credentials() {
        let (own, away) = ("https://r.io/x", "https://cdn.io/x");
        let table: [(&str, Steps<'_>, Goes); 13] = [
            ("https://r.io/v2/!", &[], Unchecked),
            ("https://r.io/v2/", &[(Answer, own), (Answer, "/y"), (Answer, own)], Credentials),
            ("https://r.io/v2/", &[(Answer, away), (Answer, "/y")], Request),
            ("https://r.io/v2/", &[(Answer, away), (Answer, own)], Request),
            ("https://r.io/v2/", &[(Answer, away), (Answer, own), (Answer, "/y")], Request),
            ("https://r.io/v2/", &[(Manifest, away), (Answer, own)], Request),
            ("https://r.io/v2/", &[(Manifest, own), (Answer, "/y")], Request),
            // The endpoint stays insecure after a redirect back to it.
            ("https://r.io/v2/!", &[(Answer, away), (Answer, own)], UncheckedRequest),
            // A challenge of another host is refused.
            ("https://r.io/v2/", &[(Answer, away), (Challenge, "https://auth.io/token")], Nothing),
            ("https://r.io/v2/", &[(Answer, away), (Challenge, "https://r.io/token")], Nothing),
            ("https://r.io/v2/", &[(Manifest, away), (Challenge, "https://cdn.io/token")], Nothing),
            // Once https, always https.
            ("http://r.io/v2/!", &[(Answer, away), (Answer, "http://r.io/x")], Nothing),
            ("https://r.io/v2/", &[(Answer, away), (Answer, "http://cdn.io/x")], Nothing),
        ];
        for (endpoint, steps, expected) in table {
            let place = walk(endpoint, steps);
            assert_eq!(goes(&place), expected, "{endpoint} {steps:?}: {place:?}");
        }
    }

    #[test]
    fn no_secret_of_a_url_is_shown() {
        let steps: [(&str, Steps<'_>); 6] = [
            ("https://r.io/v2/", &[(Answer, "http://cdn.io/x?sig=secret")]),
            ("https://r.io/v2/", &[(Answer, "/x?sig=secret"), (Answer, "http://r.io/")]),
            ("https://r.io/v2/", &[(Answer, "https://u:secret@r.io/")]),
            ("https://r.io/v2/", &[(Answer, "https://secret@r.io/x?y=@")]),
            ("https://r.io/v2/", &[(Challenge, "ftp://auth.io/token?sig=secret#secret")]),
            ("https://r.io/v2/", &[(Manifest, "https://layers.io/x y?sig=secret")]),
        ];
        for (endpoint, steps) in steps {
            let error = walk(endpoint, steps).unwrap_err().to_string();
            assert!(!error.contains("secret") && error.contains(".io/"), "{error}");
        }
        assert_eq!(walk("https://r.io/x?sig=secret", &[]).unwrap().to_string(), "https://r.io/x");
    }
}
