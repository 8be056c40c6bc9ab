//! Saving images as an OCI layout: in a directory, or in a tar archive with Docker's `manifest.json`, which any version of
//! Docker, podman, skopeo, containerd and umoci can read. The same images give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read as _, Write};
use std::path::Path;

use super::{CONTAINERD_NAME, DockerItem, REF_NAME};
use crate::digest::{Digest, VerifyingReader};
use crate::error::{Doing, Error, Result};
use crate::layer::compression::Compression;
use crate::manifest::{Descriptor, Index, Manifest, media};
use crate::reference::Reference;
use crate::store::{Outbox, Record, Store};
use crate::tar::{Entry, Kind, Writer};

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The format of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An OCI layout.
    Oci,
    /// An OCI layout with Docker's `manifest.json`.
    Docker,
}

/// Files to write: contents by name, and digest and size of blobs.
struct Plan {
    files: BTreeMap<String, Vec<u8>>,
    blobs: BTreeSet<(Digest, u64)>,
}

/// Writes `images`, each with its names, as a tar archive; returns `output`. Layers that the store has uncompressed are compressed.
///
/// # Errors
/// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the store does not have a layer's blob
/// ([`StoreOptions::keep_blobs`](crate::StoreOptions::keep_blobs)); errors of the output.
pub fn save_archive<W: Write>(
    store: &Store,
    images: &[(Record, Vec<Reference>)],
    format: Format,
    compression: Compression,
    output: W,
) -> Result<W> {
    let mut outbox = Outbox::new(store, compression);
    let plan = plan(&mut outbox, images, format, &|_| Ok(false))?;
    let mut writer = Writer::new(output);
    let mut dirs = BTreeSet::new();
    for (digest, size) in &plan.blobs {
        let algorithm = format!("blobs/{}", digest.algorithm().name());
        for dir in ["blobs", &algorithm] {
            if dirs.insert(dir.to_owned()) {
                writer.entry(&Entry::new(dir, Kind::Directory, 0o755))?;
            }
        }
        let name = format!("blobs/{}", digest.path());
        writer.entry(&Entry { size: *size, ..Entry::new(name, Kind::File, 0o644) })?;
        copy_blob(&outbox, digest, *size, |bytes| writer.data(bytes))?;
    }
    for (name, bytes) in &plan.files {
        writer
            .entry(&Entry { size: bytes.len() as u64, ..Entry::new(name.as_bytes(), Kind::File, 0o644) })?;
        writer.data(bytes)?;
    }
    writer.finish()
}

/// Writes `images`, each with its names, as an OCI layout into the directory `path`, which is created. If it is an OCI layout
/// already, the images are added to it, replacing those of the same tags.
///
/// # Errors
/// Those of [`save_archive`].
pub fn save_dir(
    store: &Store,
    images: &[(Record, Vec<Reference>)],
    compression: Compression,
    path: &Path,
) -> Result<()> {
    let mut outbox = Outbox::new(store, compression);
    let target = |digest: &Digest| path.join("blobs").join(digest.path());
    let has = |digest: &Digest, size| fs::metadata(target(digest)).is_ok_and(|meta| meta.len() == size);
    let mut plan = plan(&mut outbox, images, Format::Oci, &|blob| Ok(has(&blob.digest, blob.size)))?;
    for (digest, size) in &plan.blobs {
        if has(digest, *size) {
            continue;
        }
        let target = target(digest);
        let dir = path.join("blobs").join(digest.algorithm().name());
        fs::create_dir_all(&dir).doing(|| format!("mkdir {dir:?}"))?;
        let temporary = dir.join(format!(".{}", crate::store::unique()?));
        let mut file = File::create_new(&temporary).doing(|| format!("write {target:?}: create"))?;
        copy_blob(&outbox, digest, *size, |bytes| {
            file.write_all(bytes).doing(|| format!("write {target:?}"))
        })?;
        fs::rename(&temporary, &target).doing(|| format!("write {target:?}: rename"))?;
    }
    if let Ok(old) = fs::read(path.join("index.json")) {
        let merged = merge(&old, &plan.files["index.json"])?;
        plan.files.insert("index.json".to_owned(), merged);
    }
    for (name, bytes) in &plan.files {
        let temporary = path.join(format!(".{name}.new"));
        let target = path.join(name);
        fs::write(&temporary, bytes).doing(|| format!("write {target:?}"))?;
        fs::rename(&temporary, &target).doing(|| format!("write {target:?}: rename"))?;
    }
    Ok(())
}

