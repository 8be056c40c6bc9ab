//! The descriptors that an executed program inherits from this process, and its scheduling cookie.

use nix::errno::Errno;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

/// Passes `fd` to an executed program as `number`, which must not be in use in this process.
pub(crate) fn pass_as(fd: OwnedFd, number: RawFd) -> Result<(), Errno> {
    if fd.as_raw_fd() == number {
        let fd = fd.into_raw_fd();
        // SAFETY: fcntl(F_SETFD) takes two integers.
        return Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }).map(drop);
    }
    // SAFETY: three integers; `number` is not in use by this function's contract, so no owner loses its descriptor.
    Errno::result(unsafe { libc::dup3(fd.as_raw_fd(), number, 0) }).map(drop)
}

/// Makes all descriptors from `first` on close-on-exec: by close_range(2) with CLOSE_RANGE_CLOEXEC (Linux 5.11), or else by the list in
/// /proc.
pub(crate) fn close_on_exec_from(first: RawFd) -> Result<(), Errno> {
    let flags = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
    // SAFETY: three integers, and nothing is closed in this process.
    match Errno::result(unsafe { libc::close_range(first.cast_unsigned(), u32::MAX, flags) }) {
        Err(Errno::ENOSYS | Errno::EINVAL | Errno::EPERM) => close_listed_on_exec(first),
        other => other.map(drop),
    }
}

/// The descriptors of this process, including that of the list itself, which is closed again.
fn listed() -> Result<Vec<RawFd>, Errno> {
    let failed = |e: std::io::Error| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    let mut list = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").map_err(failed)? {
        list.extend(entry.map_err(failed)?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()));
    }
    Ok(list)
}

/// The number of descriptors of this process, if it can be determined.
pub(crate) fn open_files() -> Option<u64> {
    listed().ok().and_then(|list| u64::try_from(list.len()).ok())
}

fn close_listed_on_exec(first: RawFd) -> Result<(), Errno> {
    for fd in listed()?.into_iter().filter(|fd| *fd >= first) {
        // SAFETY: three integers; a flag is set, nothing is closed.
        match Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }) {
            Ok(_) | Err(Errno::EBADF) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// For a copy of this process that ends without dropping its copies of values: closes all descriptors above 2 except those in `kept`.
pub(crate) fn close_all_but(kept: &mut [RawFd]) {
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept.iter().copied().chain([RawFd::MAX]) {
        if fd > first {
            close_range(first, fd - 1);
        }
        first = first.max(fd.saturating_add(1));
    }
}

fn close_range(first: RawFd, last: RawFd) {
    // SAFETY: three integers. The owners of these descriptors are in the original process; this copy does not use them.
    let closed = unsafe { libc::close_range(first.cast_unsigned(), last.cast_unsigned(), 0) };
    if closed == 0 {
        return;
    }
    // Linux 5.8 and older, or an outer seccomp filter.
    for fd in listed().unwrap_or_default().into_iter().filter(|fd| (first..=last).contains(fd)) {
        // SAFETY: as above.
        unsafe { libc::close(fd) };
    }
}

/// Gives this process group a new core-scheduling cookie (SCHED_CORE of containerd). Linux 5.14.
pub(crate) fn new_core_cookie() -> Result<(), Errno> {
    // The kernel's PIDTYPE_PGID.
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
