//! The commands on the files of containers and images.

pub(crate) mod cp;
pub(crate) mod diff;
pub(crate) mod export;
pub(crate) mod mount;
mod pause;
mod root;
