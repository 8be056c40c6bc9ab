//! The system calls of `start` that `nix` has no safe wrapper for.

#![allow(unsafe_code)]

use nix::errno::Errno;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

/// Gives `fd` the number `number` and lets it be inherited. Nothing in this process may own `number`.
pub(super) fn hand_down(fd: OwnedFd, number: RawFd) -> Result<(), Errno> {
    if fd.as_raw_fd() == number {
        let fd = fd.into_raw_fd();
        // SAFETY: fcntl(F_SETFD) takes two integers.
        return Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }).map(drop);
    }
    // SAFETY: three integers; `number` is nobody's by this function's contract, so no owner loses its descriptor.
    Errno::result(unsafe { libc::dup3(fd.as_raw_fd(), number, 0) }).map(drop)
}

/// Keeps all descriptors from `first` on from being inherited. Linux 5.11.
pub(super) fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    let flags = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
    // SAFETY: three integers, and nothing is closed in this process.
    Errno::result(unsafe { libc::close_range(first, u32::MAX, flags) }).map(drop)
}

/// A core-scheduling cookie of its own for this process group (SCHED_CORE of containerd). Linux 5.14.
pub(super) fn share_cores_with_nobody() -> Result<(), Errno> {
    // PIDTYPE_PGID of the kernel.
    const GROUP: libc::c_ulong = 2;
    let (create, own): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: PR_SCHED_CORE with PR_SCHED_CORE_CREATE reads integers only; the last argument must be 0.
    Errno::result(unsafe { libc::prctl(libc::PR_SCHED_CORE, create, own, GROUP, own) }).map(drop)
}
