//! What is kept of a container between calls, and what a caller is told about it. The status is computed, never stored.

use oci_spec::runtime::Process;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where a container is in its life (runtime-spec, "State").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// `create` has not come back yet, or died.
    Creating,
    /// Its process waits for `start`.
    Created,
    /// Its program runs.
    Running,
    /// All its processes are frozen.
    Paused,
    /// Its process has ended.
    Stopped,
}

/// What `state` prints, in runc's order of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct State {
    /// The version of the runtime specification.
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
    /// When it was made, RFC 3339 with nanoseconds, UTC.
    pub created: String,
    /// The annotations of config.json.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The name of the user that made it, or the empty string.
    pub owner: String,
}

/// What is stored, besides the public state: all that later commands need, so that they never look at the bundle again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The version of this format.
    pub(crate) version: u32,
    pub(crate) process: Process,
}
