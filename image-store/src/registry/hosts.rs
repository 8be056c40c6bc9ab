//! Endpoints: where the repositories of a registry are requested. Mirrors, plain http, certificates.

use std::net::IpAddr;
use std::path::PathBuf;

use super::hosts_toml::{self, Host};
use super::registries::Registries;
use super::url::Url;
use crate::error::Result;
use crate::reference::{DEFAULT_DOMAIN, Reference};

/// A mirror of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// `HOST[:PORT][/PATH]`; the path is prepended to repositories.
    pub location: String,
    /// See [`Hosts::insecure`].
    pub insecure: bool,
}

/// The configuration of registries.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    /// Mirrors by registry; for pulls, they are tried in order before the registry itself.
    pub mirrors: Vec<(String, Vec<Mirror>)>,
    /// Registries (`HOST[:PORT]`) whose certificates are not verified and that may use plain http.
    pub insecure: Vec<String>,
    /// Directories like `/etc/docker/certs.d`, with a subdirectory per `HOST[:PORT]`: `*.crt` to trust, `*.cert` and `*.key` to
    /// present, and containerd's `hosts.toml`.
    pub certificates: Vec<PathBuf>,
    /// Directories with such files for all hosts.
    pub certificates_for_all: Vec<PathBuf>,
    /// The settings of registries.conf.
    pub registries: Registries,
}

/// A place to request a repository from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Host and port.
    pub(super) host: String,
    /// The repository on this host.
    pub(super) repository: String,
    /// The registry that it mirrors; `None` for the registry itself.
    pub(super) namespace: Option<String>,
    /// Whether the host is that of the registry in the image's name, so that [`Credentials::fixed`] are for it.
    ///
    /// [`Credentials::fixed`]: super::Credentials::fixed
    pub(super) own: bool,
    pub(super) insecure: bool,
    /// Its settings in a hosts.toml.
    pub(super) more: Option<Host>,
}

impl Endpoint {
    /// An endpoint for the registry `domain`.
    fn new(host: &str, repository: &str, domain: &str) -> Self {
        let own = is_at(true, host, domain);
        let (host, repository) = (host.to_owned(), repository.trim_start_matches('/').to_owned());
        Self { host, repository, namespace: None, own, insecure: false, more: None }
    }
}

impl Hosts {
    /// The usual directories for certificates, and registries.conf.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a malformed registries.conf; failed system calls.
    pub fn from_environment() -> Result<Self> {
        let mut certificates = Vec::new();
        if let Some(home) = std::env::var_os("HOME").map(PathBuf::from) {
            certificates
                .extend([".config/containers/certs.d", ".docker/certs.d"].map(|path| home.join(path)));
        }
        let dirs = ["/etc/containers/certs.d", "/etc/docker/certs.d", "/etc/containerd/certs.d"];
        certificates.extend(dirs.map(PathBuf::from));
        Ok(Self { certificates, registries: Registries::from_environment()?, ..Self::default() })
    }

    /// The endpoints to try: mirrors first, the registry itself last.
    pub(super) fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>> {
        let domain = reference.domain();
        let mirrors = self.mirrors.iter().find(|(host, _)| host == domain).map(|(_, mirrors)| mirrors);
        let mirror = |mirror: &Mirror| {
            let (host, path) = mirror.location.split_once('/').unwrap_or((&mirror.location, ""));
            Endpoint {
                namespace: Some(domain.to_owned()),
                insecure: mirror.insecure || self.is_insecure(host),
                ..Endpoint::new(host, &format!("{path}/{}", reference.path()), domain)
            }
        };
        let mut endpoints: Vec<_> = mirrors.into_iter().flatten().map(mirror).collect();
        if let Some(places) = self.registries.places(reference)? {
            for place in places {
                let (host, path) = place.name.split_once('/').unwrap_or((&place.name, ""));
                let insecure = place.insecure || self.is_insecure(host);
                let namespace = place.mirror.then(|| domain.to_owned());
                endpoints.push(Endpoint { namespace, insecure, ..Endpoint::new(real(host), path, domain) });
            }
            return Ok(endpoints);
        }
        for host in
            hosts_toml::find(&self.certificates, domain)?.into_iter().flatten().filter(|host| host.pulls)
        {
            endpoints.push(self.described(reference, host));
        }
        if endpoints.iter().all(|endpoint| endpoint.namespace.is_some()) {
            endpoints.push(self.plain(reference));
        }
        Ok(endpoints)
    }

    fn described(&self, reference: &Reference, host: Host) -> Endpoint {
        let domain = reference.domain();
        let authority = host.url.authority.clone();
        let own = is_at(host.url.https, &authority, domain);
        let named_insecure = self.is_insecure(&authority) || own && self.is_insecure(domain);
        Endpoint {
            namespace: (!own).then(|| domain.to_owned()),
            own,
            insecure: host.insecure || !host.url.https || named_insecure,
            more: Some(host),
            ..Endpoint::new(&authority, reference.path(), domain)
        }
    }

