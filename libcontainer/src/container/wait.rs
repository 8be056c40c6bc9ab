//! The end of a container's first process: waiting for it, and for what keeps it from ending.

use super::Container;
use crate::error::{Context, Error, ErrorKind, Object, Result};
use crate::signal::{self, ExitStatus, Watched};
use crate::state::alive::{self, Alive};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long to wait before the next look at what keeps the process from ending, at first and at most.
const SLICES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// The first process of a container.
#[derive(Debug)]
pub(super) enum First {
    Process(Watched),
    /// It was reaped before the handle was made, or never existed. The descriptor is readable.
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
    /// Waits for the end of its first process, which must be a child of the caller, and reaps it. A further call, also by another
    /// thread, returns the same status. Meanwhile processes that the caller has started in the container ([`Container::exec`]) are
    /// reaped once the container ends: as zombies they would keep it from ending.
    ///
    /// # Errors
    /// `NotFound`, about a `Child`, when it runs and is not a child of the caller; about its `ExitStatus`, when it has ended and was
    /// reaped by somebody else. Since Linux 6.15 the kernel keeps the status for handles that were made before. `WrongState` while it has
    /// no process.
    pub fn wait(&self) -> Result<ExitStatus> {
        self.watched()?.is_ours()?;
        self.ends_before(None)?;
        self.watched()?.wait()
    }

    /// As `wait`, but doesn't block: `None` if it has not ended. The process need not be a child of the caller, as after a restart of
    /// the program that created it; then `None` also while its parent has not reaped it.
    ///
    /// # Errors
    /// `NotFound`, about its `ExitStatus`, and `WrongState` as by `wait`.
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        self.wait_timeout(Duration::ZERO)
    }

    /// As `try_wait`, but waits for at most this long.
    ///
    /// # Errors
    /// As by `try_wait`.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now().checked_add(timeout);
        let watched = self.watched()?;
        if self.ends_before(deadline)? { watched.wait_until(deadline) } else { Ok(None) }
    }

    fn watched(&self) -> Result<&Watched> {
        let why = "the exit status is unknown: it was reaped before this handle was made";
        match &self.first {
            First::Process(process) => Ok(process),
            First::Gone(_) if self.record.pid == 0 => {
                Err(Error::new(ErrorKind::WrongState, "container not running"))
            }
            First::Gone(_) => Err(Error::new(ErrorKind::NotFound, why).about(Object::ExitStatus)),
        }
    }

    /// Whether the process ends before the deadline, which it does once there is none.
    pub(super) fn ends_before(&self, deadline: Option<Instant>) -> Result<bool> {
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
                // First those whose exit status somebody may still ask for.
                self.started.reap();
                alive::reap_around(self.record.pid);
            }
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(false);
            }
            slice = (slice * 2).min(SLICES.1);
        }
    }
}
