//! A store of container images: pull an image, get a root file system that a container can run on.
//!
//! Layers are unpacked once and shared between images and containers; the store survives a power cut at any time.
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
//!     let rootfs = store.prepare(&image, "web-1")?;
//!     let mount = rootfs.mount()?; // a detached mount, to attach with move_mount(2)
//!     let lower_directories = &rootfs.lower;
//! #   let _ = (mount, lower_directories);
//!     Ok(())
//! }
//! ```
//!
//! Images may also come from archives ([`archive`]), containers ([`Store::commit`]) and root file systems:
//!
//! ```
//! use image_store::platform::Platform;
//! use image_store::store::Composition;
//! use image_store::tar::{Entry, Kind, Writer};
//! use image_store::{Store, StoreOptions};
//!
//! # fn main() -> image_store::Result<()> {
//! # let directory = std::env::temp_dir().join(format!("image-store-example-{}", std::process::id()));
//! let store = Store::open(&directory, StoreOptions::default())?;
//! let mut archive = Writer::new(Vec::new());
//! archive.entry(&Entry::new("etc", Kind::Directory, 0o755))?;
//! let image = store.import(archive.finish()?.as_slice(), &Platform::host(), &Composition::default())?;
//!
//! let rootfs = store.rootfs(&image)?;
//! assert!(rootfs.lower[0].join("etc").is_dir());
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok(())
//! # }
//! ```
//!
//! | module | contents |
//! |---|---|
//! | [`mod@reference`], [`digest`], [`platform`], [`manifest`], [`dockerfile`], [`time`] | names and documents; no I/O |
//! | [`tar`] | reading and writing tar streams |
//! | [`layer`] | one layer: from a compressed tar to a directory and back |
//! | [`store`] | the store: images, containers, volumes, garbage collection, verification |
//! | [`archive`] | images in files and directories: OCI layout, docker-archive |
//! | [`registry`] | images in registries |
//! | [`copy`] | copying files into and out of a root file system |
//!
//! Of containers the library has only the writable layers. It prints nothing, keeps no state outside the store's
//! directory and has no `unsafe` code. It starts threads while it unpacks and compresses, and does not change its caller's process.
#![cfg_attr(test, allow(clippy::unwrap_used))]
#![forbid(unsafe_code)]

mod absent;
pub mod archive;
mod buffered;
pub mod copy;
pub mod digest;
pub mod dockerfile;
mod error;
mod fixup;
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
