//! Create, run and delete Linux containers as the [OCI runtime specification] describes them.
//!
//! A [`Bundle`] (a directory with a config.json, or a specification built in memory) and the facts about the [`Host`] become a
//! [`Plan`], a list of steps that can be printed without doing anything. [`Runtime::create`] carries it out, and undoes all of it if a
//! step fails. It returns a [`Container`], as [`Runtime::load`] does later; its methods start it, run further processes in it, send
//! signals, pause, limit and delete it.
//!
//! ```no_run
//! use libcontainer::{Bundle, ContainerId, CreateOptions, Delete, ExecOptions, Runtime, Signal, Stdio};
//!
//! fn main() -> libcontainer::Result<()> {
//!     libcontainer::protect_program(std::env::args_os())?;
//!     let runtime = Runtime::open("/run/engine")?;
//!     let id = ContainerId::new("web-1")?;
//!     let bundle = Bundle::load("/var/lib/engine/web-1")?;
//!
//!     let mut container = runtime.create(&id, &bundle, CreateOptions::new(Stdio::inherit()))?;
//!     container.start()?;
//!
//!     let mut shell = container.process_spec().clone();
//!     shell.set_args(Some(vec!["sh".into(), "-c".into(), "ps".into()]));
//!     container.exec(&shell, ExecOptions::new(Stdio::inherit()))?.wait()?;
//!
//!     container.kill(Signal::TERM)?;
//!     let status = container.wait()?;
//!     container.delete(Delete::Stopped)?;
//!     std::process::exit(status.code())
//! }
//! ```
//!
//! # Effects on the calling process
//!
//! Nothing permanent: working directory, umask, environment, signal mask and handlers, descriptors, dumpable flag and OOM score stay as
//! they are. The library prints and logs nothing, has no global state and starts no threads. It can be used in a multi-threaded program,
//! from several threads at once. A container's process is a child of the calling process, and so are those that [`Container::exec`] starts: a
//! program that waits for them must not ignore SIGCHLD, nor reap children by `waitpid(-1)` elsewhere. (Since Linux 6.15 it gets their exit
//! statuses all the same.) Handles may be dropped: [`Runtime::load`] makes another, and [`Container::delete`] reaps what is left.
//!
//! # The memory of the calling process
//!
//! Between clone and execve, a new process is a copy of the calling process, with its memory: keys, credentials and data of other
//! containers among it. It is made undumpable, which does not keep out a process that has CAP_SYS_PTRACE in the same user namespace. Such
//! a process can read the copy while it is in its pid namespace: in a container that waits for
//! [`start`](Container::start) and shares the pid namespace of another, or during an [`exec`](Container::exec). So, for a container that
//! has CAP_SYS_PTRACE and no user namespace of its own, a program with secrets in its memory should
//!
//! - give the container a user namespace, or not the capability (the default of the engines);
//! - not let it share a pid namespace with containers that are created later;
//! - or create and exec from a small process without secrets: a worker of its own, or the command `knarr`, whose memory holds nothing but
//!   the container's own configuration.
//!
//! The cost of a clone, and of a hook on the host, grows with the memory of the calling process as well, for which the last point helps,
//! too.
//!
//! # Hooks
//!
//! [`Runtime::create`], [`Container::start`] and [`Container::delete`] run the hooks of config.json, and wait for them. Those of the host
//! (prestart, createRuntime, poststart, poststop) run in the caller's namespaces, with the bundle as their working directory, and with
//! the caller's environment unless they set one. No hook gets descriptors of the caller: its own 0 to 2 are pipes.
//!
//! # Errors
//!
//! All functions return [`Error`], which has a [kind](ErrorKind) to match on, an errno if a system call failed, and one line of text:
//! what was being done, on what, which call failed and why, and how to mend it where that is known. [`Error::object`] says what was not
//! found, [`Error::stage`] how far the creation of a process got, and [`Error::program_error`] why its program could not be executed: from
//! this, engines choose the exit codes 126 and 127. Unsupported fields of config.json are refused by name, before anything is done.
//!
//! # Requirements
//!
//! Root, or any user if the container has a new user namespace (a rootless container). Linux 5.4 or newer; `docs/kernel-features.md` in
//! the repository lists the features of newer kernels that are used if available.
//!
//! # Features
//!
//! `seccomp` (default): `linux.seccomp`, through libseccomp. Without it, that field is refused. `tripwire` and `fault` are for tests.
//!
//! [OCI runtime specification]: https://github.com/opencontainers/runtime-spec/blob/main/spec.md

mod bundle;
mod cgroup;
mod checkpoint;
mod container;
mod error;
mod exec;
mod fault;
mod features;
mod host;
mod id;
mod launch;
mod plan;
mod process;
mod protect;
mod reserve;
mod rootfs;
mod runtime;
mod seccomp;
mod signal;
mod state;
mod sys;
mod watch;

/// The types of config.json, re-exported from `oci-spec`. What the crate has itself by the same name, [`State`] and [`Features`], is the
/// crate's here too, so that both can be imported by `*`.
///
/// Their `Default` values, from which the builders also start, are not empty: a default [`Spec`](spec::Spec) is about what
/// `runc spec` writes, and a default [`Process`](spec::Process) runs `sh`. Start from them and set what differs:
///
/// ```
/// use libcontainer::Bundle;
/// use libcontainer::spec::{Process, Root, Spec};
///
/// let mut process = Process::default();
/// process.set_args(Some(vec!["/bin/server".into(), "--port=80".into()]));
/// let mut root = Root::default();
/// root.set_path("/var/lib/engine/web-1/rootfs".into());
/// let mut spec = Spec::default();
/// spec.set_process(Some(process)).set_root(Some(root)).set_hostname(Some("web-1".into()));
/// let bundle = Bundle::new("/var/lib/engine/web-1", spec);
/// ```
pub mod spec {
    pub use crate::{Features, State};
    pub use oci_spec::runtime::*;
}

pub use bundle::{Bundle, load_process, load_resources, parse_process, parse_resources};
pub use cgroup::{CgroupPaths, IoEntry, MemoryEvents, OomWatch, Pressure, Rdma, Stall, Stats, Usage};
pub use checkpoint::{CgroupMode, CheckpointOptions, RestoreOptions};
pub use container::{Container, Delete, DeleteError};
pub use error::{Error, ErrorKind, Object, ProgramError, Result, Stage};
pub use exec::{PreparedExec, Starting};
pub use features::Features;
pub use host::Host;
pub use id::ContainerId;
pub use plan::Plan;
pub use plan::options::mount_options;
pub use process::{ExecOptions, ExecProcess, Stdio};
pub use protect::protect_program;
pub use rootfs::overlay::Overlay;
pub use runtime::{CreateOptions, Listing, Runtime};
pub use signal::{ExitStatus, Signal};
pub use state::{State, Status};
