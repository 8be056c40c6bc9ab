//! Calls by which a process changes itself: ids, capabilities, namespaces, session, terminal, filters, and the exec.

use super::cstr::CStrArray;
use super::{Errno, SysResult, clone, fs, length, owned, path, pidfd, ret};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

pub(crate) fn set_dumpable(on: bool) -> SysResult<()> {
    // SAFETY: PR_SET_DUMPABLE takes a number.
    ret(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, libc::c_ulong::from(on), 0, 0, 0) }.into()).map(drop)
}

/// Has a command start as programs expect it: with the descriptors 0 to 2 only, whatever this process has opened without close-on-exec, and
/// with default signal handling, although this process, whose caller decides about it, may ignore signals: those stay ignored over an exec.
///
/// std makes a copy of this process for it (fork(2)). In a static program it does so anyway for a command with a working directory.
pub(crate) fn start_clean(command: &mut Command) {
    let clean = || fs::close_on_exec_listed(3).and_then(|()| clone::reset_signals());
    // SAFETY: what runs between fork and exec makes system calls only.
    unsafe { command.pre_exec(move || clean().map_err(Into::into)) };
}

pub(crate) fn setns(ns: BorrowedFd<'_>, flags: u64) -> SysResult<()> {
    let flags = namespaces(flags)?;
    // SAFETY: no pointers.
    ret(unsafe { libc::setns(ns.as_raw_fd(), flags) }.into()).map(drop)
}

/// setns(2) to these namespaces of the process behind `target` (a pidfd: kernel 5.8; before that, by its files in the caller's own
/// procfs).
pub(crate) fn join(target: BorrowedFd<'_>, flags: u64) -> SysResult<()> {
    match setns(target, flags) {
        Err(Errno(libc::EINVAL)) => join_by_files(target, flags),
        other => other,
    }
}

fn join_by_files(target: BorrowedFd<'_>, flags: u64) -> SysResult<()> {
    const FILES: [(u64, &[u8]); 8] = [
        (libc::CLONE_NEWCGROUP as u64, b"cgroup"),
        (libc::CLONE_NEWIPC as u64, b"ipc"),
        (libc::CLONE_NEWUTS as u64, b"uts"),
        (libc::CLONE_NEWNET as u64, b"net"),
        (libc::CLONE_NEWPID as u64, b"pid"),
        (libc::CLONE_NEWTIME as u64, b"time"),
        (libc::CLONE_NEWNS as u64, b"mnt"),
        (libc::CLONE_NEWUSER as u64, b"user"),
    ];
    let pid = fs::fdinfo(target, b"Pid:").map_err(|_| Errno(libc::ESRCH))?;
    let pid = i32::try_from(pid).map_err(|_| Errno(libc::ESRCH))?;
    let mut open: [Option<OwnedFd>; 8] = [const { None }; 8];
    for ((_, name), place) in FILES.iter().zip(&mut open).filter(|((flag, _), _)| flags & flag != 0) {
        let mut file = path::numbered(b"/proc/", pid)?;
        file.append(b"/ns/")?;
        file.append(name)?;
        *place = Some(fs::openat_following(fs::CWD, file.as_cstr()?, libc::O_RDONLY)?);
    }
    // The pid is still that of the process if it has not ended meanwhile.
    if pidfd::readable(target, 0)? {
        return Err(Errno(libc::ESRCH));
    }
    // The user namespace is last, since it takes away the caller's rights. The others that the caller's rights do not suffice for are
    // tried again after it.
    for last in [false, true] {
        for ((flag, _), place) in FILES.iter().zip(&mut open) {
            match place.as_ref().map(|ns| setns(ns.as_fd(), *flag)) {
                Some(Ok(())) => *place = None,
                Some(Err(e)) if last || e.0 != libc::EPERM => return Err(e),
                _ => {}
            }
        }
    }
    Ok(())
}

