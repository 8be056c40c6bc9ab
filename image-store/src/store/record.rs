//! Records of images: a name, the image it refers to, and everything it needs.
//!
//! The lists of blobs and layers are copied from manifest and config, so that listing images and garbage collection only read
//! one small file per image.

use std::fs;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::Store;
use crate::digest::Digest;
use crate::error::{Doing, Error, ErrorKind, Result};
use crate::manifest::{CONFIG_LIMIT, Descriptor, Document, ImageConfig, MANIFEST_LIMIT, Manifest};
use crate::percent;
use crate::reference::Reference;

/// Smallest number of digits of an ID that identify an image.
const MIN_ID_DIGITS: usize = 4;

/// An image in the store under one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The complete name; `None` if another image has taken it over.
    pub name: Option<String>,
    /// The index or manifest that the name referred to at its origin.
    pub target: Descriptor,
    /// The manifest of the image.
    pub manifest: Descriptor,
    /// The image's ID: the digest of its config.
    pub id: Digest,
    /// `os/architecture[/variant]`.
    pub platform: String,
    /// Time of creation from the config, RFC 3339.
    #[serde(default)]
    pub created: Option<String>,
    /// Size of the unpacked files in bytes, including layers that other images share.
    pub size: u64,
    /// When it was stored, in seconds since the epoch.
    pub stored: u64,
    /// All its blobs.
    pub blobs: Vec<Digest>,
    /// diffIDs of its layers, lowest first.
    pub layers: Vec<Digest>,
    /// The fix-up layer on top of the layers, if they need one.
    #[serde(default)]
    pub fixup: Option<Digest>,
}

impl Record {
    /// The name as a reference.
    #[must_use]
    pub fn reference(&self) -> Option<Reference> {
        Reference::parse_untagged(self.name.as_deref()?).ok()
    }

    /// The name, or else the ID, for messages.
    pub(super) fn name_or_id(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.id.to_string())
    }

    fn file_name(&self) -> String {
        match &self.name {
            Some(name) => file_name(name),
            None => format!("%none-{}.json", self.manifest.digest.hex()),
        }
    }
}

/// The name of the file with an image's record. Image names may be longer than file names: long ones are hashed.
fn file_name(name: &str) -> String {
    let plain = percent::encode(name.as_bytes(), b":");
    if plain.len() <= 200 {
        return format!("{plain}.json");
    }
    format!("%sha256-{}.json", Digest::of(name.as_bytes()).hex())
}

