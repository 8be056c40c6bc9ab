//! The task service: `containerd.task.v2.Task` and `containerd.task.v3.Task`, which differ in name only.
//!
//! Field numbers are those of containerd's api/runtime/task/v3/shim.proto.

use super::types::{Any, Mount, ProcessInfo, Status, Timestamp};
use prost::Message;
use std::collections::BTreeMap;

/// The service's name for containerd 2.
pub const SERVICE_V3: &str = "containerd.task.v3.Task";
/// The service's name for containerd 1.
pub const SERVICE_V2: &str = "containerd.task.v2.Task";

/// Makes a container.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CreateTaskRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The bundle directory.
    #[prost(string, tag = "2")]
    pub bundle: String,
    /// Mounts to make one after the other on `rootfs` in the bundle; without any, the root exists already.
    #[prost(message, repeated, tag = "3")]
    pub rootfs: Vec<Mount>,
    /// Whether the process has a terminal.
    #[prost(bool, tag = "4")]
    pub terminal: bool,
    /// A fifo, or empty.
    #[prost(string, tag = "5")]
    pub stdin: String,
    /// A fifo, a `binary://` or `file://` URI, or empty.
    #[prost(string, tag = "6")]
    pub stdout: String,
    /// As stdout; empty with a terminal.
    #[prost(string, tag = "7")]
    pub stderr: String,
    /// The directory of a checkpoint to restore, or empty.
    #[prost(string, tag = "8")]
    pub checkpoint: String,
    /// Not used by runc.
    #[prost(string, tag = "9")]
    pub parent_checkpoint: String,
    /// See [`super::options`].
    #[prost(message, optional, tag = "10")]
    pub options: Option<Any>,
}

/// The container was made.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct CreateTaskResponse {
    /// The pid of its first process.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
}

/// Deletes a process that has ended.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DeleteRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Empty for the container's first process.
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// The process was deleted.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct DeleteResponse {
    /// Its pid.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    /// Its exit code, or 128 plus its signal.
    #[prost(uint32, tag = "2")]
    pub exit_status: u32,
    /// When it ended.
    #[prost(message, optional, tag = "3")]
    pub exited_at: Option<Timestamp>,
}

/// Registers another process, for `Start`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ExecProcessRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its name.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Whether the process has a terminal.
    #[prost(bool, tag = "3")]
    pub terminal: bool,
    /// A fifo, or empty.
    #[prost(string, tag = "4")]
    pub stdin: String,
    /// A fifo, a `binary://` or `file://` URI, or empty.
    #[prost(string, tag = "5")]
    pub stdout: String,
    /// As stdout; empty with a terminal.
    #[prost(string, tag = "6")]
    pub stderr: String,
    /// OCI `process` as JSON.
    #[prost(message, optional, tag = "7")]
    pub spec: Option<Any>,
}

/// Sets the size of a terminal.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ResizePtyRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Empty for the container's first process.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Columns.
    #[prost(uint32, tag = "3")]
    pub width: u32,
    /// Rows.
    #[prost(uint32, tag = "4")]
    pub height: u32,
}

/// Asks for the state of a process.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StateRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Empty for the container's first process.
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// The state of a process.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StateResponse {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The bundle directory.
    #[prost(string, tag = "2")]
    pub bundle: String,
    /// Its pid on the host.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    /// See [`Status`].
    #[prost(enumeration = "Status", tag = "4")]
    pub status: i32,
    /// A fifo, or empty.
    #[prost(string, tag = "5")]
    pub stdin: String,
    /// A fifo, a `binary://` or `file://` URI, or empty.
    #[prost(string, tag = "6")]
    pub stdout: String,
    /// As stdout; empty with a terminal.
    #[prost(string, tag = "7")]
    pub stderr: String,
    /// Whether the process has a terminal.
    #[prost(bool, tag = "8")]
    pub terminal: bool,
    /// Its exit code, or 128 plus its signal.
    #[prost(uint32, tag = "9")]
    pub exit_status: u32,
    /// When it ended.
    #[prost(message, optional, tag = "10")]
    pub exited_at: Option<Timestamp>,
    /// Empty for the container's first process.
    #[prost(string, tag = "11")]
    pub exec_id: String,
}

/// Sends a signal.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct KillRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Empty for the container's first process.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Its number.
    #[prost(uint32, tag = "3")]
    pub signal: u32,
    /// To all processes of the container.
    #[prost(bool, tag = "4")]
    pub all: bool,
}

/// Closes a stream.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CloseIORequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Empty for the container's first process.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Standard input.
    #[prost(bool, tag = "3")]
    pub stdin: bool,
}

/// Asks for the processes of a container.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PidsRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// The processes of a container.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PidsResponse {
    /// All of them.
    #[prost(message, repeated, tag = "1")]
    pub processes: Vec<ProcessInfo>,
}

/// Saves a container, to be restored later.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CheckpointTaskRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The directory to save to.
    #[prost(string, tag = "2")]
    pub path: String,
    /// A [`super::options::CheckpointOptions`].
    #[prost(message, optional, tag = "3")]
    pub options: Option<Any>,
}

/// Changes limits.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct UpdateTaskRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// OCI `linux.resources` as JSON.
    #[prost(message, optional, tag = "2")]
    pub resources: Option<Any>,
    /// For the shim.
    #[prost(btree_map = "string, string", tag = "3")]
    pub annotations: BTreeMap<String, String>,
}

/// Starts a process.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StartRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Empty for the container's first process.
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// The process was started.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct StartResponse {
    /// Its pid on the host.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
}

/// Waits for the end of a process.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct WaitRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Empty for the container's first process.
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// The process has ended.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct WaitResponse {
    /// Its exit code, or 128 plus its signal.
    #[prost(uint32, tag = "1")]
    pub exit_status: u32,
    /// When it ended.
    #[prost(message, optional, tag = "2")]
    pub exited_at: Option<Timestamp>,
}

/// Asks for the resource usage of a container.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StatsRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// The resource usage of a container.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StatsResponse {
    /// A [`super::metrics_v1::Metrics`] or a [`super::metrics_v2::Metrics`].
    #[prost(message, optional, tag = "1")]
    pub stats: Option<Any>,
}

/// Asks for the pids of the shim and of a container.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ConnectRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// The pids of the shim and of a container.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ConnectResponse {
    /// The pid of the shim.
    #[prost(uint32, tag = "1")]
    pub shim_pid: u32,
    /// The pid of the container's first process.
    #[prost(uint32, tag = "2")]
    pub task_pid: u32,
    /// The version of the shim.
    #[prost(string, tag = "3")]
    pub version: String,
}

/// Ends the shim, if it has no containers.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ShutdownRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Not used by the Go shim.
    #[prost(bool, tag = "2")]
    pub now: bool,
}

/// Pauses a container.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PauseRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// Resumes a container.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ResumeRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
}