/// The CLONE_NEW* flag of an open namespace file (NS_GET_NSTYPE, kernel 4.11).
pub(crate) fn namespace_kind(ns: BorrowedFd<'_>) -> SysResult<u64> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: NS_GET_NSTYPE takes no argument.
    ret(unsafe { libc::ioctl(ns.as_raw_fd(), NS_GET_NSTYPE) }.into()).map(i64::cast_unsigned)
}

pub(crate) fn unshare(flags: u64) -> SysResult<()> {
    let flags = namespaces(flags)?;
    // SAFETY: no pointers; the callers are single-threaded children.
    ret(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// CLONE_NEW* as a C int; flags that only clone3 has do not fit.
fn namespaces(flags: u64) -> SysResult<libc::c_int> {
    libc::c_int::try_from(flags).map_err(|_| Errno(libc::EINVAL))
}

pub(crate) fn setsid() -> SysResult<()> {
    // SAFETY: no pointers.
    ret(unsafe { libc::setsid() }.into()).map(drop)
}

// The raw calls: glibc's wrappers change the ids of all threads under a lock.

/// setresuid(2) with one id, or setuid(2) where a filter refuses it: from a process with CAP_SETUID that is the same.
pub(crate) fn setresuid(uid: u32) -> SysResult<()> {
    // SAFETY: no pointers.
    match ret(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }) {
        Err(Errno(libc::EPERM)) => {}
        other => return other.map(drop),
    }
    // SAFETY: no pointers.
    ret(unsafe { libc::syscall(libc::SYS_setuid, uid) })?;
    all_are(uid, libc::SYS_getresuid)
}

/// The same for the group ids.
pub(crate) fn setresgid(gid: u32) -> SysResult<()> {
    // SAFETY: no pointers.
    match ret(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }) {
        Err(Errno(libc::EPERM)) => {}
        other => return other.map(drop),
    }
    // SAFETY: no pointers.
    ret(unsafe { libc::syscall(libc::SYS_setgid, gid) })?;
    all_are(gid, libc::SYS_getresgid)
}

/// Without the capability, setuid(2) changes one of the three ids only: the process could become what it was again.
fn all_are(id: u32, getres: libc::c_long) -> SysResult<()> {
    let mut ids = [0u32; 3];
    let [real, effective, saved] = &mut ids;
    // SAFETY: both calls write one u32 to each of the three places, which outlive the call.
    ret(unsafe { libc::syscall(getres, &raw mut *real, &raw mut *effective, &raw mut *saved) })?;
    if ids == [id; 3] { Ok(()) } else { Err(Errno(libc::EPERM)) }
}

pub(crate) fn setgroups(groups: &[u32]) -> SysResult<()> {
    // SAFETY: `groups` is valid for its length and outlives the call.
    ret(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

pub(crate) fn keep_capabilities(on: bool) -> SysResult<()> {
    // SAFETY: PR_SET_KEEPCAPS takes a number.
    ret(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, libc::c_ulong::from(on), 0, 0, 0) }.into()).map(drop)
}

pub(crate) fn drop_bounding(capability: u32) -> SysResult<()> {
    // SAFETY: PR_CAPBSET_DROP takes a number.
    ret(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) }.into())
        .map(drop)
}

/// Whether `capability` is in the bounding set; EINVAL if it is unknown to the kernel.
pub(crate) fn in_bounding(capability: u32) -> SysResult<bool> {
    // SAFETY: PR_CAPBSET_READ takes a number.
    ret(unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(capability), 0, 0, 0) }.into())
        .map(|v| v == 1)
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAP_VERSION_3: u32 = 0x2008_0522;

/// The low and the high half of a 64-bit mask.
fn halves(mask: u64) -> [u32; 2] {
    [(mask & 0xffff_ffff) as u32, (mask >> 32) as u32]
}

