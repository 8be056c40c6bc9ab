//! Finding the images in a folder or archive and bringing them in.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{CONTAINERD_NAME, Files, FolderFiles, REF_NAME, TarFiles, docker};
use crate::error::{Doing, Error, Result};
use crate::manifest::{Descriptor, Document, INDEX_LIMIT, media};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::{Progress, Record, Source, Store};

/// An image that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its manifest or index.
    pub descriptor: Descriptor,
    /// Its complete names.
    pub names: Vec<Reference>,
    /// A tag or other name within the folder, where there is one.
    pub tag: Option<String>,
}

/// An OCI image layout, in a folder or in a tar.
pub struct OciLayout {
    files: Box<dyn Files>,
}

impl std::fmt::Debug for OciLayout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OciLayout")
    }
}

impl OciLayout {
    /// Reads the layout's version and index.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid), [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for another version.
    pub fn open(files: Box<dyn Files>) -> Result<(Self, Vec<Found>)> {
        let version = files.read("oci-layout", 64 << 10)?;
        let version: serde_json::Value =
            serde_json::from_slice(&version).map_err(|e| Error::invalid(format!("oci-layout: {e}")))?;
        match version["imageLayoutVersion"].as_str() {
            Some(version) if version.starts_with("1.") => {}
            other => return Err(Error::unsupported(format!("oci-layout: version {other:?}"))),
        }
        let bytes = files.read("index.json", INDEX_LIMIT)?;
        let Document::Index(index) = Document::parse(&bytes, media::OCI_INDEX).doing(|| "index.json")? else {
            return Err(Error::invalid("index.json: is no index"));
        };
        let mut found: Vec<Found> = Vec::new();
        for descriptor in index.manifests.iter().filter(|descriptor| !descriptor.is_attestation()) {
            let tag = descriptor.annotation(REF_NAME).map(str::to_owned);
            let name = match (descriptor.annotation(CONTAINERD_NAME), &tag) {
                (Some(name), _) => Some(Reference::parse(name)?),
                // Only a tag is no name; podman and skopeo put complete names here.
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
                Error::not_found(format!("blob {}: is not in the layout", descriptor.digest))
            }
            _ => error,
        })?;
        Ok(input)
    }
}

/// Opens whatever kind of folder or archive is at `path`.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when it holds no images.
pub fn open(path: &Path, scratch: &Path) -> Result<(Box<dyn Source>, Vec<Found>)> {
    let doing = || format!("open {path:?}");
    if path.is_dir() {
        return open_files(Box::new(FolderFiles::open(path)?)).doing(doing);
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
            "an archive of Docker before 1.10: load and save it with Docker 1.10 to 24",
        ));
    }
    Err(Error::invalid("holds no images: neither oci-layout nor manifest.json is there"))
}

/// Brings in all images of `file`, or of the pipe it is.
///
/// # Errors
/// As [`open`] and [`Store::ingest`].
pub fn load(store: &Store, file: File, platform: &Platform, progress: &dyn Progress) -> Result<Vec<Record>> {
    let files = TarFiles::open(file, &store.root().join("ingest"))?;
    let (source, found) = open_files(Box::new(files))?;
    ingest_all(store, &*source, found, platform, progress)
}

impl Store {
    /// Brings in all images of the folder or archive at `path`.
    ///
    /// # Errors
    /// As [`open`] and [`Store::ingest`].
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
        return Err(Error::invalid("holds no images: its list of them is empty"));
    }
    // Images of a bare layout for several machines are an index in all but name.
    let several = found.len() > 1 && found.iter().all(|image| image.names.is_empty() && image.tag.is_none());
    let mut records = Vec::new();
    for image in found {
        let fits = image.descriptor.platform.as_ref().is_none_or(|offered| platform.rank(offered).is_some());
        if several && !fits {
            continue;
        }
        records.push(store.ingest(source, &image.descriptor, platform, &image.names, progress)?);
    }
    Ok(records)
}
