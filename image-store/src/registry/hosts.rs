//! Where the repositories of a registry are really asked for: mirrors, plain http, certificates.

use std::path::PathBuf;

use crate::reference::{DEFAULT_DOMAIN, Reference};

/// A place that has what another registry has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Host, with a port if need be, and a path to put before repositories.
    pub location: String,
    /// As [`Hosts::insecure`].
    pub insecure: bool,
}

/// What is configured about registries.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    /// Mirrors by registry, tried in order before the registry itself, for pulls.
    pub mirrors: Vec<(String, Vec<Mirror>)>,
    /// Registries whose certificates are not checked and that may speak plain http.
    pub insecure: Vec<String>,
    /// Folders with a folder for each `host:port` that has `*.crt`: authorities to trust for it.
    pub certificates: Vec<PathBuf>,
}

/// One place to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Host and port.
    pub(super) host: String,
    /// The repository there.
    pub(super) repository: String,
    /// The registry a mirror stands for.
    pub(super) namespace: Option<String>,
    pub(super) insecure: bool,
}

impl Hosts {
    /// The usual folders for certificates, and no mirrors.
    #[must_use]
    pub fn from_environment() -> Self {
        let folders = ["/etc/containers/certs.d", "/etc/docker/certs.d"];
        Self { certificates: folders.iter().map(PathBuf::from).collect(), ..Self::default() }
    }

    /// Mirrors first, the registry itself last.
    pub(super) fn endpoints(&self, reference: &Reference) -> Vec<Endpoint> {
        let mirrors =
            self.mirrors.iter().find(|(host, _)| host == reference.domain()).map(|(_, mirrors)| mirrors);
        let mirror = |mirror: &Mirror| {
            let (host, path) = mirror.location.split_once('/').unwrap_or((&mirror.location, ""));
            let repository = format!("{path}/{}", reference.path());
            Endpoint {
                host: host.to_owned(),
                repository: repository.trim_start_matches('/').to_owned(),
                namespace: Some(reference.domain().to_owned()),
                insecure: mirror.insecure || self.insecure.iter().any(|name| name == host),
            }
        };
        let mut endpoints: Vec<_> = mirrors.into_iter().flatten().map(mirror).collect();
        endpoints.push(self.origin(reference));
        endpoints
    }

    /// The registry itself.
    pub(super) fn origin(&self, reference: &Reference) -> Endpoint {
        let domain = reference.domain();
        Endpoint {
            // Docker Hub's registry has another name than the registry of its names.
            host: if domain == DEFAULT_DOMAIN {
                "registry-1.docker.io".to_owned()
            } else {
                domain.to_owned()
            },
            repository: reference.path().to_owned(),
            namespace: None,
            insecure: self.insecure.iter().any(|host| host == domain),
        }
    }
}

/// Whether `host` is this machine: there plain http is tried when https does not answer, as Docker does.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_before_the_registry() {
        let mirror = Mirror { location: "mirror:5000/hub".into(), insecure: true };
        let hosts = Hosts { mirrors: vec![("docker.io".into(), vec![mirror])], ..Hosts::default() };
        let endpoints = hosts.endpoints(&Reference::parse("alpine").unwrap());
        let list: Vec<_> =
            endpoints.iter().map(|e| (e.host.as_str(), e.repository.as_str(), e.insecure)).collect();
        assert_eq!(
            list,
            [("mirror:5000", "hub/library/alpine", true), ("registry-1.docker.io", "library/alpine", false)]
        );
        assert_eq!(endpoints[0].namespace.as_deref(), Some("docker.io"));
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
