//! The output of `-info`: `containerd.types.RuntimeInfo`, from api/types/introspection.proto.

use super::types::Any;
use prost::Message;
use std::collections::BTreeMap;

/// containerd's name for the type of the OCI features document, whose value is JSON.
pub const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// `containerd.types.RuntimeInfo`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RuntimeInfo {
    /// The runtime's name, such as `io.containerd.runc.v2`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The shim's version.
    #[prost(message, optional, tag = "2")]
    pub version: Option<RuntimeVersion>,
    /// The options that were given.
    #[prost(message, optional, tag = "3")]
    pub options: Option<Any>,
    /// See [`FEATURES`].
    #[prost(message, optional, tag = "4")]
    pub features: Option<Any>,
    /// Annotations of the shim, not of its features.
    #[prost(btree_map = "string, string", tag = "5")]
    pub annotations: BTreeMap<String, String>,
}

/// `containerd.types.RuntimeVersion`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RuntimeVersion {
    /// Such as `0.1.0`.
    #[prost(string, tag = "1")]
    pub version: String,
    /// The commit it was built from.
    #[prost(string, tag = "2")]
    pub revision: String,
}
