//! The root file systems of containers and images.

use std::os::fd::OwnedFd;

use image_store::store::ContainerRecord;
use image_store::{ErrorKind, Store};

use crate::container::record::Run;
use crate::container::{find, mounts};
use crate::failure::Result;
use crate::places;

/// Mounts the root file system of a container or an image. With `writable`, that of a container that is not running can be written
/// to; otherwise it is the read-only view that `export` uses.
pub(crate) fn mounted(store: &Store, text: &str, writable: bool) -> Result<OwnedFd> {
    match find::id_of(store, text).and_then(|id| Ok(store.container(&id)?)) {
        Ok(container) if writable && !find::is_running(&container.id) => {
            Ok(store.container_rootfs(&container)?.mount()?)
        }
        Ok(container) => Ok(store.container_view(&container)?.mount()?),
        Err(missing) => match store.resolve(text) {
            Ok(record) => Ok(store.rootfs(&record)?.mount()?),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(missing),
            Err(error) => Err(error.into()),
        },
    }
}

/// The root file system of a container with its volumes: of a running one, what it runs on; of another, mounts of this process's own.
pub(crate) fn live_or_mounted(store: &Store, container: &ContainerRecord) -> Result<OwnedFd> {
    if let Some(root) = find::live_root(&container.id) {
        return Ok(root);
    }
    let root = store.container_rootfs(container)?.mount()?;
    let volumes = Run::of(container).map(|run| run.volumes).unwrap_or_default();
    if !volumes.is_empty() {
        mounts::attach(&root, &places::container(store, &container.id).rootfs())?;
        mounts::add_volumes(store, &root, &volumes)?;
    }
    Ok(root)
}
