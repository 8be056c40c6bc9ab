//! Registries: pull, push, search, tags, inspection from afar.

use image_store::digest::VerifyingReader;
use image_store::manifest::{Document, ImageConfig};
use image_store::platform::Platform;
use image_store::registry::{
    Client, ClientOptions, Credential, Credentials, Mirror, Registries, RemoteImage,
};
use image_store::store::{Record, Source};
use image_store::{Error, ErrorKind, Reference, Result, Store};
use serde_json::{Value, json};

use super::filter::{Filters, boolean, refused};
use crate::args::Args;
use crate::output::{line, rows};
use crate::progress::Shown;

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

/// A client as the flags and the environment want it, for the registry `host`.
pub(super) fn client(args: &Args, host: &str) -> Result<Client> {
    let credentials = credentials(args)?;
    options(args, host, credentials).map(Client::new)
}

/// The auth file is for whoever --creds are not for, such as mirrors.
fn credentials(args: &Args) -> Result<Credentials> {
    let mut credentials = Credentials::from_environment();
    if let Some(file) = args.get("authfile") {
        std::fs::metadata(file).map_err(|e| invalid(format!("--authfile {file:?}: {e}")))?;
        credentials.files = vec![file.into()];
    }
    if let Some(creds) = args.get("creds") {
        let (user, password) =
            creds.split_once(':').ok_or_else(|| invalid("--creds: wants USER:PASSWORD".to_owned()))?;
        credentials.fixed = Some(Credential::Password(user.to_owned(), password.to_owned()));
    }
    Ok(credentials)
}

fn options(args: &Args, host: &str, credentials: Credentials) -> Result<ClientOptions> {
    let mut options = ClientOptions { credentials, ..ClientOptions::from_environment()? };
    if args.get("tls-verify") == Some("false") {
        options.hosts.insecure.push(host.to_owned());
    }
    if let Some(folder) = args.get("cert-dir") {
        std::fs::read_dir(folder).map_err(|e| invalid(format!("--cert-dir {folder:?}: {e}")))?;
        options.hosts.certificates.insert(0, folder.into());
        options.hosts.certificates_for_all.push(folder.into());
    }
    for mirror in args.all("mirror") {
        let (registry, location) = mirror
            .split_once('=')
            .ok_or_else(|| invalid(format!("--mirror {mirror:?}: wants REGISTRY=LOCATION")))?;
        let mirror =
            Mirror { location: location.to_owned(), insecure: args.get("tls-verify") == Some("false") };
        match options.hosts.mirrors.iter_mut().find(|(known, _)| known == registry) {
            Some((_, mirrors)) => mirrors.push(mirror),
            None => options.hosts.mirrors.push((registry.to_owned(), vec![mirror])),
        }
    }
    options.chunk = args
        .get("chunk")
        .map(|text| text.parse().map_err(|_| invalid(format!("--chunk {text:?}: is no number"))))
        .transpose()?;
    Ok(options)
}

/// As [`client`], as this user of the registry and as nobody else: an auth file is where this is to be kept.
pub(super) fn client_as(args: &Args, host: &str, who: Credential) -> Result<Client> {
    options(args, host, Credentials { fixed: Some(who), files: Vec::new() }).map(Client::new)
}

/// `pull NAME`
pub(super) fn pull(args: &Args) -> Result<u8> {
    let store = super::store(args)?;
    if args.has("all-tags") {
        return pull_all(args, &store);
    }
    let record = fetch(args, &store)?;
    warn_of_platform(args, &record)?;
    line(record.name.as_deref().unwrap_or_default());
    Ok(0)
}

/// `pull -a NAME`: what the repository has now, one image after the other.
fn pull_all(args: &Args, store: &Store) -> Result<u8> {
    untagged(&args.positional[0])?;
    let (name, tags) = first_of(&args.positional[0], |reference| {
        Ok((reference.repository(), client(args, reference.domain())?.tags(reference)?))
    })?;
    for tag in tags {
        let record = fetch_one(args, store, &Reference::parse(&format!("{name}:{tag}"))?)?;
        line(record.name.as_deref().unwrap_or_default());
    }
    Ok(0)
}

/// A name for --all-tags.
fn untagged(text: &str) -> Result<Reference> {
    let name = Reference::parse_untagged(text)?;
    if name.tag().is_some() || name.digest().is_some() {
        return Err(invalid(format!("--all-tags {text:?}: a tag or digest is one image of many")));
    }
    Ok(name)
}

