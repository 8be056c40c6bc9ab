//! A hung shim, which listens on its socket but does not answer. `delete` kills it.
//!
//! The kernel identifies the process by the socket, so no file and no container can mislead this module. It does not know what a shim
//! does.

use super::{Call, Error};
use crate::sys::process::{pidfd_open, pidfd_send_signal};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// How long a process may take to end after SIGKILL, in milliseconds.
const KILL_TIMEOUT: u16 = 1500;

/// Kills the shim at the other end of `stream`.
pub(super) fn kill(stream: &UnixStream, call: &Call) -> Result<(), Error> {
    let failed = |name: &str, error: Errno| Error::call(name, error);
    let peer =
        getsockopt(stream, sockopt::PeerCredentials).map_err(|e| failed("getsockopt(SO_PEERCRED)", e))?;
    let own = nix::unistd::geteuid().as_raw();
    if peer.uid() != own {
        let message = format!("process {} belongs to user {}, not {own}", peer.pid(), peer.uid());
        return Err(Error::Invalid(message));
    }
    let Some(process) = process(stream, peer.pid()).map_err(|e| failed("pidfd_open", e))? else {
        return Ok(());
    };
    // Since Linux 6.16 there is a pidfd of a process that has ended, too; its pid may be reused by now.
    if has_ended(&process, 0)? {
        return Ok(());
    }
    if !is_shim(peer.pid(), &call.flags.namespace) {
        let (pid, namespace) = (peer.pid(), &call.flags.namespace);
        return Err(Error::Invalid(format!("process {pid} is not a shim of namespace {namespace:?}")));
    }
    match pidfd_send_signal(process.as_fd(), libc::SIGKILL) {
        Ok(()) => {}
        Err(Errno::ESRCH) => return Ok(()),
        Err(e) => return Err(failed("pidfd_send_signal", e)),
    }
    if has_ended(&process, KILL_TIMEOUT)? {
        return Ok(());
    }
    Err(Error::Invalid(format!("process {} did not exit after SIGKILL", peer.pid())))
}

/// Whether the process ends within `limit` milliseconds.
fn has_ended(process: &OwnedFd, limit: u16) -> Result<bool, Error> {
    let mut polled = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::from(limit)).map(|count| count > 0).map_err(|e| Error::call("poll", e))
}

/// The process that listens, or `None` if it has ended. Before Linux 6.5 by its pid, which cannot be reused yet: the connection shows
/// that the socket has a listener.
fn process(stream: &UnixStream, pid: i32) -> Result<Option<OwnedFd>, Errno> {
    match getsockopt(stream, sockopt::PeerPidfd) {
        Ok(process) => return Ok(Some(process)),
        Err(Errno::ESRCH | Errno::EINVAL) => return Ok(None),
        Err(Errno::ENOPROTOOPT) => {}
        Err(e) => return Err(e),
    }
    match pidfd_open(pid) {
        Ok(process) => Ok(Some(process)),
        Err(Errno::ESRCH) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether the command line is that of a server of this namespace, as `start` writes it.
fn is_shim(pid: i32, namespace: &str) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let has = |name: &[u8], value: &[u8]| words.windows(2).any(|pair| pair == [name, value]);
    let program = words.first().and_then(|word| word.rsplit(|byte| *byte == b'/').next()).unwrap_or_default();
    program.starts_with(b"containerd-shim-")
        && has(b"-namespace", namespace.as_bytes())
        && words.contains(&b"-id".as_slice())
        && !line.ends_with(b"\0start\0")
        && !line.ends_with(b"\0delete\0")
}
