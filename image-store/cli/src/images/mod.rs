//! The commands on images.

pub(crate) mod archives;
pub(crate) mod changes;
mod compression;
pub(crate) mod describe;
pub(crate) mod history;
pub(crate) mod list;
pub(crate) mod login;
pub(crate) mod names;
pub(crate) mod platform;
pub(crate) mod prune;
pub(crate) mod pull;
pub(crate) mod push;
mod registry;
pub(crate) mod search;
pub(crate) mod verify;
