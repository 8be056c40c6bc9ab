//! Container images on disk.
#![cfg_attr(test, allow(clippy::unwrap_used))]
#![forbid(unsafe_code)]

pub mod archive;
pub mod copy;
pub mod digest;
mod error;
mod fixup;
pub mod instruction;
pub mod layer;
pub mod manifest;
mod percent;
pub mod platform;
pub mod reference;
pub mod registry;
#[cfg(test)]
mod scratch;
pub mod store;
mod stubs;
pub mod tar;
pub mod time;
mod tree;

pub use digest::Digest;
pub use error::{Error, ErrorKind, Result};
pub use reference::Reference;
pub use store::{Store, StoreOptions};
