//! What workers do: one function a verb, on libcontainer. Each runs in a process of its own, which ends with it.
//!
//! It must not know the server: everything comes in as arguments and goes out as a report.

use super::exec::{Prepared, report_process};
use super::mount;
use super::streams::{Ends, LoggerEnds};
use super::worker::{CgroupFolder, Done, Report};
use crate::bundle::{self, Record};
use crate::rootfs;
use crate::sys::process::pidfd_open;
use crate::wire::code::{Code, Failure};
use crate::wire::options::Options;
use crate::wire::task::CreateTaskRequest;
use libcontainer::spec::{LinuxNamespaceType, Spec};
use libcontainer::{
    Bundle, CgroupPaths, Container, ContainerId, CreateOptions, Delete, ErrorKind, Runtime, Signal, Stdio,
    parse_resources,
};
use nix::errno::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// How a container is found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) id: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) bundle: &'a Path,
    /// libcontainer's state directory.
    pub(crate) root: &'a Path,
}

impl Place<'_> {
    pub(super) fn runtime(&self) -> Result<Runtime, Failure> {
        Ok(Runtime::open(self.root)?)
    }

    pub(crate) fn load(&self) -> Result<Container, Failure> {
        Ok(self.runtime()?.load(&ContainerId::new(self.id)?)?)
    }
}

/// Words that Docker looks for, and in which people search.
pub(crate) fn runtime_failed(verb: &str) -> impl Fn(libcontainer::Error) -> Failure {
    let verb = verb.to_owned();
    move |error| {
        let failure = Failure::from(error);
        Failure::new(failure.code, format!("OCI runtime {verb} failed: {}", failure.message))
    }
}

fn os(what: &str, e: Errno) -> Failure {
    Failure::new(Code::Unknown, format!("{what}: {e}"))
}

/// Makes the container up to the point where its process waits for `start`.
pub(crate) fn create(
    place: Place<'_>,
    ask: &CreateTaskRequest,
    options: &Options,
    ends: Ends,
    logger: Option<LoggerEnds>,
) -> Result<Done, Failure> {
    // First of all: from here on `delete` finds what is left, whenever this ends.
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
    let logger = Running::start(place, logger)?;
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

/// The bundle, with a terminal or without as the caller asks.
pub(super) fn load_bundle(place: Place<'_>, terminal: bool) -> libcontainer::Result<Bundle> {
    let mut bundle = Bundle::load(place.bundle)?;
    if let Some(process) = bundle.spec_mut().process_mut() {
        process.set_terminal(Some(terminal));
    }
    Ok(bundle)
}

/// Tells of a new container; one that can not be told of is removed.
pub(super) fn report_container(
    place: Place<'_>,
    mut container: Container,
    bundle: &Bundle,
    logger: Option<Running>,
) -> Result<Done, Failure> {
    let told = describe(place, &mut container, has_own_pids(bundle.spec()), logger);
    if told.is_err() {
        let _ = container.delete(Delete::Force);
    }
    told
}

fn describe(
    place: Place<'_>,
    container: &mut Container,
    owns_pids: bool,
    logger: Option<Running>,
) -> Result<Done, Failure> {
    let pid = container.pid();
    bundle::write_pid(place.bundle, pid)?;
    let pidfd =
        container.pidfd().ok_or_else(|| Failure::new(Code::Internal, "the container has no process"))?;
    let mut done = Done { fds: vec![copy(pidfd)?], ..Done::default() };
    let report = &mut done.report;
    *report = Report {
        pid,
        owns_pids,
        cgroups: cgroup_folders(container.cgroup()),
        warnings: container.warnings().to_vec(),
        ..Report::default()
    };
    if let Some(master) = container.take_terminal() {
        report.terminal = true;
        done.fds.push(master);
    }
    match container.watch_oom() {
        Ok(Some(watch)) => {
            report.oom = true;
            done.fds.push(copy(watch.as_fd())?);
        }
        Ok(None) => {}
        Err(e) => report.warnings.push(format!("kills by the memory limit will not be told: {e}")),
    }
    Running::report(logger, &mut done);
    Ok(done)
}

fn cgroup_folders(paths: CgroupPaths) -> Vec<CgroupFolder> {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    match paths {
        CgroupPaths::V2(path) => vec![CgroupFolder { controller: String::new(), path: text(path) }],
        CgroupPaths::V1(folders) => folders
            .into_iter()
            .map(|(controller, path)| CgroupFolder { controller, path: text(path) })
            .collect(),
        _ => Vec::new(),
    }
}

pub(super) fn has_own_pids(spec: &Spec) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.is_some_and(|list| {
        list.iter().any(|one| one.typ() == LinuxNamespaceType::Pid && one.path().is_none())
    })
}

