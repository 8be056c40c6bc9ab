//! What `knarr-init` decides without asking the kernel: its command line, the names of signals, exit statuses, where a
//! program may be found and how a line for the reader is put together. No memory is allocated, nothing here can fail for
//! lack of anything, and nothing knows a system call.
#![cfg_attr(not(test), no_std)]

pub mod line;
pub mod options;
pub mod search;
pub mod signals;
pub mod status;
pub mod words;

pub use line::Line;
pub use options::{Bad, Options, Request, Target};
