//! The lock of a container, and what is known once it is held: nothing that was read before it may be acted on.

use super::{Container, First, KILL_TIMEOUT};
use crate::error::{Error, ErrorKind, Result};
use crate::state::dir::Lock;
use crate::state::{self, Record, Status};
use crate::sys::pidfd;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

impl Container {
    /// Locks out other changes, and reads what they have changed since this handle was made.
    pub(super) fn locked(&self) -> Result<(Lock, Box<Record>)> {
        let lock = self.dir.lock()?;
        let record = self.dir.load().map(Box::new)?;
        Ok((lock, record))
    }

    /// As `locked`, and takes over what was read.
    pub(super) fn lock(&mut self) -> Result<Lock> {
        let (lock, record) = self.locked()?;
        self.take_over(record)?;
        Ok(lock)
    }

    fn take_over(&mut self, record: Box<Record>) -> Result<()> {
        if (record.pid, record.start_time) != (self.record.pid, self.record.start_time) {
            self.first = First::found(state::alive::open(record.pid, record.start_time)?)?;
        }
        self.record = record;
        Ok(())
    }

    /// As `lock`, for a removal by force: a create or start that is under way gives up, and with it the lock, when its process is killed.
    /// `None`: the container was removed meanwhile.
    pub(super) fn lock_by_force(&mut self) -> Result<Option<Lock>> {
        let end = Instant::now() + KILL_TIMEOUT;
        loop {
            let locked = self.dir.try_lock().and_then(|lock| Ok((lock, self.dir.load()?)));
            let (lock, record) = match locked {
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
                other => other?,
            };
            if let Some(lock) = lock {
                self.take_over(Box::new(record))?;
                return Ok(Some(lock));
            }
            let process = if record.pid == 0 {
                self.dir.noted_process()
            } else {
                Some((record.pid, record.start_time))
            };
            if let Some((pid, start_time)) = process
                && let Some(alive) = state::alive::open(pid, start_time)?
            {
                let _ = pidfd::send_signal(alive.process.as_fd(), libc::SIGKILL);
            }
            if Instant::now() > end {
                return Err(Error::new(ErrorKind::Busy, "another operation on the container does not end"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The status as it is now; it is never stored. The caller has the lock, or the container has a process.
pub(super) fn status(record: &Record) -> Result<Status> {
    let alive = state::alive::open(record.pid, record.start_time)?;
    let Some(alive) = alive.filter(|alive| !alive.ended) else {
        return Ok(Status::Stopped);
    };
    if record.cgroup.is_frozen()? {
        return Ok(Status::Paused);
    }
    Ok(if alive.executed || record.restored { Status::Running } else { Status::Created })
}
