//! The container's root file system: how a path inside it is found or made without ever leaving it.

pub(crate) mod overlay;
pub(crate) mod resolve;
