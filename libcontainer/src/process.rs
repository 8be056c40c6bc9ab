//! A process in a container, how it is started, and its standard streams.

use crate::error::Result;
use crate::signal::{self, ExitStatus, Signal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What the container's process gets as descriptors 0, 1 and 2.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stdio {
    /// The caller's own descriptors.
    Inherit,
    /// These descriptors.
    Fds {
        /// Descriptor 0.
        stdin: OwnedFd,
        /// Descriptor 1.
        stdout: OwnedFd,
        /// Descriptor 2.
        stderr: OwnedFd,
    },
    /// A new terminal from the container's own devpts, with the kernel's settings; its master is returned by `take_terminal`. Its
    /// output has carriage returns (termios(3), ONLCR) for a terminal in raw mode.
    Terminal,
}

impl Stdio {
    /// The caller's descriptors 0, 1 and 2.
    pub fn inherit() -> Self {
        Stdio::Inherit
    }
}

/// The options of an exec, besides the process description.
#[derive(Debug)]
#[non_exhaustive]
pub struct ExecOptions {
    /// The streams of the process.
    pub stdio: Stdio,
    /// Pass this many descriptors from 3 on to the process.
    pub preserve_fds: u32,
    /// Start the process even though the container is paused; it stays paused until the container is resumed.
    pub ignore_paused: bool,
    /// Sub-cgroups to join, each `path` or `controller:path`, relative to the container's cgroup.
    pub cgroup: Vec<String>,
    /// RLIMIT_NOFILE of the process, soft and hard, if neither its description nor the container's sets one; `None`: the caller's.
    pub open_files: Option<(u64, u64)>,
}

impl ExecOptions {
    /// Defaults with these streams.
    pub fn new(stdio: Stdio) -> Self {
        ExecOptions { stdio, preserve_fds: 0, ignore_paused: false, cgroup: Vec::new(), open_files: None }
    }
}

/// A process that was started in a container. Its descriptor is its pidfd: readable, for poll(2), once the process has exited.
#[derive(Debug)]
pub struct Process {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) terminal: Option<OwnedFd>,
}

impl Process {
    /// The pid in the caller's pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Takes the master of the terminal; `None` without `Stdio::Terminal` and on a second call.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// The pidfd alone: readable once the process has exited, and usable for waitid(2) with P_PIDFD and for pidfd_send_signal(2).
    pub fn into_pidfd(self) -> OwnedFd {
        self.pidfd
    }

    /// Waits until the process, which must be a child of the caller, exits, and reaps it.
    ///
    /// # Errors
    /// `NotFound` when it is not a child of the caller (waitid(2): ECHILD).
    pub fn wait(&self) -> Result<ExitStatus> {
        signal::wait(self.pidfd.as_fd())
    }

    /// Sends a signal to the process.
    ///
    /// # Errors
    /// `NotFound` when the process has exited.
    pub fn kill(&self, signal: Signal) -> Result<()> {
        signal::send(self.pidfd.as_fd(), signal)
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
