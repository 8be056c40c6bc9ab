//! What is stored of a container between calls, and the state that callers get. The status is computed, never stored.

pub(crate) mod alive;
pub(crate) mod dir;
pub(crate) mod owner;

use crate::cgroup::Cgroup;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::ContainerFacts;
use oci_spec::runtime::{Hooks, LinuxResources, Process};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where a container is in its life (runtime-spec, "State").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// `create` is in progress.
    Creating,
    /// Its process waits for `start`.
    Created,
    /// Its program is running.
    Running,
    /// All its processes are frozen.
    Paused,
    /// Its process has ended.
    Stopped,
}

impl Status {
    /// The status as `state` prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// What `state` prints, in runc's order of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct State {
    /// The version of the runtime specification that this state complies with, whatever config.json names.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// Its first process in the caller's pid namespace; 0 once it has ended.
    pub pid: i32,
    /// Where it is in its life.
    pub status: Status,
    /// The bundle, an absolute path.
    pub bundle: PathBuf,
    /// The root file system, an absolute path.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339 with nanoseconds, UTC.
    pub created: String,
    /// The annotations of config.json.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The name of the user who created it, or the empty string.
    pub owner: String,
}

/// The version of `Record`'s format; another one is refused rather than guessed at.
pub(crate) const RECORD_VERSION: u32 = 1;

/// What is stored: everything that later commands need, so that they never read the bundle again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) oci_version: String,
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    pub(crate) created: String,
    pub(crate) owner: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// 0 until the process exists.
    pub(crate) pid: i32,
    /// The process's start time in clock ticks since boot (field 22 of /proc/pid/stat): together with the pid it identifies the process.
    pub(crate) start_time: u64,
    pub(crate) cgroup: Cgroup,
    /// What an exec needs to know of the container.
    pub(crate) facts: ContainerFacts,
    /// The process description: the base of an exec.
    pub(crate) process: Process,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hooks: Option<Hooks>,
    /// The flags of the seccomp filter, which lies beside this file; `None` without a filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seccomp: Option<SeccompRecord>,
    /// The namespaces that were joined (CLONE_NEW*): they outlive the container.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) joined: u64,
    /// Where trees of the host are mounted, as config.json names the places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) binds: Vec<String>,
    /// CRIU has made its process, which is running although it has executed nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) restored: bool,
    /// The requested resources, with every update merged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resources: Option<LinuxResources>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// What an exec needs to install the container's filter again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeccompRecord {
    pub(crate) flags: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) listener: Option<Listener>,
}

/// Where the listener of SCMP_ACT_NOTIFY goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listener {
    pub(crate) path: PathBuf,
    pub(crate) metadata: String,
}

/// An operation that depends on the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Start,
    Exec { ignore_paused: bool },
    Pause,
    Resume,
    Update,
    Checkpoint,
    Delete,
}

/// Checks that the operation is allowed in this status. Callers of runc match these texts.
pub(crate) fn allowed(operation: Operation, status: Status) -> Result<()> {
    use Operation as O;
    use Status as S;
    let why = match (operation, status) {
        (O::Start, S::Created)
        | (O::Exec { .. }, S::Running | S::Created)
        | (O::Exec { ignore_paused: true }, S::Paused)
        | (O::Pause, S::Running | S::Created)
        | (O::Resume, S::Paused)
        | (O::Update, S::Created | S::Running | S::Paused)
        | (O::Checkpoint, S::Running | S::Paused)
        | (O::Delete, S::Stopped | S::Created) => return Ok(()),
        (O::Start, S::Paused) => "cannot start a container in the paused state".into(),
        (O::Checkpoint, status) => format!("container cannot be checkpointed in {} state", status.as_str()),
        (O::Start, S::Stopped) => "cannot start a container that has stopped".into(),
        (O::Start, _) => "cannot start an already running container".into(),
        (O::Exec { .. }, S::Stopped) => "cannot exec in a stopped container".into(),
        (O::Exec { .. }, S::Paused) => {
            "cannot exec in a paused container (use --ignore-paused to override)".into()
        }
        (O::Exec { .. }, _) => "cannot exec in a container that is still being created".into(),
        (O::Pause | O::Update, S::Stopped) => "container not running".into(),
        (O::Resume, _) => "container not paused".into(),
        (O::Delete, status) => format!("container is not stopped: {}", status.as_str()),
        (_, status) => format!("container is {}", status.as_str()),
    };
    Err(Error::new(ErrorKind::WrongState, why))
}

impl Record {
    /// The public state.
    pub(crate) fn state(&self, status: Status) -> State {
        State {
            oci_version: self.oci_version.clone(),
            id: self.id.clone(),
            pid: if status == Status::Stopped { 0 } else { self.pid },
            status,
            bundle: self.bundle.clone(),
            rootfs: self.rootfs.clone(),
            created: self.created.clone(),
            annotations: self.annotations.clone(),
            owner: self.owner.clone(),
        }
    }

    /// Whether it has a pid namespace of its own, whose processes all end with its first one. Those of a joined one do not.
    pub(crate) fn has_own_pids(&self) -> bool {
        self.facts.namespaces & !self.joined & libc::CLONE_NEWPID as u64 != 0
    }

    /// The pid of its first process `pid`, as a process in the container sees it.
    pub(crate) fn inside(&self, pid: i32) -> i32 {
        if self.facts.namespaces & libc::CLONE_NEWPID as u64 != 0 { 1 } else { pid }
    }

    /// The state as a hook reads it on stdin (runtime-spec, "State").
    pub(crate) fn hook_state(&self, status: Status, pid: i32) -> String {
        let mut state = serde_json::json!({
            "ociVersion": self.oci_version,
            "id": self.id,
            "status": status.as_str(),
            "bundle": self.bundle,
        });
        if let Some(map) = state.as_object_mut() {
            if pid > 0 {
                map.insert("pid".into(), pid.into());
            }
            if !self.annotations.is_empty() {
                map.insert("annotations".into(), serde_json::json!(self.annotations));
            }
        }
        state.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_allowed_in_exactly_these_statuses() {
        use Status::{Created as C, Creating as N, Paused as P, Running as R, Stopped as S};
        let table: [(Operation, &[Status]); 8] = [
            (Operation::Start, &[C]),
            (Operation::Exec { ignore_paused: false }, &[C, R]),
            (Operation::Exec { ignore_paused: true }, &[C, R, P]),
            (Operation::Pause, &[C, R]),
            (Operation::Resume, &[P]),
            (Operation::Update, &[C, R, P]),
            (Operation::Checkpoint, &[R, P]),
            (Operation::Delete, &[C, S]),
        ];
        for (operation, statuses) in table {
            for status in [N, C, R, P, S] {
                assert_eq!(
                    allowed(operation, status).is_ok(),
                    statuses.contains(&status),
                    "{operation:?} when {status:?}"
                );
            }
        }
        assert_eq!(allowed(Operation::Pause, S).unwrap_err().to_string(), "container not running");
    }
}
