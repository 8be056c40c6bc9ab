//! Logging in and out: credentials are tried, then saved where Docker and podman look for them: with a credential helper
//! if the auth file names one, else in the auth file, readable only by its owner.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{Access, Call, Client};
use super::credentials::{Credentials, HUB, host_keys, normal};
use super::secrets::redact;
use crate::error::{Doing, Error, ErrorKind, Result};
use crate::reference::{DEFAULT_DOMAIN, Reference};

/// Where credentials were saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// In this auth file, unencrypted.
    File(PathBuf),
    /// With the credential helper of this name.
    Helper(String),
}

impl Client {
    /// Checks that a registry accepts this client's credentials.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] if it does not; [`ErrorKind::Network`].
    pub fn login(&self, registry: &str) -> Result<()> {
        let reference = Reference::parse(&format!("{registry}/library/x"))?;
        let endpoint = self.options.hosts.named(&reference)?;
        let access = Access { scope: String::new(), ..self.access(&reference, endpoint, "pull") };
        let place = self.place(&access, "")?;
        let doing = || format!("log in to {registry}");
        let (_, answered) = self.send(&access, &Call::new(Method::GET, place), &[]).doing(doing)?;
        if !answered.takes_credentials() {
            let message = format!("redirected to {answered}: only the registry itself may check a password");
            return Err(Error::new(ErrorKind::Denied, message).context(doing()));
        }
        Ok(())
    }
}

fn key(registry: &str) -> &str {
    if registry == DEFAULT_DOMAIN { HUB } else { registry }
}

fn read(path: &Path) -> Result<Value> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).doing(|| format!("read {path:?}")),
    };
    if text.trim().is_empty() {
        return Ok(json!({}));
    }
    let value: Value =
        serde_json::from_str(&text).map_err(|e| Error::invalid(format!("auth file {path:?}: {e}")))?;
    if !value.is_object() {
        return Err(Error::invalid(format!("auth file {path:?}: must be a JSON object")));
    }
    Ok(value)
}

/// Writes the file atomically.
fn write(path: &Path, value: &Value) -> Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = dir.join(format!(".{}", crate::store::unique()?));
    let write = || -> Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut file = std::fs::File::options().create_new(true).write(true).mode(0o600).open(&temporary)?;
        let text = serde_json::to_string_pretty(value).map_err(|e| Error::invalid(e.to_string()))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(std::fs::rename(&temporary, path)?)
    };
    write().doing(|| format!("write {path:?}")).inspect_err(|_| drop(std::fs::remove_file(&temporary)))
}

fn helper(file: &Value, registry: &str) -> Option<String> {
    let own = host_keys(registry).iter().find_map(|key| file["credHelpers"][key].as_str());
    own.or_else(|| file["credsStore"].as_str()).filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Removes a registry's credentials from the file, under all keys of its host. `false`: there were none.
fn remove(file: &mut Value, registry: &str) -> bool {
    let Some(auths) = file["auths"].as_object_mut() else { return false };
    let before = auths.len();
    let keys = host_keys(registry);
    auths.retain(|name, _| !keys.iter().any(|key| normal(name) == normal(key)));
    auths.len() < before
}

/// Runs `docker-credential-NAME ACTION` with this input. `false`: it has no credentials for this server.
fn run_helper(name: &str, action: &str, input: &str, secret: &str) -> Result<bool> {
    let doing = || format!("credential helper docker-credential-{name} {action}");
    if name.contains('/') {
        return Err(Error::invalid(format!("credential helper {name:?}: must be a name, not a path")));
    }
    let mut command = Command::new(format!("docker-credential-{name}"));
    command.arg(action).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().doing(doing)?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().doing(doing)?;
    if output.status.success() {
        return Ok(true);
    }
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    // The protocol only has this message for it.
    if said.contains("credentials not found") {
        return Ok(false);
    }
    let said = redact(&said, &[secret.to_owned()]);
    Err(Error::new(ErrorKind::Denied, format!("{}: {said}", doing())))
}

impl Credentials {
    /// Saves user and password for a registry in the auth file `path`, or with the credential helper that it names.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a malformed file, [`ErrorKind::Denied`] if the helper fails; failed system calls.
    pub fn save(path: &Path, registry: &str, user: &str, password: &str) -> Result<Saved> {
        let mut file = read(path)?;
        if let Some(name) = helper(&file, registry) {
            let input = json!({ "ServerURL": key(registry), "Username": user, "Secret": password });
            run_helper(&name, "store", &input.to_string(), password)?;
            return Ok(Saved::Helper(name));
        }
        if !file["auths"].is_object() {
            file["auths"] = json!({});
        }
        remove(&mut file, registry);
        file["auths"][key(registry)] = json!({ "auth": STANDARD.encode(format!("{user}:{password}")) });
        write(path, &file)?;
        Ok(Saved::File(path.to_owned()))
    }

    /// Removes a registry's credentials from the auth file `path` and its credential helper. `false`: there were none.
    ///
    /// # Errors
    /// As for [`Credentials::save`].
    pub fn forget(path: &Path, registry: &str) -> Result<bool> {
        let mut file = read(path)?;
        let mut found = false;
        if let Some(name) = helper(&file, registry) {
            for key in host_keys(registry) {
                found |= run_helper(&name, "erase", &key, "")?;
            }
        }
        if remove(&mut file, registry) {
            write(path, &file)?;
            found = true;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Credential;

    #[test]
    fn what_is_saved_is_found_and_forgotten() {
        let place = crate::scratch::Scratch::new("login");
        let path = place.path().join("new/config.json");
        let find = |name: &str| {
            let credentials = Credentials { fixed: None, files: vec![path.clone()] };
            credentials.find(&Reference::parse(name).unwrap()).unwrap()
        };
        Credentials::save(&path, "r.io:5", "a", "b:c").unwrap();
        Credentials::save(&path, "docker.io", "u", "p").unwrap();
        assert_eq!(find("r.io:5/x"), Some(Credential::Password("a".into(), "b:c".into())));
        assert_eq!(find("alpine"), Some(Credential::Password("u".into(), "p".into())));
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert!(
            Credentials::forget(&path, "docker.io").unwrap()
                && !Credentials::forget(&path, "docker.io").unwrap()
        );
        assert_eq!(find("alpine"), None);
        // Other keys of Docker Hub.
        let hub = r#"{"auths":{"docker.io":{"auth":"YTpi"},"index.docker.io":{"auth":"YTpi"},"r.io:5":{"auth":"YTpi"},"https://r.io/v1/":{"auth":"YTpi"}}}"#;
        std::fs::write(&path, hub).unwrap();
        Credentials::save(&path, "docker.io", "new", "p").unwrap();
        assert_eq!(find("alpine"), Some(Credential::Password("new".into(), "p".into())));
        std::fs::write(&path, hub).unwrap();
        assert!(Credentials::forget(&path, "docker.io").unwrap());
        assert_eq!(find("alpine"), None);
        assert!(find("r.io/x").is_some());
        assert!(find("r.io:5/x").is_some());
        std::fs::write(&path, "[]").unwrap();
        assert!(Credentials::save(&path, "x.io", "a", "b").is_err());
    }
}
