//! Creating images: from a container's writable layer (commit), or from a root file system archive (import).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd as _;

use rustix::fs::FlockOperation;
use serde_json::{Map, Value, json};

use super::transaction::Transaction;
use super::{Record, Store};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::dockerfile::{self, Instruction};
use crate::error::{Doing, Error, ErrorKind, Result};
use crate::layer::compression::Compression;
use crate::layer::diff::{DiffOptions, write_diff};
use crate::layer::encoder::Encoder;
use crate::layer::unpack::{Expected, Unpacked};
use crate::manifest::{CONFIG_LIMIT, Descriptor, Document, ImageConfig, MANIFEST_LIMIT, Manifest, media};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::tar::Writer;

/// Settings of a new image.
#[derive(Clone, Debug, Default)]
pub struct Composition {
    /// The name.
    pub name: Option<Reference>,
    /// The author.
    pub author: Option<String>,
    /// The comment in the history.
    pub comment: Option<String>,
    /// The command that created the layer, for the history.
    pub created_by: Option<String>,
    /// Time of creation in seconds since the epoch (SOURCE_DATE_EPOCH); later modification times of files in the new layer
    /// become this one. `None`: now, and files keep their times.
    pub epoch: Option<i64>,
    /// Changes to the config.
    pub changes: Vec<Instruction>,
    /// Compression of the new layer; `None`: gzip.
    pub compression: Option<Compression>,
}

/// A writer that hashes and counts the bytes.
pub(super) struct Hashing<W> {
    pub(super) inner: W,
    pub(super) hasher: Hasher,
    pub(super) count: u64,
}

impl<W> Hashing<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::new(Algorithm::Sha256), count: 0 }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A check that is called now and then from several threads, and ends the work if it fails.
pub type Going<'a> = dyn Fn() -> Result<()> + Sync + 'a;

/// A file that is read as long as `going` succeeds.
struct Checked<'a> {
    file: File,
    going: &'a Going<'a>,
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (self.going)()?;
        self.file.read(buffer)
    }
}

impl Store {
    /// Creates an image from a container: the layers of its image, and its writable layer on top unless it is empty. Pause the
    /// container if it may be writing. `going` is called now and then while files are read, and ends that if it fails.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such container, [`ErrorKind::Unsupported`] for files that a layer cannot
    /// store; failed system calls; those of `going`. Nothing is left in the store then.
    pub fn commit(&self, container: &str, composition: &Composition, going: &Going<'_>) -> Result<Record> {
        let container = self.container(container)?;
        let (base, mut config) = self.base(&container.manifest)?;
        change(&mut config, &composition.changes)?;
        let mut transaction = Transaction::begin(self)?;
        transaction.add(container.blobs.iter().chain(&container.layers))?;
        let compression = composition.compression.unwrap_or(Compression::Gzip);
        let upper_path = self.path("containers").join(&container.id).join("upper");
        let upper = File::open(&upper_path).doing(|| format!("open {upper_path:?}"))?;
        let options = DiffOptions { marks: Some(self.marks), latest: composition.epoch };
        let written = self.write_layer(&mut transaction, &upper, options, compression, going)?;
        let (mut layers, mut diff_ids) = (base.layers, container.layers.clone());
        layers.iter_mut().for_each(to_oci);
        if let Some((blob, diff_id)) = &written {
            layers.push(blob.clone());
            diff_ids.push(diff_id.clone());
        }
        describe(&mut config, composition, &diff_ids, written.is_none())?;
        self.finish(transaction, config, layers, diff_ids, composition)
    }

