//! What the store's record of a container keeps for this crate: how it is run, and how its last run ended.

use std::collections::BTreeMap;

use image_store::Store;
use image_store::store::ContainerRecord;
use libcontainer::spec::{LinuxNamespaceType, Spec};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::locks::lock;
use crate::failure::{Result, invalid};
use crate::places;

/// How a container is run, and its last run: what this crate adds to the store's record of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) name: String,
    /// Only its name and its volumes are reserved yet.
    #[serde(default)]
    pub(crate) unfinished: bool,
    /// config.json, without the namespaces of other containers.
    pub(crate) spec: Spec,
    /// Kinds of namespaces that it joins, with the IDs of the containers that have them.
    #[serde(default)]
    pub(crate) joins: Vec<(LinuxNamespaceType, String)>,
    pub(crate) terminal: bool,
    pub(crate) interactive: bool,
    /// Standard input is closed when the first client that writes to it leaves.
    #[serde(default)]
    pub(crate) input_once: bool,
    /// The container is removed when its process exits.
    pub(crate) remove: bool,
    #[serde(default)]
    pub(crate) restart: Restart,
    #[serde(default)]
    pub(crate) log: bool,
    pub(crate) stop_signal: String,
    #[serde(default)]
    pub(crate) stop_timeout: Option<u64>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) volumes: Vec<Mounted>,
    /// As the flags or the image name it.
    #[serde(default)]
    pub(crate) user: String,
    #[serde(default)]
    pub(crate) privileged: bool,
    #[serde(default)]
    pub(crate) network: String,
    /// RFC 3339.
    #[serde(default)]
    pub(crate) started: Option<String>,
    #[serde(default)]
    pub(crate) finished: Option<String>,
    #[serde(default)]
    pub(crate) exit_code: Option<i32>,
    /// The kernel killed one of its processes for lack of memory.
    #[serde(default)]
    pub(crate) oom_killed: bool,
    /// Why it could not be started; empty if it was.
    #[serde(default)]
    pub(crate) error: String,
    #[serde(default)]
    pub(crate) restarts: u32,
}

/// Whether the container is started again when its process exits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Restart {
    #[default]
    No,
    /// After an exit status other than 0, up to this many times; 0: no limit.
    OnFailure(u32),
    Always,
}

/// A volume or a directory of the host that is mounted in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mounted {
    /// The name of the volume; empty for a directory of the host.
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) read_only: bool,
    pub(crate) propagation: String,
    /// Created for this container only.
    pub(crate) anonymous: bool,
}

impl Mounted {
    /// Checks that a volume of the store is a directory, not a link to something of the host. Only the store writes in `volumes`, so
    /// that what is checked here is what is mounted.
    pub(crate) fn check(&self, store: &Store) -> Result<()> {
        if self.name.is_empty() {
            return Ok(());
        }
        store.volume(&self.name)?;
        Ok(())
    }
}

impl Run {
    /// What the record says, if the container was made by this version's `run` or `create`.
    pub(crate) fn of(container: &ContainerRecord) -> Option<Self> {
        container.remembered().ok().flatten()
    }

    /// As [`Run::of`]; an error for other containers, and for those that are not finished.
    pub(crate) fn require(container: &ContainerRecord) -> Result<Self> {
        let run = Self::any(container)?;
        if run.unfinished {
            return Err(invalid(format!(
                "container {}: is being created; if that was interrupted, remove it",
                container.id
            )));
        }
        Ok(run)
    }

    fn any(container: &ContainerRecord) -> Result<Self> {
        Self::of(container).ok_or_else(|| {
            invalid(format!(
                "container {}: not created by `run` or `create` of this version of knarr-image",
                container.id
            ))
        })
    }

    pub(crate) fn save(&self, store: &Store, id: &str) -> Result<()> {
        Ok(store.remember(id, self)?)
    }

    /// Reads, changes and writes it under a lock, so that no change is lost.
    pub(crate) fn change(store: &Store, id: &str, change: impl FnOnce(&mut Self)) -> Result<()> {
        store.container(id)?;
        let _lock = lock(&places::container(store, id).changing(), FlockOperation::LockExclusive)?;
        let mut run = Self::any(&store.container(id)?)?;
        change(&mut run);
        run.save(store, id)
    }

    /// The program and its arguments.
    pub(crate) fn command(&self) -> &[String] {
        self.spec.process().as_ref().and_then(|process| process.args().as_deref()).unwrap_or_default()
    }
}
