//! Files and directories by descriptor.

use super::{Errno, SysResult, length, owned, path, ret};
use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// The current directory, for calls that take a directory descriptor.
pub(crate) const CWD: RawFd = libc::AT_FDCWD;

pub(crate) const RESOLVE_NO_XDEV: u64 = 0x01;
pub(crate) const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
pub(crate) const RESOLVE_NO_SYMLINKS: u64 = 0x04;
pub(crate) const RESOLVE_BENEATH: u64 = 0x08;
pub(crate) const RESOLVE_IN_ROOT: u64 = 0x10;

/// openat(2) of one component, with O_CLOEXEC.
pub(super) fn openat_create(dir: BorrowedFd<'_>, name: &CStr, flags: i32, mode: u32) -> SysResult<OwnedFd> {
    // SAFETY: `name` is NUL-terminated and outlives the call; a mode is passed.
    ret(unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), flags | libc::O_CLOEXEC, mode) }.into())
        .map(owned)
}

/// openat(2) of a path that is trusted: a host path before the pivot, or one component. O_CLOEXEC is always set.
pub(crate) fn openat_following(dir: RawFd, path: &CStr, flags: i32) -> SysResult<OwnedFd> {
    // SAFETY: `path` is NUL-terminated and outlives the call; no flag of the callers creates a file, so no mode is read.
    ret(unsafe { libc::openat(dir, path.as_ptr(), flags | libc::O_CLOEXEC) }.into()).map(owned)
}

pub(crate) fn fstat(fd: BorrowedFd<'_>) -> SysResult<libc::stat> {
    let mut stat = std::mem::MaybeUninit::uninit();
    // SAFETY: `stat` has room for the structure.
    ret(unsafe { libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) }.into())?;
    // SAFETY: fstat succeeded, so it has written the structure.
    Ok(unsafe { stat.assume_init() })
}

/// Reads a file of procfs or the like, which has no known size; most of them fit into one page.
pub(crate) fn read_whole(file: File) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(4096);
    file.take(u64::MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// The same as text.
pub(crate) fn read_text(file: File) -> std::io::Result<String> {
    String::from_utf8(read_whole(file)?).map_err(|_| std::io::ErrorKind::InvalidData.into())
}

/// The id of the mount that `fd` lies on: statx(2), and before kernel 5.8 the caller's own procfs.
pub(crate) fn mount_id(fd: BorrowedFd<'_>) -> SysResult<u64> {
    match statx(fd, libc::STATX_MNT_ID) {
        Ok(stat) if stat.stx_mask & libc::STATX_MNT_ID != 0 => Ok(stat.stx_mnt_id),
        Ok(_) | Err(Errno(libc::ENOSYS | libc::EPERM)) => fdinfo(fd, b"mnt_id:"),
        Err(e) => Err(e),
    }
}

/// A number in /proc/self/fdinfo. Only where the host's procfs is at /proc: before the pivot.
pub(super) fn fdinfo(fd: BorrowedFd<'_>, key: &[u8]) -> SysResult<u64> {
    let file = path::numbered(b"/proc/self/fdinfo/", fd.as_raw_fd())?;
    let file = openat_following(CWD, file.as_cstr()?, libc::O_RDONLY)?;
    let mut text = [0u8; 1024];
    let length = read(file.as_fd(), &mut text)?;
    text.get(..length)
        .unwrap_or_default()
        .split(|b| *b == b'\n')
        .find_map(|line| std::str::from_utf8(line.strip_prefix(key)?).ok()?.trim().parse().ok())
        .ok_or(Errno(libc::ENOENT))
}

pub(crate) fn statx(fd: BorrowedFd<'_>, mask: u32) -> SysResult<libc::statx> {
    let mut stat = std::mem::MaybeUninit::uninit();
    // SAFETY: the path is an empty C string, `stat` has room for the structure.
    ret(unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, mask, stat.as_mut_ptr()) }
        .into())?;
    // SAFETY: statx succeeded, so it has written the structure.
    Ok(unsafe { stat.assume_init() })
}