    /// Creates an image with one layer from a tar archive of a root file system, compressed or not.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is not a tar archive or empty; those of [`unpack`](crate::layer::unpack::unpack).
    pub fn import(
        &self,
        input: impl Read + Send,
        platform: &Platform,
        composition: &Composition,
    ) -> Result<Record> {
        let mut config = json!({ "architecture": platform.architecture, "os": platform.os, "config": {} });
        change(&mut config, &composition.changes)?;
        let transaction = Transaction::begin(self)?;
        let (unpacked, tree) = transaction.unpack_staged(input, None, true, &|_| ()).doing(|| "import")?;
        if unpacked.applied.entries == 0 {
            return Err(Error::invalid("import: empty archive"));
        }
        transaction.stage_layer(tree, &unpacked)?;
        let Unpacked { digest, size, diff_id, compression, .. } = unpacked;
        let layer = Descriptor::new(compression.media_type(), digest, size);
        if !platform.variant.is_empty() {
            config["variant"] = platform.variant.clone().into();
        }
        let diff_ids = vec![diff_id];
        describe(&mut config, composition, &diff_ids, false)?;
        self.finish(transaction, config, vec![layer], diff_ids, composition)
    }

    /// Writes the root file system at `root` as a tar archive; returns `output`.
    ///
    /// # Errors
    /// Failed system calls; errors of the output.
    pub fn export<W: Write>(&self, root: impl std::os::fd::AsFd, output: W) -> Result<W> {
        let mut writer = Writer::new(output);
        write_diff(root.as_fd(), &mut writer, DiffOptions::default(), &|| Ok(()))?;
        writer.finish()
    }

    fn base(&self, descriptor: &Descriptor) -> Result<(Manifest, Value)> {
        let bytes = self.read_blob(descriptor, MANIFEST_LIMIT)?;
        let Document::Manifest(manifest) = Document::parse(&bytes, &descriptor.media_type)? else {
            return Err(Error::invalid(format!("{}: is an index, not an image", descriptor.digest)));
        };
        let bytes = self.read_blob(&manifest.config, CONFIG_LIMIT)?;
        let config =
            serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("image config: {e}")))?;
        Ok((manifest, config))
    }

    /// Writes a directory as a layer and stages its blob and its unpacked form. Returns descriptor and diffID; `None` if it is
    /// empty.
    fn write_layer(
        &self,
        transaction: &mut Transaction<'_>,
        upper: &File,
        options: DiffOptions,
        compression: Compression,
        going: &Going<'_>,
    ) -> Result<Option<(Descriptor, Digest)>> {
        let (path, file) = transaction.new_file()?;
        let blob = Hashing::new(io::BufWriter::with_capacity(256 << 10, file));
        let mut writer = Writer::new(Hashing::new(Encoder::new(compression, blob)));
        let entries = write_diff(upper.as_fd(), &mut writer, options, going)?;
        let plain = writer.finish()?;
        let (diff_id, encoder) = (plain.hasher.finish(), plain.inner);
        let mut blob = encoder.finish().doing(|| format!("write {path:?}"))?;
        blob.flush().doing(|| format!("write {path:?}"))?;
        if entries == 0 {
            return Ok(None);
        }
        let descriptor = Descriptor::new(compression.media_type(), blob.hasher.finish(), blob.count);
        transaction.add([&descriptor.digest, &diff_id])?;
        if !self.layer_path(&diff_id).exists() {
            let file = File::open(&path).doing(|| format!("open {path:?}"))?;
            let input = Checked { file, going };
            let expected = Some(Expected { blob: &descriptor, diff_id: &diff_id });
            let (unpacked, tree) = transaction.unpack_staged(input, expected, false, &|_| ())?;
            transaction.stage_layer(tree, &unpacked)?;
        }
        transaction.stage(path, self.blob_path(&descriptor.digest));
        Ok(Some((descriptor, diff_id)))
    }

    fn finish(
        &self,
        mut transaction: Transaction<'_>,
        config: Value,
        layers: Vec<Descriptor>,
        diff_ids: Vec<Digest>,
        composition: &Composition,
    ) -> Result<Record> {
        let json = |value: serde_json::Result<Vec<u8>>| value.map_err(|e| Error::invalid(e.to_string()));
        let config_bytes = json(serde_json::to_vec(&config))?;
        if config_bytes.len() as u64 > CONFIG_LIMIT {
            return Err(Error::limit(format!("image config: larger than {CONFIG_LIMIT} bytes")));
        }
        let parsed = ImageConfig::parse(&config_bytes, layers.len())?;
        let config = Descriptor::of(media::OCI_CONFIG, &config_bytes);
        let manifest = Manifest {
            schema_version: 2,
            media_type: media::OCI_MANIFEST.to_owned(),
            config: config.clone(),
            layers,
            annotations: None,
        };
        let manifest_bytes = json(serde_json::to_vec(&manifest))?;
        let descriptor = Descriptor::of(media::OCI_MANIFEST, &manifest_bytes);
        let mut blobs = vec![descriptor.digest.clone(), config.digest.clone()];
        blobs.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
        blobs.sort();
        blobs.dedup();
        transaction.add(blobs.iter().chain(&diff_ids))?;
        transaction.stage_bytes(&config.digest, &config_bytes)?;
        transaction.stage_bytes(&descriptor.digest, &manifest_bytes)?;
        let fixup = transaction.fixup(&diff_ids)?;
        let size = transaction.size(&diff_ids)?;
        transaction.publish()?;
        let stored = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let record = Record {
            name: composition.name.as_ref().map(ToString::to_string),
            target: descriptor.clone(),
            manifest: descriptor,
            id: config.digest,
            platform: parsed.platform.normalised().to_string(),
            created: parsed.created,
            size,
            stored: stored.as_secs(),
            blobs,
            layers: diff_ids,
            fixup,
        };
        let _guard = self.lock(FlockOperation::LockShared)?;
        self.set_record(&record)?;
        Ok(record)
    }
}

