//! An exec: one clone of the server's own, and nothing is read again for it.
//!
//! What an exec takes is kept with the container from one to the next, until the server is idle: libcontainer's handle, with the
//! record, the pidfd of the first process, the cgroup's folder and the compiled filter. What its process does between clone and exec may take any time (the
//! program may lie on a dead file system), so nobody waits for it: its end of a socket pair closes when its program runs. What
//! needs somebody who waits (a terminal, cgroup v1, a logger) is a worker's, which has the same things by its fork.

use super::jobs::{Place, runtime_failed, stdio};
use super::poll::Interest;
use super::streams::Ends;
use super::table::Task;
use super::worker::{Done, Report, Worker, file_limit};
use crate::wire::code::Failure;
use libcontainer::{Container, ExecOptions, PreparedExec, Process, Starting, parse_process};
use std::os::fd::{AsFd, BorrowedFd};

/// A process that is ready to be run.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    pub(crate) prepared: PreparedExec<'a>,
    pub(crate) warnings: Vec<String>,
}

/// Who is at work on an order.
#[derive(Debug)]
pub(crate) enum Hand {
    Worker(Worker),
    /// The process itself, on its way to its program.
    Process(Box<Begun>),
}

/// A process that was made and whose program does not run yet.
#[derive(Debug)]
pub(crate) struct Begun {
    starting: Starting,
    warnings: Vec<String>,
}

/// The container's handle, loaded when it is first needed.
pub(crate) fn handle<'a>(task: &'a Task, place: Place<'_>) -> Result<&'a Container, Failure> {
    if let Some(handle) = task.handle.get() {
        return Ok(handle);
    }
    let handle = place.load()?;
    Ok(task.handle.get_or_init(|| handle))
}

/// Decides all about the process that `spec` describes.
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
    /// The server may make the process itself.
    pub(crate) fn is_unattended(&self) -> bool {
        self.prepared.is_unattended()
    }

    pub(crate) fn begin(self) -> Result<Hand, Failure> {
        let starting = self.prepared.begin().map_err(runtime_failed("exec"))?;
        Ok(Hand::Process(Box::new(Begun { starting, warnings: self.warnings })))
    }
}

/// The report of a process that runs.
pub(crate) fn report_process(mut process: Process, warnings: Vec<String>) -> Done {
    let master = process.take_terminal();
    let report = Report { pid: process.pid(), terminal: master.is_some(), warnings, ..Report::default() };
    let mut fds = vec![process.into_pidfd()];
    fds.extend(master);
    Done { report, fds }
}

impl Hand {
    /// Whether it has a report.
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Hand::Worker(worker) => worker.is_ready(),
            Hand::Process(begun) => begun.starting.is_decided().unwrap_or(true),
        }
    }

    /// What it has to say, once it is ready.
    pub(crate) fn report(self) -> Result<Done, Failure> {
        match self {
            Hand::Worker(worker) => worker.report(),
            Hand::Process(begun) => {
                let Begun { starting, warnings } = *begun;
                let process = starting.finish().map_err(runtime_failed("exec"))?;
                Ok(report_process(process, warnings))
            }
        }
    }

    /// What it is watched for: a worker speaks, a process on its way closes its end.
    pub(crate) fn interest(&self) -> Interest {
        match self {
            Hand::Worker(_) => Interest::Read,
            Hand::Process(_) => Interest::End,
        }
    }

    /// Of a worker: to be reaped when it has reported.
    pub(crate) fn pid(&self) -> Option<i32> {
        match self {
            Hand::Worker(worker) => Some(worker.pid),
            Hand::Process(_) => None,
        }
    }
}

impl AsFd for Hand {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Hand::Worker(worker) => worker.as_fd(),
            Hand::Process(begun) => begun.starting.as_fd(),
        }
    }
}
