//! The runtime options: `containerd.runc.v1.Options`, or `runtimeoptions.v1.Options` with the same names in TOML.
//!
//! containerd sends the first to a runtime called `io.containerd.runc.v2`, and CRI the second to any other; ctr and Docker may send none.
//! An unknown option is an error.

use super::code::Failure;
use super::toml::{self, Value};
use super::types::Any;
use prost::Message;
use std::fs::File;
use std::io::Read;

/// The limit of the size of a configuration file.
const CONFIG_LIMIT: u64 = 64 << 10;

/// `containerd.runc.v1.Options`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Options {
    /// Use MS_MOVE and chroot instead of pivot_root.
    #[prost(bool, tag = "1")]
    pub no_pivot_root: bool,
    /// Share the shim's session keyring with the container.
    #[prost(bool, tag = "2")]
    pub no_new_keyring: bool,
    /// A cgroup that the shim joins.
    #[prost(string, tag = "3")]
    pub shim_cgroup: String,
    /// The owner of the streams' pipes.
    #[prost(uint32, tag = "4")]
    pub io_uid: u32,
    /// The group of the streams' pipes.
    #[prost(uint32, tag = "5")]
    pub io_gid: u32,
    /// The runtime's program; see [`Options::check`].
    #[prost(string, tag = "6")]
    pub binary_name: String,
    /// The runtime's state directory, without the namespace.
    #[prost(string, tag = "7")]
    pub root: String,
    /// Use the systemd cgroup driver.
    #[prost(bool, tag = "9")]
    pub systemd_cgroup: bool,
    /// The directory of checkpoints.
    #[prost(string, tag = "10")]
    pub criu_image_path: String,
    /// CRIU's work directory.
    #[prost(string, tag = "11")]
    pub criu_work_path: String,
    /// For a remote shim; deprecated.
    #[prost(string, tag = "12")]
    pub task_api_address: String,
    /// For a remote shim; deprecated.
    #[prost(uint32, tag = "13")]
    pub task_api_version: u32,
}

/// `runtimeoptions.v1.Options`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RuntimeOptions {
    /// The type of the configuration.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// A TOML file.
    #[prost(string, tag = "2")]
    pub config_path: String,
    /// TOML, if there is no file.
    #[prost(bytes = "vec", tag = "3")]
    pub config_body: Vec<u8>,
}

/// `containerd.runc.v1.CheckpointOptions`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CheckpointOptions {
    /// End the container afterwards.
    #[prost(bool, tag = "1")]
    pub exit: bool,
    /// Save TCP connections.
    #[prost(bool, tag = "2")]
    pub open_tcp: bool,
    /// Save external Unix sockets.
    #[prost(bool, tag = "3")]
    pub external_unix_sockets: bool,
    /// Save terminals.
    #[prost(bool, tag = "4")]
    pub terminal: bool,
    /// Save file locks.
    #[prost(bool, tag = "5")]
    pub file_locks: bool,
    /// Namespaces to restore empty.
    #[prost(string, repeated, tag = "6")]
    pub empty_namespaces: Vec<String>,
    /// `soft`, `full` or `strict`.
    #[prost(string, tag = "7")]
    pub cgroups_mode: String,
    /// The directory of the checkpoint.
    #[prost(string, tag = "8")]
    pub image_path: String,
    /// CRIU's work directory.
    #[prost(string, tag = "9")]
    pub work_path: String,
    /// An earlier checkpoint.
    #[prost(string, tag = "10")]
    pub parent_path: String,
}

/// `containerd.runc.v1.ProcessDetails`: the details in a [`super::types::ProcessInfo`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ProcessDetails {
    /// As given to `Exec`.
    #[prost(string, tag = "1")]
    pub exec_id: String,
}

/// The type's name, for [`Any::pack`].
pub const OPTIONS: &str = "containerd.runc.v1.Options";
/// The type's name, for [`Any::pack`].
pub const RUNTIME_OPTIONS: &str = "runtimeoptions.v1.Options";
/// The type's name, for [`Any::pack`].
pub const CHECKPOINT_OPTIONS: &str = "containerd.runc.v1.CheckpointOptions";
/// The type's name, for [`Any::pack`].
pub const PROCESS_DETAILS: &str = "containerd.runc.v1.ProcessDetails";

