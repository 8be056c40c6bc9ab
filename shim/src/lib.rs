//! containerd's shim on libcontainer.
//!
//! A library only so that tests and benches can use its parts; the program is `containerd-shim-knarr-v2`. How a container is made is left
//! to libcontainer.

pub mod bundle;
#[cfg(feature = "client")]
pub mod client;
pub mod invoke;
pub mod rootfs;
pub mod serve;
mod sys;
pub mod wire;
