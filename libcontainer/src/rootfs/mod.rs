//! The container's root file system: opens or makes paths inside it without ever leaving it.

pub(crate) mod overlay;
pub(crate) mod resolve;
