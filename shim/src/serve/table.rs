//! The table of containers and processes, with as little as the server needs for its answers.

use super::life::{Lives, Phase};
use super::oom::OomWatch;
use super::slots::{Key, Slots};
use super::streams::Streams;
use crate::wire::code::Failure;
use crate::wire::task::{CheckpointTaskRequest, CreateTaskRequest};
use libcontainer::{CgroupPaths, Container};
use std::cell::OnceCell;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

/// The recipient of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) connection: Key,
    pub(crate) stream: u32,
}

/// An order for a worker.
#[derive(Debug)]
pub(crate) enum Order {
    Create(Box<CreateTaskRequest>),
    Start,
    /// The start of a container that was created from a checkpoint.
    Restore(Box<CreateTaskRequest>),
    Checkpoint(Box<CheckpointTaskRequest>),
    /// Start an exec.
    Exec(Key),
    Pause,
    Resume,
    Update(Vec<u8>),
    SignalAll(i32),
    Delete,
    /// A worker died while it made the container.
    Clean(Failure),
}

impl Order {
    /// Whether other orders may be carried out at the same time, since this one does not change the container.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Order::Exec(_) | Order::SignalAll(_))
    }
}

/// An order and its caller. Orders of the server itself have none.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) order: Order,
    pub(crate) caller: Option<Caller>,
}

/// A container.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    /// libcontainer's state directory.
    pub(crate) root: PathBuf,
    /// The user and the group that own its pipes.
    pub(crate) owner: (u32, u32),
    pub(crate) init: Key,
    pub(crate) execs: Vec<Key>,
    pub(crate) lives: Lives,
    pub(crate) paused: bool,
    /// The request that created it from a checkpoint, for its start.
    pub(crate) saved: Option<Box<CreateTaskRequest>>,
    /// Its cgroups.
    pub(crate) cgroup: CgroupPaths,
    /// Kept from one exec to the next: the record, the first process, the cgroup and the filter.
    pub(crate) handle: OnceCell<Container>,
    pub(crate) oom: Option<OomWatch>,
    pub(crate) orders: VecDeque<Pending>,
    /// The caller of Delete, while the container is deleted except for the exit of its process, which is reported first. No order is
    /// carried out any more.
    pub(crate) deleting: Option<Caller>,
    /// The number of running shared orders.
    pub(crate) shared: u32,
    /// Whether an order is running that is not shared.
    pub(crate) alone: bool,
}

/// A process: the first of a container, or an exec.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) task: Key,
    /// Empty for the first.
    pub(crate) exec_id: String,
    /// 0 before there is one.
    pub(crate) pid: i32,
    pub(crate) pidfd: Option<OwnedFd>,
    pub(crate) streams: Streams,
    /// The process of an exec as JSON.
    pub(crate) spec: Vec<u8>,
    pub(crate) waiters: Vec<Caller>,
    /// The callers of Delete, until its output has been copied.
    pub(crate) deletions: Vec<Caller>,
    /// The running copies of its output.
    pub(crate) outputs: Vec<Key>,
    pub(crate) input: Option<Key>,
    /// The writer of containerd's stdin fifo.
    pub(crate) stdin_hold: Option<OwnedFd>,
    /// Its input has ended. That may be known before the process exists.
    pub(crate) stdin_closed: bool,
    /// Writers of containerd's output fifos that have no reader, after all is written.
    pub(crate) unread: Vec<OwnedFd>,
    /// The pause after the next check for readers.
    pub(crate) next_check: Duration,
    /// The terminal's master.
    pub(crate) terminal: Option<OwnedFd>,
    pub(crate) logger: Option<Logger>,
}

/// A running logger.
#[derive(Debug)]
pub(crate) struct Logger {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    /// Whether it was sent SIGTERM.
    pub(crate) terminated: bool,
}

impl Process {
    pub(crate) fn new(task: Key, exec_id: String, streams: Streams, spec: Vec<u8>) -> Self {
        Process {
            task,
            exec_id,
            pid: 0,
            pidfd: None,
            streams,
            spec,
            waiters: Vec::new(),
            deletions: Vec::new(),
            outputs: Vec::new(),
            input: None,
            stdin_hold: None,
            stdin_closed: false,
            unread: Vec::new(),
            next_check: Duration::ZERO,
            terminal: None,
            logger: None,
        }
    }

    /// Whether all of its output has been copied.
    pub(crate) fn is_drained(&self) -> bool {
        self.outputs.is_empty() && self.logger.is_none()
    }
}

/// All containers and processes.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) tasks: Slots<Task>,
    pub(crate) processes: Slots<Process>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Table { tasks: Slots::new(), processes: Slots::new() }
    }

    /// The container with this id, whether it is made yet or not.
    pub(crate) fn find(&self, id: &str) -> Option<Key> {
        self.tasks.iter().find(|(_, task)| task.id == id).map(|(key, _)| key)
    }

    /// The container with this id, if it is made.
    pub(crate) fn task(&self, id: &str) -> Result<(Key, &Task), Failure> {
        let found = self.tasks.iter().find(|(_, task)| task.id == id);
        found
            .filter(|(_, task)| task.lives.phase(task.init) != Phase::Making)
            .ok_or_else(|| Failure::not_found(format!("container {id:?} not created: not found")))
    }

    /// A process of a container.
    pub(crate) fn process(&self, id: &str, exec_id: &str) -> Result<(Key, &Task, &Process), Failure> {
        let (_, task) = self.task(id)?;
        let key = if exec_id.is_empty() { Some(task.init) } else { self.exec(task, exec_id) };
        key.and_then(|key| Some((key, task, self.processes.get(key)?)))
            .ok_or_else(|| Failure::not_found(format!("process does not exist {exec_id}: not found")))
    }

    pub(crate) fn exec(&self, task: &Task, exec_id: &str) -> Option<Key> {
        let named = |key: &&Key| self.processes.get(**key).is_some_and(|process| process.exec_id == exec_id);
        task.execs.iter().find(named).copied()
    }

    /// The process with this pid, if it has not been reaped.
    pub(crate) fn by_pid(&self, pid: i32) -> Option<Key> {
        self.processes
            .iter()
            .find(|(_, process)| process.pid == pid && process.pidfd.is_some())
            .map(|(key, _)| key)
    }

    /// Drops what can be read again.
    pub(crate) fn drop_handles(&mut self) {
        for key in self.tasks.keys() {
            if let Some(task) = self.tasks.get_mut(key) {
                task.handle.take();
            }
        }
    }

    pub(crate) fn phase(&self, key: Key) -> Phase {
        let task = self.processes.get(key).and_then(|process| self.tasks.get(process.task));
        task.map_or(Phase::Stopped, |task| task.lives.phase(key))
    }
}
