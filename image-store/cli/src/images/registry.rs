//! Clients of registries, configured by flags and the environment; what a name without a registry may mean.

use image_store::registry::{Client, ClientOptions, Credential, Credentials, Mirror, Registries};
use image_store::{ErrorKind, Reference};

use super::compression::compression;
use crate::cli::Args;
use crate::failure::{Failure, Result, invalid};

/// A client for the registry `host`, as the flags and the environment configure it.
pub(crate) fn client(args: &Args, host: &str) -> Result<Client> {
    let credentials = credentials(args)?;
    options(args, host, credentials).map(Client::new)
}

/// `--creds` are for the registry itself; the files also have credentials for others, such as mirrors.
fn credentials(args: &Args) -> Result<Credentials> {
    let mut credentials = Credentials::from_environment();
    if let Some(file) = args.get("authfile") {
        std::fs::metadata(file).map_err(|e| invalid(format!("--authfile {file:?}: {e}")))?;
        credentials.files = vec![file.into()];
    }
    if let Some(creds) = args.get("creds") {
        let (user, password) =
            creds.split_once(':').ok_or_else(|| invalid("--creds: must be USER:PASSWORD"))?;
        credentials.fixed = Some(Credential::Password(user.to_owned(), password.to_owned()));
    }
    Ok(credentials)
}

fn options(args: &Args, host: &str, credentials: Credentials) -> Result<ClientOptions> {
    let mut options = ClientOptions { credentials, ..ClientOptions::from_environment()? };
    if args.get("tls-verify") == Some("false") {
        options.hosts.insecure.push(host.to_owned());
    }
    if let Some(directory) = args.get("cert-dir") {
        std::fs::read_dir(directory).map_err(|e| invalid(format!("--cert-dir {directory:?}: {e}")))?;
        options.hosts.certificates.insert(0, directory.into());
        options.hosts.certificates_for_all.push(directory.into());
    }
    for mirror in args.all("mirror") {
        let (registry, location) = mirror
            .split_once('=')
            .ok_or_else(|| invalid(format!("--mirror {mirror:?}: must be REGISTRY=LOCATION")))?;
        let mirror =
            Mirror { location: location.to_owned(), insecure: args.get("tls-verify") == Some("false") };
        match options.hosts.mirrors.iter_mut().find(|(known, _)| known == registry) {
            Some((_, mirrors)) => mirrors.push(mirror),
            None => options.hosts.mirrors.push((registry.to_owned(), vec![mirror])),
        }
    }
    if !args.has("quiet") {
        options.waiting = |host, time| eprintln!("{host}: the registry asks to wait {} s", time.as_secs());
    }
    options.compression = compression(args)?;
    options.chunk = args
        .get("chunk")
        .map(|text| text.parse().map_err(|_| invalid(format!("--chunk {text:?}: must be a number of bytes"))))
        .transpose()?;
    Ok(options)
}

/// As [`client`], with these credentials only: the auth file is where `login` stores them.
pub(crate) fn client_as(args: &Args, host: &str, who: Credential) -> Result<Client> {
    options(args, host, Credentials { fixed: Some(who), files: Vec::new() }).map(Client::new)
}

/// The name for --all-tags, which must have no tag.
pub(crate) fn untagged(text: &str) -> Result<Reference> {
    let name = Reference::parse_untagged(text)?;
    if name.tag().is_some() || name.digest().is_some() {
        return Err(invalid(format!("--all-tags {text:?}: must not have a tag or digest")));
    }
    Ok(name)
}

/// Tries the full names that a short name may mean, one after the other.
pub(crate) fn first_of<T>(text: &str, get: impl Fn(&Reference) -> Result<T>) -> Result<T> {
    let mut failure = None;
    for reference in registries()?.candidates(text)? {
        match get(&reference) {
            Ok(found) => return Ok(found),
            // The most useful error of several registries: one that says more than that the image does not exist.
            Err(error) => match &failure {
                Some(known) if not_found(&error) || !not_found(known) => {}
                _ => failure = Some(error),
            },
        }
    }
    Err(failure.unwrap_or_else(|| {
        invalid(format!("image name {text:?}: no registry configured for short names: give HOST/NAME"))
    }))
}

fn not_found(error: &Failure) -> bool {
    error.kind() == ErrorKind::NotFound
}

pub(crate) fn registries() -> Result<Registries> {
    Ok(Registries::from_environment()?)
}
