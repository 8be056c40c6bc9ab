//! Containers as records in the store and as state of the runtime.

pub(crate) mod describe;
pub(crate) mod find;
pub(crate) mod locks;
pub(crate) mod mounts;
pub(crate) mod record;
pub(crate) mod state;
pub(crate) mod usage;
pub(crate) mod volumes;
