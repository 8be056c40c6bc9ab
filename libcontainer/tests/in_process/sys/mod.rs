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
