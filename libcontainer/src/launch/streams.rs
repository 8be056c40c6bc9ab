//! The standard streams of a launch, as the child gets them: those that are a null device through a mount that can change nothing of it.

use crate::error::{Context, Result};
use crate::process::Stdio;
use crate::sys::mount::{self, MOUNT_ATTR_RDONLY, OPEN_TREE_CLONE, SetAttr};
use crate::sys::{fs, path};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The streams for descriptors 0, 1 and 2, each above 2; `None` for one that the child has already, or makes itself.
pub(super) fn prepare(stdio: Stdio) -> Result<[Option<OwnedFd>; 3]> {
    let given = match stdio {
        Stdio::Terminal => return Ok([None, None, None]),
        Stdio::Inherit => [None, None, None],
        Stdio::Fds { stdin, stdout, stderr } => [Some(stdin), Some(stdout), Some(stderr)],
    };
    let mut prepared = [None, None, None];
    // One open file is enough for all.
    let mut null = None;
    for ((place, given), own) in prepared.iter_mut().zip(&given).zip(fs::streams()) {
        let stream = given.as_ref().map_or(own, AsFd::as_fd);
        let is_null = fs::is_null(stream).unwrap_or(false);
        if is_null && null.is_none() {
            null = unchangeable(stream);
        }
        let replaced = null.as_ref().filter(|_| is_null);
        if let Some(fd) = replaced.or(given.as_ref()) {
            *place = Some(fs::dup_above(fd.as_fd(), 3).context("fcntl(F_DUPFD_CLOEXEC)")?);
        }
    }
    Ok(prepared)
}

/// The same null device, opened through a read-only mount that nothing else uses: it is read and written as before, but even root, who
/// reaches it through /proc/PID/fd, can't change its mode, owner, times and attributes (EROFS). Its own /dev/null, which the container
/// gets instead (`Step::OwnNull`), may be missing there. `None` where the kernel or a filter refuses such a mount, as for a caller
/// without CAP_SYS_ADMIN, whose container can't change the host's node either.
pub(crate) fn unchangeable(null: BorrowedFd<'_>) -> Option<OwnedFd> {
    let tree = mount::open_tree(null.as_raw_fd(), c"", OPEN_TREE_CLONE).ok()?;
    let attr = SetAttr { set: MOUNT_ATTR_RDONLY, ..SetAttr::default() };
    mount::mount_setattr(tree.as_fd(), false, &attr).ok()?;
    // The open file keeps the mount.
    let name = path::of_fd(tree.as_fd()).ok()?;
    fs::openat_following(fs::CWD, name.as_cstr().ok()?, libc::O_RDWR).ok()
}