/// Gets the image that `run` is to run.
pub(crate) fn pull_for_run(args: &Args, store: &Store) -> Result<Record> {
    fetch(args, store)
}

/// An image that is for another machine alone is taken, as with Docker, but not silently.
pub(crate) fn warn_of_platform(args: &Args, record: &Record) -> Result<()> {
    let wanted = super::platform(args)?;
    if Platform::parse(&record.platform).is_ok_and(|own| wanted.rank(&own).is_none()) {
        let name = record.reference().map_or_else(|| record.id.short().to_owned(), |name| name.familiar());
        eprintln!("knarr-image: warning: {name}: is for {}, not for {wanted}", record.platform);
    }
    Ok(())
}

fn fetch(args: &Args, store: &Store) -> Result<Record> {
    first_of(&args.positional[0], |reference| fetch_one(args, store, reference))
}

/// What can be had under the first of the names that a person may mean.
fn first_of<T>(text: &str, get: impl Fn(&Reference) -> Result<T>) -> Result<T> {
    let mut failure = None;
    for reference in registries()?.candidates(text)? {
        match get(&reference) {
            Ok(found) => return Ok(found),
            // Of several registries, the first that says more than that it has no such image.
            Err(error) => match &failure {
                Some(known) if not_found(&error) || !not_found(known) => {}
                _ => failure = Some(error),
            },
        }
    }
    Err(failure.unwrap_or_else(|| invalid(format!("{text:?}: there is nowhere to ask"))))
}

