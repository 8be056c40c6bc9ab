//! A runtime: a state directory and the facts about this host. It makes containers and finds them again.

use crate::bundle::Bundle;
use crate::container::Container;
use crate::error::Result;
use crate::host::Host;
use crate::id::ContainerId;
use crate::plan::{Plan, PlanOptions};
use crate::process::Stdio;
use crate::state::State;
use std::path::{Path, PathBuf};

/// The directory of all containers' states, and the host. Cheap to open; may be shared between threads.
#[derive(Debug)]
pub struct Runtime {
    pub(crate) root: PathBuf,
    pub(crate) host: Host,
}

/// How a container is made.
#[derive(Debug)]
#[non_exhaustive]
pub struct CreateOptions {
    /// The streams of the container's process.
    pub stdio: Stdio,
    /// Use MS_MOVE and chroot instead of pivot_root: for roots on an initramfs. Less safe.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// Hand on this many descriptors from 3 on.
    pub preserve_fds: u32,
    /// `cgroupsPath` is `slice:prefix:name`.
    pub systemd_cgroup: bool,
}

impl CreateOptions {
    /// Defaults with these streams.
    pub fn new(stdio: Stdio) -> Self {
        CreateOptions { stdio, no_pivot: false, no_new_keyring: false, preserve_fds: 0, systemd_cgroup: false }
    }

    pub(crate) fn plan_options(&self) -> PlanOptions {
        PlanOptions {
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: self.preserve_fds,
            systemd_cgroup: self.systemd_cgroup,
        }
    }
}

impl Runtime {
    /// A runtime with its states in `state_root`, which is made by the first `create`.
    ///
    /// # Errors
    /// `Os` when the host can not be probed (no /proc).
    pub fn open(state_root: impl AsRef<Path>) -> Result<Self> {
        let _ = state_root;
        todo!()
    }

    /// The facts about this host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// What `create` would do, without doing it and without privileges.
    ///
    /// # Errors
    /// `InvalidSpec` and `Unsupported` as `create`.
    pub fn plan(&self, id: &ContainerId, bundle: &Bundle, options: &CreateOptions) -> Result<Plan> {
        let _ = (id, bundle, options);
        todo!()
    }

    /// Makes a container up to the point where its process waits for `start`.
    ///
    /// # Errors
    /// `Exists`, `InvalidSpec`, `Unsupported`, `Permission`, `Os`; the host is as before then.
    pub fn create(&self, id: &ContainerId, bundle: &Bundle, options: CreateOptions) -> Result<Container> {
        let _ = (id, bundle, options);
        todo!()
    }

    /// A container that was made before, perhaps by another process.
    ///
    /// # Errors
    /// `NotFound` (`container does not exist`).
    pub fn load(&self, id: &ContainerId) -> Result<Container> {
        let _ = id;
        todo!()
    }

    /// All containers, sorted by id. One that can not be read is left out.
    ///
    /// # Errors
    /// `NotFound` when the state directory is not there.
    pub fn list(&self) -> Result<Vec<State>> {
        todo!()
    }
}