/// The magic number of the file system that `fd` lies on, and its ST_* flags.
pub(crate) fn fstatfs(fd: BorrowedFd<'_>) -> SysResult<libc::statfs> {
    let mut stat = std::mem::MaybeUninit::uninit();
    // SAFETY: `stat` has room for the structure.
    ret(unsafe { libc::fstatfs(fd.as_raw_fd(), stat.as_mut_ptr()) }.into())?;
    // SAFETY: fstatfs succeeded, so it has written the structure.
    Ok(unsafe { stat.assume_init() })
}

/// Whether the mount or the file system that `fd` lies on is read-only.
pub(crate) fn is_read_only(fd: BorrowedFd<'_>) -> SysResult<bool> {
    Ok(mount_flags(fd)? & libc::ST_RDONLY != 0)
}

/// The ST_* flags of the mount that `fd` lies on (fstatvfs(3)).
pub(crate) fn mount_flags(fd: BorrowedFd<'_>) -> SysResult<libc::c_ulong> {
    let mut stat = std::mem::MaybeUninit::uninit();
    // SAFETY: `stat` has room for the structure.
    ret(unsafe { libc::fstatvfs(fd.as_raw_fd(), stat.as_mut_ptr()) }.into())?;
    // SAFETY: fstatvfs succeeded, so it has written the structure.
    let stat: libc::statvfs = unsafe { stat.assume_init() };
    Ok(stat.f_flag)
}

pub(crate) fn mkdirat(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> SysResult<()> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    ret(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode) }.into()).map(drop)
}

pub(crate) fn mknodat(dir: BorrowedFd<'_>, name: &CStr, mode: u32, device: u64) -> SysResult<()> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    ret(unsafe { libc::mknodat(dir.as_raw_fd(), name.as_ptr(), mode, device) }.into()).map(drop)
}

/// The device number of `major` and `minor`.
pub(crate) fn device(major: u32, minor: u32) -> u64 {
    libc::makedev(major, minor)
}

/// Whether it is a null device, wherever its node is.
pub(crate) fn is_null(fd: BorrowedFd<'_>) -> SysResult<bool> {
    fstat(fd).map(|stat| is_null_device(&stat))
}

pub(crate) fn is_null_device(stat: &libc::stat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == device(1, 3)
}

pub(crate) fn symlinkat(to: &CStr, dir: BorrowedFd<'_>, name: &CStr) -> SysResult<()> {
    // SAFETY: both strings are NUL-terminated and outlive the call.
    ret(unsafe { libc::symlinkat(to.as_ptr(), dir.as_raw_fd(), name.as_ptr()) }.into()).map(drop)
}

/// Reads the link `name` in `dir` (or `dir` itself when `name` is empty) into `buffer`; returns its length.
pub(crate) fn readlinkat(dir: BorrowedFd<'_>, name: &CStr, buffer: &mut [u8]) -> SysResult<usize> {
    // SAFETY: `name` is NUL-terminated; the kernel writes at most `buffer.len()` bytes to `buffer`.
    length(unsafe {
        libc::readlinkat(dir.as_raw_fd(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len())
    })
}

pub(crate) fn unlinkat(dir: BorrowedFd<'_>, name: &CStr, flags: i32) -> SysResult<()> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    ret(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), flags) }.into()).map(drop)
}

/// fchownat(2) of `name` in `dir`, a symlink itself rather than what it points to; an empty name means `dir`.
pub(crate) fn fchownat(dir: BorrowedFd<'_>, name: &CStr, uid: u32, gid: u32) -> SysResult<()> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH;
    // SAFETY: `name` is NUL-terminated and outlives the call.
    ret(unsafe { libc::fchownat(dir.as_raw_fd(), name.as_ptr(), uid, gid, flags) }.into()).map(drop)
}

/// setxattr(2); a symlink at the end is followed.
pub(crate) fn setxattr(path: &CStr, name: &CStr, value: &[u8]) -> SysResult<()> {
    // SAFETY: both strings are NUL-terminated; `value` is valid for the length passed; all outlive the call.
    ret(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) }.into())
        .map(drop)
}

pub(crate) fn fchmod(fd: BorrowedFd<'_>, mode: u32) -> SysResult<()> {
    // SAFETY: no pointers.
    ret(unsafe { libc::fchmod(fd.as_raw_fd(), mode) }.into()).map(drop)
}

pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> SysResult<usize> {
    loop {
        // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
        match length(unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) }) {
            Err(e) if e.0 == libc::EINTR => {}
            other => return other,
        }
    }
}

pub(crate) fn write(fd: BorrowedFd<'_>, data: &[u8]) -> SysResult<usize> {
    loop {
        // SAFETY: the kernel reads at most `data.len()` bytes from `data`.
        match length(unsafe { libc::write(fd.as_raw_fd(), data.as_ptr().cast(), data.len()) }) {
            Err(e) if e.0 == libc::EINTR => {}
            other => return other,
        }
    }
}

/// sendfile(2) from the files' own positions; returns the bytes copied, 0 at the end.
pub(crate) fn sendfile(to: BorrowedFd<'_>, from: BorrowedFd<'_>, count: usize) -> SysResult<usize> {
    // SAFETY: no offset pointer is passed.
    length(unsafe { libc::sendfile(to.as_raw_fd(), from.as_raw_fd(), std::ptr::null_mut(), count) })
}

/// getdents64(2): fills `buffer` with directory entries; returns the bytes used, 0 at the end.
pub(crate) fn getdents(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> SysResult<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
    length(unsafe { libc::syscall(libc::SYS_getdents64, fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) })
}

/// The names in a buffer filled by `getdents`, without `.` and `..`.
pub(crate) fn names(entries: &[u8]) -> impl Iterator<Item = &CStr> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        loop {
            // struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name.
            let length = usize::from(u16::from_ne_bytes(*rest.get(16..)?.first_chunk()?));
            let entry = rest.get(19..length)?;
            rest = rest.get(length..)?;
            match CStr::from_bytes_until_nul(entry) {
                Ok(name) if name != c"." && name != c".." => return Some(name),
                _ => {}
            }
        }
    })
}

pub(crate) fn fchdir(fd: BorrowedFd<'_>) -> SysResult<()> {
    // SAFETY: no pointers.
    ret(unsafe { libc::fchdir(fd.as_raw_fd()) }.into()).map(drop)
}

pub(crate) fn chdir(path: &CStr) -> SysResult<()> {
    // SAFETY: `path` is NUL-terminated and outlives the call.
    ret(unsafe { libc::chdir(path.as_ptr()) }.into()).map(drop)
}

pub(crate) fn chroot(path: &CStr) -> SysResult<()> {
    // SAFETY: `path` is NUL-terminated and outlives the call.
    ret(unsafe { libc::chroot(path.as_ptr()) }.into()).map(drop)
}

/// The current directory as the kernel returns it; one outside the root does not begin with `/`. Returns the length without the NUL.
pub(crate) fn getcwd(buffer: &mut [u8]) -> SysResult<usize> {
    // The raw call: glibc's getcwd falls back to a search that allocates.
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
    let n = length(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) })?;
    Ok(n.saturating_sub(1))
}

/// Checks that this process, with its effective ids, may execute `path`.
pub(crate) fn may_execute(path: &CStr) -> SysResult<()> {
    // faccessat2 (kernel 5.8) for AT_EACCESS; glibc's faccessat emulates it otherwise.
    // SAFETY: `path` is NUL-terminated and outlives the call.
    let allowed = ret(unsafe {
        libc::syscall(libc::SYS_faccessat2, libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS)
    });
    // The kernel refuses execution with EACCES, a filter with EPERM.
    if !matches!(allowed, Err(Errno(libc::ENOSYS | libc::EPERM))) {
        return allowed.map(drop);
    }
    // The real ids, which are the effective ones here.
    // SAFETY: as above.
    ret(unsafe { libc::syscall(libc::SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), libc::X_OK) }).map(drop)
}

pub(crate) fn stat_path(path: &CStr) -> SysResult<libc::stat> {
    let mut stat = std::mem::MaybeUninit::uninit();
    // SAFETY: `path` is NUL-terminated, `stat` has room for the structure.
    ret(unsafe { libc::stat(path.as_ptr(), stat.as_mut_ptr()) }.into())?;
    // SAFETY: stat succeeded, so it has written the structure.
    Ok(unsafe { stat.assume_init() })
}

