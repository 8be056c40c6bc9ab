//! The few calls that std and nix do not offer safely. The only unsafe code of this crate.
//!
//! It knows nothing of containers: descriptors and numbers in, descriptors and errno out.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// A system call by its number, for probing filters. Arguments are plain numbers, so no memory of ours is touched
/// unless a caller passes an address, which the inspector never does (it passes 0 where a pointer belongs).
pub fn syscall(number: i64, args: [u64; 6]) -> io::Result<i64> {
    // SAFETY: pointers among the arguments are null or absent, so the kernel writes nothing into this process; calls
    // that change the process (exit, close) are the caller's intention.
    let ret = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

/// A descriptor that becomes readable when process `pid` has ended (Linux 5.3).
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let fd = syscall(libc::SYS_pidfd_open, [u64::from(pid), 0, 0, 0, 0, 0])?;
    let fd = RawFd::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the kernel just made this descriptor for us, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes ownership of a descriptor that came in a message (SCM_RIGHTS).
pub fn received_fd(fd: RawFd) -> OwnedFd {
    // SAFETY: recvmsg installed it in this process for the receiver alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The serial number of this process's session keyring, without making one.
pub fn session_keyring() -> io::Result<i64> {
    const KEYCTL_GET_KEYRING_ID: u64 = 0;
    const KEY_SPEC_SESSION_KEYRING: u64 = (-3_i64).cast_unsigned();
    syscall(libc::SYS_keyctl, [KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0, 0, 0, 0])
}

/// From here on the kernel answers these calls of this process, and of all that it starts, with an error (seccomp(2)).
pub fn refuse_calls(refused: &[crate::without::Refusal]) -> io::Result<()> {
    // struct sock_filter: code, jump if true, jump if false, operand.
    let line = |code: u32, jt: u8, jf: u8, k: u32| {
        let [a, b, ..] = code.to_le_bytes();
        libc::sock_filter { code: u16::from_le_bytes([a, b]), jt, jf, k }
    };
    let load = |offset: u32| line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let equal = |k: u32, jt: u8, jf: u8| line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, k);
    let answer = |k: u32| line(libc::BPF_RET | libc::BPF_K, 0, 0, k);
    let mut program = Vec::new();
    for refusal in refused {
        let number = u32::try_from(refusal.call).map_err(io::Error::other)?;
        let (at, allowed) = refusal.unless.unwrap_or((0, &[]));
        let length = u8::try_from(allowed.len()).map_err(io::Error::other)?;
        // To the next refusal unless it is this call; to it also when the low half of the argument has an allowed value.
        let body = if refusal.unless.is_some() { length.saturating_add(2) } else { 1 };
        program.extend([load(0), equal(number, 0, body)]);
        if refusal.unless.is_some() {
            program.push(load(at.saturating_mul(8).saturating_add(16)));
            program.extend((0..length).zip(allowed).map(|(i, value)| equal(*value, length - i, 0)));
        }
        program.push(answer(libc::SECCOMP_RET_ERRNO | refusal.errno.cast_unsigned()));
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    let install = || {
        // SAFETY: `program` names `len` instructions, and both outlive the call, which only reads them.
        let ret =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
        if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    match install() {
        // Without CAP_SYS_ADMIN a filter must not reach programs with more rights.
        Err(e) if e.raw_os_error() == Some(libc::EACCES) => {
            // SAFETY: PR_SET_NO_NEW_PRIVS takes numbers.
            unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
            install()
        }
        other => other,
    }
}
