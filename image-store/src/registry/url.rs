//! http and https URLs, and resolving references against them (RFC 3986, 5.2). No I/O.

use std::fmt;

use crate::error::{Error, Result};

/// An absolute URL without user, password and fragment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Url {
    pub(super) https: bool,
    /// Host in lower case, with a port unless it is the default one.
    pub(super) authority: String,
    /// Path and query, with a leading slash.
    pub(super) path: String,
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::invalid(format!("URL {:?}: {why}", without_secrets(text)));
        if text.bytes().any(|b| b <= b' ' || b == 0x7f || b == b'\\') {
            return Err(wrong("must not contain spaces, backslashes or control characters"));
        }
        let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
        let (https, rest) = if lower.starts_with("https://") {
            (true, &text[8..])
        } else if lower.starts_with("http://") {
            (false, &text[7..])
        } else {
            return Err(wrong("scheme must be http or https"));
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.is_empty() || authority.contains('@') {
            return Err(wrong("must have a host and no user"));
        }
        let mut authority = authority.to_ascii_lowercase();
        let own = if https { ":443" } else { ":80" };
        if let Some(host) = authority.strip_suffix(own) {
            authority = host.to_owned();
        }
        if !has_port_in_range(&authority) {
            return Err(wrong("the port must be a number from 0 to 65535"));
        }
        let path = path.split('#').next().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { https, authority, path })
    }

    /// Resolves a `Location` header: an absolute URL, `//host/path`, `/path`, `?query` or a relative path.
    pub(super) fn join(&self, location: &str) -> Result<Self> {
        let scheme = if self.https { "https" } else { "http" };
        let base = self.path.split('?').next().unwrap_or_default();
        if location.contains("://") && location.find("://") < location.find(['/', '?']).map(|at| at + 1) {
            return Self::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{scheme}://{rest}"));
        }
        let path = match location.as_bytes().first() {
            Some(b'/') => location.to_owned(),
            Some(b'?') | None => format!("{base}{location}"),
            _ => format!("{}/{location}", base.rsplit_once('/').map_or("", |(parent, _)| parent)),
        };
        Self::parse(&format!("{scheme}://{}{path}", self.authority))
    }

    /// Adds a query parameter; the value is encoded.
    pub(super) fn with_query(&self, key: &str, value: &str) -> Self {
        let separator = if self.path.contains('?') { '&' } else { '?' };
        Self { path: format!("{}{separator}{key}={}", self.path, encode(value)), ..self.clone() }
    }

    /// The URL without the query, for messages.
    pub(super) fn without_query(&self) -> String {
        without_secrets(&self.to_string())
    }

    /// Whether scheme, host and port are equal.
    pub(super) fn same_origin(&self, other: &Self) -> bool {
        self.https == other.https && self.authority == other.authority
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.https { "https" } else { "http" }, self.authority, self.path)
    }
}

/// Checks the port; an empty one means the default. ureq would take an invalid one for the default too.
pub(super) fn has_port_in_range(authority: &str) -> bool {
    let host_end = authority.rfind(']').map_or(0, |at| at + 1);
    let port = authority[host_end..].split_once(':').map_or("", |(_, port)| port);
    port.is_empty() || (port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok())
}

/// A URL, which may be malformed, without query and user: these may contain secrets.
pub(super) fn without_secrets(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let start = text.find("//").map_or(0, |at| at + 2);
    let (scheme, rest) = text.split_at(start);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}{host}{path}")
}

/// Percent-encodes the value of a query parameter.
pub(super) fn encode(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/,".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_resolve_as_browsers_do() {
        let base = Url::parse("https://r.io/v2/a/blobs/uploads/?x=1").unwrap();
        for (location, wanted) in [
            ("https://cdn.io/b?sig=%2F", "https://cdn.io/b?sig=%2F"),
            ("//cdn.io/b", "https://cdn.io/b"),
            ("/v2/u/1?_state=a/b", "https://r.io/v2/u/1?_state=a/b"),
            ("1?y=://", "https://r.io/v2/a/blobs/uploads/1?y=://"),
            ("?z", "https://r.io/v2/a/blobs/uploads/?z"),
            ("HTTPS://R.IO:443/x#f", "https://r.io/x"),
        ] {
            assert_eq!(base.join(location).unwrap().to_string(), wanted, "{location}");
        }
        for bad in ["ftp://x/", "https://", "https://u:p@h/", "file:///etc/passwd", "https://a b/"] {
            assert!(base.join(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_is_a_number_up_to_65535() {
        for good in [
            "https://r.io:65535/x",
            "https://r.io:0443/",
            "https://r.io:/",
            "https://[::1]:5",
            "http://[::1]",
        ] {
            assert!(Url::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "https://r.io:65536/x",
            "http://r.io:99999",
            "https://r.io:+5",
            "https://r.io:x",
            "https://[::1]:65979/",
        ] {
            let error = Url::parse(bad).unwrap_err().to_string();
            assert!(error.contains("65535"), "{bad}: {error}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let url = |text| Url::parse(text).unwrap();
        assert!(url("https://a/x").same_origin(&url("https://A:443/y")));
        for other in ["http://a/x", "https://a:444/x", "https://b/x", "https://a.evil/x"] {
            assert!(!url("https://a/x").same_origin(&url(other)), "{other}");
        }
    }
}