fn merge(old: &[u8], new: &[u8]) -> Result<Vec<u8>> {
    let parse = |bytes| {
        serde_json::from_slice::<Index>(bytes).map_err(|e| Error::invalid(format!("index.json: {e}")))
    };
    let (mut old, new) = (parse(old)?, parse(new)?);
    let same = |a: &Descriptor, b: &Descriptor| match (a.annotation(REF_NAME), b.annotation(REF_NAME)) {
        (None, None) => a.digest == b.digest,
        (a, b) => a == b,
    };
    old.manifests.retain(|image| !new.manifests.iter().any(|other| same(image, other)));
    old.manifests.extend(new.manifests);
    serde_json::to_vec(&old).map_err(|e| Error::invalid(e.to_string()))
}

fn plan(
    outbox: &mut Outbox<'_>,
    images: &[(Record, Vec<Reference>)],
    format: Format,
    has: &dyn Fn(&Descriptor) -> Result<bool>,
) -> Result<Plan> {
    let mut plan = Plan { files: BTreeMap::new(), blobs: BTreeSet::new() };
    let (mut manifests, mut items) = (Vec::new(), Vec::new());
    for (record, names) in images {
        let (descriptor, manifest) = outbox.add(record, has)?;
        plan.blobs.insert((descriptor.digest.clone(), descriptor.size));
        plan.blobs.insert((manifest.config.digest.clone(), manifest.config.size));
        for layer in &manifest.layers {
            if !outbox.has(layer) {
                let message = format!(
                    "layer {}: its compressed blob is not in the store (--keep-blobs=false?): pull the image again",
                    layer.digest
                );
                return Err(Error::not_found(message));
            }
            plan.blobs.insert((layer.digest.clone(), layer.size));
        }
        manifests.extend(descriptors(&descriptor, names));
        items.push(item(&manifest, names));
    }
    let index =
        Index { schema_version: 2, media_type: media::OCI_INDEX.into(), manifests, annotations: None };
    let json = |value: serde_json::Result<Vec<u8>>| value.map_err(|e| Error::invalid(e.to_string()));
    plan.files.insert("index.json".to_owned(), json(serde_json::to_vec(&index))?);
    plan.files.insert("oci-layout".to_owned(), LAYOUT.to_vec());
    if format == Format::Docker {
        plan.files.insert("manifest.json".to_owned(), json(serde_json::to_vec(&items))?);
    }
    Ok(plan)
}

/// One descriptor per name: a layout has no other way to give an image several names.
fn descriptors(manifest: &Descriptor, names: &[Reference]) -> Vec<Descriptor> {
    if names.is_empty() {
        return vec![manifest.clone()];
    }
    let named = |name: &Reference| {
        let tag = name.tag().unwrap_or("latest").to_owned();
        let annotations =
            BTreeMap::from([(CONTAINERD_NAME.to_owned(), name.to_string()), (REF_NAME.to_owned(), tag)]);
        Descriptor { annotations: Some(annotations), ..manifest.clone() }
    };
    names.iter().map(named).collect()
}

fn item(manifest: &Manifest, names: &[Reference]) -> DockerItem {
    let path = |descriptor: &Descriptor| format!("blobs/{}", descriptor.digest.path());
    DockerItem {
        config: path(&manifest.config),
        repo_tags: Some(names.iter().filter(|name| name.tag().is_some()).map(Reference::familiar).collect()),
        layers: manifest.layers.iter().map(path).collect(),
    }
}

/// Copies a blob to `sink` and verifies it.
fn copy_blob(
    outbox: &Outbox<'_>,
    digest: &Digest,
    size: u64,
    mut sink: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut input = VerifyingReader::new(outbox.open(digest)?, digest, size);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match input.read(&mut buffer).doing(|| format!("read blob {digest}"))? {
            0 => return Ok(()),
            count => sink(&buffer[..count])?,
        }
    }
}
