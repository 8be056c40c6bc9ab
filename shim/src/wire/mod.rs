//! The protocol between containerd and a shim: frames, messages, codes.
//!
//! Pure: bytes in, values out. This module does not know sockets, processes or containers.

pub mod bootstrap;
pub mod code;
pub mod events;
pub mod frame;
pub mod info;
pub mod method;
mod metrics;
pub mod metrics_v1;
pub mod metrics_v2;
pub mod options;
pub mod task;
mod toml;
pub mod types;

#[cfg(test)]
mod tests;
