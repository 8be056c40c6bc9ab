//! The work of workers on checkpoints: they save a container, or restore one.
//!
//! As with containerd's own shim, `Create` with a checkpoint does not make a process: it mounts the root, and `Start` restores.

use super::jobs::{StartedLogger, has_own_pids, load_bundle, report_container};
use super::mount;
use super::place::{Place, runtime_failed, stdio};
use super::streams::{Ends, LoggerEnds};
use super::worker::{Done, Fds, Report};
use crate::bundle::Record;
use crate::rootfs;
use crate::wire::code::Failure;
use crate::wire::options::{CHECKPOINT_OPTIONS, CheckpointOptions as Wanted, Options};
use crate::wire::task::{CheckpointTaskRequest, CreateTaskRequest};
use crate::wire::types::Any;
use libcontainer::{Bundle, CgroupMode, CheckpointOptions, ContainerId, RestoreOptions};
use std::path::{Path, PathBuf};

/// The default directory for CRIU's logs and other files, in the bundle: everything in the checkpoint's own directory becomes part of
/// the image.
const WORK: &str = "criu-work";

/// The options of `Checkpoint`, checked before anything is done.
pub(crate) fn wanted(ask: &CheckpointTaskRequest) -> Result<Wanted, Failure> {
    let given = ask.options.as_ref().filter(|any| !any.type_url.is_empty() || !any.value.is_empty());
    let wanted: Wanted = match given.map(Any::name) {
        None => Wanted::default(),
        Some(CHECKPOINT_OPTIONS) => {
            given.map_or(Ok(Wanted::default()), |any| any.unpack(CHECKPOINT_OPTIONS))?
        }
        Some(name) => {
            let message =
                format!("checkpoint options: unknown type {name:?} (expected {CHECKPOINT_OPTIONS})");
            return Err(Failure::invalid_argument(message));
        }
    };
    if let Some(other) = wanted.empty_namespaces.iter().find(|name| *name != "network") {
        let message =
            format!("checkpoint: emptyNamespaces: {other:?} is not supported (network is always empty)");
        return Err(Failure::invalid_argument(message));
    }
    CgroupMode::parse(&wanted.cgroups_mode)?;
    if !Path::new(image_dir(ask, &wanted)).is_absolute() {
        return Err(Failure::invalid_argument(format!(
            "checkpoint path {:?}: must be an absolute path",
            ask.path
        )));
    }
    Ok(wanted)
}

fn image_dir<'a>(ask: &'a CheckpointTaskRequest, wanted: &'a Wanted) -> &'a str {
    if ask.path.is_empty() { &wanted.image_path } else { &ask.path }
}

/// Saves the container.
pub(crate) fn checkpoint(place: Place<'_>, ask: &CheckpointTaskRequest) -> Result<Done, Failure> {
    let wanted = wanted(ask)?;
    let mut options = CheckpointOptions::new(image_dir(ask, &wanted));
    options.work = Some(work(place, &wanted.work_path));
    options.parent = Some(PathBuf::from(&wanted.parent_path)).filter(|path| !path.as_os_str().is_empty());
    options.leave_running = !wanted.exit;
    options.tcp_established = wanted.open_tcp;
    options.external_unix_sockets = wanted.external_unix_sockets;
    options.shell_job = wanted.terminal;
    options.file_locks = wanted.file_locks;
    options.cgroups = CgroupMode::parse(&wanted.cgroups_mode)?;
    place.load()?.checkpoint(options).map_err(runtime_failed("checkpoint"))?;
    tidy(place, &wanted.work_path);
    Ok(Done::default())
}

fn work(place: Place<'_>, named: &str) -> PathBuf {
    if named.is_empty() { place.bundle.join(WORK) } else { PathBuf::from(named) }
}

/// Removes the logs after success. After a failure they stay with the bundle.
fn tidy(place: Place<'_>, named: &str) {
    if named.is_empty() {
        let _ = std::fs::remove_dir_all(place.bundle.join(WORK));
    }
}

/// Mounts the root of a container that `Start` will restore.
pub(crate) fn prepare(place: Place<'_>, ask: &CreateTaskRequest) -> Result<Done, Failure> {
    // First of all: from here on `delete` can clean up, whenever this ends.
    Record::new(place.id, place.root).write(place.bundle)?;
    mount::mount_all(&ask.rootfs, place.bundle)?;
    let read = std::fs::metadata(&ask.checkpoint)
        .map_err(|e| Failure::not_found(format!("checkpoint {:?}: stat: {e}", ask.checkpoint)))
        .and_then(|_| Bundle::load(place.bundle).map_err(runtime_failed("restore")));
    match read {
        Ok(bundle) => {
            let report = Report { owns_pids: has_own_pids(bundle.spec()), ..Report::default() };
            Ok(Done { report, fds: Fds::default() })
        }
        Err(failure) => {
            if !ask.rootfs.is_empty() {
                let _ = rootfs::unmount(place.bundle);
            }
            Err(failure)
        }
    }
}

/// Restores the container.
pub(crate) fn restore(
    place: Place<'_>,
    ask: &CreateTaskRequest,
    options: &Options,
    ends: Ends,
    logger: Option<LoggerEnds>,
) -> Result<Done, Failure> {
    let bundle = load_bundle(place, ask.terminal).map_err(runtime_failed("restore"))?;
    let logger = StartedLogger::start(place, logger)?;
    let mut wanted = RestoreOptions::new(&ask.checkpoint, stdio(ends));
    wanted.work = Some(work(place, &options.criu_work_path));
    wanted.systemd_cgroup = options.systemd_cgroup;
    // `Start` has no options for these, so all that a checkpoint may contain is allowed.
    wanted.tcp_established = true;
    wanted.external_unix_sockets = true;
    wanted.file_locks = true;
    let id = ContainerId::new(place.id)?;
    let container = place.runtime()?.restore(&id, &bundle, wanted).map_err(runtime_failed("restore"))?;
    tidy(place, &options.criu_work_path);
    report_container(place, container, &bundle, logger)
}
