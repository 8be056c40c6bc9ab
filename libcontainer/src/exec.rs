//! An exec in two halves, for a caller that may not wait: what is decided before the clone, and what is heard after it.
//!
//! It knows neither plans nor the state of containers; `container` has made the one and looked at the other.

use crate::container::Container;
use crate::error::{Context, Error, Result};
use crate::launch::{self, Launched, Watch};
use crate::plan::ProcessPlan;
use crate::process::{ExecOptions, Process};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A process that is ready to be run in a container: [`Container::prepare_exec`]. Nothing was done yet.
#[derive(Debug)]
pub struct PreparedExec<'a> {
    pub(crate) container: &'a Container,
    pub(crate) plan: ProcessPlan,
    pub(crate) options: ExecOptions,
}

/// A process on its way to its program. Dropped, it is killed.
///
/// Its descriptor is for poll(2) or epoll(7): it hangs up (POLLHUP, which is told whether it is asked for or not) when the program runs,
/// or when that has failed. Then [`finish`](Starting::finish) does not wait.
#[derive(Debug)]
pub struct Starting {
    launched: Launched,
}

impl PreparedExec<'_> {
    /// All of it is one clone, after which the process needs nothing from its caller: no cgroup v1 to be joined, no terminal, no
    /// limits or priorities that only the caller may set, no filter with a listener, no second process
    /// (`docs/decisions/0002-one-clone-and-a-sibling.md` of the repository). Nothing that the container has a say in is
    /// waited for.
    pub fn is_unattended(&self) -> bool {
        launch::needs_no_parent(&self.plan) && self.plan.opens.is_empty() && self.options.cgroup.is_empty()
    }

    /// Runs it, and waits until its program runs.
    ///
    /// # Errors
    /// What kept the program from being executed.
    pub fn run(self) -> Result<Process> {
        let launched = self.container.launch_exec(self.plan, self.options, false)?;
        let (pid, pidfd, terminal) = launched.release()?;
        Ok(Process { pid, pidfd, terminal })
    }

    /// Makes the process and does not wait for its program, if it [is unattended](PreparedExec::is_unattended); else it is brought
    /// as far as it gets on its own.
    ///
    /// # Errors
    /// What kept the process from being made.
    pub fn begin(self) -> Result<Starting> {
        Ok(Starting { launched: self.container.launch_exec(self.plan, self.options, true)? })
    }
}

impl Starting {
    /// Whether the program runs, or never will.
    ///
    /// # Errors
    /// `Os` when poll(2) fails.
    pub fn is_decided(&self) -> Result<bool> {
        crate::sys::pidfd::hung_up(self.launched.socket(), 0).context("poll")
    }

    /// The process, whose program runs.
    ///
    /// # Errors
    /// What kept the program from being executed.
    pub fn finish(mut self) -> Result<Process> {
        self.launched.follow(&mut Nothing)?;
        let (pid, pidfd, terminal) = self.launched.release()?;
        Ok(Process { pid, pidfd, terminal })
    }
}

impl AsFd for Starting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.launched.socket()
    }
}

/// A process that is unattended asks for none of it.
struct Nothing;

impl Watch for Nothing {
    fn hooks(&mut self, _: i32, _: BorrowedFd<'_>) -> Result<()> {
        Ok(())
    }

    fn listener(&mut self, _: i32, _: OwnedFd) -> Result<()> {
        Err(Error::unsupported("a filter with a listener needs its caller"))
    }
}
