//! Garbage collection: marks what images, containers and leases refer to, and renames the rest into `trash`.
//!
//! Only the renaming happens under the lock, so it is fast even for large images. Any process may empty the trash afterwards, and
//! again after a crash.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::FlockOperation;

use super::{Record, Store};
use crate::digest::Digest;
use crate::error::{Doing, Error, ErrorKind, Result};

/// What a garbage collection removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Images, by name or else by ID.
    pub images: Vec<String>,
    /// Blobs.
    pub blobs: Vec<Digest>,
    /// Unpacked layers, by diffID.
    pub layers: Vec<Digest>,
    /// Bytes freed: the size of the blobs, and of the uncompressed tar archives of the layers.
    pub bytes: u64,
}

/// What is referred to and must stay.
#[derive(Debug, Default)]
struct Marked {
    digests: HashSet<Digest>,
    fixups: HashSet<String>,
    /// There is a container whose record is damaged: it may need anything.
    everything: bool,
}

impl Marked {
    fn add<'a>(&mut self, digests: impl IntoIterator<Item = &'a Digest>, fixup: Option<&Digest>) {
        self.digests.extend(digests.into_iter().cloned());
        self.fixups.extend(fixup.map(|key| key.hex().to_owned()));
    }

    fn has(&self, digest: &Digest) -> bool {
        self.everything || self.digests.contains(digest)
    }

    fn has_fixup(&self, key: &str) -> bool {
        self.everything || self.fixups.contains(key)
    }
}

impl Store {
    /// Removes everything that no image, container or lease needs. A container whose record is damaged may need any blob and layer:
    /// as long as there is one, they stay.
    ///
    /// # Errors
    /// Failed system calls.
    pub fn collect(&self) -> Result<Collected> {
        let _guard = self.lock(FlockOperation::LockExclusive)?;
        let mut collected = Collected::default();
        self.sweep(&mut collected)?;
        Ok(collected)
    }

    /// Removes images without a name (with `all`, also those with one) for which `wanted` returns true and that no container
    /// uses, then collects garbage.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if there is a container whose record is damaged, since it may use any image; failed system calls.
    pub fn prune(&self, all: bool, wanted: impl Fn(&Record) -> bool) -> Result<Collected> {
        let _guard = self.lock(FlockOperation::LockExclusive)?;
        let containers = self.containers()?;
        if let Some((id, error)) = containers.damaged.first() {
            let message = format!(
                "container {id}: may use any image, because its record is damaged: remove it first: {error}"
            );
            return Err(Error::new(ErrorKind::Busy, message));
        }
        let used: HashSet<Digest> =
            containers.intact.into_iter().map(|container| container.image_id).collect();
        let mut collected = Collected::default();
        for record in self.images()? {
            if !used.contains(&record.id) && (all || record.name.is_none()) && wanted(&record) {
                self.remove_record(&record)?;
                collected.images.push(record.name_or_id());
            }
        }
        self.sweep(&mut collected)?;
        Ok(collected)
    }

    /// Removes one name of an image, then collects garbage. Layers of containers always stay.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if it is the last name, a container uses the image and `force` is false; failed system calls.
    pub fn remove(&self, record: &Record, force: bool) -> Result<Collected> {
        let _guard = self.lock(FlockOperation::LockExclusive)?;
        self.remove_name(record, force)?;
        let mut collected = Collected { images: vec![record.name_or_id()], ..Collected::default() };
        self.sweep(&mut collected)?;
        Ok(collected)
    }

    /// Like [`Store::remove`], but does not wait for the disk: returns what is no longer needed and leaves its removal to the
    /// next [`Store::collect`].
    ///
    /// # Errors
    /// Those of [`Store::remove`].
    pub fn unname(&self, record: &Record, force: bool) -> Result<Collected> {
        let _guard = self.lock(FlockOperation::LockExclusive)?;
        self.remove_name(record, force)?;
        let (marked, _) = self.mark()?;
        let free = |list: &[Digest]| list.iter().filter(|digest| !marked.has(digest)).cloned().collect();
        let (blobs, layers): (Vec<Digest>, Vec<Digest>) = (free(&record.blobs), free(&record.layers));
        Ok(Collected { images: vec![record.name_or_id()], blobs, layers, bytes: 0 })
    }

