//! The parts of `knarr-init` that do not need the kernel: its command line, the names of signals, exit statuses, the search
//! for a program and the composition of messages. Nothing here allocates memory or makes a system call.
#![cfg_attr(not(test), no_std)]

pub mod line;
pub mod messages;
pub mod options;
pub mod search;
pub mod signals;
pub mod status;

pub use line::Line;
pub use options::{Bad, Options, Request, Target};
