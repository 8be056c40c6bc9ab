//! Adding an image: fetch and verify documents, unpack missing layers in parallel, sync, then publish under the final names.
//!
//! There is one sync of the file system between writing and renaming, for any number of files. If a layer fails, complete
//! layers are kept, so that the next attempt has less to do.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::FlockOperation;

use super::flush::Flusher;
use super::lease::Lease;
use super::{LayerMeta, Record, Store};
use crate::digest::Digest;
use crate::error::{Doing, Error, Result};
use crate::layer::apply::{ApplyOptions, Contents};
use crate::layer::unpack::{Expected, Target, Unpacked, unpack};
use crate::manifest::{
    CONFIG_LIMIT, Descriptor, Document, INDEX_LIMIT, ImageConfig, MANIFEST_LIMIT, Manifest,
};
use crate::percent;
use crate::platform::Platform;
use crate::reference::Reference;

/// A source of blobs: a registry, directory or archive.
pub trait Source: Sync {
    /// Opens a blob. The caller verifies it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the source does not have it.
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>>;
}

/// A step in the transfer of a blob.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It already exists.
    Exists,
    /// Another process is unpacking it.
    Waiting,
    /// The transfer starts.
    Started,
    /// This number of bytes was transferred.
    Advanced(u64),
    /// The transfer is complete.
    Done,
}

/// Receives the progress of a pull or push, from several threads.
pub trait Progress: Sync {
    /// Called at each step of a blob.
    fn step(&self, blob: &Descriptor, step: Step);
}

/// Ignores progress.
#[derive(Clone, Copy, Debug)]
pub struct Quiet;

impl Progress for Quiet {
    fn step(&self, _: &Descriptor, _: Step) {}
}

/// An image that is being added. Dropping it removes everything that was not published.
pub(super) struct Transaction<'a> {
    store: &'a Store,
    lease: Lease<'a>,
    dir: PathBuf,
    count: AtomicUsize,
    /// Locks of the missing layers, held until these are published.
    locks: Vec<File>,
    /// Complete files in `ingest`, by their final paths.
    staged: Mutex<BTreeMap<PathBuf, PathBuf>>,
}

/// A layer of an image: descriptor of its blob, and diffID.
struct Layer<'d> {
    blob: &'d Descriptor,
    diff_id: &'d Digest,
}

impl Store {
    /// Adds the image for `platform` that `root`, a manifest or index, describes, under `names`; with no names it is an untagged
    /// image.
    ///
    /// # Errors
    /// Those of `source`; [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) if a digest or size differs,
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no image for the platform; those of unpacking. No name
    /// is changed then.
    pub fn ingest(
        &self,
        source: &dyn Source,
        root: &Descriptor,
        platform: &Platform,
        names: &[Reference],
        progress: &dyn Progress,
    ) -> Result<Record> {
        let mut transaction = Transaction::begin(self)?;
        let result = transaction.image(source, root, platform, progress);
        // Complete layers are kept after a failure too; a second error would hide the first.
        let published = if result.is_ok() { transaction.publish() } else { transaction.publish().or(Ok(())) };
        let mut record = result?;
        published?;
        let _guard = self.lock(FlockOperation::LockShared)?;
        if names.is_empty() {
            self.set_record(&record)?;
        }
        for name in names {
            record.name = Some(name.to_string());
            self.set_record(&record)?;
        }
        Ok(record)
    }
}

impl<'a> Transaction<'a> {
    pub(super) fn begin(store: &'a Store) -> Result<Self> {
        let lease = store.lease()?;
        let dir = store.path("ingest").join(lease.id());
        fs::DirBuilder::new().mode(0o700).create(&dir).doing(|| format!("mkdir {dir:?}"))?;
        let (count, staged) = (AtomicUsize::new(0), Mutex::default());
        Ok(Self { store, lease, dir, count, locks: Vec::new(), staged })
    }

