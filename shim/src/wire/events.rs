//! The events that a shim sends to containerd.
//!
//! Field numbers are those of containerd's api/events/task.proto, api/types/event.proto and
//! api/services/ttrpc/events/v1/events.proto.

use super::types::{Any, ExitReason, Mount, Timestamp};
use prost::Message;

/// containerd's service for events, at the address `TTRPC_ADDRESS`.
pub const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";
/// Its only method.
pub const FORWARD: &str = "Forward";

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A container was made.
    Create(TaskCreate),
    /// Its program was started.
    Start(TaskStart),
    /// A process was deleted.
    Delete(TaskDelete),
    /// A process has ended.
    Exit(TaskExit),
    /// The kernel killed something for the memory limit.
    Oom(TaskOom),
    /// A process was registered.
    ExecAdded(TaskExecAdded),
    /// It was started.
    ExecStarted(TaskExecStarted),
    /// The container was paused.
    Paused(TaskPaused),
    /// The container was resumed.
    Resumed(TaskResumed),
    /// The container was saved.
    Checkpointed(TaskCheckpointed),
}

impl Event {
    /// The topic under which it is published.
    pub fn topic(&self) -> &'static str {
        match self {
            Self::Create(_) => "/tasks/create",
            Self::Start(_) => "/tasks/start",
            Self::Delete(_) => "/tasks/delete",
            Self::Exit(_) => "/tasks/exit",
            Self::Oom(_) => "/tasks/oom",
            Self::ExecAdded(_) => "/tasks/exec-added",
            Self::ExecStarted(_) => "/tasks/exec-started",
            Self::Paused(_) => "/tasks/paused",
            Self::Resumed(_) => "/tasks/resumed",
            Self::Checkpointed(_) => "/tasks/checkpointed",
        }
    }

    /// The event as an `Any`.
    pub fn pack(&self) -> Any {
        match self {
            Self::Create(event) => Any::pack("containerd.events.TaskCreate", event),
            Self::Start(event) => Any::pack("containerd.events.TaskStart", event),
            Self::Delete(event) => Any::pack("containerd.events.TaskDelete", event),
            Self::Exit(event) => Any::pack("containerd.events.TaskExit", event),
            Self::Oom(event) => Any::pack("containerd.events.TaskOOM", event),
            Self::ExecAdded(event) => Any::pack("containerd.events.TaskExecAdded", event),
            Self::ExecStarted(event) => Any::pack("containerd.events.TaskExecStarted", event),
            Self::Paused(event) => Any::pack("containerd.events.TaskPaused", event),
            Self::Resumed(event) => Any::pack("containerd.events.TaskResumed", event),
            Self::Checkpointed(event) => Any::pack("containerd.events.TaskCheckpointed", event),
        }
    }

    /// The event with its time and place, ready for [`FORWARD`].
    pub fn forward(&self, namespace: &str, timestamp: Timestamp) -> ForwardRequest {
        let envelope = Envelope {
            timestamp: Some(timestamp),
            namespace: namespace.to_owned(),
            topic: self.topic().to_owned(),
            event: Some(self.pack()),
        };
        ForwardRequest { envelope: Some(envelope) }
    }
}

/// A container was made.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskCreate {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The bundle directory.
    #[prost(string, tag = "2")]
    pub bundle: String,
    /// The mounts of its root.
    #[prost(message, repeated, tag = "3")]
    pub rootfs: Vec<Mount>,
    /// Its streams.
    #[prost(message, optional, tag = "4")]
    pub io: Option<TaskIo>,
    /// The checkpoint it was restored from.
    #[prost(string, tag = "5")]
    pub checkpoint: String,
    /// The pid of its first process.
    #[prost(uint32, tag = "6")]
    pub pid: u32,
}

/// Its program was started.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskStart {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The pid of its first process.
    #[prost(uint32, tag = "2")]
    pub pid: u32,
}

/// A process was deleted.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskDelete {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// Its pid.
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    /// Its exit code, or 128 plus its signal.
    #[prost(uint32, tag = "3")]
    pub exit_status: u32,
    /// When it ended.
    #[prost(message, optional, tag = "4")]
    pub exited_at: Option<Timestamp>,
    /// The exec, or empty.
    #[prost(string, tag = "5")]
    pub id: String,
}

/// A process has ended.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskExit {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The exec, or the container itself for its first process.
    #[prost(string, tag = "2")]
    pub id: String,
    /// Its pid.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    /// Its exit code, or 128 plus its signal.
    #[prost(uint32, tag = "4")]
    pub exit_status: u32,
    /// When it ended.
    #[prost(message, optional, tag = "5")]
    pub exited_at: Option<Timestamp>,
    /// See [`ExitReason`]; since containerd 2.3.
    #[prost(enumeration = "ExitReason", tag = "6")]
    pub exit_reason: i32,
}

/// The kernel killed something for the memory limit.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskOom {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// A process was registered.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskExecAdded {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// Its name.
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// It was started.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskExecStarted {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// Its name.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Its pid on the host.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
}

/// The container was paused.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskPaused {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// The container was resumed.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskResumed {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// The container was saved.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskCheckpointed {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The directory of the checkpoint.
    #[prost(string, tag = "2")]
    pub checkpoint: String,
}

/// Streams, as in `CreateTaskRequest`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskIo {
    /// A fifo, or empty.
    #[prost(string, tag = "1")]
    pub stdin: String,
    /// A fifo, a `binary://` or `file://` URI, or empty.
    #[prost(string, tag = "2")]
    pub stdout: String,
    /// As stdout; empty with a terminal.
    #[prost(string, tag = "3")]
    pub stderr: String,
    /// Whether the process has a terminal.
    #[prost(bool, tag = "4")]
    pub terminal: bool,
}

/// `containerd.types.Envelope`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Envelope {
    /// When it happened.
    #[prost(message, optional, tag = "1")]
    pub timestamp: Option<Timestamp>,
    /// containerd's namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// See [`Event::topic`].
    #[prost(string, tag = "3")]
    pub topic: String,
    /// See [`Event::pack`].
    #[prost(message, optional, tag = "4")]
    pub event: Option<Any>,
}

/// The argument of [`FORWARD`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ForwardRequest {
    /// The event.
    #[prost(message, optional, tag = "1")]
    pub envelope: Option<Envelope>,
}
