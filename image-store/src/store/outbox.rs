//! Images as they leave the store, in a push or an archive: layers that the store has uncompressed, from imports and archives, are
//! compressed. The config, and with it the image's ID, stays as it is.
//!
//! The digest of what a layer was compressed to is recorded beside the unpacked layer, so that the next push finds it in the registry
//! without compressing the layer again. The bytes are not kept: compressing gives the same again.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
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
    /// Those of them that the receiver has, and that were not made.
    received: HashSet<Digest>,
}

/// The file `gzip.json` or `zstd.json` of an unpacked layer: what it was compressed to.
#[derive(Serialize, Deserialize)]
struct Compressed {
    digest: Digest,
    size: u64,
}

impl Store {
    /// What a layer was last compressed to. An unreadable record is none.
    fn last_compressed(&self, diff_id: &Digest, name: &str) -> Option<Compressed> {
        serde_json::from_slice(&fs::read(self.layer_path(diff_id).join(name)).ok()?).ok()
    }

    fn record_compressed(&self, diff_id: &Digest, name: &str, compressed: &Compressed) -> Result<()> {
        let bytes = serde_json::to_vec(compressed).map_err(|e| Error::invalid(e.to_string()))?;
        self.write_atomically(&format!("layers/{}", diff_id.path()), name, &bytes)
    }
}

impl<'a> Outbox<'a> {
    /// An empty one, with this compression for layers that have none.
    pub(crate) fn new(store: &'a Store, compression: Compression) -> Self {
        Self {
            store,
            compression,
            transaction: None,
            made: HashMap::new(),
            replaced: HashMap::new(),
            received: HashSet::new(),
        }
    }

    /// Adds an image; returns its manifest, which is another than in the store if layers were compressed. `has` says whether the
    /// receiver has a blob already.
    pub(crate) fn add(
        &mut self,
        record: &Record,
        has: &dyn Fn(&Descriptor) -> Result<bool>,
    ) -> Result<(Descriptor, Manifest)> {
        let mut manifest = self.store.manifest(record)?;
        let mut changed = false;
        for (layer, diff_id) in manifest.layers.iter_mut().zip(&record.layers) {
            if let Some(compressed) = self.replacement(layer, diff_id, has)? {
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

    /// Whether there is a blob of this digest and size, here or at the receiver.
    pub(crate) fn has(&self, descriptor: &Descriptor) -> bool {
        let digest = &descriptor.digest;
        self.made.contains_key(digest) || self.is_received(digest) || self.store.has_blob(descriptor)
    }

    /// Whether the receiver has a blob, as it said when its image was added.
    pub(crate) fn is_received(&self, digest: &Digest) -> bool {
        self.received.contains(digest)
    }

    /// What a layer is replaced by; `None` if it stays as it is.
    fn replacement(
        &mut self,
        layer: &Descriptor,
        diff_id: &Digest,
        has: &dyn Fn(&Descriptor) -> Result<bool>,
    ) -> Result<Option<Descriptor>> {
        if let Some(known) = self.replaced.get(&layer.digest) {
            return Ok(Some(Descriptor { annotations: layer.annotations.clone(), ..known.clone() }));
        }
        let name = match self.compression {
            Compression::Gzip => "gzip.json",
            Compression::Zstd => "zstd.json",
            Compression::None => return Ok(None),
        };
        // A missing blob is an error of its own when it is opened.
        let wanted = !layer.is_foreign() && self.store.has_blob(layer);
        if !wanted || !is_plain(self.store.open_blob(&layer.digest)?)? {
            return Ok(None);
        }
        let media_type = self.compression.media_type();
        let replaced_by = |Compressed { digest, size }| Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            ..layer.clone()
        };
        let last = self.store.last_compressed(diff_id, name).map(replaced_by);
        let replacement = match last {
            Some(last) if has(&last)? => {
                self.received.insert(last.digest.clone());
                last
            }
            _ => {
                let compressed = self.compress(layer).doing(|| format!("compress {}", layer.digest))?;
                // Without a record, the next time takes longer.
                let _ = self.store.record_compressed(diff_id, name, &compressed);
                replaced_by(compressed)
            }
        };
        self.replaced.insert(layer.digest.clone(), replacement.clone());
        Ok(Some(replacement))
    }

    /// Compresses a layer into a file.
    fn compress(&mut self, layer: &Descriptor) -> Result<Compressed> {
        let (path, file) = self.new_file()?;
        let doing = || format!("write {path:?}");
        let mut encoder =
            Encoder::new(self.compression, Hashing::new(BufWriter::with_capacity(256 << 10, file)));
        let mut plain = VerifyingReader::new(self.store.open_blob(&layer.digest)?, &layer.digest, layer.size);
        io::copy(&mut plain, &mut encoder).doing(doing)?;
        let mut blob = encoder.finish().doing(doing)?;
        blob.flush().doing(doing)?;
        let compressed = Compressed { digest: blob.hasher.finish(), size: blob.count };
        self.made.insert(compressed.digest.clone(), path);
        Ok(compressed)
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
