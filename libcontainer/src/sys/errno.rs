//! The error number of a system call, and its name and text for people.

use std::io;

/// An errno. Unlike `io::Error` it never allocates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

pub(crate) type SysResult<T> = Result<T, Errno>;

impl Errno {
    /// The calling thread's errno.
    pub(crate) fn last() -> Self {
        // SAFETY: no precondition.
        let place = unsafe { libc::__errno_location() };
        // SAFETY: it points to this thread's errno, which lives as long as the thread.
        Errno(unsafe { *place })
    }
}

impl From<Errno> for io::Error {
    fn from(e: Errno) -> Self {
        io::Error::from_raw_os_error(e.0)
    }
}

/// Turns the return value of a libc call into a result.
pub(crate) fn ret(value: libc::c_long) -> SysResult<libc::c_long> {
    if value < 0 { Err(Errno::last()) } else { Ok(value) }
}

/// Turns the return value of a call that counts bytes into a result.
pub(crate) fn length(value: impl TryInto<usize>) -> SysResult<usize> {
    value.try_into().map_err(|_| Errno::last())
}

/// `permission denied (EACCES)`: the text that Go programs print, which callers of runc match on, and the name.
pub(crate) fn text(errno: i32) -> String {
    match TABLE.iter().find(|(n, ..)| *n == errno) {
        Some((_, name, text)) => format!("{text} ({name})"),
        None => format!("errno {errno}"),
    }
}

const TABLE: &[(i32, &str, &str)] = &[
    (libc::EPERM, "EPERM", "operation not permitted"),
    (libc::ENOENT, "ENOENT", "no such file or directory"),
    (libc::ESRCH, "ESRCH", "no such process"),
    (libc::EINTR, "EINTR", "interrupted system call"),
    (libc::EIO, "EIO", "input/output error"),
    (libc::ENXIO, "ENXIO", "no such device or address"),
    (libc::E2BIG, "E2BIG", "argument list too long"),
    (libc::ENOEXEC, "ENOEXEC", "exec format error"),
    (libc::EBADF, "EBADF", "bad file descriptor"),
    (libc::ECHILD, "ECHILD", "no child processes"),
    (libc::EAGAIN, "EAGAIN", "resource temporarily unavailable"),
    (libc::ENOMEM, "ENOMEM", "cannot allocate memory"),
    (libc::EACCES, "EACCES", "permission denied"),
    (libc::EFAULT, "EFAULT", "bad address"),
    (libc::ENOTBLK, "ENOTBLK", "block device required"),
    (libc::EBUSY, "EBUSY", "device or resource busy"),
    (libc::EEXIST, "EEXIST", "file exists"),
    (libc::EXDEV, "EXDEV", "invalid cross-device link"),
    (libc::ENODEV, "ENODEV", "no such device"),
    (libc::ENOTDIR, "ENOTDIR", "not a directory"),
    (libc::EISDIR, "EISDIR", "is a directory"),
    (libc::EINVAL, "EINVAL", "invalid argument"),
    (libc::ENFILE, "ENFILE", "too many open files in system"),
    (libc::EMFILE, "EMFILE", "too many open files"),
    (libc::ENOTTY, "ENOTTY", "inappropriate ioctl for device"),
    (libc::ETXTBSY, "ETXTBSY", "text file busy"),
    (libc::EFBIG, "EFBIG", "file too large"),
    (libc::ENOSPC, "ENOSPC", "no space left on device"),
    (libc::EROFS, "EROFS", "read-only file system"),
    (libc::EMLINK, "EMLINK", "too many links"),
    (libc::EPIPE, "EPIPE", "broken pipe"),
    (libc::ERANGE, "ERANGE", "numerical result out of range"),
    (libc::EDEADLK, "EDEADLK", "resource deadlock avoided"),
    (libc::ENAMETOOLONG, "ENAMETOOLONG", "file name too long"),
    (libc::ENOSYS, "ENOSYS", "function not implemented"),
    (libc::ENOTEMPTY, "ENOTEMPTY", "directory not empty"),
    (libc::ELOOP, "ELOOP", "too many levels of symbolic links"),
    (libc::ENODATA, "ENODATA", "no data available"),
    (libc::EOVERFLOW, "EOVERFLOW", "value too large for defined data type"),
    (libc::EUSERS, "EUSERS", "too many users"),
    (libc::EOPNOTSUPP, "EOPNOTSUPP", "operation not supported"),
    (libc::EADDRINUSE, "EADDRINUSE", "address already in use"),
    (libc::ECONNREFUSED, "ECONNREFUSED", "connection refused"),
    (libc::ECONNRESET, "ECONNRESET", "connection reset by peer"),
    (libc::ETIMEDOUT, "ETIMEDOUT", "connection timed out"),
    (libc::ESTALE, "ESTALE", "stale file handle"),
    (libc::EDQUOT, "EDQUOT", "disk quota exceeded"),
    (libc::ELIBBAD, "ELIBBAD", "accessing a corrupted shared library"),
    (libc::ENOKEY, "ENOKEY", "required key not available"),
];