    fn image(
        &mut self,
        source: &dyn Source,
        root: &Descriptor,
        platform: &Platform,
        progress: &dyn Progress,
    ) -> Result<Record> {
        let mut blobs = vec![root.digest.clone()];
        let (manifest_descriptor, manifest) = self.choose(source, root, platform, &mut blobs)?;
        blobs.push(manifest.config.digest.clone());
        blobs.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
        self.lease.add(&blobs)?;
        let config_bytes = self.document(source, &manifest.config, CONFIG_LIMIT)?;
        let config =
            ImageConfig::parse(&config_bytes, manifest.layers.len()).map_err(|error| {
                match manifest.artifact() {
                    Some(kind) => Error::unsupported(format!("not an image but an artifact: {kind}")),
                    None => error,
                }
            })?;
        self.lease.add(&config.rootfs.diff_ids)?;
        let layers: Vec<_> = manifest.layers.iter().zip(&config.rootfs.diff_ids).collect();
        let layers: Vec<_> = layers.into_iter().map(|(blob, diff_id)| Layer { blob, diff_id }).collect();
        self.locks = self.lock_missing(&layers, progress)?;
        self.layers(source, &layers, progress)?;
        let fixup = self.fixup(&config.rootfs.diff_ids)?;
        let size = self.size(&config.rootfs.diff_ids)?;
        blobs.sort();
        blobs.dedup();
        let stored = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(Record {
            name: None,
            target: Descriptor { platform: None, annotations: None, ..root.clone() },
            manifest: manifest_descriptor,
            id: manifest.config.digest.clone(),
            platform: config.platform.clone().normalised().to_string(),
            created: config.created,
            size,
            stored: stored.as_secs(),
            blobs,
            layers: config.rootfs.diff_ids,
            fixup,
        })
    }

    /// Follows indexes, which may be nested once, to the manifest for the platform. Adds their digests to `blobs`.
    fn choose(
        &mut self,
        source: &dyn Source,
        root: &Descriptor,
        platform: &Platform,
        blobs: &mut Vec<Digest>,
    ) -> Result<(Descriptor, Manifest)> {
        let mut descriptor = root.clone();
        for _ in 0..3 {
            self.lease.add([&descriptor.digest])?;
            let limit =
                if descriptor.media_type.contains("manifest.v") { MANIFEST_LIMIT } else { INDEX_LIMIT };
            let bytes = self.document(source, &descriptor, limit)?;
            let document =
                Document::parse(&bytes, &descriptor.media_type).doing(|| descriptor.digest.clone())?;
            descriptor.media_type = document.media_type().to_owned();
            blobs.push(descriptor.digest.clone());
            match document {
                Document::Manifest(manifest) => {
                    let descriptor = Descriptor { platform: None, annotations: None, ..descriptor };
                    return Ok((descriptor, manifest));
                }
                Document::Index(index) => descriptor = index.choose(platform)?.clone(),
            }
        }
        Err(Error::limit(format!("{}: indexes nested more than twice", root.digest)))
    }

    /// Reads a document from the store, or else from the source, and then stages it.
    pub(super) fn document(
        &self,
        source: &dyn Source,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>> {
        if self.store.has_blob(descriptor) {
            // A damaged blob is fetched again.
            if let Ok(bytes) = self.store.read_blob(descriptor, limit) {
                return Ok(bytes);
            }
        }
        let input = source.open(descriptor)?;
        let bytes = super::blobs::read_document(input, descriptor, limit)?;
        self.stage_bytes(&descriptor.digest, &bytes)?;
        Ok(bytes)
    }

    pub(super) fn stage_bytes(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let (path, mut file) = self.new_file()?;
        file.write_all(bytes).doing(|| format!("write {path:?}"))?;
        self.stage(path, self.store.blob_path(digest));
        Ok(())
    }

    /// Creates a directory for a layer; returns its path and its subdirectory `fs`, opened.
    pub(super) fn new_tree(&self) -> Result<(PathBuf, File)> {
        let tree = self.new_path();
        let root = tree.join("fs");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&root)
            .doing(|| format!("mkdir {root:?}"))?;
        let root_fd = File::open(&root).doing(|| format!("open {root:?}"))?;
        Ok((tree, root_fd))
    }

    fn new_path(&self) -> PathBuf {
        self.dir.join(self.count.fetch_add(1, Ordering::Relaxed).to_string())
    }

    pub(super) fn new_file(&self) -> Result<(PathBuf, File)> {
        let path = self.new_path();
        let mut options = File::options();
        let file = options
            .create_new(true)
            .write(true)
            .mode(0o444)
            .open(&path)
            .doing(|| format!("create {path:?}"))?;
        Ok((path, file))
    }

    pub(super) fn stage(&self, from: PathBuf, to: PathBuf) {
        self.staged.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(to, from);
    }

