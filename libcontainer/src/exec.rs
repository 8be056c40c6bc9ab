//! An exec in two steps, for a caller that must not block: what is decided before the clone, and the result after it.
//!
//! It does not depend on the state of containers or on planning: `container` does both.

use crate::error::{Error, Result, Stage};
use crate::launch::{self, Job, Launched, Watch};
use crate::process::{ExecProcess, Started};
use crate::watch::HookWatch;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A process that is ready to be run in a container: [`Container::prepare_exec`](crate::Container::prepare_exec). Nothing has been changed yet.
#[derive(Debug)]
pub struct PreparedExec<'a> {
    pub(crate) job: Job<'a>,
    pub(crate) watch: HookWatch<'a>,
    pub(crate) started: Started,
}

/// A process that was created and whose program may not run yet. Dropping it kills the process.
///
/// Its descriptor is for poll(2) or epoll(7): it hangs up (POLLHUP, which is reported whether it is asked for or not) when the program
/// runs or could not be executed. Then [`finish`](Starting::finish) doesn't block. If another thread of the caller forks at the moment of
/// the clone, it hangs up only when that child has executed a program, too; [`is_decided`](Starting::is_decided) doesn't depend on that.
#[derive(Debug)]
pub struct Starting {
    launched: Launched,
    started: Started,
}

impl PreparedExec<'_> {
    /// Whether all of it is one clone, after which the process needs nothing from its caller: no cgroup v1 to be joined, no terminal, no
    /// limits or priorities that only the caller may set, no filter with a listener, no second process
    /// (`docs/decisions/0002-one-clone-and-a-sibling.md` of the repository). The caller never waits for anything that the container
    /// can delay.
    pub fn is_unattended(&self) -> bool {
        self.job.is_unattended()
    }

    /// Runs the process, and returns when its program runs.
    ///
    /// # Errors
    /// The reason why the program could not be executed.
    pub fn run(self) -> Result<ExecProcess> {
        let PreparedExec { job, mut watch, started } = self;
        running(launch::launch(job, &mut watch).map_err(preparing)?, &started)
    }

    /// Creates the process, without waiting for its program if the process [is unattended](PreparedExec::is_unattended); otherwise
    /// waits, as [`run`](PreparedExec::run) does.
    ///
    /// # Errors
    /// The reason why the process could not be created.
    pub fn begin(self) -> Result<Starting> {
        let PreparedExec { job, mut watch, started } = self;
        let job = Job { return_early: true, ..job };
        Ok(Starting { launched: launch::launch(job, &mut watch).map_err(preparing)?, started })
    }
}

impl Starting {
    /// Whether the outcome is known: the program runs, or could not be executed.
    ///
    /// # Errors
    /// `Os` when poll(2) fails.
    pub fn is_decided(&self) -> Result<bool> {
        self.launched.is_decided()
    }

    /// Returns the process once its program runs.
    ///
    /// # Errors
    /// The reason why the program could not be executed.
    pub fn finish(mut self) -> Result<ExecProcess> {
        // Else it would be waited for, though for a moment only.
        if !self.launched.has_executed_silently().map_err(preparing)? {
            self.launched.follow(&mut NoRequests).map_err(preparing)?;
        }
        running(self.launched, &self.started)
    }
}

fn preparing(error: Error) -> Error {
    error.at(Stage::Prepare)
}

fn running(launched: Launched, started: &Started) -> Result<ExecProcess> {
    let (pid, process, terminal) = launched.release()?;
    Ok(started.add(pid, process, terminal))
}

impl AsFd for Starting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.launched.socket()
    }
}

/// An unattended process makes no requests.
struct NoRequests;

impl Watch for NoRequests {
    fn hooks(&mut self, _: i32, _: BorrowedFd<'_>) -> Result<()> {
        Ok(())
    }

    fn listener(&mut self, _: i32, _: OwnedFd) -> Result<()> {
        Err(Error::unsupported("linux.seccomp: SCMP_ACT_NOTIFY is not supported by an exec in two steps"))
    }
}