    fn is_insecure(&self, host: &str) -> bool {
        self.insecure.iter().any(|name| name == host)
    }

    fn plain(&self, reference: &Reference) -> Endpoint {
        let domain = reference.domain();
        let endpoint = Endpoint::new(real(domain), reference.path(), domain);
        Endpoint { insecure: self.is_insecure(domain), ..endpoint }
    }

    /// The registry itself: the last endpoint that is not a mirror.
    pub(super) fn origin(&self, reference: &Reference) -> Result<Endpoint> {
        let endpoints = self.endpoints(reference)?;
        let own = endpoints.into_iter().rev().find(|endpoint| endpoint.namespace.is_none());
        Ok(own.unwrap_or_else(|| self.plain(reference)))
    }

    /// The registry in the name, even if its repositories have another location.
    pub(super) fn named(&self, reference: &Reference) -> Result<Endpoint> {
        let endpoints = self.endpoints(reference)?;
        let own = endpoints.into_iter().rev().find(|endpoint| endpoint.own);
        Ok(own.unwrap_or_else(|| self.plain(reference)))
    }
}

/// The host of a registry: Docker Hub's is not the one in image names.
pub(super) fn real(domain: &str) -> &str {
    if domain == DEFAULT_DOMAIN { "registry-1.docker.io" } else { domain }
}

/// Whether `host` is that of the registry `domain`. Ignores case and the default port.
fn is_at(https: bool, host: &str, domain: &str) -> bool {
    let scheme = if https { "https" } else { "http" };
    let authority = |host: &str| Url::parse(&format!("{scheme}://{host}")).map(|url| url.authority).ok();
    authority(host).is_some_and(|host| Some(host) == authority(real(domain)))
}

/// Whether `host` is this machine. As in Docker, plain http is tried there if https fails.
pub(super) fn is_loopback(host: &str) -> bool {
    name(host) == "localhost" || address(host).is_some_and(|address| address.is_loopback())
}

/// Whether `host` is this machine or a link-local address.
pub(super) fn is_near(host: &str) -> bool {
    is_loopback(host) || address(host).is_some_and(is_near_address)
}

/// The same for an address.
pub(super) fn is_near_address(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified(),
    }
}

/// `host` without port and brackets.
fn name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

fn address(host: &str) -> Option<IpAddr> {
    name(host).parse().ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(hosts: &Hosts, name: &str) -> Vec<(String, String, bool)> {
        let endpoints = hosts.endpoints(&Reference::parse(name).unwrap()).unwrap();
        endpoints.into_iter().map(|e| (e.host, e.repository, e.insecure)).collect()
    }

    fn row(host: &str, repository: &str, insecure: bool) -> (String, String, bool) {
        (host.to_owned(), repository.to_owned(), insecure)
    }

    #[test]
    fn mirrors_come_before_the_registry() {
        let mirror = Mirror { location: "mirror:5000/hub".into(), insecure: true };
        let hosts = Hosts { mirrors: vec![("docker.io".into(), vec![mirror])], ..Hosts::default() };
        assert_eq!(
            list(&hosts, "alpine"),
            [
                row("mirror:5000", "hub/library/alpine", true),
                row("registry-1.docker.io", "library/alpine", false)
            ]
        );
        let endpoints = hosts.endpoints(&Reference::parse("alpine").unwrap()).unwrap();
        assert_eq!(endpoints[0].namespace.as_deref(), Some("docker.io"));
    }

    #[test]
    fn registries_conf_says_where_a_registry_is() {
        let text = "[[registry]]\nprefix='r.io/team'\nlocation='inner:5000/x'\ninsecure=true\n[[registry.mirror]]\nlocation='m'\n";
        let hosts = Hosts { registries: Registries::parse(text).unwrap(), ..Hosts::default() };
        assert_eq!(list(&hosts, "r.io/team/a"), [row("m", "a", false), row("inner:5000", "x/a", true)]);
        assert_eq!(list(&hosts, "r.io/other"), [row("r.io", "other", false)]);
        let origin = hosts.origin(&Reference::parse("r.io/team/a").unwrap()).unwrap();
        assert_eq!((origin.host.as_str(), origin.repository.as_str()), ("inner:5000", "x/a"));
    }

    #[test]
    fn loopback_is_an_address_or_localhost() {
        for (host, local) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.3.2.1:1", true),
            ("[::1]:5", true),
            ("localhost.evil", false),
            ("128.0.0.1", false),
        ] {
            assert_eq!(is_loopback(host), local, "{host}");
        }
    }
}
