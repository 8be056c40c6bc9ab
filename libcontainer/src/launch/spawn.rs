//! Makes the child: one clone, and nothing of what follows. Another way to make it would go in here
//! (docs/decisions/0025-where-a-launcher-plugs-in.md).

use super::child;
use super::fds::FdTable;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::plan::ProcessPlan;
use crate::plan::step::Slot;
use crate::sys::pidfd::Child;
use crate::sys::{self, Errno, clone, sock};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A child that runs the steps of its plan.
pub(super) struct Spawned {
    pub(super) pid: i32,
    pub(super) process: Child,
    /// The parent's end of the socket between the two. The child's end closes when its program runs or the child ends.
    pub(super) sync: OwnedFd,
}

/// Makes the child, in the cgroup v2 directory `cgroup` if there is one. `target` is the process whose namespaces the plan joins.
pub(super) fn spawn(
    plan: &mut ProcessPlan,
    fds: &mut FdTable,
    streams: &[Option<OwnedFd>; 3],
    cgroup: Option<BorrowedFd<'_>>,
    target: Option<BorrowedFd<'_>>,
) -> Result<Spawned> {
    let (sync, theirs) = sock::pair().context("socketpair")?;
    fds.set_above_stdio(Slot::SYNC, theirs).context("fcntl(F_DUPFD_CLOEXEC)")?;
    let flags = plan.clone_flags;
    let fault = fault::of_child();
    // No handler of the caller's must run in the child.
    let blocked = clone::BlockedSignals::new().context("pthread_sigmask")?;
    let (steps, exec) = (plan.child.as_slice(), &mut plan.exec);
    let run = || {
        child::run(child::Child::new(steps, exec, fds, streams, fault));
    };
    let clone = || clone::spawn(flags, cgroup, run).map_err(|e| explain(e, flags));
    let spawned = match target.filter(|_| plan.clone_into_pids) {
        Some(target) => in_pids_of(target, clone),
        None => clone(),
    };
    drop(blocked);
    // Only the child's own end may stay open, or the parent would not see it close.
    fds.take(Slot::SYNC);
    let (pid, process) = spawned?;
    Ok(Spawned { pid, process, sync })
}

/// Clones while children of this thread, and of this thread only, are made in the pid namespace of `target`.
fn in_pids_of(target: BorrowedFd<'_>, clone: impl FnOnce() -> Result<(i32, Child)>) -> Result<(i32, Child)> {
    const FILE: &CStr = c"/proc/thread-self/ns/pid_for_children";
    let pids = libc::CLONE_NEWPID as u64;
    let own = sys::fs::openat_following(sys::fs::CWD, FILE, libc::O_RDONLY)
        .with_context(|| format!("open {FILE:?}"))?;
    sys::process::join(target, pids).context("setns: the container's pid namespace")?;
    let spawned = clone();
    let Err(e) = sys::process::setns(own.as_fd(), pids) else { return spawned };
    // Kills it.
    drop(spawned);
    let lost = "this thread cannot return from the container's pid namespace: its later children would be created there";
    Err(Error::os("setns", e.into()).wrap(lost))
}

fn explain(e: Errno, flags: u64) -> Error {
    let error = Error::os("clone3", e.into()).wrap("create the container's process");
    match e.0 {
        libc::ENOSPC | libc::EUSERS => error.hint("a limit in /proc/sys/user is reached, or namespaces are nested too deep"),
        libc::EAGAIN => error.hint("the process limit of the cgroup or of the user is reached"),
        libc::EPERM if flags & libc::CLONE_NEWUSER as u64 != 0 => {
            error.hint("user namespaces are not allowed here: see kernel.unprivileged_userns_clone and apparmor_restrict_unprivileged_userns")
        }
        libc::EPERM => error.hint("new namespaces need root, or a user namespace in linux.namespaces"),
        _ => error,
    }
}
