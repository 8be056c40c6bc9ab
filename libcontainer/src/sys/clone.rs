//! clone3(2) (clone(2) where it is refused), the exit of its child, and the signal mask around it.

use super::pidfd::Child;
use super::{Errno, SysResult, fs, is_absent, owned, path, ret, sock};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// struct clone_args of linux/sched.h, version 2 (kernel 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Which side of the clone this is.
enum Cloned {
    Parent { pid: i32, pidfd: OwnedFd },
    Child,
}

/// CLONE_INTO_CGROUP (kernel 5.7) does not fit libc's c_int.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A new process with a copy of this one's memory, in the namespaces of `flags`, in the cgroup v2 directory `cgroup`.
/// With CLONE_PARENT in `flags` the child is a sibling.
///
/// # Safety
/// Until it calls execve or `exit`, the child may only make system calls: no allocation, no lock, no panic, no return from
/// the function that called this. Another thread may hold any lock at the moment of the clone, and the child's copy is never released.
unsafe fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> SysResult<Cloned> {
    let mut pidfd: i32 = -1;
    let sibling = flags & libc::CLONE_PARENT as u64 != 0;
    let mut args = CloneArgs {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        // A sibling inherits the exit signal (clone3 refuses one with CLONE_PARENT).
        exit_signal: if sibling { 0 } else { libc::SIGCHLD as u64 },
        ..CloneArgs::default()
    };
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = fd.as_raw_fd().unsigned_abs().into();
    }
    // SAFETY: `args` and `pidfd` outlive the call and the size of `args` is passed; stack 0 without CLONE_VM means a copy of
    // this stack, as fork. What the child may do is the caller's promise.
    let pid = match ret(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) }) {
        Err(e) if is_absent(libc::SYS_clone3, e) => {
            // SAFETY: the caller's promise holds for both.
            return unsafe { clone(flags, args.exit_signal, cgroup) };
        }
        other => other?,
    };
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    Ok(Cloned::Parent { pid: i32::try_from(pid).unwrap_or(-1), pidfd: owned(pidfd.into()) })
}

/// As `clone3`, by clone(2): outer seccomp filters refuse clone3, whose arguments they can't inspect. The child continues once it is in its
/// cgroup.
///
/// # Safety
/// As for `clone3`.
unsafe fn clone(flags: u64, signal: u64, cgroup: Option<BorrowedFd<'_>>) -> SysResult<Cloned> {
    let procs = match cgroup {
        Some(dir) => Some(fs::openat_following(dir.as_raw_fd(), c"cgroup.procs", libc::O_WRONLY)?),
        None => None,
    };
    let (gate, opener) = sock::pair()?;
    let mut pidfd: i32 = -1;
    let flags = flags | libc::CLONE_PIDFD as u64 | signal;
    // On s390x stack and flags are swapped.
    let (first, second) = if cfg!(target_arch = "s390x") { (0, flags) } else { (flags, 0) };
    // SAFETY: CLONE_PIDFD (kernel 5.2) writes to `pidfd`, which outlives the call, through the parent_tid pointer; the rest are plain
    // numbers. What the child may do is the caller's promise.
    let pid = ret(unsafe { libc::syscall(libc::SYS_clone, first, second, &raw mut pidfd, 0, 0) })?;
    if pid == 0 {
        drop(opener);
        // Without a message its creator is dead, or couldn't move it to its cgroup.
        return match fs::read(gate.as_fd(), &mut [0]) {
            Ok(1) => Ok(Cloned::Child),
            _ => exit(1),
        };
    }
    let (pid, pidfd) = (i32::try_from(pid).unwrap_or(-1), owned(pidfd.into()));
    let attached = match procs {
        Some(procs) => path::numbered(b"", pid)
            .and_then(|text| fs::write(procs.as_fd(), text.as_cstr()?.to_bytes()).map(drop)),
        None => Ok(()),
    };
    let told = attached.and_then(|()| sock::send(opener.as_fd(), b"g"));
    match told {
        Ok(()) => Ok(Cloned::Parent { pid, pidfd }),
        Err(e) => {
            drop(Child::new(pidfd));
            Err(e)
        }
    }
}

