//! A process in a container, how it is started, and its standard streams.

use crate::error::Result;
use crate::signal::{self, ExitStatus, Signal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What the container's process gets as descriptors 0, 1 and 2.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stdio {
    /// The caller's own.
    Inherit,
    /// These.
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

/// What an exec changes besides the process description.
#[derive(Debug)]
#[non_exhaustive]
pub struct ExecOptions {
    /// The streams of the process.
    pub stdio: Stdio,
    /// Pass this many descriptors from 3 on to the process.
    pub preserve_fds: u32,
    /// Start it even though the container is paused (it stays frozen until resumed).
    pub ignore_paused: bool,
    /// Sub-cgroups to join, each `path` or `controller:path`, relative to the container's cgroup.
    pub cgroup: Vec<String>,
    /// Its RLIMIT_NOFILE, soft and hard, where neither its description nor the container's sets one; `None`: the caller's.
    pub open_files: Option<(u64, u64)>,
}

impl ExecOptions {
    /// Defaults with these streams.
    pub fn new(stdio: Stdio) -> Self {
        ExecOptions { stdio, preserve_fds: 0, ignore_paused: false, cgroup: Vec::new(), open_files: None }
    }
}

/// A process that was started in a container. Its descriptor is its pidfd: readable, for poll(2), once it has ended.
#[derive(Debug)]
pub struct Process {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) terminal: Option<OwnedFd>,
}

impl Process {
    /// Its pid in the caller's pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The master of its terminal, once; `None` without `Stdio::Terminal`.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Its pidfd, to be kept without the rest: readable when it has ended, and what waitid(2) with P_PIDFD and pidfd_send_signal(2)
    /// take.
    pub fn into_pidfd(self) -> OwnedFd {
        self.pidfd
    }

    /// Waits for its end, and reaps it. It must be a child of the caller.
    ///
    /// # Errors
    /// `NotFound` when it is not a child of the caller (waitid(2): ECHILD).
    pub fn wait(&self) -> Result<ExitStatus> {
        signal::wait(self.pidfd.as_fd())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// `NotFound` when it has ended.
    pub fn kill(&self, signal: Signal) -> Result<()> {
        signal::send(self.pidfd.as_fd(), signal)
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
