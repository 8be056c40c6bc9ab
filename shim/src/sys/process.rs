//! Processes: fork without exec, signals through a pidfd.

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A copy of this process that runs `child` and ends with its status. The result is the pid.
///
/// This process must have one thread only: then no lock can be held by another one, and the copy may allocate. It is the caller's
/// business to see to the signal mask.
pub(crate) fn fork(child: impl FnOnce() -> i32) -> Result<i32, Errno> {
    debug_assert_eq!(threads(), Some(1), "fork of a process with threads");
    // SAFETY: there is one thread, so the copy has all of the process's state, and no lock in it is held by anybody else.
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
    // SAFETY: the kernel has just made this descriptor, close-on-exec, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// pidfd_send_signal(2).
pub(crate) fn pidfd_send_signal(process: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let (fd, none) = (process.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
    // SAFETY: a null siginfo is allowed and asks for that of kill(2); the rest are integers.
    Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, none, 0) }).map(drop)
}

/// A copy of `fd` with a number of at least `least`, close-on-exec.
pub(crate) fn dup_above(fd: BorrowedFd<'_>, least: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: a descriptor that is open and two integers.
    let fd = Errno::result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) })?;
    // SAFETY: the kernel has just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// For a process between fork and exec: makes each descriptor available under its number, across execve.
pub(crate) fn place(places: &[(&OwnedFd, i32)]) -> Result<(), Errno> {
    let above = places.iter().map(|(_, number)| number + 1).max().unwrap_or(0);
    // Out of the way first: one's number may be another's place.
    let mut moved = Vec::with_capacity(places.len());
    for (fd, number) in places {
        // SAFETY: two descriptors that are open or not, and an integer: no pointer.
        let fd = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, above) };
        moved.push((Errno::result(fd)?, number));
    }
    for (fd, number) in moved {
        // SAFETY: integers. What had the number before is closed, in this copy of the process, which owns nothing it still needs.
        Errno::result(unsafe { libc::dup2(fd, *number) })?;
    }
    Ok(())
}

/// For a process between fork and exec: the signals that this program ignores (SIGPIPE, by Rust's start-up) or blocks are as
/// a program expects them again.
pub(crate) fn reset_signals() {
    // SAFETY: SIG_DFL is no function of ours, so nothing runs in a signal handler.
    let _ =
        unsafe { nix::sys::signal::signal(nix::sys::signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl) };
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}
