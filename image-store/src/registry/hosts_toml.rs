//! containerd's hosts.toml, in a directory per registry: mirrors, authorities to trust, client certificates.
//!
//! Source: containerd, docs/hosts.md.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::url::Url;
use crate::error::{Doing, Error, Result};

/// A host in a hosts.toml.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) url: Url,
    pub(super) pulls: bool,
    pub(super) insecure: bool,
    /// Whether the URL's path replaces `/v2`.
    pub(super) override_path: bool,
    /// Files with certificates to trust.
    pub(super) authorities: Vec<PathBuf>,
    /// Files with the client certificate and its key.
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

#[derive(Deserialize)]
struct File {
    server: Option<String>,
    #[serde(default)]
    host: toml::Table,
    #[serde(flatten)]
    own: Fields,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Fields {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMore>,
    client: Option<OneOrMore>,
    skip_verify: bool,
    override_path: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<OneOrMore>),
}

impl OneOrMore {
    fn flat(&self) -> Vec<&str> {
        match self {
            Self::One(text) => vec![text],
            Self::More(list) => list.iter().flat_map(Self::flat).collect(),
        }
    }
}

/// The hosts for `registry`, the registry itself last; `None` if there is no file for it.
pub(super) fn find(dirs: &[PathBuf], registry: &str) -> Result<Option<Vec<Host>>> {
    let names = [registry.to_owned(), registry.replace(':', "_") + "_", "_default".to_owned()];
    for path in dirs.iter().flat_map(|dir| names.iter().map(move |name| dir.join(name).join("hosts.toml"))) {
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let dir = path.parent().unwrap_or(&path);
                return parse(&text, dir, registry).map(Some).doing(|| format!("{path:?}"));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).doing(|| format!("read {path:?}")),
        }
    }
    Ok(None)
}

fn parse(text: &str, dir: &Path, registry: &str) -> Result<Vec<Host>> {
    let wrong = |e: toml::de::Error| Error::invalid(e.message().replace('\n', " "));
    let file: File = toml::from_str(text).map_err(wrong)?;
    let mut hosts = Vec::new();
    for (url, fields) in file.host {
        hosts.push(host(&url, fields.try_into().map_err(wrong)?, dir)?);
    }
    let server = file.server.unwrap_or_else(|| {
        let own =
            if registry == crate::reference::DEFAULT_DOMAIN { "registry-1.docker.io" } else { registry };
        format!("https://{own}")
    });
    hosts.push(host(&server, file.own, dir)?);
    Ok(hosts)
}

fn host(url: &str, fields: Fields, dir: &Path) -> Result<Host> {
    let text = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
    let paths = |list: Option<OneOrMore>| -> Vec<PathBuf> {
        list.iter().flat_map(OneOrMore::flat).map(|path| dir.join(path)).collect()
    };
    let client = paths(fields.client);
    Ok(Host {
        url: Url::parse(&text)?,
        pulls: fields
            .capabilities
            .is_none_or(|list| list.iter().any(|word| word == "pull" || word == "resolve")),
        insecure: fields.skip_verify,
        override_path: fields.override_path,
        authorities: paths(fields.ca),
        // A single file has both.
        client: client.first().map(|first| (first.clone(), client.get(1).unwrap_or(first).clone())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_come_before_the_server() {
        let text = r#"
            server = "https://registry-1.docker.io"
            [host."https://mirror:5000"]
              capabilities = ["pull", "resolve"]
              ca = "ca.pem"
              client = [["/c.crt", "/c.key"]]
              [host."https://mirror:5000".header]
                x = "y"
            [host."http://plain/v2/proxy"]
              capabilities = ["push"]
              skip_verify = true
              override_path = true
        "#;
        let hosts = parse(text, Path::new("/d"), "docker.io").unwrap();
        let urls: Vec<String> = hosts.iter().map(|host| host.url.to_string()).collect();
        assert_eq!(urls, ["https://mirror:5000/", "http://plain/v2/proxy", "https://registry-1.docker.io/"]);
        assert!(!hosts[1].pulls && hosts[1].insecure && hosts[1].override_path);
        assert_eq!(hosts[0].authorities, [PathBuf::from("/d/ca.pem")]);
        assert_eq!(hosts[0].client, Some(("/c.crt".into(), "/c.key".into())));
        assert_eq!(parse("", Path::new("/d"), "r:5").unwrap()[0].url.to_string(), "https://r:5/");
        for bad in ["server = 5", "[host.\"ftp://x\"]", "[host", "[host.x]\nca = 1"] {
            assert!(parse(bad, Path::new("/d"), "x").is_err(), "{bad}");
        }
    }
}