/// dup3(2) to a fixed number, without O_CLOEXEC.
pub(crate) fn dup_to(fd: BorrowedFd<'_>, number: RawFd) -> SysResult<()> {
    if fd.as_raw_fd() == number {
        // SAFETY: no pointers.
        return ret(unsafe { libc::fcntl(number, libc::F_SETFD, 0) }.into()).map(drop);
    }
    // SAFETY: no pointers; the callers only overwrite 0, 1 and 2, which nothing in this process owns.
    ret(unsafe { libc::dup2(fd.as_raw_fd(), number) }.into()).map(drop)
}

/// Makes the next execve close every descriptor from `first` on (close_range(2) with CLOSE_RANGE_CLOEXEC, kernel 5.11).
pub(crate) fn close_on_exec_from(first: u32) -> SysResult<()> {
    // SAFETY: no pointers; nothing is closed now.
    match ret(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }) {
        Err(Errno(libc::ENOSYS | libc::EINVAL | libc::EPERM)) => {}
        other => return other.map(drop),
    }
    // No trusted procfs is left that would list them. Inherited descriptors are already closed, and those opened since have low
    // numbers.
    for number in first..first.saturating_add(4096) {
        // SAFETY: no pointers; nothing is closed now. A number that is not open is EBADF.
        unsafe { libc::fcntl(number.cast_signed(), libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// Closes every descriptor from `first` to `last` (close_range(2), kernel 5.9), regardless of who owns it: for a process that only continues to
/// its exec.
pub(crate) fn close_range(first: u32, last: u32) -> SysResult<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: no pointers; the caller is a clone that drops none of its descriptors, so no number is closed twice.
    match ret(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }) {
        Err(Errno(libc::ENOSYS | libc::EPERM)) => each_listed(first, last, |number| {
            // SAFETY: as above.
            unsafe { libc::close(number) };
        }),
        other => other.map(drop),
    }
}

/// As `close_on_exec_from`, on the host, whose procfs lists all descriptors of the process.
pub(crate) fn close_on_exec_listed(first: u32) -> SysResult<()> {
    // SAFETY: no pointers; nothing is closed now.
    match ret(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }) {
        Err(Errno(libc::ENOSYS | libc::EINVAL | libc::EPERM)) => each_listed(first, u32::MAX, |number| {
            // SAFETY: as above.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }),
        other => other.map(drop),
    }
}

/// Calls `act` with every open descriptor from `first` to `last`, by the list in the caller's procfs.
fn each_listed(first: u32, last: u32, act: impl Fn(i32)) -> SysResult<()> {
    let list = openat_following(CWD, c"/proc/self/fd", libc::O_RDONLY | libc::O_DIRECTORY)?;
    let own = list.as_raw_fd().cast_unsigned();
    let mut buffer = [0u8; 4096];
    loop {
        let length = getdents(list.as_fd(), &mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        for name in names(buffer.get(..length).unwrap_or_default()) {
            let number = name.to_str().ok().and_then(|name| name.parse().ok());
            if let Some(number) = number.filter(|n: &u32| (first..=last).contains(n) && *n != own) {
                act(number.cast_signed());
            }
        }
    }
}

/// F_DUPFD_CLOEXEC: the same file under a number of at least `least`.
pub(crate) fn dup_above(fd: BorrowedFd<'_>, least: RawFd) -> SysResult<OwnedFd> {
    // SAFETY: no pointers.
    ret(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) }.into()).map(owned)
}

/// Descriptors 0, 1 and 2, which every process has here: the standard library opens /dev/null for a missing one at start-up.
pub(crate) fn streams() -> [BorrowedFd<'static>; 3] {
    // SAFETY: nothing in this crate closes 0, 1 or 2.
    [0, 1, 2].map(|number| unsafe { BorrowedFd::borrow_raw(number) })
}

pub(crate) fn umask(mask: u32) -> u32 {
    // SAFETY: no pointers, never fails.
    unsafe { libc::umask(mask) }
}

/// Sets O_NONBLOCK or clears it.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>, on: bool) -> SysResult<()> {
    // SAFETY: no pointers.
    ret(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, if on { libc::O_NONBLOCK } else { 0 }) }.into())
        .map(drop)
}
