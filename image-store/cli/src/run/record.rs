//! What the store remembers of a container beyond its layers, and how one is found: by ID, the beginning of one, or name.
//! Also where running ones are: libcontainer's state, the socket of the parent.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use image_store::store::ContainerRecord;
use image_store::{Error, ErrorKind, Result, Store};
use libcontainer::{Container, ContainerId, Delete, Runtime, Status};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::options::{Restart, invalid};
use super::rootless::state_root;
use super::spec::Volume;

/// What a container's record remembers of how it is run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) name: String,
    /// config.json, without the namespaces of other containers.
    pub(super) spec: Value,
    /// Kinds of namespaces, and the IDs of the containers whose they are.
    #[serde(default)]
    pub(super) joins: Vec<(String, String)>,
    pub(super) terminal: bool,
    pub(super) interactive: bool,
    /// Standard input ends with the first who gives any.
    #[serde(default)]
    pub(super) input_once: bool,
    /// The record goes when the process ends.
    pub(super) remove: bool,
    #[serde(default)]
    pub(super) restart: Restart,
    #[serde(default)]
    pub(super) log: bool,
    pub(super) stop_signal: String,
    #[serde(default)]
    pub(super) stop_timeout: Option<u64>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) volumes: Vec<Mounted>,
    /// As flags and image have it, before it is resolved.
    #[serde(default)]
    pub(super) user: String,
    #[serde(default)]
    pub(super) privileged: bool,
    #[serde(default)]
    pub(super) network: String,
    /// RFC 3339.
    #[serde(default)]
    pub(super) started: Option<String>,
    #[serde(default)]
    pub(super) finished: Option<String>,
    #[serde(default)]
    pub(super) exit_code: Option<i32>,
    /// Why it could not be started.
    #[serde(default)]
    pub(super) error: String,
    #[serde(default)]
    pub(super) restarts: u32,
}

/// A volume of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mounted {
    /// Of the store; empty for a folder of the host.
    pub(super) name: String,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) read_only: bool,
    pub(super) propagation: String,
    /// Made for this container alone.
    pub(super) anonymous: bool,
}

impl Mounted {
    /// Whether what is to be mounted is what it is taken for: a volume of the store is a directory, and no link to anything
    /// of the host's. Nobody but the store puts anything into `volumes`, so that what is looked at here is what is mounted.
    pub(super) fn check(&self, store: &Store) -> Result<()> {
        if self.name.is_empty() {
            return Ok(());
        }
        store.volume(&self.name).map(drop)
    }

    pub(super) fn as_volume(&self) -> Volume {
        Volume {
            source: self.source.clone(),
            target: self.target.clone(),
            read_only: self.read_only,
            propagation: self.propagation.clone(),
        }
    }
}