pub(crate) fn capset(effective: u64, permitted: u64, inheritable: u64) -> SysResult<()> {
    let header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let ([e0, e1], [p0, p1], [i0, i1]) = (halves(effective), halves(permitted), halves(inheritable));
    let data = [
        CapData { effective: e0, permitted: p0, inheritable: i0 },
        CapData { effective: e1, permitted: p1, inheritable: i1 },
    ];
    // SAFETY: version 3 reads one header and two data structures, which outlive the call.
    ret(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

pub(crate) fn ambient_clear() -> SysResult<()> {
    // SAFETY: PR_CAP_AMBIENT takes numbers.
    ret(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) }.into())
        .map(drop)
}

pub(crate) fn ambient_raise(capability: u32) -> SysResult<()> {
    let capability = libc::c_ulong::from(capability);
    // SAFETY: PR_CAP_AMBIENT takes numbers.
    ret(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0) }.into())
        .map(drop)
}

pub(crate) fn no_new_privileges() -> SysResult<()> {
    // SAFETY: PR_SET_NO_NEW_PRIVS takes a number.
    ret(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into()).map(drop)
}

/// seccomp(2) SECCOMP_SET_MODE_FILTER; with SECCOMP_FILTER_FLAG_NEW_LISTENER it returns the listener.
pub(crate) fn seccomp(bpf: &[u64], flags: u64) -> SysResult<Option<OwnedFd>> {
    const NEW_LISTENER: u64 = 1 << 3;
    let len = u16::try_from(bpf.len()).map_err(|_| Errno(libc::E2BIG))?;
    let program = libc::sock_fprog { len, filter: bpf.as_ptr().cast_mut().cast() };
    // SAFETY: a sock_filter has 8 bytes, so `filter` holds `len` of them; the kernel only reads, and both outlive the call.
    let result = ret(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    })?;
    Ok((flags & NEW_LISTENER != 0).then(|| owned(result)))
}

pub(crate) fn sethostname(name: &CStr) -> SysResult<()> {
    // SAFETY: `name` is valid for the length passed.
    ret(unsafe { libc::sethostname(name.as_ptr(), name.count_bytes()) }.into()).map(drop)
}

pub(crate) fn setdomainname(name: &CStr) -> SysResult<()> {
    // SAFETY: `name` is valid for the length passed.
    ret(unsafe { libc::setdomainname(name.as_ptr(), name.count_bytes()) }.into()).map(drop)
}

pub(crate) fn personality(domain: u64) -> SysResult<()> {
    // SAFETY: no pointers.
    ret(unsafe { libc::personality(domain as libc::c_ulong) }.into()).map(drop)
}

/// keyctl(2) KEYCTL_JOIN_SESSION_KEYRING: the serial number of the keyring.
pub(crate) fn join_session_keyring(name: &CStr) -> SysResult<i64> {
    // SAFETY: `name` is NUL-terminated and outlives the call. 1 is KEYCTL_JOIN_SESSION_KEYRING.
    ret(unsafe { libc::syscall(libc::SYS_keyctl, 1, name.as_ptr()) })
}

