//! The root file systems of containers and images.

use std::os::fd::OwnedFd;

use image_store::copy::Place;
use image_store::store::ContainerRecord;
use image_store::{ErrorKind, Store};
use libcontainer::spec::Mount;

use crate::container::record::{Mounted, Run};
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

/// The root file system of a container with its volumes and the tmpfs that its user wanted, but without what the runtime mounts, such
/// as /proc.
pub(crate) fn with_mounts(store: &Store, container: &ContainerRecord) -> Result<Place> {
    let run = Run::of(container).unwrap_or_default();
    let root = live_or_mounted(store, container, &run.volumes)?;
    let is_tmpfs = |mount: &&Mount| mount.typ().as_deref() == Some("tmpfs") && mount.destination() != "/dev";
    let tmpfs = run.spec.mounts().iter().flatten().filter(is_tmpfs);
    let own = run.volumes.iter().map(|volume| volume.target.as_str());
    Ok(Place::root(root).with_mounts(own.chain(tmpfs.filter_map(|mount| mount.destination().to_str())))?)
}

/// Of a running container, what it runs on; of another, mounts of this process's own.
fn live_or_mounted(store: &Store, container: &ContainerRecord, volumes: &[Mounted]) -> Result<OwnedFd> {
    if let Some(root) = find::live_root(&container.id) {
        return Ok(root);
    }
    let root = store.container_rootfs(container)?.mount()?;
    if !volumes.is_empty() {
        mounts::attach(&root, &places::container(store, &container.id).rootfs())?;
        mounts::add_volumes(store, &root, volumes)?;
    }
    Ok(root)
}
