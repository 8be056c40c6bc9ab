//! `login` and `logout`.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;

use image_store::reference::DEFAULT_DOMAIN;
use image_store::registry::{Credential, Credentials, Saved};
use image_store::{ErrorKind, Reference};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::registry::client_as;
use crate::cli::Args;
use crate::failure::{Failure, Result, invalid};
use crate::output::line;

/// The registry's name as in references, without a URL's scheme and path.
fn registry(args: &Args) -> Result<String> {
    let given = args.positional.first().map_or(DEFAULT_DOMAIN, String::as_str);
    let given = given.strip_prefix("https://").or_else(|| given.strip_prefix("http://")).unwrap_or(given);
    let host = given.split('/').next().unwrap_or_default();
    if let Some((_, host)) = given.rsplit_once('@') {
        let message =
            format!("registry {host:?}: must not contain a user or password: use -u and --password-stdin");
        return Err(invalid(message));
    }
    Ok(if ["", "index.docker.io", "registry-1.docker.io"].contains(&host) {
        DEFAULT_DOMAIN.to_owned()
    } else {
        host.to_owned()
    })
}

/// The file for credentials: the named one, or Docker's.
fn file(args: &Args) -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let named = args.get("authfile").map(PathBuf::from).or_else(|| variable("REGISTRY_AUTH_FILE"));
    let docker = || variable("DOCKER_CONFIG").or_else(|| variable("HOME").map(|home| home.join(".docker")));
    named
        .or_else(|| docker().map(|directory| directory.join("config.json")))
        .ok_or_else(|| invalid("no credentials file: use --authfile or set HOME"))
}

/// `login [REGISTRY]`
pub(crate) fn login(args: &Args) -> Result<u8> {
    let (registry, path) = (registry(args)?, file(args)?);
    if args.has("get-login") {
        let known = Credentials { fixed: None, files: vec![path] };
        return match known.find(&Reference::parse(&format!("{registry}/library/x"))?)? {
            Some(Credential::Password(user, _)) => {
                line(&user);
                Ok(0)
            }
            _ => Err(Failure::new(ErrorKind::NotFound, format!("{registry}: not logged in"))),
        };
    }
    let user = match args.get("username") {
        Some(user) => user.to_owned(),
        None => ask("Username: ", true)?,
    };
    let password = if args.has("password-stdin") {
        let mut text = String::new();
        std::io::stdin().take(64 << 10).read_to_string(&mut text)?;
        text.trim_end_matches(['\r', '\n']).to_owned()
    } else {
        args.get("password").map_or_else(|| ask("Password: ", false), |given| Ok(given.to_owned()))?
    };
    if user.is_empty() || password.is_empty() {
        return Err(invalid("login: user and password must not be empty"));
    }
    let client = client_as(args, &registry, Credential::Password(user.clone(), password.clone()))?;
    client.login(&registry)?;
    match Credentials::save(&path, &registry, &user, &password)? {
        Saved::File(path) => eprintln!("WARNING! Your password is stored unencrypted in {path:?}"),
        Saved::Helper(_) => {}
    }
    line("Login Succeeded");
    Ok(0)
}

/// Reads a line from the terminal, echoed or not.
fn ask(prompt: &str, shown: bool) -> Result<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(invalid("login: cannot prompt without a terminal: use -u and --password-stdin"));
    }
    eprint!("{prompt}");
    let _ = std::io::stderr().flush();
    let before = tcgetattr(&stdin)?;
    if !shown {
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
    }
    let mut text = String::new();
    let read = stdin.read_line(&mut text);
    if !shown {
        let _ = tcsetattr(&stdin, OptionalActions::Flush, &before);
        eprintln!();
    }
    read?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// `logout [REGISTRY]`
pub(crate) fn logout(args: &Args) -> Result<u8> {
    let registry = registry(args)?;
    if Credentials::forget(&file(args)?, &registry)? {
        line(&format!("Removing login credentials for {registry}"));
    } else {
        line(&format!("Not logged in to {registry}"));
    }
    Ok(0)
}
