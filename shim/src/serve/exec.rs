//! An exec: the server clones the process itself, without reading anything again.
//!
//! Until the server is idle, the container's handle of libcontainer is kept from one exec to the next: with the record, the pidfd of the
//! first process, the cgroup's directory and the compiled filter. The process may need any time between clone and exec (the program may
//! be on a dead file system), so the server does not wait for it: its end of a socket pair closes when its program runs. An exec that
//! must be waited for (with a terminal, cgroup v1 or a logger) is left to a worker, which inherits the same handle by its fork.

use super::place::{Place, runtime_failed, stdio};
use super::poll::Interest;
use super::streams::Ends;
use super::table::Task;
use super::worker::{Done, Fds, Report, Worker, file_limit};
use crate::wire::code::Failure;
use libcontainer::{Container, ExecOptions, ExecProcess, PreparedExec, Starting, parse_process};
use std::os::fd::{AsFd, BorrowedFd};

/// A process that is ready to be run.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    pub(crate) prepared: PreparedExec<'a>,
    pub(crate) warnings: Vec<String>,
}

/// A running order: a worker, or the process itself.
#[derive(Debug)]
pub(crate) enum Executor {
    Worker(Worker),
    /// A process that has not executed its program yet.
    Process(Box<Begun>),
}

/// A process that was cloned, but has not executed its program yet.
#[derive(Debug)]
pub(crate) struct Begun {
    starting: Starting,
    warnings: Vec<String>,
}

/// The container's handle, which is loaded at its first use.
pub(crate) fn handle<'a>(task: &'a Task, place: Place<'_>) -> Result<&'a Container, Failure> {
    if let Some(handle) = task.handle.get() {
        return Ok(handle);
    }
    let handle = place.load()?;
    Ok(task.handle.get_or_init(|| handle))
}

/// Prepares the process that `spec` describes.
pub(crate) fn prepare<'a>(
    container: &'a Container,
    spec: &[u8],
    ends: Ends,
) -> Result<Prepared<'a>, Failure> {
    let (mut process, warnings) = parse_process(spec).map_err(runtime_failed("exec"))?;
    process.set_terminal(Some(matches!(ends, Ends::Terminal)));
    let mut options = ExecOptions::new(stdio(ends));
    options.open_files = file_limit();
    let prepared = container.prepare_exec(&process, options).map_err(runtime_failed("exec"))?;
    Ok(Prepared { prepared, warnings })
}

impl Prepared<'_> {
    /// Whether the server may clone the process itself.
    pub(crate) fn is_unattended(&self) -> bool {
        self.prepared.is_unattended()
    }

    pub(crate) fn begin(self) -> Result<Executor, Failure> {
        let starting = self.prepared.begin().map_err(runtime_failed("exec"))?;
        Ok(Executor::Process(Box::new(Begun { starting, warnings: self.warnings })))
    }
}

/// The report of a process that runs.
pub(crate) fn report_process(mut process: ExecProcess, warnings: Vec<String>) -> Done {
    let report = Report { pid: process.pid(), warnings, ..Report::default() };
    let terminal = process.take_terminal();
    Done { report, fds: Fds { terminal, pidfd: Some(process.into_pidfd()), ..Fds::default() } }
}

impl Executor {
    /// Whether it has finished.
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Executor::Worker(worker) => worker.is_ready(),
            Executor::Process(begun) => begun.starting.is_decided().unwrap_or(true),
        }
    }

    /// Its report, once it is ready.
    pub(crate) fn report(self) -> Result<Done, Failure> {
        match self {
            Executor::Worker(worker) => worker.report(),
            Executor::Process(begun) => {
                let Begun { starting, warnings } = *begun;
                let process = starting.finish().map_err(runtime_failed("exec"))?;
                Ok(report_process(process, warnings))
            }
        }
    }

    /// What to watch it for: a worker sends its report, a process closes its end.
    pub(crate) fn interest(&self) -> Interest {
        match self {
            Executor::Worker(_) => Interest::Read,
            Executor::Process(_) => Interest::End,
        }
    }

    /// The pid of a worker, which is reaped after its report.
    pub(crate) fn pid(&self) -> Option<i32> {
        match self {
            Executor::Worker(worker) => Some(worker.pid),
            Executor::Process(_) => None,
        }
    }
}

impl AsFd for Executor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Executor::Worker(worker) => worker.as_fd(),
            Executor::Process(begun) => begun.starting.as_fd(),
        }
    }
}