/// Replaces a Docker media type of a layer or config by OCI's.
pub(super) fn to_oci(descriptor: &mut Descriptor) {
    let name = match descriptor.media_type.as_str() {
        media::DOCKER_CONFIG => media::OCI_CONFIG,
        media::DOCKER_LAYER_GZIP => media::OCI_LAYER_GZIP,
        media::DOCKER_LAYER => media::OCI_LAYER,
        _ => return,
    };
    descriptor.media_type = name.to_owned();
}

/// Applies instructions to an image config.
fn change(config: &mut Value, changes: &[Instruction]) -> Result<()> {
    let wrong = |what: &str| Error::invalid(format!("image config: {what} must be an object"));
    let run = config.as_object_mut().ok_or_else(|| wrong("it"))?.entry("config").or_insert_with(|| json!({}));
    if run.is_null() {
        *run = json!({});
    }
    dockerfile::apply(changes, run.as_object_mut().ok_or_else(|| wrong("\"config\""))?)
}

/// Updates an image config. Docker's fields about a container (`container_config` and so on) are removed.
fn describe(config: &mut Value, composition: &Composition, diff_ids: &[Digest], empty: bool) -> Result<()> {
    let Some(fields) = config.as_object_mut() else {
        return Err(Error::new(ErrorKind::Invalid, "image config: must be an object"));
    };
    for stale in ["container", "container_config", "docker_version", "id", "parent"] {
        fields.shift_remove(stale);
    }
    let seconds = composition.epoch.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(now.as_secs()).unwrap_or_default()
    });
    let created = crate::time::rfc3339(seconds);
    fields.insert("created".into(), created.clone().into());
    if let Some(author) = &composition.author {
        fields.insert("author".into(), author.clone().into());
    }
    fields.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": diff_ids }));
    let mut line = Map::new();
    line.insert("created".into(), created.into());
    for (key, value) in [
        ("created_by", &composition.created_by),
        ("author", &composition.author),
        ("comment", &composition.comment),
    ] {
        if let Some(value) = value {
            line.insert(key.into(), value.clone().into());
        }
    }
    if empty {
        line.insert("empty_layer".into(), true.into());
    }
    let history = fields.entry("history").or_insert_with(|| json!([]));
    if history.is_null() {
        *history = json!([]);
    }
    let history =
        history.as_array_mut().ok_or_else(|| Error::invalid("image config: \"history\" must be a list"))?;
    history.push(line.into());
    Ok(())
}
