//! Locations of registries, mirrors, blocked registries and short names. Source: containers-registries.conf(5), version 2.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Doing, Error, ErrorKind, Result};
use crate::reference::{DEFAULT_DOMAIN, Reference};

/// The settings of registries.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Registries {
    /// Registries to try for names without one, in order.
    pub unqualified_search_registries: Vec<String>,
    /// Rules for registries and repositories, by prefix.
    #[serde(rename = "registry")]
    pub rules: Vec<Rule>,
    /// Complete names by short name.
    pub aliases: BTreeMap<String, String>,
}

/// A `[[registry]]` table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Rule {
    /// What it applies to: `HOST[:PORT][/PATH]`, or `*.example.com` for all subdomains. Default: the location.
    pub prefix: String,
    /// What replaces the prefix. Default: the prefix.
    pub location: String,
    /// Certificates are not verified, and plain http is allowed.
    pub insecure: bool,
    /// Pulling is forbidden.
    pub blocked: bool,
    /// Mirrors are only used for pulls by digest.
    pub mirror_by_digest_only: bool,
    /// Mirrors, tried in order before the location.
    #[serde(rename = "mirror")]
    pub mirrors: Vec<MirrorRule>,
}

/// A `[[registry.mirror]]` table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct MirrorRule {
    /// What replaces the prefix.
    pub location: String,
    /// Certificates are not verified, and plain http is allowed.
    pub insecure: bool,
    /// `all` (the default), `digest-only` or `tag-only`.
    pub pull_from_mirror: Option<String>,
}

/// A place to request a repository from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// `HOST[:PORT]/REPOSITORY`.
    pub(super) name: String,
    pub(super) insecure: bool,
    pub(super) mirror: bool,
}

impl Registries {
    /// Reads `$CONTAINERS_REGISTRIES_CONF`; or else `~/.config/containers/registries.conf` or
    /// `/etc/containers/registries.conf`, and the files in `registries.conf.d` beside both.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a malformed file; failed system calls.
    pub fn from_environment() -> Result<Self> {
        let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let config =
            variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
        let own = config.map(|config| config.join("containers/registries.conf"));
        let system = PathBuf::from("/etc/containers/registries.conf");
        if let Some(path) = variable("CONTAINERS_REGISTRIES_CONF") {
            return Self::parse_file(&path);
        }
        let main = own.clone().filter(|path| path.exists()).unwrap_or_else(|| system.clone());
        let mut all = Self::parse_file(&main)?;
        for dir in [Some(system), own].into_iter().flatten().map(|path| path.with_extension("conf.d")) {
            let mut paths: Vec<PathBuf> =
                std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
            paths.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
            paths.sort();
            for path in paths {
                all.merge(Self::parse_file(&path)?);
            }
        }
        Ok(all)
    }

