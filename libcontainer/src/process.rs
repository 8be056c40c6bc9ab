//! A process in a container, how it is started, and its standard streams.

use crate::error::Result;
use crate::signal::{self, ExitStatus, Signal, Watched};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

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

    /// Sets [`preserve_fds`](ExecOptions::preserve_fds).
    pub fn preserve_fds(mut self, count: u32) -> Self {
        self.preserve_fds = count;
        self
    }

    /// Sets [`ignore_paused`](ExecOptions::ignore_paused).
    pub fn ignore_paused(mut self, yes: bool) -> Self {
        self.ignore_paused = yes;
        self
    }

    /// Sets [`cgroup`](ExecOptions::cgroup).
    pub fn cgroup(mut self, paths: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.cgroup = paths.into_iter().map(Into::into).collect();
        self
    }

    /// Sets [`open_files`](ExecOptions::open_files).
    pub fn open_files(mut self, soft: u64, hard: u64) -> Self {
        self.open_files = Some((soft, hard));
        self
    }
}

/// A process that was started in a container. Its descriptor is its pidfd: readable, for poll(2), once the process has exited.
///
/// It is a child of the caller, who must wait for it: dropping this does not. A zombie keeps a container that has a pid namespace of its
/// own from exiting; [`Container::wait`](crate::Container::wait) and [`Container::delete`](crate::Container::delete)
/// reap such processes.
#[derive(Debug)]
pub struct ExecProcess {
    pid: i32,
    watched: Arc<Watched>,
    terminal: Option<OwnedFd>,
}

/// The processes that a handle of a container has started, as long as somebody may still wait for them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Started(Arc<All>);

#[derive(Debug, Default)]
struct All {
    processes: Mutex<Vec<Weak<Watched>>>,
    /// When they were first seen to keep the container from exiting. It is kept here for callers that ask again and again, each time for
    /// a moment only.
    waited_for: OnceLock<Instant>,
}

impl Started {
    /// The process of a launch that is complete.
    pub(crate) fn add(&self, pid: i32, process: OwnedFd, terminal: Option<OwnedFd>) -> ExecProcess {
        let watched = Arc::new(Watched::new(process));
        let mut all = self.0.processes.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| one.strong_count() > 0);
        all.push(Arc::downgrade(&watched));
        ExecProcess { pid, watched, terminal }
    }

    /// Whether there never was one, and nothing else has kept the container from exiting.
    pub(crate) fn is_unused(&self) -> bool {
        let all = self.0.processes.lock().unwrap_or_else(PoisonError::into_inner);
        all.is_empty() && self.0.waited_for.get().is_none()
    }

    /// Reaps those that have ended, and returns when that was done first. Their exit statuses are kept for those who will wait for them.
    pub(crate) fn reap(&self) -> Instant {
        let all = self.0.processes.lock().unwrap_or_else(PoisonError::into_inner);
        for watched in all.iter().filter_map(Weak::upgrade) {
            let _ = watched.wait_until(Some(Instant::now()));
        }
        *self.0.waited_for.get_or_init(Instant::now)
    }
}

impl ExecProcess {
    /// The pid in the caller's pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Takes the master of the terminal; `None` without `Stdio::Terminal` and on a second call.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// The pidfd alone: readable once the process has exited, and usable for waitid(2) with P_PIDFD and for pidfd_send_signal(2).
    ///
    /// From then on, the caller has to reap the process within a second of the container's exit, before
    /// [`Container::wait`](crate::Container::wait) does so, in this handle of the container or another: after that, and after
    /// [`Container::delete`](crate::Container::delete), waitid(2) fails with ECHILD. It does so too for a process that such a call has
    /// reaped before this one: its exit status is known to [`wait`](ExecProcess::wait) only. Since Linux 6.15 the kernel keeps the
    /// status for the pidfd (PIDFD_GET_INFO of ioctl_pidfd(2)).
    pub fn into_pidfd(self) -> OwnedFd {
        let mut watched = self.watched;
        loop {
            match Arc::try_unwrap(watched) {
                Ok(watched) => return watched.into_fd(),
                // `Started::reap` looks at it in this moment.
                Err(shared) => watched = shared,
            }
            std::thread::yield_now();
        }
    }

    /// Waits until the process, which must be a child of the caller, exits, and reaps it. A further call, also by another thread, returns
    /// the same status.
    ///
    /// # Errors
    /// `NotFound`, with [`Object::Child`](crate::Object::Child), when the process is running and not a child of the caller; with
    /// [`Object::ExitStatus`](crate::Object::ExitStatus) when it was reaped elsewhere. Since Linux 6.15 the kernel keeps the status.
    pub fn wait(&self) -> Result<ExitStatus> {
        self.watched.wait()
    }

    /// Like `wait`, but doesn't block: `None` if the process has not exited.
    ///
    /// # Errors
    /// `NotFound` with `Object::ExitStatus`, like `wait`.
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        self.watched.wait_until(Some(Instant::now()))
    }

    /// Like `wait`, but for at most this long: `None` if the process has not exited by then.
    ///
    /// # Errors
    /// `NotFound` with `Object::ExitStatus`, like `wait`.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<ExitStatus>> {
        self.watched.wait_until(Instant::now().checked_add(timeout))
    }

    /// Sends a signal to the process.
    ///
    /// # Errors
    /// `NotFound` when the process has exited.
    pub fn kill(&self, signal: Signal) -> Result<()> {
        signal::send(self.as_fd(), signal)
    }
}

impl AsFd for ExecProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched.as_fd()
    }
}
