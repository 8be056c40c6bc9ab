//! Locks: of names, and of what a container's supervisor writes.

use std::fs::File;
use std::path::Path;

use image_store::Store;
use rustix::fs::FlockOperation;

use crate::failure::{Result, os};
use crate::places;

/// The supervisor of a container, by the lock that it holds from before the container is created until its end is recorded.
#[derive(Debug)]
pub(crate) struct Supervisor(Option<File>);

impl Supervisor {
    pub(crate) fn of(store: &Store, id: &str) -> Self {
        Self(File::open(places::container(store, id).lock()).ok())
    }

    pub(crate) fn is_running(&self) -> bool {
        let Some(file) = &self.0 else { return false };
        let free = rustix::fs::flock(file, FlockOperation::NonBlockingLockShared).is_ok();
        free.then(|| rustix::fs::flock(file, FlockOperation::Unlock));
        !free
    }
}

/// Held while a container is created or renamed, so that its name stays free, and while volumes are removed, since a new container
/// has none until its record says so.
#[derive(Debug)]
pub(crate) struct NamesLock {
    _file: File,
}

pub(crate) fn lock_names(store: &Store) -> Result<NamesLock> {
    Ok(NamesLock { _file: lock(&places::names_lock(store), FlockOperation::LockExclusive)? })
}

pub(crate) fn lock(path: &Path, operation: FlockOperation) -> Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|e| os(e, format!("open {path:?}")))?;
    rustix::fs::flock(&file, operation).map_err(|e| os(e, format!("flock {path:?}")))?;
    Ok(file)
}