/// A new process that runs `child` and nothing else. `child` is bound by `clone3`'s rule: system calls only, and it must not
/// return (if it does, the process exits with status 1). What it borrows is a copy in the new process.
pub(crate) fn spawn(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce(),
) -> SysResult<(i32, Child)> {
    // SAFETY: the callers are `launch`, whose child is a list of steps that `launch::child` carries out with system calls only
    // (the tripwire allocator of the tests checks it), and `launch::idmap`, whose
    // child polls one descriptor.
    match unsafe { clone3(flags, cgroup) }? {
        Cloned::Parent { pid, pidfd } => Ok((pid, Child::new(pidfd))),
        Cloned::Child => {
            #[cfg(feature = "tripwire")]
            super::tripwire::arm();
            child();
            exit(1)
        }
    }
}

/// For a process that is itself the child of a `clone3`: continues in a sibling with the namespaces of `flags`. The sibling gets
/// `None`, this process the sibling's pid.
pub(crate) fn fork_sibling(flags: u64) -> SysResult<Option<i32>> {
    // SAFETY: the only caller is the child's step list, which is bound by clone3's rule already, and so is its copy.
    match unsafe { clone3(flags | libc::CLONE_PARENT as u64, None) }? {
        Cloned::Child => Ok(None),
        Cloned::Parent { pid, .. } => Ok(Some(pid)),
    }
}

/// Ends the process without running exit handlers.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: _exit has no precondition.
    unsafe { libc::_exit(code) }
}

/// The signal mask of this thread with every signal blocked; dropping it puts the old mask back.
pub(crate) struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    pub(crate) fn new() -> SysResult<Self> {
        let mut all = std::mem::MaybeUninit::uninit();
        // SAFETY: sigfillset writes the whole set it is given.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        let mut old = std::mem::MaybeUninit::uninit();
        // SAFETY: `all` was filled by sigfillset, `old` has room for a set.
        let error = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr()) };
        if error != 0 {
            return Err(Errno(error));
        }
        // SAFETY: pthread_sigmask succeeded, so it has written `old`.
        Ok(BlockedSignals(unsafe { old.assume_init() }))
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set came from pthread_sigmask; the old mask is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

/// Lets the signals that ask a process to end do so in the first process of a pid namespace too, which doesn't get signals without a
/// handler (pid_namespaces(7)). An execve restores the default.
pub(crate) fn end_on_signals() {
    // SAFETY: an all-zero sigaction is valid: no flags, empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = end as *const () as usize;
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2] {
        // SAFETY: `action` is valid, and its handler makes one system call.
        unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    }
}

extern "C" fn end(signal: libc::c_int) {
    exit(signal.saturating_add(128))
}

/// All signals, and the size of the kernel's set of them.
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;
const SIGSET_SIZE: usize = 8;

/// Gives the process default signal handling and an empty mask, as a program expects it after execve.
pub(crate) fn reset_signals() -> SysResult<()> {
    // The raw call: libc's refuses the two signals that it keeps for itself, which a caller may ignore all the same. The kernel's structure
    // is smaller than this, and zeros are SIG_DFL, no flags, an empty mask.
    let default = [0u64; 8];
    for signal in SIGNALS {
        if signal != libc::SIGKILL && signal != libc::SIGSTOP {
            // SAFETY: `default` outlives the call; the old action is not asked for.
            unsafe {
                libc::syscall(
                    libc::SYS_rt_sigaction,
                    signal,
                    default.as_ptr(),
                    std::ptr::null::<u8>(),
                    SIGSET_SIZE,
                )
            };
        }
    }
    let mut none = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset writes the whole set it is given.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: `none` was written by sigemptyset; the old mask is not asked for.
    ret(unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) }.into()).map(drop)
}
