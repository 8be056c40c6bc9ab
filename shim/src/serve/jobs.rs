//! The work of workers: one function per operation, on libcontainer. Each runs in its own process, which ends with it.
//!
//! This module does not know the server: its input are arguments, its output is a report.

use super::exec::{Prepared, report_process};
use super::mount;
use super::place::{Place, runtime_failed, stdio};
use super::streams::{Ends, LoggerEnds};
use super::worker::{CgroupDir, Done, Fds, Report};
use crate::bundle::{self, Record};
use crate::rootfs;
use crate::sys::process::pidfd_open;
use crate::wire::code::{Code, Failure};
use crate::wire::options::Options;
use crate::wire::task::CreateTaskRequest;
use libcontainer::spec::{LinuxNamespaceType, Spec};
use libcontainer::{
    Bundle, CgroupPaths, Container, ContainerId, CreateOptions, Delete, Object, Signal, parse_resources,
};
use nix::errno::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

fn os(what: &str, e: Errno) -> Failure {
    Failure::new(Code::Unknown, format!("{what}: {e}"))
}

/// Makes the container, whose process then waits for `start`.
pub(crate) fn create(
    place: Place<'_>,
    ask: &CreateTaskRequest,
    options: &Options,
    ends: Ends,
    logger: Option<LoggerEnds>,
) -> Result<Done, Failure> {
    // First of all: from here on `delete` can clean up, whenever this ends.
    Record::new(place.id, place.root).write(place.bundle)?;
    mount::mount_all(&ask.rootfs, place.bundle)?;
    let made = create_on_root(place, ask, options, ends, logger);
    if made.is_err() && !ask.rootfs.is_empty() {
        let _ = rootfs::unmount(place.bundle);
    }
    made
}

fn create_on_root(
    place: Place<'_>,
    ask: &CreateTaskRequest,
    options: &Options,
    ends: Ends,
    logger: Option<LoggerEnds>,
) -> Result<Done, Failure> {
    let bundle = load_bundle(place, ask.terminal).map_err(runtime_failed("create"))?;
    let logger = StartedLogger::start(place, logger)?;
    let mut wanted = CreateOptions::new(stdio(ends));
    wanted.no_pivot = options.no_pivot_root;
    wanted.no_new_keyring = options.no_new_keyring;
    wanted.systemd_cgroup = options.systemd_cgroup;
    let container = place
        .runtime()?
        .create(&ContainerId::new(place.id)?, &bundle, wanted)
        .map_err(runtime_failed("create"))?;
    report_container(place, container, &bundle, logger)
}

/// Loads the bundle, with or without a terminal as the caller asks.
pub(super) fn load_bundle(place: Place<'_>, terminal: bool) -> libcontainer::Result<Bundle> {
    let mut bundle = Bundle::load(place.bundle)?;
    if let Some(process) = bundle.spec_mut().process_mut() {
        process.set_terminal(Some(terminal));
    }
    Ok(bundle)
}

/// Reports a new container. If that fails, it is removed.
pub(super) fn report_container(
    place: Place<'_>,
    mut container: Container,
    bundle: &Bundle,
    logger: Option<StartedLogger>,
) -> Result<Done, Failure> {
    let done = describe(place, &mut container, has_own_pids(bundle.spec()), logger);
    if done.is_err() {
        let _ = container.delete(Delete::Force);
    }
    done
}

fn describe(
    place: Place<'_>,
    container: &mut Container,
    owns_pids: bool,
    logger: Option<StartedLogger>,
) -> Result<Done, Failure> {
    let pid = container.pid();
    bundle::write_pid(place.bundle, pid)?;
    let pidfd =
        container.pidfd().ok_or_else(|| Failure::new(Code::Internal, "the container has no process"))?;
    let mut fds = Fds { pidfd: Some(copy(pidfd)?), ..Fds::default() };
    let mut report = Report {
        pid,
        owns_pids,
        cgroups: cgroup_dirs(container.cgroup()),
        warnings: container.warnings().to_vec(),
        ..Report::default()
    };
    fds.terminal = container.take_terminal();
    match container.watch_oom() {
        Ok(Some(watch)) => fds.oom = Some(copy(watch.as_fd())?),
        Ok(None) => {}
        Err(e) => report.warnings.push(format!("OOM events are not available: {e}")),
    }
    let mut done = Done { report, fds };
    StartedLogger::hand_over(logger, &mut done);
    Ok(done)
}

