//! The volumes of containers: who uses them, and when they are removed.

use image_store::store::ContainerRecord;
use image_store::{ErrorKind, Store};

use super::locks::{NamesLock, lock_names};
use super::record::Run;
use crate::failure::{Failure, Result};

/// A container that uses a volume, or may use it.
#[derive(Debug)]
pub(crate) struct User {
    id: String,
    /// Its record says so. Those that cannot be read, or were written by another version, may use any volume.
    certain: bool,
}

/// The containers that use a volume. Those that were made by the library alone use none.
pub(crate) fn users(store: &Store, name: &str) -> Result<Vec<User>> {
    let containers = store.containers()?;
    let uses = |container: ContainerRecord| match container.remembered::<Run>() {
        Ok(run) => run?
            .volumes
            .iter()
            .any(|mounted| mounted.name == name)
            .then_some(User { id: container.id, certain: true }),
        Err(_) => Some(User { id: container.id, certain: false }),
    };
    let damaged = containers.damaged.into_iter().map(|(id, _)| User { id, certain: false });
    Ok(containers.intact.into_iter().filter_map(uses).chain(damaged).collect())
}

/// Removes a volume that no container uses. None starts to use it meanwhile, since that takes the same lock.
pub(crate) fn remove(store: &Store, name: &str, _names: &NamesLock) -> Result<()> {
    if let Some(user) = users(store, name)?.first() {
        let id = &user.id[..user.id.len().min(12)];
        let message = if user.certain {
            format!("volume {name:?}: in use by container {id}")
        } else {
            format!(
                "volume {name:?}: may be in use by container {id}, whose record is damaged or of another version of knarr-image"
            )
        };
        return Err(Failure::new(ErrorKind::Busy, message));
    }
    Ok(store.remove_volume(name)?)
}

/// Removes a volume if it still exists and no container uses it.
pub(crate) fn remove_unused(store: &Store, name: &str, names: &NamesLock) -> Result<()> {
    match remove(store, name, names) {
        Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::NotFound) => Ok(()),
        other => other,
    }
}

/// Removes a container's record and layer, and with `volumes` the anonymous volumes that no other container uses.
pub(crate) fn remove_record(store: &Store, id: &str, run: &Run, volumes: bool) -> Result<()> {
    store.remove_container(id)?;
    let own: Vec<_> = run.volumes.iter().filter(|mounted| volumes && mounted.anonymous).collect();
    if own.is_empty() {
        return Ok(());
    }
    let names = lock_names(store)?;
    own.iter().try_for_each(|mounted| remove_unused(store, &mounted.name, &names))
}