    fn lock_missing(&self, layers: &[Layer<'_>], progress: &dyn Progress) -> Result<Vec<File>> {
        let missing: Vec<_> = layers.iter().filter(|l| !self.store.layer_path(l.diff_id).exists()).collect();
        let diff_ids: Vec<_> = missing.iter().map(|layer| layer.diff_id.clone()).collect();
        self.store.lock_layers(&diff_ids, || {
            missing.iter().for_each(|layer| progress.step(layer.blob, Step::Waiting));
        })
    }

    /// Unpacks missing layers, the largest first, in parallel.
    fn layers(&self, source: &dyn Source, layers: &[Layer<'_>], progress: &dyn Progress) -> Result<()> {
        let mut todo: Vec<&Layer<'_>> = Vec::new();
        for layer in layers {
            if self.store.layer_path(layer.diff_id).exists() && self.has_kept(layer.blob) {
                progress.step(layer.blob, Step::Exists);
            } else if !todo.iter().any(|other| other.diff_id == layer.diff_id) {
                todo.push(layer);
            }
        }
        todo.sort_by_key(|layer| std::cmp::Reverse(layer.blob.size));
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(None);
        let fail = |error| {
            failed.lock().unwrap_or_else(|p| p.into_inner()).get_or_insert(error);
        };
        let flusher = Flusher::new(&self.store.handle);
        std::thread::scope(|scope| {
            if self.store.options.sync {
                scope.spawn(|| flusher.run().unwrap_or_else(fail));
            }
            std::thread::scope(|scope| {
                for _ in 0..self.store.options.parallel.min(todo.len()) {
                    scope.spawn(|| {
                        while let Some(layer) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                            if let Err(error) = self.layer(source, layer, progress, &flusher) {
                                fail(error.context(format!("layer {}", layer.blob.digest)));
                                // The other threads finish their layers and start no new ones.
                                next.store(todo.len(), Ordering::Relaxed);
                            }
                        }
                    });
                }
            });
            flusher.end();
        });
        failed.into_inner().unwrap_or_else(|p| p.into_inner()).map_or(Ok(()), Err)
    }

    fn has_kept(&self, blob: &Descriptor) -> bool {
        !self.store.options.keep_blobs || self.store.has_blob(blob)
    }

    fn layer(
        &self,
        source: &dyn Source,
        layer: &Layer<'_>,
        progress: &dyn Progress,
        flusher: &Flusher<'_>,
    ) -> Result<()> {
        let Layer { blob, diff_id } = *layer;
        progress.step(blob, Step::Started);
        let seen = |count| {
            flusher.advance(count);
            progress.step(blob, Step::Advanced(count));
        };
        let expected = Some(Expected { blob, diff_id });
        let fetch = || {
            let keep = self.store.options.keep_blobs;
            self.unpack_staged(source.open(blob)?, expected, keep, &seen)
        };
        let (unpacked, tree) = if self.store.has_blob(blob) {
            // A damaged blob is fetched again and replaced.
            let stored = self.store.open_blob(&blob.digest)?;
            self.unpack_staged(stored, expected, false, &seen).or_else(|_| fetch())?
        } else {
            fetch()?
        };
        self.stage_layer(tree, &unpacked)?;
        progress.step(blob, Step::Done);
        Ok(())
    }

    /// Unpacks a layer into a new directory in `ingest`; with `keep`, its blob is stored beside it and staged.
    pub(super) fn unpack_staged(
        &self,
        input: impl Read + Send,
        expected: Option<Expected<'_>>,
        keep: bool,
        seen: &(dyn Fn(u64) + Sync),
    ) -> Result<(Unpacked, PathBuf)> {
        self.unpack(input, expected, keep, seen, Contents::Layer)
    }

    /// Unpacks an archive that is not a layer into a new directory in `ingest`.
    pub(super) fn unpack_files(&self, input: impl Read + Send) -> Result<(Unpacked, PathBuf)> {
        self.unpack(input, None, false, &|_| (), Contents::Files)
    }

    fn unpack(
        &self,
        input: impl Read + Send,
        expected: Option<Expected<'_>>,
        keep: bool,
        seen: &(dyn Fn(u64) + Sync),
        contents: Contents,
    ) -> Result<(Unpacked, PathBuf)> {
        let (tree, root_fd) = self.new_tree()?;
        let spill = File::open(&tree).doing(|| format!("open {tree:?}"))?;
        let (blob_path, blob) =
            if keep { self.new_file().map(|(p, f)| (Some(p), Some(f)))? } else { (None, None) };
        let options = ApplyOptions {
            marks: self.store.marks,
            ownership: self.store.ownership,
            limits: self.store.options.limits,
            contents,
        };
        let target = Target { root: root_fd.as_fd(), spill: spill.as_fd(), blob, expected, options };
        let unpacked = unpack(input, target, seen).inspect_err(|_| {
            self.discard(&tree);
            blob_path.iter().for_each(|path| drop(fs::remove_file(path)));
        })?;
        if let Some(path) = blob_path {
            self.stage(path, self.store.blob_path(&unpacked.digest));
        }
        Ok((unpacked, tree))
    }

    pub(super) fn stage_layer(&self, tree: PathBuf, unpacked: &Unpacked) -> Result<()> {
        let meta = LayerMeta {
            diff_size: unpacked.diff_size,
            bytes: unpacked.applied.bytes,
            entries: unpacked.applied.entries,
            implied: unpacked.applied.implied.iter().map(|path| percent::encode(path, b"/")).collect(),
        };
        let bytes = serde_json::to_vec(&meta).map_err(|e| Error::invalid(e.to_string()))?;
        let path = tree.join("meta.json");
        fs::write(&path, bytes).doing(|| format!("write {path:?}"))?;
        self.stage(tree, self.store.layer_path(&unpacked.diff_id));
        Ok(())
    }

    fn discard(&self, tree: &Path) {
        let (Some(name), Ok(parent)) = (tree.file_name(), File::open(&self.dir)) else {
            return;
        };
        let _ = crate::tree::remove(parent.as_fd(), name.as_encoded_bytes(), parent.as_fd());
    }

    /// The current path of a layer: in `ingest` or the final one.
    fn current(&self, diff_id: &Digest) -> PathBuf {
        let place = self.store.layer_path(diff_id);
        let staged = self.staged.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        staged.get(&place).cloned().unwrap_or(place)
    }

    fn meta(&self, diff_id: &Digest) -> Result<LayerMeta> {
        let path = self.current(diff_id).join("meta.json");
        let bytes = fs::read(&path).doing(|| format!("read {path:?}"))?;
        serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("{path:?}: {e}")))
    }

    /// Adds digests to the lease.
    pub(super) fn add<'d>(&mut self, digests: impl IntoIterator<Item = &'d Digest>) -> Result<()> {
        self.lease.add(digests)
    }

    /// Size of the files of these layers in bytes.
    pub(super) fn size(&self, diff_ids: &[Digest]) -> Result<u64> {
        diff_ids.iter().try_fold(0_u64, |sum, diff_id| Ok(sum.saturating_add(self.meta(diff_id)?.bytes)))
    }

    /// Creates the fix-up layer of these layers if they need one.
    pub(super) fn fixup(&mut self, diff_ids: &[Digest]) -> Result<Option<Digest>> {
        let mut stack = Vec::new();
        for diff_id in diff_ids {
            let path = self.current(diff_id).join("fs");
            let root = File::open(&path).doing(|| format!("open {path:?}"))?;
            let implied =
                self.meta(diff_id)?.implied.iter().map(|p| percent::decode(p)).collect::<Result<_>>()?;
            stack.push(crate::fixup::Level { root, implied });
        }
        let fixes = crate::fixup::needed(&stack, self.store.marks)?;
        if fixes.is_empty() {
            return Ok(None);
        }
        let names: String = diff_ids.iter().map(|digest| format!("{digest}\n")).collect();
        let key = Digest::of(names.as_bytes());
        // Another image that has it may be removed before this one is published.
        self.lease.add([&key])?;
        let place = self.store.path("fixup").join(key.hex());
        if !place.exists() {
            let (tree, fd) = self.new_tree()?;
            crate::fixup::make(&fd, &stack, &fixes)?;
            self.stage(tree, place);
        }
        Ok(Some(key))
    }

    /// Syncs everything that is staged and renames it to its final path. One sync for all files is much faster than one per
    /// file.
    pub(super) fn publish(&self) -> Result<()> {
        let staged =
            std::mem::take(&mut *self.staged.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        if staged.is_empty() {
            return Ok(());
        }
        if self.store.options.sync {
            rustix::fs::syncfs(&self.store.handle).doing(|| format!("syncfs {:?}", self.store.root))?;
        }
        let mut dirs: Vec<PathBuf> = Vec::new();
        for (to, from) in staged {
            match fs::rename(&from, &to) {
                // Another process was faster; the content is the same.
                Err(error) if to.is_dir() && from.is_dir() => drop(error),
                other => other.doing(|| format!("rename {from:?} to {to:?}"))?,
            }
            dirs.extend(to.parent().map(Path::to_path_buf));
        }
        dirs.dedup();
        dirs.iter().try_for_each(|dir| self.store.sync_dir(dir))
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        let (Some(name), Ok(parent)) = (self.dir.file_name(), File::open(self.store.path("ingest"))) else {
            return;
        };
        let _ = crate::tree::remove(parent.as_fd(), name.as_encoded_bytes(), parent.as_fd());
    }
}
