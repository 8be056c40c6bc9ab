//! Locks: of names, of what a container's supervisor writes, and of pauses.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use image_store::Store;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

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

/// Held by a command while it has paused a container to read its files. As long as that is so, the file has a text: if it has one without
/// being locked, the command was killed. The file stays, empty, until the container is removed.
#[derive(Debug)]
pub(crate) struct PauseLock(File);

impl PauseLock {
    /// `None` if another command has it, or was killed: the container is then to be resumed first.
    pub(crate) fn take(id: &str) -> Result<Option<Self>> {
        let path = places::pause(id)?;
        let failed = |e: std::io::Error| os(e, format!("lock {path:?}"));
        path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            other => other.map_err(|e| failed(e.into()))?,
        }
        Ok((!has_text(&file)).then_some(Self(file)))
    }

    /// The lock of a command that was killed.
    pub(crate) fn abandoned(id: &str) -> Option<Self> {
        let file = File::options().write(true).open(places::pause(id).ok()?).ok()?;
        let abandoned = || {
            has_text(&file)
                && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
                // It may have been resumed in between.
                && has_text(&file)
        };
        abandoned().then_some(Self(file))
    }

    /// Called before the container is paused.
    pub(crate) fn begin(&mut self) -> Result<()> {
        self.0.write_all(b"paused by commit\n").map_err(|e| os(e, "note a pause"))
    }

    /// Called when the container has been resumed.
    pub(crate) fn end(self) {
        let _ = self.0.set_len(0);
    }
}

fn has_text(file: &File) -> bool {
    file.metadata().is_ok_and(|meta| meta.len() > 0)
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
