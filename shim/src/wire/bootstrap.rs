//! The input and the output of `start`: `containerd.runtime.bootstrap.v1` since containerd 2.3, flags and the runtime options before.
//!
//! This module does not know how a shim is started.

use super::types::Any;
use prost::Message;
use std::collections::BTreeMap;

/// `containerd.runtime.bootstrap.v1.BootstrapParams`, as far as a shim needs it. The log level is left out: it was a text before it
/// was a number, and there is the flag `-debug`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct BootstrapParams {
    /// The container.
    #[prost(string, tag = "1")]
    pub instance_id: String,
    /// containerd's namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// Such as `v2.3.0`.
    #[prost(string, tag = "4")]
    pub containerd_version: String,
    /// The socket for events.
    #[prost(string, tag = "5")]
    pub containerd_ttrpc_address: String,
    /// containerd's main socket.
    #[prost(string, tag = "6")]
    pub containerd_grpc_address: String,
    /// containerd's program.
    #[prost(string, tag = "7")]
    pub containerd_binary: String,
    /// The runtime options, among others.
    #[prost(message, repeated, tag = "8")]
    pub extensions: Vec<Extension>,
    /// The directory for the shim's socket; empty is `/run/containerd/s`.
    #[prost(string, tag = "9")]
    pub socket_dir: String,
}

/// `containerd.runtime.bootstrap.v1.Extension`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Extension {
    /// Of any type.
    #[prost(message, optional, tag = "1")]
    pub value: Option<Any>,
}

/// `containerd.runtime.bootstrap.v1.BootstrapResult`. There are no capabilities yet.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct BootstrapResult {
    /// The version of the task service: 2 or 3.
    #[prost(int32, tag = "1")]
    pub version: i32,
    /// `unix://` and a path.
    #[prost(string, tag = "2")]
    pub address: String,
    /// `ttrpc`.
    #[prost(string, tag = "3")]
    pub protocol: String,
    /// Further information.
    #[prost(btree_map = "string, string", tag = "5")]
    pub metadata: BTreeMap<String, String>,
}

/// The standard input of `start`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// containerd 2.3 or later.
    Bootstrap(BootstrapParams),
    /// An older one: the runtime options, if there are any.
    Legacy(Option<Any>),
}

impl Input {
    /// Reads standard input. The bytes of an `Any` are a valid `BootstrapParams`, too (with its type in place of the id), so these are
    /// distinguished by whether they name the same container as the flags.
    pub fn read(bytes: &[u8], id: &str, namespace: &str) -> Self {
        if let Ok(params) = BootstrapParams::decode(bytes)
            && params.instance_id == id
            && params.namespace == namespace
        {
            return Self::Bootstrap(params);
        }
        let any = Any::decode(bytes).ok();
        Self::Legacy(any.filter(|any| !any.type_url.is_empty() || !any.value.is_empty()))
    }

    /// The runtime options: the first extension whose name ends in `.Options`, or the legacy `Any`.
    pub fn options(&self) -> Option<&Any> {
        match self {
            Self::Bootstrap(params) => params
                .extensions
                .iter()
                .filter_map(|extension| extension.value.as_ref())
                .find(|any| any.name().ends_with(".Options")),
            Self::Legacy(any) => any.as_ref(),
        }
    }

    /// The directory for the socket, if the caller chooses one.
    pub fn socket_dir(&self) -> Option<&str> {
        match self {
            Self::Bootstrap(params) if !params.socket_dir.is_empty() => Some(&params.socket_dir),
            _ => None,
        }
    }

    /// The output of `start`, in the format of the input. containerd before 2.3 gets the bare address, which means version 2 of the task
    /// service: 1.6 understands nothing else, 1.7 refuses version 3, and they cannot be distinguished from 2.0 (decision 0305).
    pub fn reply(&self, address: &str) -> Vec<u8> {
        match self {
            Self::Bootstrap(_) => BootstrapResult {
                version: 3,
                address: address.to_owned(),
                protocol: "ttrpc".to_owned(),
                metadata: BTreeMap::new(),
            }
            .encode_to_vec(),
            Self::Legacy(_) => address.as_bytes().to_vec(),
        }
    }
}