    fn remove_name(&self, record: &Record, force: bool) -> Result<()> {
        let last = !self.images()?.iter().any(|other| other.id == record.id && other.name != record.name);
        let user = self.containers()?.intact.into_iter().find(|container| container.image_id == record.id);
        if let Some(container) = user.filter(|_| last && !force) {
            let name = record.name_or_id();
            let message = format!(
                "image {name:?}: in use by container {}: remove it first, or use --force",
                container.id
            );
            return Err(Error::new(ErrorKind::Busy, message));
        }
        self.remove_record(record)
    }

    /// Deletes the files in the trash, including removed volumes. Safe at any time and from several processes.
    ///
    /// # Errors
    /// The first failed system call; all that can be deleted is, and the rest is left for the next time.
    pub fn empty_trash(&self) -> Result<()> {
        let emptied = ["trash", super::volume::TRASH].map(|name| empty(&self.path(name)));
        emptied.into_iter().collect()
    }

    fn sweep(&self, collected: &mut Collected) -> Result<()> {
        // If a power cut undid the removal of a name, it would refer to removed layers.
        self.sync_dir(&self.path("refs"))?;
        let (marked, alive) = self.mark()?;
        for algorithm in ["sha256", "sha512"] {
            let unneeded = |name: &str| {
                let digest = Digest::parse(&format!("{algorithm}:{name}")).ok();
                digest.filter(|digest| !marked.has(digest))
            };
            self.sweep_dir(&format!("blobs/{algorithm}"), |name, path| {
                let Some(digest) = unneeded(name) else { return true };
                collected.bytes += fs::metadata(path).map_or(0, |meta| meta.len());
                collected.blobs.push(digest);
                false
            })?;
            self.sweep_dir(&format!("layers/{algorithm}"), |name, _| {
                let Some(digest) = unneeded(name) else { return true };
                collected.bytes += self.layer_meta(&digest).map_or(0, |meta| meta.diff_size);
                collected.layers.push(digest);
                false
            })?;
        }
        self.sweep_dir("fixup", |name, _| marked.has_fixup(name))?;
        self.sweep_dir("ingest", |name, _| alive.iter().any(|lease| lease == name))?;
        // A container without a record was never complete.
        self.sweep_dir("containers", |_, path| path.join("record.json").exists())
    }

    fn mark(&self) -> Result<(Marked, Vec<String>)> {
        let mut marked = Marked::default();
        for record in self.images()? {
            marked.add(record.blobs.iter().chain(&record.layers), record.fixup.as_ref());
        }
        let containers = self.containers()?;
        marked.everything = !containers.damaged.is_empty();
        for container in containers.intact {
            marked.add(container.blobs.iter().chain(&container.layers), container.fixup.as_ref());
        }
        let (leased, alive) = self.leased()?;
        marked.fixups.extend(leased.iter().map(|digest| digest.hex().to_owned()));
        marked.digests.extend(leased);
        Ok((marked, alive))
    }

    /// Renames the files for which `keep` returns false into the trash.
    fn sweep_dir(&self, name: &str, mut keep: impl FnMut(&str, &Path) -> bool) -> Result<()> {
        let dir = self.path(name);
        for entry in fs::read_dir(&dir).doing(|| format!("list {dir:?}"))? {
            let entry = entry.doing(|| format!("list {dir:?}"))?;
            let path = entry.path();
            if keep(&entry.file_name().to_string_lossy(), &path) {
                continue;
            }
            match fs::rename(&path, self.trash_name()?) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => other.doing(|| format!("rename {path:?}"))?,
            }
        }
        Ok(())
    }
}

fn empty(path: &Path) -> Result<()> {
    let trash = match File::open(path) {
        // No volume has been removed yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.doing(|| format!("open {path:?}"))?,
    };
    let mut result = Ok(());
    for (name, _) in crate::tree::list(&trash).doing(|| format!("list {path:?}"))? {
        let removed = crate::tree::remove(trash.as_fd(), name.to_bytes(), trash.as_fd());
        result = result.and(removed.doing(|| format!("empty {path:?}")));
    }
    result
}