impl Store {
    /// All images, sorted by name.
    ///
    /// # Errors
    /// Failed system calls; [`ErrorKind::Invalid`] for a damaged record.
    pub fn images(&self) -> Result<Vec<Record>> {
        let dir = self.path("refs");
        let mut records = Vec::new();
        for entry in fs::read_dir(&dir).doing(|| format!("list {dir:?}"))? {
            let path = entry.doing(|| format!("list {dir:?}"))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                match fs::read(&path) {
                    Ok(bytes) => records.push(parse(&path, &bytes)?),
                    // Removed meanwhile.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error).doing(|| format!("read {path:?}")),
                }
            }
        }
        records.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Ok(records)
    }

    /// The image with this name, if there is one.
    ///
    /// # Errors
    /// Failed system calls; [`ErrorKind::Invalid`] for a damaged record.
    pub fn find(&self, reference: &Reference) -> Result<Option<Record>> {
        let path = self.path("refs").join(file_name(&reference.to_string()));
        match fs::read(&path) {
            Ok(bytes) => parse(&path, &bytes).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(|| format!("read {path:?}")),
        }
    }

    /// The image that a user means: by name, by name and digest, or by at least four digits of its ID or digest.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none, [`ErrorKind::Invalid`] if digits match several images; failed system calls.
    pub fn resolve(&self, text: &str) -> Result<Record> {
        let reference = Reference::parse(text);
        if let Some(record) = reference.as_ref().ok().map(|r| self.find(r)).transpose()?.flatten() {
            return Ok(record);
        }
        let records = self.images()?;
        if let Some(digest) = reference.as_ref().ok().and_then(Reference::digest) {
            let repository = reference.as_ref().map(Reference::repository).unwrap_or_default();
            let same = |r: &&Record| r.reference().is_some_and(|name| name.repository() == repository);
            let fits = |r: &&Record| [&r.target.digest, &r.manifest.digest].contains(&digest);
            if let Some(record) = records.iter().filter(same).find(fits) {
                return Ok(record.clone());
            }
        }
        by_digits(&records, text)?
            .ok_or_else(|| Error::not_found(format!("image {text:?}: not in the store")))
    }

    /// Gives the image of `record` another name. An image that had this name stays, without a name if it was the only one.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the image was removed by another process; failed system calls.
    pub fn tag(&self, record: &Record, name: &Reference) -> Result<Record> {
        let _guard = self.lock(FlockOperation::LockShared)?;
        if !self.images()?.iter().any(|other| other.manifest.digest == record.manifest.digest) {
            return Err(Error::not_found(format!(
                "image {:?}: was removed by another process",
                record.name_or_id()
            )));
        }
        let tagged = Record { name: Some(name.to_string()), ..record.clone() };
        self.set_record(&tagged)?;
        Ok(tagged)
    }

    /// Writes a record. Everything it refers to must be on disk already.
    pub(super) fn set_record(&self, record: &Record) -> Result<()> {
        let reference = record.reference();
        if let Some(old) = reference.map(|r| self.find(&r)).transpose()?.flatten() {
            let others = self.images()?;
            let elsewhere = |r: &Record| r.manifest.digest == old.manifest.digest && r.name != old.name;
            // With the same config it is the same image: only its layers are compressed differently.
            if old.id != record.id && !others.iter().any(elsewhere) {
                self.write_record(&Record { name: None, ..old })?;
            }
        }
        self.write_record(record)?;
        // The image has a name, so a record without one is obsolete.
        let nameless = Record { name: None, ..record.clone() }.file_name();
        if record.name.is_some() {
            let _ = fs::remove_file(self.path("refs").join(nameless));
        }
        Ok(())
    }

    fn write_record(&self, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record).map_err(|e| Error::invalid(format!("image record: {e}")))?;
        self.write_atomically("refs", &record.file_name(), &bytes)
    }

    /// Removes a record. Requires the exclusive lock; the sweep syncs this before it removes anything.
    pub(super) fn remove_record(&self, record: &Record) -> Result<()> {
        let path = self.path("refs").join(record.file_name());
        match fs::rename(&path, self.trash_name()?) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).doing(|| format!("rename {path:?}"))
            }
            _ => Ok(()),
        }
    }

    /// The manifest of an image.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] or [`ErrorKind::Mismatch`] if the blob is missing or damaged.
    pub fn manifest(&self, record: &Record) -> Result<Manifest> {
        let bytes = self.read_blob(&record.manifest, MANIFEST_LIMIT)?;
        match Document::parse(&bytes, &record.manifest.media_type)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => {
                Err(Error::invalid(format!("{}: is an index, not an image", record.manifest.digest)))
            }
        }
    }

    /// Size of the files of each layer in bytes, lowest first.
    ///
    /// # Errors
    /// [`ErrorKind::Os`] if a layer is missing.
    pub fn layer_sizes(&self, record: &Record) -> Result<Vec<u64>> {
        record.layers.iter().map(|layer| Ok(self.layer_meta(layer)?.bytes)).collect()
    }

    /// The config of an image, parsed and as bytes.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] or [`ErrorKind::Mismatch`] if the blob is missing or damaged.
    pub fn config(&self, record: &Record) -> Result<(ImageConfig, Vec<u8>)> {
        let manifest = self.manifest(record)?;
        let bytes = self.read_blob(&manifest.config, CONFIG_LIMIT)?;
        Ok((ImageConfig::parse(&bytes, manifest.layers.len())?, bytes))
    }
}

fn parse(path: &std::path::Path, bytes: &[u8]) -> Result<Record> {
    serde_json::from_slice(bytes).map_err(|e| {
        Error::invalid(format!(
            "image record {path:?}: damaged: remove this file, then pull or load the image again: {e}"
        ))
    })
}

fn by_digits(records: &[Record], text: &str) -> Result<Option<Record>> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if digits.len() < MIN_ID_DIGITS || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(None);
    }
    let fits = |d: &Digest| d.hex().starts_with(digits);
    let found: Vec<_> = records
        .iter()
        .filter(|r| fits(&r.id) || fits(&r.manifest.digest) || fits(&r.target.digest))
        .collect();
    let Some(first) = found.first() else {
        return Ok(None);
    };
    if found.iter().any(|r| r.id != first.id) {
        let message = format!("image {text:?}: ambiguous: matches several images: give more digits");
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    Ok(Some((*first).clone()))
}
