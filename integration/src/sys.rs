//! The few calls that std and nix do not offer safely. The only unsafe code of this crate.
//!
//! It must not know containers: descriptors and numbers in, descriptors and errno out.
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
    // SAFETY: the kernel just made this descriptor for us and nobody else has it.
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
