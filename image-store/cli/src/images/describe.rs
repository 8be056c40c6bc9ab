//! Details of an image, for `inspect`.

use image_store::digest::VerifyingReader;
use image_store::manifest::{Document, ImageConfig};
use image_store::registry::RemoteImage;
use image_store::store::{Record, Source as _};
use image_store::{ErrorKind, Reference, Store};
use serde_json::{Value, json};

use super::platform;
use super::registry::client;
use crate::cli::Args;
use crate::failure::{Failure, Result, invalid};

/// An image of the store, in the form of `docker image inspect`.
pub(crate) fn describe(store: &Store, record: &Record) -> Result<Value> {
    let (config, bytes) = store.config(record)?;
    let raw: Value =
        serde_json::from_slice(&bytes).map_err(|e| Failure::new(ErrorKind::Invalid, e.to_string()))?;
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

/// An image of a registry, from its manifest and config only.
pub(crate) fn describe_remote(args: &Args, text: &str) -> Result<Value> {
    let reference = Reference::parse(text)?;
    let client = client(args, reference.domain())?;
    let image = client.find(&reference)?;
    let mut document = Document::parse(&image.bytes, &image.descriptor.media_type)?;
    let mut digest = image.descriptor.digest.clone();
    if let Document::Index(index) = &document {
        let chosen = index.choose(&platform::wanted(args)?)?;
        let bytes = read(&image, chosen)?;
        digest = chosen.digest.clone();
        document = Document::parse(&bytes, &chosen.media_type)?;
    }
    let Document::Manifest(manifest) = document else {
        return Err(invalid(format!("{text:?}: nested indexes are not supported")));
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
        return Err(Failure::new(
            ErrorKind::Limit,
            format!("{}: too large ({} bytes)", descriptor.digest, descriptor.size),
        ));
    }
    let mut bytes = Vec::new();
    let mut input = VerifyingReader::new(image.open(descriptor)?, &descriptor.digest, descriptor.size);
    std::io::Read::read_to_end(&mut input, &mut bytes)?;
    Ok(bytes)
}
