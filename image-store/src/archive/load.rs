//! Loading images from OCI layouts and archives into a store.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{CONTAINERD_NAME, DirFiles, Files, Found, REF_NAME, TarFiles, docker};
use crate::error::{Doing, Error, Result};
use crate::manifest::{Descriptor, Document, INDEX_LIMIT, media};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::{Progress, Record, Source, Store};

/// An OCI image layout (OCI image specification, image-layout.md) in a directory or tar archive.
pub struct OciLayout {
    files: Box<dyn Files>,
}

impl std::fmt::Debug for OciLayout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OciLayout")
    }
}

impl OciLayout {
    /// Reads the layout's version and index; returns the images in it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if these files do not parse,
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for another version of the layout.
    pub fn open(files: Box<dyn Files>) -> Result<(Self, Vec<Found>)> {
        let version = files.read("oci-layout", 64 << 10)?;
        let version: serde_json::Value =
            serde_json::from_slice(&version).map_err(|e| Error::invalid(format!("oci-layout: {e}")))?;
        match version["imageLayoutVersion"].as_str() {
            Some(version) if version.starts_with("1.") => {}
            other => {
                return Err(Error::unsupported(format!("oci-layout: version {other:?} is not supported")));
            }
        }
        let bytes = files.read("index.json", INDEX_LIMIT)?;
        let Document::Index(index) = Document::parse(&bytes, media::OCI_INDEX).doing(|| "index.json")? else {
            return Err(Error::invalid("index.json: not an image index"));
        };
        let mut found: Vec<Found> = Vec::new();
        for descriptor in index.manifests.iter().filter(|descriptor| !descriptor.is_attestation()) {
            let tag = descriptor.annotation(REF_NAME).map(str::to_owned);
            let name = match (descriptor.annotation(CONTAINERD_NAME), &tag) {
                (Some(name), _) => Some(Reference::parse(name)?),
                // Usually a tag; podman and skopeo put complete names here.
                (None, Some(tag)) if tag.contains([':', '/']) => Reference::parse(tag).ok(),
                _ => None,
            };
            match found.iter_mut().find(|other| other.descriptor.digest == descriptor.digest) {
                Some(other) => other.names.extend(name),
                None => found.push(Found {
                    descriptor: descriptor.clone(),
                    names: name.into_iter().collect(),
                    tag,
                }),
            }
        }
        Ok((Self { files }, found))
    }
}

impl Source for OciLayout {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        let name = format!("blobs/{}", descriptor.digest.path());
        let (input, _) = self.files.open(&name).map_err(|error| match error.kind() {
            crate::ErrorKind::NotFound => {
                Error::not_found(format!("blob {}: not in the layout", descriptor.digest))
            }
            _ => error,
        })?;
        Ok(input)
    }
}

/// Opens the OCI layout or docker-archive at `path`, a directory or file; returns its blobs and images. `scratch` is as
/// for [`TarFiles::open`].
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it is not an image archive; those of [`TarFiles::open`].
pub fn open(path: &Path, scratch: &Path) -> Result<(Box<dyn Source>, Vec<Found>)> {
    let doing = || format!("open {path:?}");
    if path.is_dir() {
        return open_files(Box::new(DirFiles::open(path)?)).doing(doing);
    }
    let file = File::open(path).doing(doing)?;
    open_files(Box::new(TarFiles::open(file, scratch).doing(doing)?)).doing(doing)
}

fn open_files(files: Box<dyn Files>) -> Result<(Box<dyn Source>, Vec<Found>)> {
    if files.has("oci-layout") {
        let (layout, found) = OciLayout::open(files)?;
        return Ok((Box::new(layout), found));
    }
    if files.has("manifest.json") {
        let (archive, found) = docker::open(files)?;
        return Ok((Box::new(archive), found));
    }
    if files.has("repositories") {
        return Err(Error::unsupported(
            "legacy Docker archive (before 1.10): convert it with docker load and docker save",
        ));
    }
    Err(Error::invalid("not an image archive: has neither oci-layout nor manifest.json"))
}

/// Loads all images of the archive in `file`, which may be a pipe; returns a record for each name, and for each image without one.
///
/// # Errors
/// Those of [`open`] and [`Store::ingest`].
pub fn load(store: &Store, file: File, platform: &Platform, progress: &dyn Progress) -> Result<Vec<Record>> {
    let files = TarFiles::open(file, &store.root().join("ingest"))?;
    let (source, found) = open_files(Box::new(files))?;
    ingest_all(store, &*source, found, platform, progress)
}

impl Store {
    /// Loads all images of the OCI layout or archive at `path`; of an image for several platforms, the one that fits
    /// `platform`. Returns a record for each name, and for each image without one.
    ///
    /// # Errors
    /// Those of [`open`] and [`Store::ingest`].
    pub fn load(&self, path: &Path, platform: &Platform, progress: &dyn Progress) -> Result<Vec<Record>> {
        let (source, found) = open(path, &self.root().join("ingest"))?;
        ingest_all(self, &*source, found, platform, progress)
    }
}

fn ingest_all(
    store: &Store,
    source: &dyn Source,
    found: Vec<Found>,
    platform: &Platform,
    progress: &dyn Progress,
) -> Result<Vec<Record>> {
    if found.is_empty() {
        return Err(Error::invalid("contains no images"));
    }
    // Several unnamed images are taken for those of an index, one per platform.
    let several = found.len() > 1 && found.iter().all(|image| image.names.is_empty() && image.tag.is_none());
    let (mut records, mut seen) = (Vec::new(), BTreeSet::new());
    for image in found {
        let fits = image.descriptor.platform.as_ref().is_none_or(|offered| platform.rank(offered).is_some());
        if several && !fits {
            continue;
        }
        let record = store.ingest(source, &image.descriptor, platform, &image.names, progress)?;
        if image.names.is_empty() {
            records.push(record.clone());
        }
        for name in &image.names {
            if seen.insert((record.id.clone(), name.to_string())) {
                records.push(Record { name: Some(name.to_string()), ..record.clone() });
            }
        }
    }
    Ok(records)
}