/// keyctl(2) KEYCTL_DESCRIBE into `buffer`; the length with the NUL.
pub(crate) fn keyring_describe(serial: i64, buffer: &mut [u8]) -> SysResult<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`. 6 is KEYCTL_DESCRIBE.
    length(unsafe { libc::syscall(libc::SYS_keyctl, 6, serial, buffer.as_mut_ptr(), buffer.len()) })
}

/// keyctl(2) KEYCTL_SETPERM.
pub(crate) fn keyring_permissions(serial: i64, mask: u32) -> SysResult<()> {
    // SAFETY: no pointers. 5 is KEYCTL_SETPERM.
    ret(unsafe { libc::syscall(libc::SYS_keyctl, 5, serial, mask) }).map(drop)
}

/// Brings the interface `lo` of this network namespace up.
pub(crate) fn loopback_up() -> SysResult<()> {
    // SAFETY: no pointers.
    let socket =
        owned(ret(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }.into())?);
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let [l, o, ..] = &mut request.ifr_name;
    *l = b'l' as libc::c_char;
    *o = b'o' as libc::c_char;
    // 0x41 fits.
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which outlives the call.
    ret(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &raw const request) }
        .into())
    .map(drop)
}

/// Makes `terminal` the controlling terminal of this session leader.
pub(crate) fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> SysResult<()> {
    // SAFETY: TIOCSCTTY takes a number.
    ret(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY as libc::Ioctl, 0) }.into()).map(drop)
}

/// Unlocks the slave of a pseudo-terminal's master and opens it, without looking at a path (TIOCGPTPEER, kernel 4.13).
pub(crate) fn terminal_peer(master: BorrowedFd<'_>) -> SysResult<OwnedFd> {
    let unlock: i32 = 0;
    let request = libc::TIOCSPTLCK as libc::Ioctl;
    // SAFETY: TIOCSPTLCK reads an int, which outlives the call.
    ret(unsafe { libc::ioctl(master.as_raw_fd(), request, &raw const unlock) }.into())?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags as a number.
    ret(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER as libc::Ioctl, flags) }.into()).map(owned)
}

/// The window size of a terminal, in characters.
pub(crate) fn set_window_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> SysResult<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads a winsize, which outlives the call.
    ret(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ as libc::Ioctl, &raw const size) }.into())
        .map(drop)
}

/// execve(2); returns only with an error.
pub(crate) fn execve(path: &CStr, argv: &CStrArray, envp: &CStrArray) -> Errno {
    // SAFETY: a CStrArray ends with null; its other elements are strings of its own, or the child's HOME buffer, which live until the
    // exec.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    Errno::last()
}

/// prlimit(2) of another process.
pub(crate) fn prlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> SysResult<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` outlives the call; the old limit is not asked for.
    ret(unsafe {
        libc::syscall(libc::SYS_prlimit64, pid, resource, &raw const limit, std::ptr::null::<u8>())
    })
    .map(drop)
}

/// sched_setaffinity(2) of another process; `mask` in words of 64 CPUs.
pub(crate) fn set_affinity(pid: i32, mask: &[u64]) -> SysResult<()> {
    // SAFETY: `mask` is valid for the length passed.
    ret(unsafe { libc::syscall(libc::SYS_sched_setaffinity, pid, size_of_val(mask), mask.as_ptr()) })
        .map(drop)
}

/// struct sched_attr of linux/sched/types.h, version 0.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct SchedAttr {
    pub(crate) size: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
}

/// sched_setattr(2) of another process.
pub(crate) fn set_scheduler(pid: i32, attr: &SchedAttr) -> SysResult<()> {
    // SAFETY: `attr` says its own size and outlives the call.
    ret(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, std::ptr::from_ref(attr), 0) }).map(drop)
}

/// ioprio_set(2) of another process.
pub(crate) fn set_io_priority(pid: i32, value: i32) -> SysResult<()> {
    // SAFETY: no pointers. 1 is IOPRIO_WHO_PROCESS.
    ret(unsafe { libc::syscall(libc::SYS_ioprio_set, 1, pid, value) }).map(drop)
}

/// set_mempolicy(2); `nodes` has a bit for each NUMA node.
pub(crate) fn set_memory_policy(mode: u32, nodes: &[u64]) -> SysResult<()> {
    // The kernel reads one bit less than the given number.
    let bits = nodes.len() * 64 + usize::from(!nodes.is_empty());
    // Of an address that is not null it reads nodes even if their number is 0.
    let first = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: null, or `nodes` with at least the `bits - 1` bits that the kernel reads, which outlives the call.
    ret(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, first, bits) }).map(drop)
}

/// kill(2): for processes of a cgroup, which have no pidfd here. `signal` 0 only checks.
pub(crate) fn kill(pid: i32, signal: i32) -> SysResult<()> {
    // SAFETY: kill takes two numbers.
    ret(libc::c_long::from(unsafe { libc::kill(pid, signal) })).map(drop)
}
