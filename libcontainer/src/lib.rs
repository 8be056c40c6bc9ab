//! Make, run and remove Linux containers as the OCI runtime specification describes them.
//!
//! ```no_run
//! use libcontainer::{Bundle, ContainerId, CreateOptions, Delete, Runtime, Signal, Stdio};
//!
//! fn main() -> libcontainer::Result<()> {
//!     let runtime = Runtime::open("/run/engine")?;
//!     let id = ContainerId::new("web-1")?;
//!     let bundle = Bundle::load("/var/lib/engine/web-1")?;
//!     let container = runtime.create(&id, &bundle, CreateOptions::new(Stdio::inherit()))?;
//!     container.start()?;
//!     container.kill(Signal::TERM)?;
//!     let status = container.wait()?;
//!     let _ = status;
//!     container.delete(Delete::Stopped)
//! }
//! ```
//!
//! The library prints nothing, has no global state and no threads of its own, and leaves the calling process as it was: its working
//! directory, umask, environment, signal mask and descriptors. It may be called from a program with many threads.

mod bundle;
mod cgroup;
mod container;
mod error;
mod host;
mod id;
mod launch;
mod plan;
mod process;
mod protect;
mod rootfs;
mod runtime;
mod seccomp;
mod state;
mod sys;

/// The types of config.json, re-exported from `oci-spec`.
pub mod spec {
    pub use oci_spec::runtime::*;
}

pub use bundle::Bundle;
pub use container::{Container, Delete};
pub use error::{Error, ErrorKind, Result};
pub use host::Host;
pub use id::ContainerId;
pub use plan::Plan;
pub use process::{ExecOptions, ExitStatus, Process, Signal, Stdio};
pub use protect::protect_program;
pub use runtime::{CreateOptions, Runtime};
pub use state::{State, Status};
