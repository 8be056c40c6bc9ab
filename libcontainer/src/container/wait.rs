//! Waits for the exit of a container's first process, and reaps what keeps it from exiting.

use super::{Container, KILL_TIMEOUT};
use crate::error::{Context, Error, ErrorKind, Object, Result};
use crate::signal::{self, ExitStatus, Watched};
use crate::state::alive::{self, Alive};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long to wait before the next check of what keeps the process from exiting: at first, and at most, with and without processes
/// that this handle has started.
const SLICES: (Duration, Duration, Duration) =
    (Duration::from_millis(5), Duration::from_millis(500), Duration::from_secs(5));

/// How long the caller has to wait for its other processes in the container itself, once they keep it from exiting.
const GRACE: Duration = Duration::from_secs(1);

/// The first process of a container.
#[derive(Debug)]
pub(super) enum First {
    Process(Watched),
    /// It was reaped before the handle was created, or never existed. The descriptor is readable.
    Gone(OwnedFd),
}

impl First {
    pub(super) fn found(alive: Option<Alive>) -> Result<Self> {
        if let Some(alive) = alive {
            return Ok(First::Process(Watched::new(alive.process)));
        }
        let readable = EventFd::from_value_and_flags(1, EfdFlags::EFD_CLOEXEC).map_err(io::Error::from);
        Ok(First::Gone(readable.context("eventfd2")?.into()))
    }
}

impl Container {
    /// Its process, if it has not ended.
    pub(super) fn alive(&self) -> Result<Option<BorrowedFd<'_>>> {
        let Some(process) = self.pidfd() else { return Ok(None) };
        Ok(if signal::ends_within(process, 0)? { None } else { Some(process) })
    }

    pub(super) fn process(&self) -> Result<BorrowedFd<'_>> {
        self.alive()?.ok_or_else(not_running)
    }

    /// Waits until the container's first process, which must be a child of the caller, exits, and reaps it. A further call, also by another
    /// thread, returns the same status. Processes that the caller has started in it ([`Container::exec`]) and not waited for are reaped too, a
    /// second after the container began to exit: as zombies they would keep it from exiting.
    ///
    /// # Errors
    /// `NotFound`, with [`Object::Child`], when the process is running and not a child of the caller; with [`Object::ExitStatus`] when it
    /// was reaped by another process, or elsewhere in this one. Since Linux 6.15 the kernel keeps the status for handles that were created
    /// before. `WrongState` while there is no process.
    pub fn wait(&self) -> Result<ExitStatus> {
        let watched = self.watched()?;
        watched.is_ours()?;
        self.ends_before(None, GRACE)?;
        watched.ended()
    }

    /// Like `wait`, but doesn't block: `None` if the process has not exited. It need not be a child of the caller, as after a restart of
    /// the program that created the container; then also `None` while its parent has not reaped it.
    ///
    /// # Errors
    /// `NotFound` with [`Object::ExitStatus`], and `WrongState`, like `wait`.
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        self.wait_timeout(Duration::ZERO)
    }

    /// Like `try_wait`, but waits for at most this long.
    ///
    /// # Errors
    /// Those of `try_wait`.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now().checked_add(timeout);
        let watched = self.watched()?;
        if self.ends_before(deadline, GRACE)? { watched.wait_until(deadline) } else { Ok(None) }
    }

    fn watched(&self) -> Result<&Watched> {
        let why = "exit status unknown: the process was reaped before this handle was created";
        match &self.first {
            First::Process(process) => Ok(process),
            First::Gone(_) if self.record.pid == 0 => Err(not_running()),
            First::Gone(_) => Err(Error::new(ErrorKind::NotFound, why).about(Object::ExitStatus)),
        }
    }

    /// Waits for the exit of a process that was killed.
    pub(super) fn must_end(&self) -> Result<()> {
        if self.ends_before(Some(Instant::now() + KILL_TIMEOUT), Duration::ZERO)? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Busy, "the container's process did not exit after SIGKILL"))
    }

    /// Whether the process exits before the deadline. True if there is no process. Children of the caller that keep it from exiting are
    /// reaped after the grace period.
    fn ends_before(&self, deadline: Option<Instant>, grace: Duration) -> Result<bool> {
        let First::Process(process) = &self.first else { return Ok(true) };
        let mut slice = SLICES.0;
        loop {
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            let pause = left.map_or(slice, |left| left.min(slice));
            let milliseconds = i32::try_from(pause.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
            if signal::ends_within(process.as_fd(), milliseconds)? {
                return Ok(true);
            }
            if alive::is_exiting(self.record.pid) {
                // First those whose exit status is kept for a handle.
                if self.started.reap().elapsed() >= grace {
                    alive::reap_around(self.record.pid);
                }
            }
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(false);
            }
            slice = (slice * 2).min(if self.started.is_unused() { SLICES.2 } else { SLICES.1 });
        }
    }
}

impl AsFd for Container {
    /// For poll(2) and epoll(7): readable once the first process has exited. It is the [pidfd](Container::pidfd) if there is one.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.first {
            First::Process(process) => process.as_fd(),
            First::Gone(readable) => readable.as_fd(),
        }
    }
}

pub(super) fn not_running() -> Error {
    Error::new(ErrorKind::WrongState, "container not running")
}