    /// Parses a file; a missing one is empty.
    fn parse_file(path: &Path) -> Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).doing(|| format!("{path:?}")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).doing(|| format!("read {path:?}")),
        }
    }

    /// Parses the contents of a file in version 2 of the format.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is malformed.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parsed: Self =
            toml::from_str(text).map_err(|e| Error::invalid(e.message().replace('\n', " ")))?;
        for rule in &mut parsed.rules {
            if rule.prefix.is_empty() {
                rule.prefix.clone_from(&rule.location);
            }
            if rule.prefix.is_empty() {
                return Err(Error::invalid("[[registry]]: prefix or location is required"));
            }
        }
        Ok(parsed)
    }

    /// Merges the settings of a later file, which take precedence.
    fn merge(&mut self, later: Self) {
        if !later.unqualified_search_registries.is_empty() {
            self.unqualified_search_registries = later.unqualified_search_registries;
        }
        self.rules.retain(|rule| !later.rules.iter().any(|other| other.prefix == rule.prefix));
        self.rules.extend(later.rules);
        self.aliases.extend(later.aliases);
    }

    /// The complete names that a user may mean by `text`, in the order to try.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is not a valid name.
    pub fn candidates(&self, text: &str) -> Result<Vec<Reference>> {
        let plain = Reference::parse(text)?;
        let whole = plain.domain() != DEFAULT_DOMAIN
            || ["docker.io/", "index.docker.io/"].iter().any(|domain| text.starts_with(domain));
        if whole {
            return Ok(vec![plain]);
        }
        let end = text.find('@').unwrap_or(text.len());
        let end = text[..end].rfind(':').filter(|at| !text[*at..end].contains('/')).unwrap_or(end);
        let (name, rest) = text.split_at(end);
        if let Some(alias) = self.aliases.get(name).filter(|alias| !alias.is_empty()) {
            return Ok(vec![Reference::parse(&format!("{alias}{rest}"))?]);
        }
        if self.unqualified_search_registries.is_empty() {
            return Ok(vec![plain]);
        }
        self.unqualified_search_registries
            .iter()
            .map(|registry| Reference::parse(&format!("{registry}/{text}")))
            .collect()
    }

    /// The rule with the longest matching prefix of a repository, and the length of that prefix.
    fn rule(&self, name: &str) -> Option<(&Rule, usize)> {
        let fits = |rule: &Rule| match rule.prefix.strip_prefix("*.") {
            Some(suffix) => {
                let host = name.split('/').next().unwrap_or_default();
                let below = host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
                below.then_some(host.len())
            }
            None => {
                let rest = name.strip_prefix(&rule.prefix)?;
                (rest.is_empty() || rest.starts_with('/')).then_some(rule.prefix.len())
            }
        };
        let all = self.rules.iter().filter_map(|rule| Some((rule, fits(rule)?)));
        all.max_by_key(|(rule, length)| (*length, !rule.prefix.starts_with('*')))
    }

    /// The places to request a repository from, mirrors first. `None` if no rule matches.
    pub(super) fn places(&self, reference: &Reference) -> Result<Option<Vec<Place>>> {
        let name = reference.repository();
        let Some((rule, length)) = self.rule(&name) else { return Ok(None) };
        if rule.blocked {
            let message = format!("{name}: blocked by registries.conf: {:?}", rule.prefix);
            return Err(Error::new(ErrorKind::Denied, message));
        }
        let by_digest = reference.digest().is_some();
        let asked = |mirror: &&MirrorRule| match mirror.pull_from_mirror.as_deref() {
            Some("digest-only") => by_digest,
            Some("tag-only") => !by_digest,
            _ => by_digest || !rule.mirror_by_digest_only,
        };
        let rest = &name[length..];
        let place = |location: &str, insecure, mirror| {
            let location = location.trim_end_matches('/');
            Place { name: format!("{location}{rest}"), insecure, mirror }
        };
        let mirrors = rule.mirrors.iter().filter(asked);
        let mut places: Vec<Place> = mirrors.map(|m| place(&m.location, m.insecure, true)).collect();
        let own = if rule.location.is_empty() { &name[..length] } else { &rule.location };
        places.push(place(own, rule.insecure, false));
        Ok(Some(places))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        unqualified-search-registries = ["quay.io", "docker.io"]
        short-name-mode = "enforcing"
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "mirror:5000/hub"
        insecure = true
        [[registry.mirror]]
        location = "other"
        pull-from-mirror = "digest-only"
        [[registry]]
        prefix = "docker.io/secret"
        blocked = true
        [[registry]]
        prefix = "*.inner.example"
        location = "real.example/path"
        insecure = true
        [aliases]
        "fedora" = "registry.fedoraproject.org/fedora"
    "#;

    fn places(name: &str) -> Result<Vec<(String, bool, bool)>> {
        let places = Registries::parse(FILE).unwrap().places(&Reference::parse(name)?)?;
        Ok(places.into_iter().flatten().map(|p| (p.name, p.insecure, p.mirror)).collect())
    }

    #[test]
    fn the_longest_prefix_counts() {
        let digest = format!("alpine@sha256:{}", "0".repeat(64));
        let own = ("docker.io/library/alpine".to_owned(), false, false);
        let mirror = ("mirror:5000/hub/library/alpine".to_owned(), true, true);
        assert_eq!(places("alpine").unwrap(), [mirror.clone(), own.clone()]);
        assert_eq!(places(&digest).unwrap(), [mirror, ("other/library/alpine".to_owned(), false, true), own]);
        assert!(places("docker.io/secret/x").unwrap_err().to_string().contains("blocked by registries.conf"));
        assert_eq!(places("docker.io/secretive/x").unwrap().len(), 2);
        assert_eq!(places("a.inner.example/x").unwrap(), [("real.example/path/x".to_owned(), true, false)]);
        assert!(places("inner.example/x").unwrap().is_empty());
    }

    #[test]
    fn short_names_have_candidates() {
        let registries = Registries::parse(FILE).unwrap();
        let all = |text: &str| -> Vec<String> {
            registries.candidates(text).unwrap().iter().map(ToString::to_string).collect()
        };
        assert_eq!(all("fedora:40"), ["registry.fedoraproject.org/fedora:40"]);
        assert_eq!(all("a/b"), ["quay.io/a/b:latest", "docker.io/a/b:latest"]);
        assert_eq!(all("docker.io/a"), ["docker.io/library/a:latest"]);
        assert_eq!(all("host:5/a:1"), ["host:5/a:1"]);
        let none = Registries::default().candidates("alpine").unwrap();
        assert_eq!(none[0].to_string(), "docker.io/library/alpine:latest");
    }

    #[test]
    fn malformed_files_are_refused() {
        for bad in ["[[registry]]", "x = ", "[[registry]]\nlocation = 5"] {
            assert!(Registries::parse(bad).is_err(), "{bad}");
        }
    }
}