fn cgroup_dirs(paths: CgroupPaths) -> Vec<CgroupDir> {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    match paths {
        CgroupPaths::V2(path) => vec![CgroupDir { controller: String::new(), path: text(path) }],
        CgroupPaths::V1(dirs) => {
            dirs.into_iter().map(|(controller, path)| CgroupDir { controller, path: text(path) }).collect()
        }
        _ => Vec::new(),
    }
}

pub(super) fn has_own_pids(spec: &Spec) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.is_some_and(|list| {
        list.iter().any(|one| one.typ() == LinuxNamespaceType::Pid && one.path().is_none())
    })
}

fn copy(fd: impl AsFd) -> Result<OwnedFd, Failure> {
    fd.as_fd().try_clone_to_owned().map_err(Failure::from)
}

/// A logger that was started. Dropping it kills it.
pub(super) struct StartedLogger {
    pid: i32,
    pidfd: Option<OwnedFd>,
}

impl StartedLogger {
    pub(super) fn start(place: Place<'_>, ends: Option<LoggerEnds>) -> Result<Option<Self>, Failure> {
        let Some(ends) = ends else { return Ok(None) };
        let pid = ends.logger.run(place.id, place.namespace, &ends.stdout, &ends.stderr)?;
        let pidfd = pidfd_open(pid).map_err(|e| os("pidfd_open of the logger", e))?;
        Ok(Some(StartedLogger { pid, pidfd: Some(pidfd) }))
    }

    /// Puts the logger into a report.
    fn hand_over(logger: Option<Self>, done: &mut Done) {
        if let Some(mut logger) = logger {
            done.report.logger = logger.pid;
            done.fds.logger = logger.pidfd.take();
        }
    }
}

impl Drop for StartedLogger {
    fn drop(&mut self) {
        if let Some(pidfd) = &self.pidfd {
            let _ = crate::sys::process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
        }
    }
}

/// Starts the container's program.
pub(crate) fn start(place: Place<'_>) -> Result<Done, Failure> {
    place.load()?.start().map_err(runtime_failed("start"))?;
    Ok(Done::default())
}

/// Runs another process in the container, which was prepared before.
pub(crate) fn exec(
    place: Place<'_>,
    exec: Prepared<'_>,
    logger: Option<LoggerEnds>,
) -> Result<Done, Failure> {
    let logger = StartedLogger::start(place, logger)?;
    let process = exec.prepared.run().map_err(runtime_failed("exec"))?;
    let mut done = report_process(process, exec.warnings);
    StartedLogger::hand_over(logger, &mut done);
    Ok(done)
}

/// Pauses the container.
pub(crate) fn pause(place: Place<'_>) -> Result<Done, Failure> {
    place.load()?.pause().map_err(runtime_failed("pause"))?;
    Ok(Done::default())
}

/// Resumes the container.
pub(crate) fn resume(place: Place<'_>) -> Result<Done, Failure> {
    place.load()?.resume().map_err(runtime_failed("resume"))?;
    Ok(Done::default())
}

/// Changes the limits; `resources` is `linux.resources` as JSON.
pub(crate) fn update(place: Place<'_>, resources: &[u8]) -> Result<Done, Failure> {
    let resources = parse_resources(resources)
        .map_err(|e| Failure::invalid_argument(format!("update: parse the resources: {e}")))?;
    place.load()?.update(&resources).map_err(runtime_failed("update"))?;
    Ok(Done::default())
}

/// Sends a signal to every process of the container.
pub(crate) fn signal_all(place: Place<'_>, signal: i32) -> Result<Done, Failure> {
    place.load()?.kill_all(Signal::from_number(signal)?).map_err(runtime_failed("kill"))?;
    Ok(Done::default())
}

/// Removes the container and unmounts its root. A part that is gone already is not an error.
pub(crate) fn delete(place: Place<'_>, how: Delete) -> Result<Done, Failure> {
    let removed = match place.runtime()?.load(&ContainerId::new(place.id)?) {
        Ok(container) => container.delete(how).map(drop).map_err(|e| e.error),
        Err(e) if e.object() == Some(Object::Container) => {
            match place.runtime()?.remove_remains(&ContainerId::new(place.id)?) {
                Err(e) if e.object() == Some(Object::Container) => Ok(()),
                other => other,
            }
        }
        Err(e) => Err(e),
    };
    let unmounted = rootfs::unmount(place.bundle);
    removed.map_err(runtime_failed("delete"))?;
    unmounted?;
    Ok(Done::default())
}