pub(crate) fn stdio(ends: Ends) -> Stdio {
    match ends {
        Ends::Terminal => Stdio::Terminal,
        Ends::Fds { stdin, stdout, stderr } => Stdio::Fds { stdin, stdout, stderr },
    }
}

fn copy(fd: impl AsFd) -> Result<OwnedFd, Failure> {
    fd.as_fd().try_clone_to_owned().map_err(Failure::from)
}

/// A logger that was started. Dropped, it is killed.
pub(super) struct Running {
    pid: i32,
    pidfd: Option<OwnedFd>,
}

impl Running {
    pub(super) fn start(place: Place<'_>, ends: Option<LoggerEnds>) -> Result<Option<Self>, Failure> {
        let Some(ends) = ends else { return Ok(None) };
        let pid = ends.logger.run(place.id, place.namespace, &ends.stdout, &ends.stderr)?;
        let pidfd = pidfd_open(pid).map_err(|e| os("pidfd_open of the logger", e))?;
        Ok(Some(Running { pid, pidfd: Some(pidfd) }))
    }

    fn report(running: Option<Self>, done: &mut Done) {
        if let Some(mut running) = running {
            done.report.logger = running.pid;
            done.fds.extend(running.pidfd.take());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pidfd) = &self.pidfd {
            let _ = crate::sys::process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
        }
    }
}

/// Lets the container's process run its program.
pub(crate) fn start(place: Place<'_>) -> Result<Done, Failure> {
    place.load()?.start().map_err(runtime_failed("start"))?;
    Ok(Done::default())
}

/// Runs one more process in the container, which was prepared before.
pub(crate) fn exec(
    place: Place<'_>,
    exec: Prepared<'_>,
    logger: Option<LoggerEnds>,
) -> Result<Done, Failure> {
    let logger = Running::start(place, logger)?;
    let process = exec.prepared.run().map_err(runtime_failed("exec"))?;
    let mut done = report_process(process, exec.warnings);
    Running::report(logger, &mut done);
    Ok(done)
}

/// Freezes.
pub(crate) fn pause(place: Place<'_>) -> Result<Done, Failure> {
    place.load()?.pause().map_err(runtime_failed("pause"))?;
    Ok(Done::default())
}

/// Thaws.
pub(crate) fn resume(place: Place<'_>) -> Result<Done, Failure> {
    place.load()?.resume().map_err(runtime_failed("resume"))?;
    Ok(Done::default())
}

/// Changes limits: `resources` is `linux.resources` as JSON.
pub(crate) fn update(place: Place<'_>, resources: &[u8]) -> Result<Done, Failure> {
    let resources = parse_resources(resources)
        .map_err(|e| Failure::invalid_argument(format!("update: parse the resources: {e}")))?;
    place.load()?.update(&resources).map_err(runtime_failed("update"))?;
    Ok(Done::default())
}

/// A signal to every process of the container.
pub(crate) fn signal_all(place: Place<'_>, signal: i32) -> Result<Done, Failure> {
    place.load()?.kill_all(Signal::from_number(signal)?).map_err(runtime_failed("kill"))?;
    Ok(Done::default())
}

/// Removes the container and unmounts its root. What is gone already is no error.
pub(crate) fn delete(place: Place<'_>, how: Delete) -> Result<Done, Failure> {
    let removed = match place.runtime()?.load(&ContainerId::new(place.id)?) {
        Ok(container) => container.delete(how),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            match place.runtime()?.remove_remains(&ContainerId::new(place.id)?) {
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
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
