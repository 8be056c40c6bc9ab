//! Credentials for registries: auth files (containers-auth.json(5), Docker's config.json) and credential helpers.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::hosts::real;
use super::secrets::{redact, without_values};
use crate::absent::or_default;
use crate::error::{Doing, Error, ErrorKind, Result};
use crate::reference::{DEFAULT_DOMAIN, Reference};

/// Docker Hub's key in auth files.
pub(super) const HUB: &str = "https://index.docker.io/v1/";

/// A credential for a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// User and password.
    Password(String, String),
    /// An OAuth 2.0 refresh token, which Docker calls identity token.
    IdentityToken(String),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password(user, _) => write!(f, "Password({user:?}, ...)"),
            Self::IdentityToken(_) => f.write_str("IdentityToken(...)"),
        }
    }
}

/// The sources of credentials, in order.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The credential given by the user, for the registry in the image's name. Mirrors and other locations of the registry
    /// have their own credentials.
    pub fixed: Option<Credential>,
    /// Paths of auth files; missing files are skipped.
    pub files: Vec<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AuthFile {
    #[serde(deserialize_with = "or_default")]
    auths: BTreeMap<String, Option<Auth>>,
    #[serde(rename = "credHelpers", deserialize_with = "or_default")]
    cred_helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl Credentials {
    /// The auth files of podman and Docker for this user: `$REGISTRY_AUTH_FILE`, `$XDG_RUNTIME_DIR/containers/auth.json`,
    /// `~/.config/containers/auth.json`, `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`.
    #[must_use]
    pub fn from_environment() -> Self {
        let variable =
            |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = variable("HOME");
        let mut files = Vec::new();
        files.extend(variable("REGISTRY_AUTH_FILE"));
        let runtime = variable("XDG_RUNTIME_DIR")
            .unwrap_or_else(|| format!("/run/containers/{}", rustix::process::getuid().as_raw()).into());
        files.push(runtime.join("containers/auth.json"));
        let config = variable("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
        files.extend(config.map(|config| config.join("containers/auth.json")));
        let docker = variable("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker")));
        files.extend(docker.map(|docker| docker.join("config.json")));
        Self { fixed: None, files }
    }

    /// The credential for a repository: the most specific one in the first file that has any.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a malformed file, [`ErrorKind::Denied`] if a credential helper fails; failed system calls.
    pub fn find(&self, repository: &Reference) -> Result<Option<Credential>> {
        self.find_at(repository.domain(), repository.path())
    }

    /// The same for a repository on the host of the registry in the image's name.
    pub(super) fn find_at(&self, host: &str, repository: &str) -> Result<Option<Credential>> {
        match &self.fixed {
            Some(fixed) => Ok(Some(fixed.clone())),
            None => self.find_kept(host, repository),
        }
    }

    /// The credential from the files. `host` is a host that is asked, not the start of an image name.
    pub(super) fn find_kept(&self, host: &str, repository: &str) -> Result<Option<Credential>> {
        for path in &self.files {
            let bytes = match std::fs::read(path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).doing(|| format!("read {path:?}")),
            };
            if let Some(found) = find_in(&bytes, host, repository).doing(|| format!("auth file {path:?}"))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

fn find_in(bytes: &[u8], host: &str, repository: &str) -> Result<Option<Credential>> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let file: AuthFile = serde_json::from_slice(bytes).map_err(|e| without_values(&e))?;
    let keys = keys(host, repository);
    for key in &keys {
        if let Some(helper) = file.cred_helpers.get(key) {
            return ask_helper(helper, key);
        }
    }
    if let Some(helper) = file.creds_store.as_deref().filter(|helper| !helper.is_empty()) {
        for key in keys.iter().filter(|key| !key.contains('/') || key.starts_with("https://")) {
            if let Some(found) = ask_helper(helper, key)? {
                return Ok(Some(found));
            }
        }
    }
    for key in &keys {
        let auth = file.auths.iter().find(|(name, _)| normal(name) == normal(key));
        if let Some(found) = auth.and_then(|(_, auth)| auth.as_ref()).map(credential).transpose()?.flatten() {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Keys to look for: `host/path/of/repository`, each shorter path, and the keys of the host.
fn keys(host: &str, repository: &str) -> Vec<String> {
    let names = host_keys(host);
    let mut path = repository;
    let mut keys = Vec::new();
    while !path.is_empty() {
        keys.push(format!("{}/{path}", names[0]));
        path = path.rsplit_once('/').map_or("", |(shorter, _)| shorter);
    }
    keys.extend(names);
    keys
}

/// The keys of a host in auth files. Docker Hub has several.
pub(super) fn host_keys(host: &str) -> Vec<String> {
    let hub = [DEFAULT_DOMAIN, HUB, real(DEFAULT_DOMAIN)];
    let is_hub = hub.iter().any(|name| normal(name) == host);
    let names = if is_hub { &hub[..] } else { &[host] };
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Removes the scheme and the protocol version that keys in old files have.
pub(super) fn normal(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.strip_suffix('/').unwrap_or(key);
    key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key)
}

fn credential(auth: &Auth) -> Result<Option<Credential>> {
    if let Some(token) = auth.identitytoken.as_ref().filter(|token| !token.is_empty()) {
        return Ok(Some(Credential::IdentityToken(token.clone())));
    }
    if let (Some(user), Some(password)) = (&auth.username, &auth.password)
        && !user.is_empty()
    {
        return Ok(Some(Credential::Password(user.clone(), password.clone())));
    }
    let Some(encoded) = auth.auth.as_ref().filter(|auth| !auth.is_empty()) else {
        return Ok(None);
    };
    let wrong = || Error::invalid("invalid \"auth\": must be base64 of user:password");
    let decoded = STANDARD.decode(encoded.trim()).map_err(|_| wrong())?;
    let text = String::from_utf8(decoded).map_err(|_| wrong())?;
    let (user, password) = text.split_once(':').ok_or_else(wrong)?;
    Ok(Some(Credential::Password(user.to_owned(), password.trim_end_matches('\0').to_owned())))
}

/// Runs `docker-credential-NAME get`, which reads the server's name and writes a JSON object.
fn ask_helper(name: &str, server: &str) -> Result<Option<Credential>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let program = format!("docker-credential-{name}");
    let doing = || format!("credential helper {program:?}");
    if name.contains('/') {
        return Err(Error::invalid(format!("credential helper {name:?}: must be a name, not a path")));
    }
    let mut command = Command::new(Path::new(&program));
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().doing(doing)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input closes the pipe.
        let _ = stdin.write_all(server.as_bytes());
    }
    let output = child.wait_with_output().doing(doing)?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() {
        // The protocol only has this message for it.
        if said.contains("credentials not found") {
            return Ok(None);
        }
        let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let why = if said.is_empty() { error } else { said };
        return Err(Error::new(ErrorKind::Denied, format!("{}: {}", doing(), redact(&why, &[]))));
    }
    let answer: Answer = serde_json::from_str(&said).map_err(|e| without_values(&e)).doing(doing)?;
    if answer.username == "<token>" {
        return Ok(Some(Credential::IdentityToken(answer.secret)));
    }
    if answer.username.is_empty() && answer.secret.is_empty() {
        return Ok(None);
    }
    Ok(Some(Credential::Password(answer.username, answer.secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(file: &str, name: &str) -> Result<Option<Credential>> {
        let name = Reference::parse(name).unwrap();
        find_in(file.as_bytes(), name.domain(), name.path())
    }

    fn password(user: &str, password: &str) -> Option<Credential> {
        Some(Credential::Password(user.into(), password.into()))
    }

    #[test]
    fn the_most_specific_key_wins() {
        let file = r#"{"auths":{"quay.io":{"auth":"YTpi"},"quay.io/team":{"auth":"YzpkOmU="},
            "https://index.docker.io/v1/":{"auth":"aHViOng="},"http://old.io/v1/":{"username":"u","password":"p"},
            "tok.io":{"identitytoken":"t"},"empty.io":{}}}"#;
        assert_eq!(find(file, "quay.io/x/y").unwrap(), password("a", "b"));
        assert_eq!(find(file, "quay.io/team/y").unwrap(), password("c", "d:e"));
        assert_eq!(find(file, "quay.io/teammate/y").unwrap(), password("a", "b"));
        assert_eq!(find(file, "alpine").unwrap(), password("hub", "x"));
        assert_eq!(find(file, "old.io/x").unwrap(), password("u", "p"));
        assert_eq!(find(file, "tok.io/x").unwrap(), Some(Credential::IdentityToken("t".into())));
        assert_eq!(find(file, "empty.io/x").unwrap(), None);
        assert_eq!(find(file, "quay.io.evil.com/x").unwrap(), None);
    }

    #[test]
    fn a_host_is_not_taken_for_the_start_of_a_name() {
        let file =
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOng="},"mirror/cache":{"auth":"YTpi"}}}"#;
        for (host, repository, expected) in [
            ("mirror", "library/alpine", None),
            ("mirror", "x", None),
            ("mirror", "cache/x", password("a", "b")),
            ("registry-1.docker.io", "library/alpine", password("hub", "x")),
            ("docker.io", "mirror/cache", password("hub", "x")),
            ("index.docker.io", "", password("hub", "x")),
            ("registry-1.docker.io.evil", "x", None),
        ] {
            assert_eq!(find_in(file.as_bytes(), host, repository).unwrap(), expected, "{host}/{repository}");
        }
    }

    #[test]
    fn errors_do_not_quote_the_file() {
        for file in [
            r#"{"auths":{"r.io":"SECRET"}}"#,
            r#"{"auths":{"r.io":{"username":"u","password":5318008}}}"#,
            r#"{"auths":"SECRET"}"#,
            r#"{"auths":{"r.io":{"auth":["SECRET"]}}}"#,
        ] {
            let error = find(file, "r.io/x").unwrap_err().to_string();
            assert!(!error.contains("SECRET") && !error.contains("5318008"), "{error}");
            assert!(error.contains("line 1 column"), "{error}");
        }
    }

    #[test]
    fn broken_files_are_errors_and_empty_ones_are_not() {
        assert_eq!(find("", "x").unwrap(), None);
        assert_eq!(find(r#"{"auths":null,"credHelpers":null,"credsStore":null}"#, "x").unwrap(), None);
        let nothing = r#"{"username":"","password":"","identitytoken":"","auth":"YTpi"}"#;
        let file = format!(r#"{{"auths":{{"r.io":{nothing},"null.io":null,"empty.io":{{"auth":null}}}}}}"#);
        assert_eq!(find(&file, "r.io/x").unwrap(), password("a", "b"));
        assert_eq!(find(&file, "null.io/x").unwrap(), None);
        assert_eq!(find(&file, "empty.io/x").unwrap(), None);
        assert!(find("{", "x").is_err());
        assert!(find(r#"{"auths":{"docker.io":{"auth":"%%%"}}}"#, "x").is_err());
    }

    #[test]
    fn a_password_is_not_printed() {
        assert!(!format!("{:?}", password("u", "secret")).contains("secret"));
    }
}
