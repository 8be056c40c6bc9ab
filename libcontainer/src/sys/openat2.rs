//! openat2(2), with its fallback.

use super::{Errno, SysResult, owned, ret, walk};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// openat2(2), kernel 5.6; before that, a walk over the components. O_CLOEXEC is always set.
pub(crate) fn open(dir: BorrowedFd<'_>, path: &CStr, flags: i32, resolve: u64) -> SysResult<OwnedFd> {
    create(dir, path, flags, 0, resolve)
}

/// openat2(2) that may create a file with `mode`.
pub(crate) fn create(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: i32,
    mode: u32,
    resolve: u64,
) -> SysResult<OwnedFd> {
    // SAFETY: an all-zero open_how is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from((flags | libc::O_CLOEXEC).cast_unsigned());
    how.mode = mode.into();
    how.resolve = resolve;
    // A concurrent rename makes RESOLVE_IN_ROOT fail with EAGAIN. The number of attempts is limited, so that a malicious loop of renames
    // cannot hang the caller.
    for _ in 0..128 {
        // SAFETY: `path` is NUL-terminated and `how` valid for the size passed; both outlive the call.
        let fd = ret(unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        });
        match fd {
            Err(Errno(libc::EAGAIN | libc::EINTR)) => continue,
            // A filter may refuse it with EPERM; where the kernel does, so will the walk.
            Err(Errno(libc::ENOSYS | libc::EPERM)) => return walk::openat2(dir, path, flags, mode, resolve),
            other => return other.map(owned),
        }
    }
    Err(Errno(libc::EAGAIN))
}