fn not_found(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

fn registries() -> Result<Registries> {
    Registries::from_environment()
}

/// The image of a name as a person types it, under any of the names that may mean.
pub(crate) fn find_named(store: &Store, text: &str) -> Result<Option<Record>> {
    for reference in registries()?.candidates(text)? {
        if let Some(record) = store.find(&reference)? {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

fn fetch_one(args: &Args, store: &Store, reference: &Reference) -> Result<Record> {
    let quiet = args.has("quiet");
    let client = client(args, reference.domain())?;
    let image = client.find(reference)?;
    if !quiet {
        eprintln!("{}: from {}", reference.familiar(), image.host());
    }
    let progress = Shown::new(quiet, "Pulling");
    let platform = super::platform(args)?;
    let before = store.find(reference)?;
    let names = std::slice::from_ref(reference);
    let ingest = |source: &dyn Source| store.ingest(source, &image.descriptor, &platform, names, &progress);
    let record = crate::interrupt::watched(&image, ingest)?;
    if !quiet {
        eprintln!("Digest: {}", record.target.digest);
        let same = before.is_some_and(|before| before.manifest.digest == record.manifest.digest);
        let status = if same { "Image is up to date for" } else { "Downloaded newer image for" };
        eprintln!("Status: {status} {}", reference.familiar());
    }
    Ok(record)
}

/// `push IMAGE [NAME]`
pub(super) fn push(args: &Args) -> Result<u8> {
    let store = super::store(args)?;
    if args.has("all-tags") {
        return push_all(args, &store);
    }
    let record = store.resolve(&args.positional[0])?;
    let target = match args.positional.get(1) {
        Some(name) => Reference::parse(name)?,
        None => record
            .reference()
            .ok_or_else(|| invalid(format!("image {:?}: has no name to push to", args.positional[0])))?,
    };
    push_one(args, &store, &record, &target)
}

/// `push -a NAME`
fn push_all(args: &Args, store: &Store) -> Result<u8> {
    let name = untagged(&args.positional[0])?;
    if let Some(other) = args.positional.get(1) {
        return Err(invalid(format!("{other:?}: --all-tags sends images under the names that they have")));
    }
    let images =
        store.images()?.into_iter().filter_map(|record| record.reference().map(|name| (record, name)));
    let images: Vec<_> = images
        .filter(|(_, known)| known.repository() == name.repository() && known.tag().is_some())
        .collect();
    if images.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("image {:?}: there is none", name.familiar_name()),
        ));
    }
    for (record, target) in &images {
        push_one(args, store, record, target)?;
    }
    Ok(0)
}

fn push_one(args: &Args, store: &Store, record: &Record, target: &Reference) -> Result<u8> {
    let quiet = args.has("quiet");
    if !quiet {
        eprintln!("The push refers to repository [{}]", target.repository());
    }
    client(args, target.domain())?.push(store, record, target, &Shown::new(quiet, "Pushing"))?;
    let tag = target.tag().unwrap_or("none");
    line(&if quiet {
        target.to_string()
    } else {
        format!("{tag}: digest: {} size: {}", record.manifest.digest, record.manifest.size)
    });
    Ok(0)
}

/// What `search` filters by.
enum Wanted {
    Stars(u64),
    Official(bool),
}

/// `search TERM`
pub(super) fn search(args: &Args) -> Result<u8> {
    let filters = Filters::parse(args, |key, value| match key {
        "stars" => value.parse().map(Wanted::Stars).map_err(|_| refused(key, value, "a number")),
        _ => boolean(key, value).map(Wanted::Official),
    })?;
    let limit = args.get("limit").unwrap_or("25");
    let limit = limit.parse().map_err(|_| invalid(format!("--limit {limit:?}: is no number")))?;
    let term = &args.positional[0];
    let host = term.split('/').next().unwrap_or_default();
    let mut found = client(args, host)?.search(term, limit)?;
    found.retain(|result| {
        filters.fit(|filter| match filter {
            Wanted::Stars(least) => result.stars >= *least,
            Wanted::Official(wanted) => result.official == *wanted,
        })
    });
    let whole = args.has("no-trunc");
    let values: Vec<Value> = found
        .iter()
        .map(|result| {
            let description = result.description.clone().unwrap_or_default().replace('\n', " ");
            let short = |text: &str| format!("{}…", text.chars().take(44).collect::<String>());
            let whole = whole || description.chars().count() <= 45;
            let description = if whole { description } else { short(&description) };
            let official = if result.official { "[OK]" } else { "" };
            json!({ "Name": result.name, "Description": description, "StarCount": result.stars.to_string(), "IsOfficial": official })
        })
        .collect();
    let columns = [
        ("NAME", "Name"),
        ("DESCRIPTION", "Description"),
        ("STARS", "StarCount"),
        ("OFFICIAL", "IsOfficial"),
    ];
    rows(args, &columns, &values)?;
    Ok(0)
}

/// `tags NAME`
pub(super) fn tags(args: &Args) -> Result<u8> {
    let repository = Reference::parse_untagged(&args.positional[0])?;
    client(args, repository.domain())?.tags(&repository)?.iter().for_each(|tag| line(tag));
    Ok(0)
}

/// What `inspect --remote` shows: from manifest and config alone.
pub(super) fn inspect_remote(args: &Args, text: &str) -> Result<Value> {
    let reference = Reference::parse(text)?;
    let client = client(args, reference.domain())?;
    let image = client.find(&reference)?;
    let mut document = Document::parse(&image.bytes, &image.descriptor.media_type)?;
    let mut digest = image.descriptor.digest.clone();
    if let Document::Index(index) = &document {
        let chosen = index.choose(&super::platform(args)?)?;
        let bytes = read(&image, chosen)?;
        digest = chosen.digest.clone();
        document = Document::parse(&bytes, &chosen.media_type)?;
    }
    let Document::Manifest(manifest) = document else {
        return Err(invalid(format!("{text:?}: an index in an index")));
    };
    let bytes = read(&image, &manifest.config)?;
    let config = ImageConfig::parse(&bytes, manifest.layers.len())?;
    let raw: Value = serde_json::from_slice(&bytes).map_err(|e| invalid(e.to_string()))?;
    Ok(json!({
        "Id": manifest.config.digest,
        "Name": reference.to_string(),
        "Digest": image.descriptor.digest,
        "ManifestDigest": digest,
        "Created": config.created,
        "Architecture": config.platform.architecture,
        "Os": config.platform.os,
        "Config": raw["config"],
        "Layers": manifest.layers,
        "RootFS": { "Type": "layers", "Layers": config.rootfs.diff_ids },
    }))
}

fn read(image: &RemoteImage<'_>, descriptor: &image_store::manifest::Descriptor) -> Result<Vec<u8>> {
    if descriptor.size > image_store::manifest::CONFIG_LIMIT {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("{}: {} bytes are too many", descriptor.digest, descriptor.size),
        ));
    }
    let mut bytes = Vec::new();
    let mut input = VerifyingReader::new(image.open(descriptor)?, &descriptor.digest, descriptor.size);
    std::io::Read::read_to_end(&mut input, &mut bytes)?;
    Ok(bytes)
}