impl Options {
    /// Reads the options in `any`, of either kind. Without them, or if they are empty, the result are the defaults.
    pub fn read(any: Option<&Any>) -> Result<Self, Failure> {
        let Some(any) = any.filter(|any| !any.type_url.is_empty() || !any.value.is_empty()) else {
            return Ok(Self::default());
        };
        match any.name() {
            OPTIONS => any.unpack(OPTIONS),
            RUNTIME_OPTIONS => Self::from_configuration(&any.unpack::<RuntimeOptions>(RUNTIME_OPTIONS)?),
            name => Err(Failure::invalid_argument(format!(
                "runtime options: unknown type {name:?} (expected {OPTIONS} or {RUNTIME_OPTIONS})"
            ))),
        }
    }

    fn from_configuration(options: &RuntimeOptions) -> Result<Self, Failure> {
        if options.config_path.is_empty() {
            return Self::from_toml(&options.config_body, "config_body");
        }
        let path = &options.config_path;
        let refuse = |error: std::io::Error| {
            Failure::invalid_argument(format!("runtime options: read {path:?}: {error}"))
        };
        let mut text = Vec::new();
        let file = File::open(path).map_err(refuse)?;
        file.take(CONFIG_LIMIT + 1).read_to_end(&mut text).map_err(refuse)?;
        if text.len() as u64 > CONFIG_LIMIT {
            return Err(Failure::invalid_argument(format!(
                "runtime options: {path:?} is longer than {CONFIG_LIMIT} bytes"
            )));
        }
        Self::from_toml(&text, path)
    }

    /// The names are those of `[…runtimes.NAME.options]` in containerd's configuration.
    fn from_toml(text: &[u8], place: &str) -> Result<Self, Failure> {
        let refuse = |why: String| Failure::invalid_argument(format!("runtime options: {place}: {why}"));
        let mut options = Self::default();
        for (key, value) in toml::parse(text).map_err(|error| refuse(error.to_string()))? {
            let kind = value.kind();
            match (key.as_str(), value) {
                ("NoPivotRoot", Value::Bool(value)) => options.no_pivot_root = value,
                ("NoNewKeyring", Value::Bool(value)) => options.no_new_keyring = value,
                ("SystemdCgroup", Value::Bool(value)) => options.systemd_cgroup = value,
                ("ShimCgroup", Value::Text(value)) => options.shim_cgroup = value,
                ("BinaryName", Value::Text(value)) => options.binary_name = value,
                ("Root", Value::Text(value)) => options.root = value,
                ("CriuImagePath", Value::Text(value)) => options.criu_image_path = value,
                ("CriuWorkPath", Value::Text(value)) => options.criu_work_path = value,
                // Still written by containerd 1.6 and 1.7; runc has ignored it since 1.1.
                ("CriuPath", Value::Text(_)) => {}
                ("IoUid", Value::Number(value)) => options.io_uid = id(value, "IoUid").map_err(refuse)?,
                ("IoGid", Value::Number(value)) => options.io_gid = id(value, "IoGid").map_err(refuse)?,
                ("TaskApiAddress", Value::Text(value)) => options.task_api_address = value,
                ("TaskApiVersion", Value::Number(value)) => {
                    options.task_api_version = id(value, "TaskApiVersion").map_err(refuse)?;
                }
                (key, _) => return Err(refuse(format!("{key}: unknown, or must not be a {kind}"))),
            }
        }
        Ok(options)
    }

    /// Refuses what this shim does not support. It is the runtime itself, so it accepts only the names of runtimes that it stands for.
    pub fn check(&self) -> Result<(), Failure> {
        let name = self.binary_name.rsplit('/').next().unwrap_or_default();
        if !self.binary_name.is_empty() && !matches!(name, "runc" | "knarr") {
            return Err(Failure::invalid_argument(format!(
                "runtime options: BinaryName {:?}: this shim runs containers itself and starts no other runtime: leave it \
                 empty, or use io.containerd.runc.v2 with containerd's shim",
                self.binary_name
            )));
        }
        if !self.root.is_empty() && !self.root.starts_with('/') {
            return Err(Failure::invalid_argument(format!(
                "runtime options: Root {:?}: must be an absolute path",
                self.root
            )));
        }
        if !self.task_api_address.is_empty() {
            return Err(Failure::invalid_argument(format!(
                "runtime options: TaskApiAddress {:?}: not supported",
                self.task_api_address
            )));
        }
        Ok(())
    }
}

fn id(value: i64, key: &str) -> Result<u32, String> {
    u32::try_from(value).map_err(|_| format!("{key} {value}: must be between 0 and {}", u32::MAX))
}
