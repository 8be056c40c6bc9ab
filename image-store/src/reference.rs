//! Image names: `[REGISTRY/][NAMESPACE/]NAME[:TAG][@DIGEST]`, with Docker's defaults.
//!
//! Source: the grammar of the CNCF distribution project's `reference` package. No I/O.

use std::fmt;

use crate::digest::Digest;
use crate::error::{Error, Result};

/// The registry of names without one.
pub const DEFAULT_DOMAIN: &str = "docker.io";
const NAME_LIMIT: usize = 255;
const TAG_LIMIT: usize = 128;

/// A complete image name: registry and repository, with a tag, a digest or both. The digest takes precedence.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Parses a name as users type it. A name without tag and digest gets the tag `latest`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid), naming the part that is invalid.
    pub fn parse(text: &str) -> Result<Self> {
        let mut reference = Self::parse_untagged(text)?;
        if reference.tag.is_none() && reference.digest.is_none() {
            reference.tag = Some("latest".to_owned());
        }
        Ok(reference)
    }

    /// Like [`Reference::parse`], without adding `latest`: for operations on whole repositories.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid), naming the part that is invalid.
    pub fn parse_untagged(text: &str) -> Result<Self> {
        let invalid = |why: &str| Error::invalid(format!("image name {text:?}: {why}"));
        if is_id(text) {
            return Err(invalid("64 hexadecimal digits are an ID, not a name"));
        }
        if let Some(scheme) = ["http://", "https://"].iter().find(|scheme| text.starts_with(**scheme)) {
            return Err(invalid(&format!("leave out {scheme}")));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest).map_err(|e| invalid(&e.to_string()))?)),
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        if let Some(tag) = tag {
            check_tag(tag).map_err(invalid)?;
        }
        let (domain, path) = split_domain(name);
        check_domain(&domain).map_err(invalid)?;
        if path.is_empty() {
            return Err(invalid("the repository is empty"));
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(invalid("the repository must be lower case"));
        }
        if !path.split('/').all(is_component) {
            return Err(invalid(
                "the repository must consist of lower-case letters and digits, separated by \".\", \"_\", \"__\" or \"-\"",
            ));
        }
        if domain.len() + 1 + path.len() > NAME_LIMIT {
            return Err(invalid("longer than 255 characters"));
        }
        Ok(Self { domain, path, tag: tag.map(str::to_owned), digest })
    }

    /// The registry's host, with the port if the name has one: `docker.io`, `localhost:5000`.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry: `library/alpine`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The registry and repository: `docker.io/library/alpine`.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The repository as Docker shows it, without the default registry: `alpine`. If the short form would mean another
    /// name, it is complete (unlike Docker's): `docker.io/quay.io/app`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.repository();
        }
        let short = match self.path.strip_prefix("library/") {
            Some(name) if !name.contains('/') => name,
            _ => &self.path,
        };
        let (domain, path) = split_domain(short);
        if is_id(short) || domain != self.domain || path != self.path {
            return self.repository();
        }
        short.to_owned()
    }

    /// [`Reference::familiar_name`] with tag and digest: `alpine:3.20`.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// The same repository with `digest` and without a tag.
    #[must_use]
    pub fn at_digest(&self, digest: &Digest) -> Self {
        Self { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }

    /// The same repository and tag without the digest.
    #[must_use]
    pub fn without_digest(&self) -> Self {
        Self { digest: None, ..self.clone() }
    }

    /// What a registry is asked for: the digest if there is one, else the tag.
    #[must_use]
    pub fn target(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => "latest",
        }
    }

    fn with_suffix(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
        text
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.repository()))
    }
}

impl std::str::FromStr for Reference {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

/// Whether the text has the form of an image ID.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The tag follows the last `:` after the last `/`; an earlier `:` belongs to a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    let slash = text.rfind('/').map_or(0, |at| at + 1);
    match text[slash..].rfind(':') {
        Some(colon) => (&text[..slash + colon], Some(&text[slash + colon + 1..])),
        None => (text, None),
    }
}

/// The first component is a registry only if it looks like a host. On Docker Hub, `library/` is the default namespace.
fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':', '['])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
    if domain == DEFAULT_DOMAIN && !path.contains('/') && !path.is_empty() {
        return (domain.to_owned(), format!("library/{path}"));
    }
    (domain.to_owned(), path.to_owned())
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let mut bytes = tag.bytes();
    let first = bytes.next().ok_or("the tag is empty")?;
    if tag.len() > TAG_LIMIT {
        return Err("the tag is longer than 128 characters");
    }
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if !word(first) || !bytes.all(|b| word(b) || b == b'.' || b == b'-') {
        return Err(
            "the tag must consist of letters, digits, \"_\", \".\" and \"-\", and must not start with \".\" or \"-\"",
        );
    }
    Ok(())
}

