//! What a program that is executed inherits of this process.

use nix::errno::Errno;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

/// Gives `fd` the number `number` and lets it be inherited. Nothing in this process may own `number`.
pub(crate) fn hand_down(fd: OwnedFd, number: RawFd) -> Result<(), Errno> {
    if fd.as_raw_fd() == number {
        let fd = fd.into_raw_fd();
        // SAFETY: fcntl(F_SETFD) takes two integers.
        return Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }).map(drop);
    }
    // SAFETY: three integers; `number` is nobody's by this function's contract, so no owner loses its descriptor.
    Errno::result(unsafe { libc::dup3(fd.as_raw_fd(), number, 0) }).map(drop)
}

/// Keeps all descriptors from `first` on from being inherited: close_range(2) with CLOSE_RANGE_CLOEXEC, Linux 5.11; before that, by the
/// list in this process's procfs.
pub(crate) fn close_on_exec_from(first: RawFd) -> Result<(), Errno> {
    let flags = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
    // SAFETY: three integers, and nothing is closed in this process.
    match Errno::result(unsafe { libc::close_range(first.cast_unsigned(), u32::MAX, flags) }) {
        Err(Errno::ENOSYS | Errno::EINVAL | Errno::EPERM) => close_listed_on_exec(first),
        other => other.map(drop),
    }
}

fn close_listed_on_exec(first: RawFd) -> Result<(), Errno> {
    let failed = |e: std::io::Error| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    for entry in std::fs::read_dir("/proc/self/fd").map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(fd) = name.to_str().and_then(|name| name.parse().ok()).filter(|fd: &RawFd| *fd >= first)
        else {
            continue;
        };
        // SAFETY: three integers; a flag is set, nothing is closed.
        Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    }
    Ok(())
}

/// A core-scheduling cookie of its own for this process group (SCHED_CORE of containerd). Linux 5.14.
pub(crate) fn share_cores_with_nobody() -> Result<(), Errno> {
    // PIDTYPE_PGID of the kernel.
    const GROUP: libc::c_ulong = 2;
    let (create, own): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: PR_SCHED_CORE with PR_SCHED_CORE_CREATE reads integers only; the last argument must be 0.
    Errno::result(unsafe { libc::prctl(libc::PR_SCHED_CORE, create, own, GROUP, own) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_close_range_the_listed_descriptors_are_closed_on_exec() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let flags = |fd: RawFd| {
            // SAFETY: two integers.
            unsafe { libc::fcntl(fd, libc::F_GETFD) }
        };
        // SAFETY: three integers; the descriptor is open.
        let copy = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD, 900) };
        assert_eq!(flags(copy), 0);
        close_listed_on_exec(copy).unwrap();
        assert_eq!(flags(copy), libc::FD_CLOEXEC);
    }
}
