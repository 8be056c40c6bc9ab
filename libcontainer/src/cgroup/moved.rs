//! Containers whose first process has left the cgroup that was made for them, which it may do where it sees the host's cgroups.

use super::{Location, join};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::signal;
use crate::sys::pidfd;
use std::os::fd::BorrowedFd;
use std::path::{Component, Path};

/// Whether a cgroup refuses every process with this errno: it has delegated controllers to those below it (EBUSY), is in an invalid domain
/// (EOPNOTSUPP), or was removed. The container's first process is then in another.
pub(crate) fn cannot_join(errno: Option<i32>) -> bool {
    matches!(errno, Some(libc::EBUSY | libc::EOPNOTSUPP | libc::ENOENT | libc::ENODEV))
}

/// Moves a process, which could not join the container's cgroup because of `e`, to where `init` is.
pub(super) fn instead(
    e: Error,
    init: Option<BorrowedFd<'_>>,
    location: impl FnOnce(BorrowedFd<'_>) -> Result<Location>,
    pid: i32,
) -> Result<()> {
    match init.filter(|_| cannot_join(e.errno())) {
        Some(init) => location(init)?.open().and_then(|dir| join(&dir, pid)),
        None => Err(e),
    }
}

/// The cgroup of a process in the hierarchy that is mounted at `mount`; `path` takes it from that hierarchy's line of /proc/PID/cgroup.
pub(super) fn location_of(
    mount: &Path,
    process: BorrowedFd<'_>,
    path: impl Fn(&str) -> Option<&str>,
) -> Result<Location> {
    let file = format!("/proc/{}/cgroup", signal::pid_of(process)?);
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {file:?}"))?;
    // The pid was still the process's if it hasn't been reaped by now.
    pidfd::send_signal(process, 0).context("pidfd_send_signal: the container's process")?;
    let found = text.lines().find_map(path).map(Path::new);
    // Outside of our cgroup namespace, where it has no name, it begins with `..`.
    match found.filter(|path| !path.components().any(|part| part == Component::ParentDir)) {
        Some(path) => {
            Ok(Location { mount: mount.to_owned(), path: path.strip_prefix("/").unwrap_or(path).to_owned() })
        }
        None => Err(Error::new(ErrorKind::NotFound, format!("{file:?}: no cgroup below {mount:?}"))),
    }
}
