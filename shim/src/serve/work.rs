//! The orders that are being carried out, and the workers that have reported and are about to end.

use super::exec::Executor;
use super::poll::{Poll, Token};
use super::slots::{Key, Slots};
use super::streams::Plumbing;
use super::table::Pending;
use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

/// An order that is being carried out.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) executor: Executor,
    pub(crate) task: Key,
    pub(crate) pending: Pending,
    /// The streams of the process that is being made.
    pub(crate) streams: Option<NewStreams>,
}

/// This side of the streams of a process that is being made.
#[derive(Debug)]
pub(crate) struct NewStreams {
    pub(crate) process: Key,
    pub(crate) plumbing: Plumbing,
}

#[derive(Debug)]
pub(crate) struct Work {
    running: Slots<Running>,
    /// The pids of workers that have reported.
    ending: Vec<i32>,
}

impl Work {
    pub(crate) fn new() -> Self {
        Work { running: Slots::new(), ending: Vec::new() }
    }

    /// Adds an order; the error is that it cannot be watched.
    pub(crate) fn add(&mut self, running: Running, poll: &Poll) -> Result<(), Errno> {
        let token = Token::Worker(self.running.next_key());
        let watched = poll.add(&running.executor, running.executor.interest(), token);
        self.running.insert(running);
        watched
    }

    /// Removes an order and returns it, if it has a report.
    pub(crate) fn take_ready(&mut self, key: Key, poll: &Poll) -> Option<Running> {
        self.running.get(key).filter(|running| running.executor.is_ready())?;
        let running = self.running.remove(key)?;
        poll.remove(&running.executor);
        self.ending.extend(running.executor.pid());
        Some(running)
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.running.keys()
    }

    /// Reaps workers that have reported. Their pids cannot have been reused: nothing else reaps them.
    pub(crate) fn reap(&mut self) {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
        self.ending.retain(|pid| {
            matches!(
                waitid(Id::Pid(Pid::from_raw(*pid)), flags),
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR)
            )
        });
    }

    /// A process was reaped that may be one of the workers.
    pub(crate) fn reaped(&mut self, pid: i32) {
        self.ending.retain(|other| *other != pid);
    }
}
