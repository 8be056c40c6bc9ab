//! The root file systems of containers and images.

use std::os::fd::OwnedFd;

use image_store::{ErrorKind, Store};

use crate::container::find;
use crate::failure::Result;

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

/// The root file system of a container: of a running one, the one it runs on; of another, a mount of it.
pub(crate) fn live_or_mounted(store: &Store, id: &str) -> Result<OwnedFd> {
    if let Some(root) = find::live_root(id) {
        return Ok(root);
    }
    Ok(store.container_rootfs(&store.container(id)?)?.mount()?)
}
