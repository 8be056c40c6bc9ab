//! Finds containers: in the store by what users call them, and running ones in the state of the runtime.

use std::fs::File;
use std::os::fd::OwnedFd;

use image_store::store::ContainerRecord;
use image_store::{ErrorKind, Store};
use libcontainer::{Container, ContainerId, Delete, Runtime, Status};

use super::record::Run;
use crate::failure::{Failure, Result, invalid};
use crate::places;

/// Finds a container by its ID, a unique prefix of it, or its name.
pub(crate) fn find(store: &Store, text: &str) -> Result<ContainerRecord> {
    let all = store.containers()?;
    let text = text.strip_prefix('/').unwrap_or(text);
    let named = |c: &&ContainerRecord| c.id == text || Run::of(c).is_some_and(|run| run.name == text);
    if let Some(container) = all.iter().find(named) {
        return Ok(container.clone());
    }
    let mut begins = all.iter().filter(|container| !text.is_empty() && container.id.starts_with(text));
    match (begins.next(), begins.next()) {
        (Some(container), None) => Ok(container.clone()),
        (Some(_), Some(_)) => Err(invalid(format!(
            "container {text:?}: ambiguous: matches several containers: give more digits"
        ))),
        _ => Err(Failure::new(ErrorKind::NotFound, format!("container {text:?}: no such container"))),
    }
}

/// The ID of the container that [`find`] finds.
pub(crate) fn id_of(store: &Store, text: &str) -> Result<String> {
    find(store, text).map(|container| container.id)
}

pub(crate) fn runtime() -> Result<Runtime> {
    Runtime::open(places::runtime_state()?).map_err(Failure::from)
}

pub(crate) fn container_id(id: &str) -> Result<ContainerId> {
    ContainerId::new(id).map_err(Failure::from)
}

/// The container, if its process has not exited.
pub(crate) fn running(id: &str) -> Option<(Container, Status)> {
    let container = runtime().ok()?.load(&container_id(id).ok()?).ok()?;
    let status = container.state().ok()?.status;
    (status != Status::Stopped).then_some((container, status))
}

/// Finds a running container; an error if it is not running.
pub(crate) fn live(store: &Store, text: &str) -> Result<(ContainerRecord, Container, Status)> {
    let record = find(store, text)?;
    match running(&record.id) {
        Some((container, status)) => Ok((record, container, status)),
        None => Err(invalid(format!("container {text:?}: is not running"))),
    }
}

/// The root of a running container, by way of its first process: an overlay must not be mounted twice.
pub(crate) fn live_root(id: &str) -> Option<OwnedFd> {
    let (container, _) = running(id)?;
    File::open(format!("/proc/{}/root", container.pid())).ok().map(OwnedFd::from)
}

/// Removes what is left of an exited container whose supervisor was killed.
pub(crate) fn clean(id: &str) {
    if let Ok(container) = runtime().and_then(|r| r.load(&container_id(id)?).map_err(Failure::from)) {
        let _ = container.delete(Delete::Stopped);
    }
    let _ = places::socket(id).map(std::fs::remove_file);
}

/// Whether a container is running.
pub(crate) fn is_running(id: &str) -> bool {
    live_root(id).is_some()
}
