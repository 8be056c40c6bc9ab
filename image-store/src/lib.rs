//! Container images: from a name to a root file system that is ready to run, fast, shared between containers, and whole
//! after a power cut.
//!
//! ```no_run
//! use image_store::platform::Platform;
//! use image_store::registry::{Client, ClientOptions};
//! use image_store::store::Quiet;
//! use image_store::{Reference, Store, StoreOptions};
//!
//! fn main() -> image_store::Result<()> {
//!     let store = Store::open("/var/lib/engine/images", StoreOptions::default())?;
//!     let name = Reference::parse("alpine:3.20")?;
//!     let client = Client::new(ClientOptions::from_environment()?);
//!     let remote = client.find(&name)?;
//!     let image = store.ingest(&remote, &remote.descriptor, &Platform::host(), &[name], &Quiet)?;
//!
//!     let rootfs = store.prepare(&image, "web-1", serde_json::Value::Null)?;
//!     let mount = rootfs.mount()?; // a detached mount, to be attached wherever the engine wants it
//!     let lower_directories = &rootfs.lower;
//! #   let _ = (mount, lower_directories);
//!     Ok(())
//! }
//! ```
//!
//! | room | what it knows |
//! |---|---|
//! | [`mod@reference`], [`digest`], [`platform`], [`manifest`], [`instruction`], [`time`] | words and documents; pure |
//! | [`tar`] | archives as byte streams, both ways |
//! | [`layer`] | one layer: compressed tar to folder and back |
//! | [`store`] | the folder with everything in it: names, leases, collection, verification, root file systems |
//! | [`archive`] | images in folders and files: OCI layout, docker-archive |
//! | [`registry`] | images behind HTTP |
//! | [`copy`] | files into and out of a root file system |
//!
//! The library knows nothing of containers beyond their writable layers, prints nothing, keeps no state outside its
//! folder, and has no `unsafe`. It uses threads while it unpacks, and changes nothing of its caller's process.
#![cfg_attr(test, allow(clippy::unwrap_used))]
#![forbid(unsafe_code)]

pub mod archive;
mod buffered;
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
