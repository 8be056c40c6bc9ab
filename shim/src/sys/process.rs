//! Processes: fork without exec, signals through a pidfd.

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Makes a copy of this process that runs `child` and exits with its status. Returns the pid.
///
/// This process must have only one thread: then no other thread can hold a lock, and the copy may allocate. The caller takes care of the
/// signal mask.
pub(crate) fn fork(child: impl FnOnce() -> i32) -> Result<i32, Errno> {
    debug_assert_eq!(threads(), Some(1), "fork of a process with threads");
    // SAFETY: there is one thread, so the copy has the complete state of the process, and no other thread holds a lock in it.
    match unsafe { libc::fork() } {
        -1 => Err(Errno::last()),
        0 => exit(child()),
        pid => Ok(pid),
    }
}

fn threads() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}

/// Ends the process at once: no exit handlers, no buffers.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: _exit has no precondition.
    unsafe { libc::_exit(status) }
}

/// pidfd_open(2).
pub(crate) fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: two integers are passed, no pointer.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor, close-on-exec, which has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// pidfd_send_signal(2).
pub(crate) fn pidfd_send_signal(process: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let (fd, none) = (process.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
    // SAFETY: a null siginfo is allowed and stands for that of kill(2); the rest are integers.
    Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, none, 0) }).map(drop)
}

/// Duplicates `fd` to a number of at least `least`, close-on-exec.
pub(crate) fn dup_above(fd: BorrowedFd<'_>, least: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: an open descriptor and two integers.
    let fd = Errno::result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) })?;
    // SAFETY: the kernel has just made it; it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// For a process between fork and exec: gives each descriptor its number in the executed program.
pub(crate) fn place(places: &[(&OwnedFd, i32)]) -> Result<(), Errno> {
    let above = places.iter().map(|(_, number)| number + 1).max().unwrap_or(0);
    // Moved out of the way first: the number of one may be wanted for another.
    let mut moved = Vec::with_capacity(places.len());
    for (fd, number) in places {
        // SAFETY: two descriptors that are open or not, and an integer: no pointer.
        let fd = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, above) };
        moved.push((Errno::result(fd)?, number));
    }
    for (fd, number) in moved {
        // SAFETY: integers. The descriptor that had the number is closed in this copy of the process, which does not need it.
        Errno::result(unsafe { libc::dup2(fd, *number) })?;
    }
    Ok(())
}

/// For a process between fork and exec: resets the signals that this program ignores (SIGPIPE, by Rust's start-up) or blocks.
pub(crate) fn reset_signals() {
    // SAFETY: SIG_DFL is not a function, so nothing runs in a signal handler.
    let _ =
        unsafe { nix::sys::signal::signal(nix::sys::signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl) };
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}
