//! Images as they leave the store, in a push or an archive: layers that the store has uncompressed, from imports and archives, are
//! compressed. The config, and with it the image's ID, stays as it is.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::PathBuf;

use serde_json::Value;

use super::compose::{Hashing, to_oci};
use super::transaction::Transaction;
use super::{Record, Store};
use crate::digest::{Digest, VerifyingReader};
use crate::error::{Doing, Error, Result};
use crate::layer::compression::Compression;
use crate::layer::encoder::Encoder;
use crate::manifest::{Descriptor, MANIFEST_LIMIT, Manifest, media};

/// Blobs to send: those of the store, and temporary ones in their places. Dropping it removes these.
pub(crate) struct Outbox<'a> {
    store: &'a Store,
    compression: Compression,
    transaction: Option<Transaction<'a>>,
    /// Files that are not in the store, by digest.
    made: HashMap<Digest, PathBuf>,
    /// What layers of the store were replaced by.
    replaced: HashMap<Digest, Descriptor>,
}

impl<'a> Outbox<'a> {
    /// An empty one, with this compression for layers that have none.
    pub(crate) fn new(store: &'a Store, compression: Compression) -> Self {
        Self { store, compression, transaction: None, made: HashMap::new(), replaced: HashMap::new() }
    }

    /// Adds an image; returns its manifest, which is another than in the store if layers were compressed.
    pub(crate) fn add(&mut self, record: &Record) -> Result<(Descriptor, Manifest)> {
        let mut manifest = self.store.manifest(record)?;
        let mut changed = false;
        for layer in &mut manifest.layers {
            if let Some(compressed) = self.compressed(layer).doing(|| format!("compress {}", layer.digest))? {
                *layer = compressed;
                changed = true;
            }
        }
        if !changed {
            return Ok((record.manifest.clone(), manifest));
        }
        // Docker's formats have no zstd.
        manifest.layers.iter_mut().chain([&mut manifest.config]).for_each(to_oci);
        manifest.media_type = media::OCI_MANIFEST.to_owned();
        let bytes = self.rewritten(record, &manifest)?;
        let descriptor = Descriptor::of(media::OCI_MANIFEST, &bytes);
        let (path, mut file) = self.new_file()?;
        file.write_all(&bytes).doing(|| format!("write {path:?}"))?;
        self.made.insert(descriptor.digest.clone(), path);
        Ok((descriptor, manifest))
    }

    /// The digest in the store of a layer, as it was before it was compressed.
    pub(crate) fn original<'d>(&'d self, digest: &'d Digest) -> &'d Digest {
        let mut replaced = self.replaced.iter();
        replaced.find(|(_, compressed)| compressed.digest == *digest).map_or(digest, |(original, _)| original)
    }

    /// Opens a blob of an image that was added, without verifying it.
    pub(crate) fn open(&self, digest: &Digest) -> Result<File> {
        match self.made.get(digest) {
            Some(path) => File::open(path).doing(|| format!("open {path:?}")),
            None => self.store.open_blob(digest),
        }
    }

    /// Whether there is a blob of this digest and size.
    pub(crate) fn has(&self, descriptor: &Descriptor) -> bool {
        self.made.contains_key(&descriptor.digest) || self.store.has_blob(descriptor)
    }

    /// Compresses a layer; `None` if it stays as it is.
    fn compressed(&mut self, layer: &Descriptor) -> Result<Option<Descriptor>> {
        if let Some(known) = self.replaced.get(&layer.digest) {
            return Ok(Some(Descriptor { annotations: layer.annotations.clone(), ..known.clone() }));
        }
        // A missing blob is an error of its own when it is opened.
        let wanted =
            self.compression != Compression::None && !layer.is_foreign() && self.store.has_blob(layer);
        if !wanted || !is_plain(self.store.open_blob(&layer.digest)?)? {
            return Ok(None);
        }
        let (path, file) = self.new_file()?;
        let doing = || format!("write {path:?}");
        let mut encoder =
            Encoder::new(self.compression, Hashing::new(BufWriter::with_capacity(256 << 10, file)));
        let mut plain = VerifyingReader::new(self.store.open_blob(&layer.digest)?, &layer.digest, layer.size);
        io::copy(&mut plain, &mut encoder).doing(doing)?;
        let mut blob = encoder.finish().doing(doing)?;
        blob.flush().doing(doing)?;
        let compressed = Descriptor {
            media_type: self.compression.media_type().to_owned(),
            digest: blob.hasher.finish(),
            size: blob.count,
            ..layer.clone()
        };
        self.made.insert(compressed.digest.clone(), path);
        self.replaced.insert(layer.digest.clone(), compressed.clone());
        Ok(Some(compressed))
    }

    /// The manifest in the store with the media types and layers of `manifest`; its other fields are kept.
    fn rewritten(&self, record: &Record, manifest: &Manifest) -> Result<Vec<u8>> {
        let bytes = self.store.read_blob(&record.manifest, MANIFEST_LIMIT)?;
        let wrong = |error: serde_json::Error| Error::invalid(format!("manifest: {error}"));
        let mut document: Value = serde_json::from_slice(&bytes).map_err(wrong)?;
        let fields = document.as_object_mut().ok_or_else(|| Error::invalid("manifest: must be an object"))?;
        fields.insert("mediaType".into(), manifest.media_type.clone().into());
        if let Some(Value::Object(config)) = fields.get_mut("config") {
            config.insert("mediaType".into(), manifest.config.media_type.clone().into());
        }
        let layers = fields.get_mut("layers").and_then(Value::as_array_mut).into_iter().flatten();
        for (old, layer) in layers.filter_map(Value::as_object_mut).zip(&manifest.layers) {
            old.insert("mediaType".into(), layer.media_type.clone().into());
            old.insert("digest".into(), layer.digest.to_string().into());
            old.insert("size".into(), layer.size.into());
        }
        serde_json::to_vec(&document).map_err(wrong)
    }

    fn new_file(&mut self) -> Result<(PathBuf, File)> {
        let transaction = match &self.transaction {
            Some(transaction) => transaction,
            None => &*self.transaction.insert(Transaction::begin(self.store)?),
        };
        transaction.new_file()
    }
}

/// Whether a blob is not compressed, in any way.
fn is_plain(blob: File) -> Result<bool> {
    let mut start = Vec::new();
    blob.take(8).read_to_end(&mut start)?;
    Ok(matches!(Compression::sniff(&start), Ok(Compression::None)))
}
