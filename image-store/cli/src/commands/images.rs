//! Images one by one: tag, rmi, inspect, prune, verify.

use image_store::digest::Digest;
use image_store::store::{Collected, Finding, Part, Record};
use image_store::{Error, ErrorKind, Reference, Result, Store};
use serde_json::{Value, json};

use super::filter::{Filters, has_label};
use super::prune::confirmed;
use crate::args::Args;
use crate::output::{inspected, line, pretty, print};

/// `tag IMAGE NAME`
pub(super) fn tag(args: &Args) -> Result<u8> {
    let store = super::store(args)?;
    let record = store.resolve(&args.positional[0])?;
    let name = Reference::parse(&args.positional[1])?;
    if name.digest().is_some() {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("name {:?}: a digest is given by content", args.positional[1]),
        ));
    }
    store.tag(&record, &name)?;
    Ok(0)
}

/// `rmi IMAGE...`: goes on after an error, as Docker.
pub(super) fn rmi(args: &Args) -> Result<u8> {
    let store = super::store(args)?;
    let mut failed = false;
    for text in &args.positional {
        match remove(&store, text, args.has("force")) {
            Ok(collected) if !args.has("quiet") => report(&collected),
            Ok(_) => {}
            Err(error) => {
                eprintln!("knarr-image: {error}");
                failed = true;
            }
        }
    }
    super::empty_trash_later(&store);
    Ok(u8::from(failed))
}

/// By name one name goes; by ID the image goes, if it has but one name or force is given.
fn remove(store: &Store, text: &str, force: bool) -> Result<Collected> {
    let record = store.resolve(text)?;
    let by_name =
        Reference::parse(text).is_ok_and(|name| store.find(&name).is_ok_and(|found| found.is_some()));
    let names: Vec<Record> = store.images()?.into_iter().filter(|other| other.id == record.id).collect();
    if by_name || names.len() == 1 {
        return store.unname(&record, force);
    }
    if !force {
        let message = format!("image {text:?}: has {} names: remove them by name, or force", names.len());
        return Err(Error::new(ErrorKind::Busy, message));
    }
    let mut all = Collected::default();
    for name in names {
        let collected = store.unname(&name, true)?;
        all.images.extend(collected.images);
        all.layers.extend(collected.layers);
    }
    Ok(all)
}

fn report(collected: &Collected) {
    for image in &collected.images {
        line(&format!("Untagged: {}", familiar(image)));
    }
    collected.layers.iter().for_each(|layer| line(&format!("Deleted: {layer}")));
}

fn familiar(image: &str) -> String {
    Reference::parse_untagged(image).map_or_else(|_| image.to_owned(), |name| name.familiar())
}

/// `inspect IMAGE|CONTAINER...`; `kind` says which of the two alone.
pub(super) fn inspect(args: &Args, kind: Option<&str>) -> Result<u8> {
    let store = super::store(args)?;
    let mut found = Vec::new();
    let mut failed = false;
    for text in &args.positional {
        let described = if args.has("remote") {
            super::transfer::inspect_remote(args, text)
        } else {
            inspect_one(&store, text, kind)
        };
        match described {
            Ok(value) => found.push(value),
            Err(error) => {
                eprintln!("knarr-image: {error}");
                failed = true;
            }
        }
    }
    inspected(args, found)?;
    Ok(u8::from(failed))
}

/// Of a container and an image with one name, the container is meant, as with Docker.
fn inspect_one(store: &Store, text: &str, kind: Option<&str>) -> Result<Value> {
    let container = || {
        let container = store.container(&super::container_id(store, text)?)?;
        super::describe(store, &container)
    };
    let image = || describe(store, &store.resolve(text)?);
    let missing = |error: &Error| error.kind() == ErrorKind::NotFound;
    match kind {
        Some("container") => container(),
        Some("image") => image(),
        None => match container() {
            Err(error) if missing(&error) => image().map_err(|error| match missing(&error) {
                true => Error::new(
                    ErrorKind::NotFound,
                    format!("{text:?}: is neither a container nor an image here"),
                ),
                false => error,
            }),
            other => other,
        },
        Some(other) => {
            Err(Error::new(ErrorKind::Invalid, format!("--type {other:?}: is neither image nor container")))
        }
    }
}

