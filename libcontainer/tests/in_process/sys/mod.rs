//! What needs `unsafe`.

#![allow(unsafe_code)]

use nix::unistd::{ForkResult, Pid, fork};

/// A copy of this process that does nothing, and keeps its copies of all descriptors, until it is killed.
pub(super) fn idle_copy() -> Pid {
    // SAFETY: the child makes one system call, again and again.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => loop {
            nix::unistd::pause();
        },
    }
}

/// Ends the calling thread alone, as pthread_exit(3) does.
pub(super) fn end_thread() -> ! {
    // SAFETY: the thread's destructors don't run; nothing depends on them.
    unsafe { nix::libc::syscall(nix::libc::SYS_exit, 0) };
    unreachable!()
}
