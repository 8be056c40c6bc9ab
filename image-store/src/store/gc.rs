//! What nobody needs goes: mark from images, containers and leases, then sweep by renaming into `trash`.
//!
//! Renaming is all that happens under the lock, so even a large image is gone at once; the trash is emptied afterwards,
//! by whoever has the time, and again after a crash.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::FlockOperation;

use super::{Record, Store};
use crate::digest::Digest;
use crate::error::{Doing, Error, ErrorKind, Result};

/// What a collection took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Names and IDs of images that went.
    pub images: Vec<String>,
    /// Blobs that went.
    pub blobs: Vec<Digest>,
    /// Unpacked layers that went.
    pub layers: Vec<Digest>,
    /// Bytes freed: blobs as they are, layers as their archives were.
    pub bytes: u64,
}

/// What must stay. Pure: see [`Marked::of`].
#[derive(Debug, Default)]
struct Marked {
    digests: HashSet<Digest>,
    fixups: HashSet<String>,
}

impl Marked {
    fn add<'a>(&mut self, digests: impl IntoIterator<Item = &'a Digest>, fixup: Option<&Digest>) {
        self.digests.extend(digests.into_iter().cloned());
        self.fixups.extend(fixup.map(|key| key.hex().to_owned()));
    }
}

impl Store {
    /// Removes what no image, container or lease needs.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn collect(&self) -> Result<Collected> {
        let _guard = self.lock(FlockOperation::LockExclusive)?;
        let mut collected = Collected::default();
        self.sweep(&mut collected)?;
        Ok(collected)
    }

    /// Of the images that are `wanted`, removes those without a name, or with `all` also the named ones, unless a container
    /// uses them; and what only they needed.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn prune(&self, all: bool, wanted: impl Fn(&Record) -> bool) -> Result<Collected> {
        let _guard = self.lock(FlockOperation::LockExclusive)?;
        let used: HashSet<Digest> =
            self.containers()?.into_iter().map(|container| container.image_id).collect();
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

    /// Takes a name away, and what only it needed.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] when a container uses the image, it has no other name and `force` is not given (with it, the
    /// container keeps its layers all the same); system calls that fail.
    pub fn remove(&self, record: &Record, force: bool) -> Result<Collected> {
        let _guard = self.lock(FlockOperation::LockExclusive)?;
        self.remove_name(record, force)?;
        let mut collected = Collected { images: vec![record.name_or_id()], ..Collected::default() };
        self.sweep(&mut collected)?;
        Ok(collected)
    }

    /// As [`Store::remove`], but returns at once: what nobody needs any more is told, and left to the next
    /// [`Store::collect`], which waits for the disk.
    ///
    /// # Errors
    /// As [`Store::remove`].
    pub fn unname(&self, record: &Record, force: bool) -> Result<Collected> {
        let _guard = self.lock(FlockOperation::LockExclusive)?;
        self.remove_name(record, force)?;
        let (marked, _) = self.mark()?;
        let free = |list: &[Digest]| {
            list.iter().filter(|digest| !marked.digests.contains(*digest)).cloned().collect()
        };
        let (blobs, layers): (Vec<Digest>, Vec<Digest>) = (free(&record.blobs), free(&record.layers));
        Ok(Collected { images: vec![record.name_or_id()], blobs, layers, bytes: 0 })
    }

    fn remove_name(&self, record: &Record, force: bool) -> Result<()> {
        let last = !self.images()?.iter().any(|other| other.id == record.id && other.name != record.name);
        let user = self.containers()?.into_iter().find(|container| container.image_id == record.id);
        if let Some(container) = user.filter(|_| last && !force) {
            let name = record.name_or_id();
            let message =
                format!("image {name:?}: container {} uses it: remove that first, or force", container.id);
            return Err(Error::new(ErrorKind::Busy, message));
        }
        self.remove_record(record)
    }

    /// Deletes what lies in the trash. Safe at any time, by several at once. What cannot be deleted does not keep the rest.
    ///
    /// # Errors
    /// The first system call that failed; what is left stays for the next time.
    pub fn empty_trash(&self) -> Result<()> {
        let emptied = ["trash", super::volume::TRASH].map(|name| empty(&self.path(name)));
        emptied.into_iter().collect()
    }

    fn sweep(&self, collected: &mut Collected) -> Result<()> {
        // A name whose removal a power cut takes back must not point at what is gone.
        self.sync_folder(&self.path("refs"))?;
        let (marked, alive) = self.mark()?;
        for algorithm in ["sha256", "sha512"] {
            let unneeded = |name: &str| {
                let digest = Digest::parse(&format!("{algorithm}:{name}")).ok();
                digest.filter(|digest| !marked.digests.contains(digest))
            };
            self.sweep_folder(&format!("blobs/{algorithm}"), |name, path| {
                let Some(digest) = unneeded(name) else { return true };
                collected.bytes += fs::metadata(path).map_or(0, |meta| meta.len());
                collected.blobs.push(digest);
                false
            })?;
            self.sweep_folder(&format!("layers/{algorithm}"), |name, _| {
                let Some(digest) = unneeded(name) else { return true };
                collected.bytes += self.layer_meta(&digest).map_or(0, |meta| meta.diff_size);
                collected.layers.push(digest);
                false
            })?;
        }
        self.sweep_folder("fixup", |name, _| marked.fixups.contains(name))?;
        self.sweep_folder("ingest", |name, _| alive.iter().any(|lease| lease == name))?;
        // A container without its record never was complete.
        self.sweep_folder("containers", |_, path| path.join("record.json").exists())
    }

    fn mark(&self) -> Result<(Marked, Vec<String>)> {
        let mut marked = Marked::default();
        for record in self.images()? {
            marked.add(record.blobs.iter().chain(&record.layers), record.fixup.as_ref());
        }
        for container in self.containers()? {
            marked.add(container.blobs.iter().chain(&container.layers), container.fixup.as_ref());
        }
        let (leased, alive) = self.leased()?;
        marked.fixups.extend(leased.iter().map(|digest| digest.hex().to_owned()));
        marked.digests.extend(leased);
        Ok((marked, alive))
    }

    /// Renames into the trash what `keep` does not want.
    fn sweep_folder(&self, name: &str, mut keep: impl FnMut(&str, &Path) -> bool) -> Result<()> {
        let folder = self.path(name);
        for entry in fs::read_dir(&folder).doing(|| format!("list {folder:?}"))? {
            let entry = entry.doing(|| format!("list {folder:?}"))?;
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