fn check_domain(domain: &str) -> Result<(), &'static str> {
    const WRONG: &str = "the registry must be a host name or address with an optional port";
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or(WRONG)?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(WRONG);
            }
            return match after.strip_prefix(':') {
                Some(port) => check_port(port),
                None if after.is_empty() => Ok(()),
                None => Err(WRONG),
            };
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if !host.split('.').all(label) {
        return Err(WRONG);
    }
    port.map_or(Ok(()), check_port)
}

fn check_port(port: &str) -> Result<(), &'static str> {
    if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok() {
        return Ok(());
    }
    Err("the registry's port must be a number from 0 to 65535")
}

/// `[a-z0-9]+`, separated by one `.`, one or two `_`, or any number of `-`.
fn is_component(component: &str) -> bool {
    let alphanumeric = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    component
        .split(|c: char| c.is_ascii() && alphanumeric(c as u8))
        .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_completed_as_docker_does() {
        for (typed, full, familiar) in [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("alpine:3.4", "docker.io/library/alpine:3.4", "alpine:3.4"),
            ("library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("foo/bar", "docker.io/foo/bar:latest", "foo/bar:latest"),
            ("localhost/foo", "localhost/foo:latest", "localhost/foo:latest"),
            ("localhost:5000/foo:t", "localhost:5000/foo:t", "localhost:5000/foo:t"),
            ("quay.io/a/b/c", "quay.io/a/b/c:latest", "quay.io/a/b/c:latest"),
            ("[::1]:5000/foo", "[::1]:5000/foo:latest", "[::1]:5000/foo:latest"),
            ("Host/foo", "Host/foo:latest", "Host/foo:latest"),
            ("a__b/c--d/e.f", "docker.io/a__b/c--d/e.f:latest", "a__b/c--d/e.f:latest"),
            ("alpine:A_b.-1", "docker.io/library/alpine:A_b.-1", "alpine:A_b.-1"),
            ("docker.io/quay.io/app", "docker.io/quay.io/app:latest", "docker.io/quay.io/app:latest"),
            ("docker.io/localhost/app", "docker.io/localhost/app:latest", "docker.io/localhost/app:latest"),
        ] {
            let reference = Reference::parse(typed).unwrap();
            assert_eq!(reference.to_string(), full, "{typed}");
            assert_eq!(reference.familiar(), familiar, "{typed}");
            assert_eq!(Reference::parse(full).unwrap(), reference, "round trip of {typed}");
            assert_eq!(Reference::parse(familiar).unwrap(), reference, "round trip of {familiar}");
        }
        let like_an_id = Reference::parse(&format!("docker.io/library/{HEX}:1")).unwrap();
        assert_eq!(like_an_id.familiar_name(), format!("docker.io/library/{HEX}"));
    }

    #[test]
    fn a_digest_stands_alone_or_after_a_tag_and_decides() {
        let plain = Reference::parse(&format!("alpine@sha256:{HEX}")).unwrap();
        assert_eq!((plain.tag(), plain.target()), (None, format!("sha256:{HEX}").as_str()));
        let both = Reference::parse(&format!("alpine:3@sha256:{HEX}")).unwrap();
        assert_eq!((both.tag(), both.target()), (Some("3"), format!("sha256:{HEX}").as_str()));
    }

    #[test]
    fn invalid_names_are_refused() {
        let long = "a/".repeat(130);
        for bad in [
            "",
            ":",
            "@",
            "/",
            "a/",
            "/a",
            "a//b",
            "Alpine",
            "a/B",
            "a___b",
            "a..b",
            "a._b",
            "-a",
            "a-",
            ".a",
            "alpine:",
            "alpine:-x",
            "alpine:.x",
            "alpine:a b",
            "alpine@sha256:12",
            "alpine@md5:d41d8cd98f00b204e9800998ecf8427e",
            "localhost:x/foo",
            "localhost:99999/foo",
            "http://localhost/foo",
            "[::1/foo",
            "[xx]/foo",
            "a.b:/foo",
            "-a.b/foo",
            "ä/b",
            "a\0b",
            "../../etc",
            HEX,
            &long,
            &format!("alpine:{}", "t".repeat(129)),
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn no_input_makes_the_parser_panic_and_every_result_parses_again() {
        let alphabet =
            ["a", "B", "0", ".", "_", "-", "/", ":", "@", "[", "]", "sha256:", HEX, "localhost", "ü"];
        let mut state = 1_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..8 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = usize::try_from(state >> 33).unwrap() % alphabet.len();
                text.push_str(alphabet[at]);
            }
            if let Ok(reference) = Reference::parse(&text) {
                assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference, "{text}");
            }
        }
    }
}