/// As `docker image inspect` has it.
fn describe(store: &Store, record: &Record) -> Result<Value> {
    let (config, bytes) = store.config(record)?;
    let raw: Value =
        serde_json::from_slice(&bytes).map_err(|e| Error::new(ErrorKind::Invalid, e.to_string()))?;
    let names: Vec<Reference> =
        store.images()?.iter().filter(|other| other.id == record.id).filter_map(Record::reference).collect();
    let tags: Vec<String> =
        names.iter().filter(|name| name.tag().is_some()).map(Reference::familiar).collect();
    let mut digests: Vec<String> =
        names.iter().map(|name| format!("{}@{}", name.familiar_name(), record.target.digest)).collect();
    digests.dedup();
    Ok(json!({
        "Id": record.id,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Digest": record.target.digest,
        "ManifestDigest": record.manifest.digest,
        "MediaType": record.manifest.media_type,
        "Comment": config.history.as_ref().and_then(|h| h.last()?.comment.clone()).unwrap_or_default(),
        "Created": config.created,
        "Author": config.author.unwrap_or_default(),
        "Architecture": config.platform.architecture,
        "Variant": config.platform.variant,
        "Os": config.platform.os,
        "Size": record.size,
        "Config": raw["config"],
        "RootFS": { "Type": "layers", "Layers": record.layers },
    }))
}

/// What `prune` filters by.
pub(super) const PRUNE_KEYS: &[&str] = &["label=NAME[=VALUE]", "label!=NAME[=VALUE]"];

/// `prune`
pub(super) fn prune(args: &Args) -> Result<u8> {
    let filters = Filters::parse(args, |key, value| Ok((key == "label", value.to_owned())))?;
    let store = super::store(args)?;
    let warning = match args.has("all") {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    };
    if !confirmed(args, warning)? {
        return Ok(0);
    }
    let wanted = |record: &Record| {
        let labels = super::listing::labels(&store, record);
        // Nobody knows whether an image whose config cannot be read has a label: it stays.
        filters.fit(|(there, label)| labels.as_ref().is_ok_and(|labels| has_label(labels, label) == *there))
    };
    let collected = store.prune(args.has("all"), wanted)?;
    store.empty_trash()?;
    let (ids, names): (Vec<_>, Vec<_>) =
        collected.images.iter().partition(|image| image.starts_with("sha256:"));
    let names = names.into_iter().map(|name| format!("untagged: {}", familiar(name)));
    let layers = collected.layers.iter().map(|layer| format!("deleted: {layer}"));
    let gone: Vec<String> =
        names.chain(ids.into_iter().map(|id| format!("deleted: {id}"))).chain(layers).collect();
    super::prune::report("Deleted Images", &gone, collected.bytes);
    Ok(0)
}

/// `verify`: 0 when all is well or was mended.
pub(super) fn verify(args: &Args) -> Result<u8> {
    let store = super::store(args)?;
    let mut findings = store.verify(false)?;
    if args.has("repair") && !findings.is_empty() {
        spare_running(&store, &findings)?;
        findings = store.verify(true)?;
    }
    let text = |part: &Part| match part {
        Part::Blob(digest) => format!("blob {digest}"),
        Part::Layer(digest) => format!("layer {digest}"),
        Part::Image(name) => format!("image {name}"),
        Part::Volume(name) => format!("volume {name}"),
    };
    if args.has("json") {
        let list: Vec<_> = findings
            .iter()
            .map(|finding| json!({ "Part": text(&finding.part), "Why": finding.why, "Repaired": finding.repaired }))
            .collect();
        print(&format!("{}\n", pretty(&Value::Array(list))?));
    } else {
        for finding in &findings {
            let mended = if finding.repaired { " (repaired)" } else { "" };
            line(&format!("{}: {}{mended}", text(&finding.part), finding.why));
        }
    }
    Ok(u8::from(findings.iter().any(|finding| !finding.repaired)))
}

/// A layer that is unpacked again takes the files of the old one with it, also from under a container.
fn spare_running(store: &Store, findings: &[Finding]) -> Result<()> {
    let damaged = |layer: &Digest| findings.iter().any(|finding| finding.part == Part::Layer(layer.clone()));
    for container in store.containers()? {
        if container.layers.iter().any(damaged) && super::is_live(&container.id) {
            let message = format!(
                "container {}: runs on a damaged layer: stop it before a repair",
                &container.id[..12]
            );
            return Err(Error::new(ErrorKind::Busy, message));
        }
    }
    Ok(())
}

/// Takes away what nobody needs and deletes what lies in the trash; runs in the background.
pub(super) fn empty_trash(args: &Args) -> Result<u8> {
    let store = super::store(args)?;
    store.collect()?;
    store.empty_trash()?;
    Ok(0)
}
