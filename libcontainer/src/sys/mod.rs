//! The only module with `unsafe`: one thin wrapper for each system call that the launch path needs.
//!
//! Policy: one unsafe block for each call, with the precondition of *that* call and why it holds. Wrappers take `BorrowedFd`,
//! `&CStr` and typed flags, and return `OwnedFd` or `()`. Nothing here allocates, so all of it may run between clone and exec, except
//! for `errno::text`, `cstr::CStrArray::new` and the functions that return a `Vec` or `String`, which are for the parent.

#![allow(unsafe_code)]

pub(crate) mod bpf;
pub(crate) mod clone;
pub(crate) mod cstr;
pub(crate) mod errno;
pub(crate) mod exe;
pub(crate) mod fs;
pub(crate) mod mount;
pub(crate) mod openat2;
pub(crate) mod path;
pub(crate) mod pidfd;
pub(crate) mod process;
pub(crate) mod sock;
#[cfg(feature = "tripwire")]
pub(crate) mod tripwire;
mod walk;

pub(crate) use errno::{Errno, SysResult, length, ret};

use std::os::fd::{FromRawFd, OwnedFd};

/// Whether a call that has failed is not there: the kernel lacks it (ENOSYS), or a seccomp filter refuses it (EPERM). A filter does so, too,
/// with arguments that are all ones, which the kernel calls invalid. So does a kernel that looks at the caller first: without CAP_SYS_ADMIN
/// fsopen, fsmount and move_mount count as absent, and mount(2), which is tried instead, needs it as well.
pub(crate) fn is_absent(call: libc::c_long, errno: Errno) -> bool {
    if errno.0 != libc::EPERM {
        return errno.0 == libc::ENOSYS;
    }
    const ONES: libc::c_long = -1;
    // SAFETY: no descriptor, size, flag word or address is all ones, so the call fails before it reads or changes anything; the callers
    // ask for calls that take such arguments.
    let probe = ret(unsafe { libc::syscall(call, ONES, ONES, ONES, ONES, ONES, ONES) });
    probe == Err(Errno(libc::EPERM))
}

/// Takes over a descriptor that a system call has just returned.
fn owned(value: libc::c_long) -> OwnedFd {
    let raw = i32::try_from(value).unwrap_or(-1);
    // SAFETY: every caller passes the successful result of a call that returns a new descriptor, which nothing else owns yet.
    unsafe { OwnedFd::from_raw_fd(raw) }
}
