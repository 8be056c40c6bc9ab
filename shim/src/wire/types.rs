//! The messages that several services share: google.protobuf's well-known ones and `containerd.types`.
//!
//! Field numbers are those of containerd's api/types/*.proto and api/types/task/task.proto.

use super::code::Failure;
use prost::Message;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `google.protobuf.Any`: a message with its type's name, or JSON with the name of a Go type.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Any {
    /// containerd writes the bare name (`containerd.runc.v1.Options`); others put `type.googleapis.com/` before it.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The encoded message.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

impl Any {
    /// Encodes `message` under the bare name `name`.
    pub fn pack(name: &str, message: &impl Message) -> Self {
        Self { type_url: name.to_owned(), value: message.encode_to_vec() }
    }

    /// The type's name without the host part of the URL.
    pub fn name(&self) -> &str {
        self.type_url.rsplit('/').next().unwrap_or_default()
    }

    /// Decodes the value as an `M`, without checking the name. `what` is for the error.
    pub fn unpack<M: Message + Default>(&self, what: &str) -> Result<M, Failure> {
        decode(&self.value, what)
    }
}

/// Decodes `bytes`; `what` names the message in the error.
pub fn decode<M: Message + Default>(bytes: &[u8], what: &str) -> Result<M, Failure> {
    M::decode(bytes).map_err(|error| Failure::invalid_argument(format!("decode {what}: {error}")))
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Timestamp {
    /// Seconds since 1970.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// 0 to 999,999,999.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Timestamp {
    /// The time now.
    pub fn now() -> Self {
        SystemTime::now().into()
    }
}

impl From<SystemTime> for Timestamp {
    /// A time before 1970 becomes 1970.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
        }
    }
}

/// `google.protobuf.Empty`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Empty {}

/// `containerd.types.Mount`: the arguments of mount(8).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Mount {
    /// The file system's type, or `bind`.
    #[prost(string, tag = "1")]
    pub r#type: String,
    /// A device, a directory or a name.
    #[prost(string, tag = "2")]
    pub source: String,
    /// Relative to the root; empty is the root itself.
    #[prost(string, tag = "3")]
    pub target: String,
    /// As in fstab(5).
    #[prost(string, repeated, tag = "4")]
    pub options: Vec<String>,
}

/// `containerd.v1.types.Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Status {
    /// Unknown.
    Unknown = 0,
    /// Made, but not started.
    Created = 1,
    /// Running.
    Running = 2,
    /// Ended.
    Stopped = 3,
    /// Paused.
    Paused = 4,
    /// Being paused.
    Pausing = 5,
}

/// `containerd.v1.types.ExitReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum ExitReason {
    /// It exited by itself, or the reason is unknown.
    None = 0,
    /// Killed for its memory limit.
    OomKilled = 1,
    /// By another signal.
    Signaled = 2,
}

/// `containerd.v1.types.ProcessInfo`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ProcessInfo {
    /// Its pid on the host.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    /// A [`super::options::ProcessDetails`] for a process of `Exec`.
    #[prost(message, optional, tag = "2")]
    pub info: Option<Any>,
}
