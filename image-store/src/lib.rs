//! Container images on disk.
#![cfg_attr(test, allow(clippy::unwrap_used))]
#![forbid(unsafe_code)]

pub mod digest;
mod error;
pub mod manifest;
pub mod platform;
pub mod reference;
pub mod tar;

pub use digest::Digest;
pub use error::{Error, ErrorKind, Result};
pub use reference::Reference;
