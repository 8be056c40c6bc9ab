//! The running program as a file: another execution of it from a descriptor, and a sealed copy for old kernels.

use super::cstr::CStrArray;
use super::{Errno, SysResult, owned, ret};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// execveat(2) of an open file with this process's own environment; returns only with an error.
pub(crate) fn execute_again(program: BorrowedFd<'_>, argv: &CStrArray) -> Errno {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    // SAFETY: libc sets `environ` before main; this only reads the pointer.
    let environment = unsafe { environ };
    // SAFETY: the path is an empty C string; `argv` ends with null and its strings outlive the call; `environ` is
    // null-terminated by libc.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            environment,
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::last()
}

/// memfd_create(2), to be sealed.
pub(crate) fn memory_file(name: &CStr) -> SysResult<OwnedFd> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    ret(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) }.into())
        .map(owned)
}

/// Seals the file, so that its contents cannot be changed any more.
pub(crate) fn seal(file: BorrowedFd<'_>) -> SysResult<()> {
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: F_ADD_SEALS takes a number.
    ret(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }.into()).map(drop)
}

/// Whether the running program is a sealed memory file.
pub(crate) fn is_sealed() -> bool {
    let Ok(file) = super::fs::openat_following(super::fs::CWD, c"/proc/self/exe", libc::O_RDONLY) else {
        return false;
    };
    // SAFETY: F_GET_SEALS takes no argument.
    ret(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) }.into())
        .is_ok_and(|seals| seals & libc::c_long::from(libc::F_SEAL_WRITE) != 0)
}
