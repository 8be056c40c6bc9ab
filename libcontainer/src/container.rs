//! A container: one short function for each verb: load, allowed?, act, save.

use crate::error::Result;
use crate::id::ContainerId;
use crate::process::{ExecOptions, ExitStatus, Process, Signal};
use crate::state::State;
use oci_spec::runtime::{LinuxResources, Process as ProcessSpec};
use std::os::fd::{BorrowedFd, OwnedFd};

/// A handle to a container. Its status can change at any time through another process.
#[derive(Debug)]
pub struct Container {
    pub(crate) id: ContainerId,
}

/// Which containers `delete` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delete {
    /// A stopped or merely created one; a running one is an error.
    Stopped,
    /// Any: it is killed first.
    Force,
}

impl Container {
    /// Its id.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Its state, with the status as it is now.
    ///
    /// # Errors
    /// `Os` when the kernel's files can not be read.
    pub fn state(&self) -> Result<State> {
        todo!()
    }

    /// The master of the terminal of a container made with `Stdio::Terminal`, once.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        todo!()
    }

    /// The pidfd of the container's process, for poll(2).
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        todo!()
    }

    /// Things tolerated while it was made that a person should hear of.
    pub fn warnings(&self) -> &[String] {
        todo!()
    }

    /// Lets the container's process run its program.
    ///
    /// # Errors
    /// `WrongState` unless it is created; else what kept the program from being executed.
    pub fn start(&self) -> Result<()> {
        todo!()
    }

    /// The base of a process to run in it: the container's own process description.
    pub fn process_spec(&self) -> &ProcessSpec {
        todo!()
    }

    /// Runs a further process in it.
    ///
    /// # Errors
    /// `WrongState` when it is stopped or paused; `InvalidSpec`; what kept the program from being executed.
    pub fn exec(&self, process: &ProcessSpec, options: ExecOptions) -> Result<Process> {
        let _ = (process, options);
        todo!()
    }

    /// Sends a signal to the container's first process.
    ///
    /// # Errors
    /// `WrongState` (`container not running`) when it has ended.
    pub fn kill(&self, signal: Signal) -> Result<()> {
        let _ = signal;
        todo!()
    }

    /// Sends a signal to every process in its cgroup; none left is no error.
    ///
    /// # Errors
    /// `Os` when the cgroup can not be read.
    pub fn kill_all(&self, signal: Signal) -> Result<()> {
        let _ = signal;
        todo!()
    }

    /// Freezes all its processes.
    ///
    /// # Errors
    /// `WrongState` unless it is running or created.
    pub fn pause(&self) -> Result<()> {
        todo!()
    }

    /// Thaws them.
    ///
    /// # Errors
    /// `WrongState` (`container not paused`) unless it is paused.
    pub fn resume(&self) -> Result<()> {
        todo!()
    }

    /// Changes its limits; fields that are absent stay as they are.
    ///
    /// # Errors
    /// `WrongState` when it is stopped; `InvalidSpec`; `Os`.
    pub fn update(&self, resources: &LinuxResources) -> Result<()> {
        let _ = resources;
        todo!()
    }

    /// The pids of all its processes, in the caller's pid namespace.
    ///
    /// # Errors
    /// `Os` when the cgroup can not be read.
    pub fn processes(&self) -> Result<Vec<i32>> {
        todo!()
    }

    /// Waits for the end of its first process, which must be a child of the caller.
    ///
    /// # Errors
    /// `NotFound` when it is not.
    pub fn wait(&self) -> Result<ExitStatus> {
        todo!()
    }

    /// Removes it: processes, cgroups, mounts, state. What is gone already is no error, so that a second call finishes a first.
    ///
    /// # Errors
    /// `WrongState` when it runs and `how` is not `Force`; else every failure of the tear-down, together.
    pub fn delete(self, how: Delete) -> Result<()> {
        let _ = how;
        todo!()
    }
}
