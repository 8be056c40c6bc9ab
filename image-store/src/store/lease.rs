//! Leases: keep objects that nothing refers to yet from being collected.
//!
//! A lease is a file with digests that its process locks with flock(2). After a crash the kernel releases the lock.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use rustix::fs::FlockOperation;

use super::{Store, unique};
use crate::digest::Digest;
use crate::error::{Doing, Result};

/// Keeps blobs and unpacked layers from being collected until it is dropped.
#[derive(Debug)]
pub struct Lease<'a> {
    store: &'a Store,
    file: File,
    path: PathBuf,
    id: String,
}

impl Store {
    /// Creates an empty lease.
    ///
    /// # Errors
    /// Failed system calls.
    pub fn lease(&self) -> Result<Lease<'_>> {
        let id = unique()?;
        let path = self.path("leases").join(&id);
        // Otherwise a collection could remove the file before it is locked.
        let _guard = self.lock(FlockOperation::LockShared)?;
        let mut options = File::options();
        let file = options
            .create_new(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .doing(|| format!("create {path:?}"))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive).doing(|| format!("flock {path:?}"))?;
        Ok(Lease { store: self, file, path, id })
    }

    /// Digests of all leases that are held, and the names of these leases. Files of other leases are removed. Requires the
    /// exclusive lock.
    pub(super) fn leased(&self) -> Result<(Vec<Digest>, Vec<String>)> {
        let (mut digests, mut alive) = (Vec::new(), Vec::new());
        let dir = self.path("leases");
        for entry in fs::read_dir(&dir).doing(|| format!("list {dir:?}"))? {
            let path = entry.doing(|| format!("list {dir:?}"))?.path();
            let Ok(mut file) = File::open(&path) else { continue };
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let _ = fs::remove_file(&path);
                continue;
            }
            // From the open file: its owner may just be removing it.
            let mut text = String::new();
            file.read_to_string(&mut text).doing(|| format!("read {path:?}"))?;
            digests.extend(text.lines().filter_map(|line| Digest::parse(line).ok()));
            alive.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
        Ok((digests, alive))
    }

    /// Locks these layers, and calls `waiting` if another process has one of them locked. They are locked in order, so that two
    /// processes cannot wait for each other.
    pub(super) fn lock_layers(&self, diff_ids: &[Digest], waiting: impl Fn()) -> Result<Vec<File>> {
        let mut sorted: Vec<_> = diff_ids.iter().collect();
        sorted.sort();
        sorted.dedup();
        let mut locks = Vec::new();
        for diff_id in sorted {
            let path = self.path("locks").join(diff_id.hex());
            let mut options = File::options();
            options.create(true).truncate(false).write(true).mode(0o600);
            let file = options.open(&path).doing(|| format!("open {path:?}"))?;
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                waiting();
                rustix::fs::flock(&file, FlockOperation::LockExclusive)
                    .doing(|| format!("flock {path:?}"))?;
            }
            locks.push(file);
        }
        Ok(locks)
    }
}

impl Lease<'_> {
    /// Its name, also of its directory in `ingest`.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Adds digests of blobs or diffIDs of layers: what is in the store after this call stays.
    ///
    /// # Errors
    /// Failed system calls.
    pub fn add<'d>(&mut self, digests: impl IntoIterator<Item = &'d Digest>) -> Result<()> {
        let _guard = self.store.lock(FlockOperation::LockShared)?;
        let lines: String = digests.into_iter().map(|digest| format!("{digest}\n")).collect();
        let mut file = &self.file;
        file.write_all(lines.as_bytes()).doing(|| format!("write {:?}", self.path))
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