impl Run {
    /// The program and its arguments.
    pub(super) fn words(&self) -> Vec<&str> {
        self.spec["process"]["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }
}

pub(super) fn from_runtime(error: &libcontainer::Error) -> Error {
    Error::new(ErrorKind::Os, error.to_string())
}

pub(super) fn folder(store: &Store, id: &str) -> PathBuf {
    store.root().join("containers").join(id)
}

pub(super) fn remember(store: &Store, id: &str, run: &Run) -> Result<()> {
    store.set_extra(id, serde_json::to_value(run).map_err(|e| invalid(e.to_string()))?)
}

/// Reads, changes, writes, one at a time: others may have changed something else meanwhile.
pub(super) fn change(store: &Store, id: &str, change: impl FnOnce(&mut Run)) -> Result<()> {
    store.container(id)?;
    let _lock = lock(&folder(store, id).join("changing"), FlockOperation::LockExclusive)?;
    let mut run = known(&store.container(id)?)?;
    change(&mut run);
    remember(store, id, &run)
}

pub(super) fn recall(container: &ContainerRecord) -> Option<Run> {
    serde_json::from_value(container.extra.clone()).ok()
}

/// As [`recall`], for what only such a container can do.
pub(super) fn known(container: &ContainerRecord) -> Result<Run> {
    recall(container)
        .ok_or_else(|| invalid(format!("container {}: was not made by run or create", container.id)))
}

/// By ID, by the beginning of one, or by name.
pub(super) fn find(store: &Store, text: &str) -> Result<ContainerRecord> {
    let all = store.containers()?;
    let text = text.strip_prefix('/').unwrap_or(text);
    let named = |c: &&ContainerRecord| c.id == text || recall(c).is_some_and(|run| run.name == text);
    if let Some(container) = all.iter().find(named) {
        return Ok(container.clone());
    }
    let mut begins = all.iter().filter(|container| !text.is_empty() && container.id.starts_with(text));
    match (begins.next(), begins.next()) {
        (Some(container), None) => Ok(container.clone()),
        (Some(_), Some(_)) => Err(invalid(format!("container {text:?}: begins the IDs of several"))),
        _ => Err(Error::new(ErrorKind::NotFound, format!("container {text:?}: does not exist"))),
    }
}

/// The ID of what a person names, for the other commands.
pub(crate) fn id_of(store: &Store, text: &str) -> Result<String> {
    find(store, text).map(|container| container.id)
}

pub(super) fn runtime() -> Result<Runtime> {
    Runtime::open(state_root()?.join("state")).map_err(|e| from_runtime(&e))
}

pub(super) fn container_id(id: &str) -> Result<ContainerId> {
    ContainerId::new(id).map_err(|e| from_runtime(&e))
}

/// The container, if its process has not ended.
pub(super) fn running(id: &str) -> Option<(Container, Status)> {
    let container = runtime().ok()?.load(&container_id(id).ok()?).ok()?;
    let status = container.state().ok()?.status;
    (status != Status::Stopped).then_some((container, status))
}

/// The parent of a container, by the lock that it holds from before the container is made until its end is noted.
#[derive(Debug)]
pub(super) struct Parent(Option<File>);

impl Parent {
    pub(super) fn of(store: &Store, id: &str) -> Self {
        Self(File::open(folder(store, id).join("lock")).ok())
    }

    pub(super) fn is_there(&self) -> bool {
        let Some(file) = &self.0 else { return false };
        let free = rustix::fs::flock(file, FlockOperation::NonBlockingLockShared).is_ok();
        free.then(|| rustix::fs::flock(file, FlockOperation::Unlock));
        !free
    }
}

/// As [`running`]; an error when it does not.
pub(super) fn live(store: &Store, text: &str) -> Result<(ContainerRecord, Container, Status)> {
    let record = find(store, text)?;
    match running(&record.id) {
        Some((container, status)) => Ok((record, container, status)),
        None => Err(invalid(format!("container {text:?}: is not running"))),
    }
}

/// What a parent that was killed has left of a container that has ended since.
pub(super) fn clean(id: &str) {
    if let Ok(container) = runtime().and_then(|r| r.load(&container_id(id)?).map_err(|e| from_runtime(&e))) {
        let _ = container.delete(Delete::Stopped);
    }
    let _ = socket(id).map(std::fs::remove_file);
}

/// The root of a running container, seen through its first process: an overlay must not be mounted twice.
pub(crate) fn live_root(id: &str) -> Option<OwnedFd> {
    let (container, _) = running(id)?;
    File::open(format!("/proc/{}/root", container.pid())).ok().map(OwnedFd::from)
}

/// Where a container's parent listens. A socket's name has 107 bytes at most.
pub(super) fn socket(id: &str) -> Result<PathBuf> {
    let folder = state_root()?.join("attach");
    std::fs::create_dir_all(&folder).map_err(|e| Error::from(e).context(format!("mkdir {folder:?}")))?;
    Ok(folder.join(&id[..id.len().min(16)]))
}

/// Held by who makes or renames containers, for names are looked up before they are given; and by who removes volumes, for
/// a container has none until its record says so.
#[derive(Debug)]
pub(super) struct NamesLock {
    _file: File,
}

pub(super) fn lock_names(store: &Store) -> Result<NamesLock> {
    let path = store.root().join("locks").join("names");
    Ok(NamesLock { _file: lock(&path, FlockOperation::LockExclusive)? })
}

pub(super) fn lock(path: &std::path::Path, operation: FlockOperation) -> Result<File> {
    let failed = |what: &str, e: Error| e.context(format!("{what} {path:?}"));
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|e| failed("open", e.into()))?;
    rustix::fs::flock(&file, operation).map_err(|e| failed("flock", e.into()))?;
    Ok(file)
}
